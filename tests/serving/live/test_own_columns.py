"""Own columns at ring time: live verdicts equal those of a file, and services without the table refuse the model."""

import re

import numpy as np
import pytest

from callsieve.features import History
from callsieve.serving import BundleError, OwnColumns, Scorer, Swap
from callsieve.serving.batch import spark_scoring
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_calls
from callsieve.serving.batch.own_column_join import open_own_columns, read_own_columns
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.live.verdict_log import Position, read_after
from tests.support import live_states, own_bundle, real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import STRICT_POLICY

OWN = r"the model has own columns \(tariff\), and this service has no table of them"


@pytest.fixture(scope="module")
def calls():
    return real_bundle.calls(120)


@pytest.fixture(scope="module")
def folder(calls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    own_bundle.write_bundle(folder)
    own_bundle.table(calls).to_parquet(folder / "columns.parquet")
    return folder


@pytest.mark.system
def test_live_verdicts_equal_those_of_a_table_call_by_call(folder, calls, tmp_path):
    columns = lambda: open_own_columns(folder / "columns.parquet")
    swap = live_states.loaded(folder / "bundle", policy=STRICT_POLICY, columns=columns)
    live = live_states.begin(swap, tmp_path)
    verdicts = live_states.play(live, live_states.events(calls))
    own = read_own_columns(folder / "columns.parquet")
    expected, rows = score_calls(swap.scorer, real_bundle.key_table(calls), columns=own, threads=1)
    assert [verdict.raw for verdict in verdicts] == expected.raw.tolist()
    assert np.isnan(rows[:, -1]).any()
    assert len(np.unique(rows[:, -1])) > 10
    assert [live.explain(verdict.case).raw for verdict in verdicts] == expected.raw.tolist()
    live.close()
    records, _ = read_after(tmp_path, Position(), 1000)
    assert len(records) == sum(verdict.action != "pass" for verdict in verdicts) > 0
    assert all(rescore(record, swap.scorer).differences == () for record in records)


def test_a_host_that_embeds_the_scorer_passes_the_table(folder, calls):
    call = real_bundle.key_calls(calls)[0]
    table = OwnColumns([call.caller] * 2, [call.start, call.start - 1], {"tariff": [-3.0, 3.0]})
    scorer = Scorer.load(folder / "bundle", trusted=small.TRUSTED, columns=table)
    history = History(scorer.history_features, calls=100, numbers=20)
    assert "own_tariff: 3" in [reason.en for reason in scorer.explain(history, call).reasons]
    without = Scorer.load(folder / "bundle", trusted=small.TRUSTED)
    verdict, advice = without.score(history, call), "has own columns: tariff; load it with Scorer.load(columns"
    assert verdict.status == "wrong_input" and advice in verdict.message
    with pytest.raises(ValueError, match=re.escape(advice)):
        without.check(history)
    scorer.check(history)
    with pytest.raises(ValueError, match="own columns: the model needs tariff, which the table does not have"):
        Scorer.load(folder / "bundle", trusted=small.TRUSTED, columns=OwnColumns([], [], {"age": []}))


def test_a_service_without_the_table_refuses_the_model_in_one_line(folder, tmp_path, run_command):
    swap = Swap(trusted=small.TRUSTED)
    with pytest.raises(BundleError, match=OWN):
        swap.load(folder / "bundle")
    assert not swap.ready
    (tmp_path / "number.key").write_text("e1:" + "A" * 43 + "=")
    (tmp_path / "number.key").chmod(0o600)
    words = ("--bundle", folder / "bundle", "--key", tmp_path / "number.key", "--state", tmp_path / "state")
    code, _, error = run_command("live", "agi", *words)
    assert code == 1
    assert "expected the option --columns of the service" in " ".join(error.split())


@pytest.mark.system
def test_spark_refuses_the_model_at_start(folder, tmp_path):
    inputs = ScoreInputs(calls=CallFile(path=tmp_path / "calls", layout="keyed"), bundle=folder / "bundle")
    with pytest.raises(ValueError, match="expected a model of catalogue features alone; use --layout keyed"):
        spark_scoring.score(inputs, threads=1, progress=print)
