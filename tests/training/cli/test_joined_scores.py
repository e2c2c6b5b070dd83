"""Scores of an operator's file join back to it: every row in its order, with own columns and the reason of a pass."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest

from callsieve.serving.scorer.status import MESSAGES
from tests.conftest import command
from tests.support.calls import foreign_files

pytestmark = pytest.mark.system

DAYS = 9  # of the file: two more than the history that bands need
LAYOUT = (
    foreign_files.LAYOUT.replace('"TARIFF"]', '"TARIFF", "TRK_GRP"]')
    .replace('trunk = ["TRK_GRP"]\n', "")
    .replace('optional = ["trunk"]\n', "")
)  # without trunks, as the shipped model knows the feed


@pytest.fixture(scope="module")
def own(written_world, tmp_path_factory):
    """A folder with some days of an operator's calls in an odd order, the last day, the days before, and a key."""
    folder = tmp_path_factory.mktemp("own")
    frame = foreign_files.call_frame(written_world)
    day = frame["SETUP_TIME"].str[:10]
    last = sorted(day.unique())[DAYS - 1]
    frame = frame[day <= last].sample(frac=1.0, random_state=1)
    frame.iloc[5, frame.columns.get_loc("SETUP_TIME")] = "soon"
    day = frame["SETUP_TIME"].str[:10]
    frame.to_csv(folder / "cdr.csv", index=False)
    frame[day == last].to_csv(folder / "last.csv", index=False)
    frame[day != last].to_csv(folder / "before.csv", index=False)
    (folder / "op.toml").write_text(LAYOUT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def score(own, tmp_path_factory):
    """Scores a file of that folder by the shipped model; returns the figures and the scores."""

    def run(name, *options):
        out = tmp_path_factory.mktemp("scores") / f"{name}.parquet"
        words = ("--calls", own / f"{name}.csv", "--layout", own / "op.toml", "--out", out, "--json")
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as printed:
            assert command(patched, "score", *words, *options) == 0
        return json.loads(printed.getvalue()), pd.read_parquet(out)

    return run


@pytest.fixture(scope="module")
def whole(score):
    """Figures and scores of all calls, with two columns of the file."""
    return score("cdr", "--keep", "CDR_ID", "--keep", "RESULT")


def test_scores_have_every_row_in_its_order_with_own_columns_and_a_status(whole, own):
    written = pd.read_csv(own / "cdr.csv", dtype=str)
    result, scores = whole
    assert scores["CDR_ID"].tolist() == written["CDR_ID"].tolist()
    assert scores["RESULT"].tolist() == written["RESULT"].tolist()
    assert scores["row"].tolist() == list(range(2, len(written) + 2))  # lines of the file
    assert result["calls"] == scores["action"].notna().sum() == len(written) - sum(result["quarantined"].values())
    invalid = scores[scores["action"].isna()]
    assert set(invalid["status"]) == {"wrong_input"}
    assert set(invalid["message"]) <= {f"{MESSAGES['wrong_input']}: {reason}" for reason in result["quarantined"]}
    assert scores.loc[5, "message"].endswith(": bad_time")
    assert invalid[["start", "probability", "caller"]].isna().all(axis=None)
    # The first seven days are not scored by the model: the row says so, at any probability.
    called = scores[scores["action"].notna()]
    filling = called["status"] == "filling"
    assert filling.sum() == result["filling"] > 0 and (called.loc[filling, "band"] == "").all()
    first = pd.to_datetime(written.loc[called.index, "SETUP_TIME"])
    assert (first[filling] < first.min() + pd.Timedelta(days=8)).all()
    assert set(called.loc[~filling, "status"]) <= {"scored", "no_threshold"}
    assert called["message"].map(lambda text: text.partition(";")[0]).equals(called["status"].map(MESSAGES))
    reached = called[(called["band"] == "certified") & (called["action"] == "label")]
    assert len(reached) and reached["reasons"].str.len().gt(10).all()
    assert called.loc[called["action"] == "pass", ["reasons", "case"]].isna().all(axis=None)
    assert called.loc[called["action"] != "pass", "case"].str.fullmatch("[0-9a-f]{16}").all()
    texts = scores[["caller", "callee", "reasons", "rules"]].astype(str)  # numbers stay tokens
    assert not texts.apply(lambda column: column.str.contains(r"1\d{10}")).any(axis=None)


def test_the_days_before_come_from_a_history_file(score, whole, own):
    result, last = score("last", "--keep", "CDR_ID", "--history", own / "before.csv")
    written = pd.read_csv(own / "last.csv", dtype=str)
    assert last["CDR_ID"].tolist() == written["CDR_ID"].tolist() and result["filling"] == 0
    joined = last.merge(whole[1], on="CDR_ID", suffixes=("", "_whole"))
    assert len(joined) == len(last) > 100 and joined["rules"].str.contains("flagged").any()
    for name in ("probability", "action", "status", "band", "rules", "reasons"):
        left, right = (joined[column].astype(object) for column in (name, f"{name}_whole"))
        pd.testing.assert_series_equal(left, right, check_names=False)
    # A history that has the scored calls, too, changes nothing.
    again, repeated = score("last", "--keep", "CDR_ID", "--history", own / "cdr.csv")
    np.testing.assert_array_equal(repeated["probability"], last["probability"])
    assert again["quarantined"] == result["quarantined"]
    alone, _ = score("last")
    assert alone["filling"] == alone["calls"]


def test_vectors_join_back_by_the_line_and_by_own_columns(own, run_command, tmp_path):
    words = ("features", "--calls", own / "cdr.csv", "--layout", own / "op.toml", "--out", tmp_path / "vectors")
    assert run_command(*words, "--features", "call_hour", "--keep", "CDR_ID", "--keep", "SETUP_TIME")[0] == 0
    vectors, written = pd.read_parquet(tmp_path / "vectors"), pd.read_csv(own / "cdr.csv", dtype=str)
    of_line = written.iloc[vectors["row"] - 2]
    assert vectors["CDR_ID"].tolist() == of_line["CDR_ID"].tolist() and vectors["row"].is_unique
    assert vectors["call_hour"].tolist() == pd.to_datetime(of_line["SETUP_TIME"]).dt.hour.tolist()
    assert vectors["SETUP_TIME"].tolist() == of_line["SETUP_TIME"].tolist() and "soon" not in set(of_line["SETUP_TIME"])
