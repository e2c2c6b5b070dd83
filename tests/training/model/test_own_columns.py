"""Own columns in a whole training and in serving: the signed model scores a file as its training scored the calls."""

import base64
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from callsieve.features import History, read_key
from callsieve.features.catalogue.lite import LITE
from callsieve.features.files.progress import silent
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_calls, score_file
from callsieve.serving.batch.own_column_join import OWN_FILE, own_features, own_values, read_own_columns
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training import Settings, read_dataset
from callsieve.training.data.dataset_tables import table_facts
from callsieve.training.drift.monitor import monitor
from callsieve.training.drift.reference import REFERENCE, measure_reference, write_reference
from callsieve.training.judging.leak_probes import LeakError, check_for_leaks
from callsieve.training.model.train import train, write_bundle
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.oversight.log.looks import Ledger
from callsieve.training.run import scored_calls
from callsieve.training.studies.rule_figures import rule_figures

DAY = 86_400_000
QUICK = {"rounds": 12, "patience": 5}
FEATURES = (*LITE, "own_tariff", "own_prepaid")


@pytest.fixture(scope="module")
def accounts(world):
    """Returns a table of own columns: a tariff that tells something of each caller, and changes in the second week."""
    nuisance = pd.Series(world.truth["nuisance"].to_numpy(zero_copy_only=False).astype(bool))
    caller = world.calls["caller"].cast(pa.string()).to_pandas()
    share = nuisance.groupby(caller.to_numpy()).mean()
    rng, begin = np.random.default_rng(0), int(world.calls["start"].to_numpy().min())
    first = pd.DataFrame({"number": share.index, "known_at": begin - DAY, "tariff": rng.normal(size=len(share))})
    later = first.assign(known_at=begin + 8 * DAY, tariff=share.to_numpy() * 2 + rng.normal(size=len(share)))
    table = pd.concat([first, later], ignore_index=True)
    table["prepaid"] = rng.random(len(table)) < 0.5
    return table.assign(known_at=pd.to_datetime(table["known_at"], unit="ms", utc=True))


@pytest.fixture(scope="module")
def folder(world_folder, accounts, tmp_path_factory):
    """Returns a folder to learn from with own columns."""
    folder = tmp_path_factory.mktemp("accounts")
    for path in world_folder.iterdir():
        (folder / path.name).symlink_to(path)
    accounts.to_parquet(folder / OWN_FILE)
    return folder


@pytest.fixture(scope="module")
def own_trained(folder):
    return train(read_dataset(folder), Settings(threads=1, features=FEATURES, parameters=QUICK))


@pytest.mark.system
def test_a_training_joins_own_columns_as_of_the_call(own_trained, accounts):
    """The oracle takes the last row of the caller before the call, call by call."""
    calls = own_trained.last.dataset.calls
    starts, callers = calls["start"].to_numpy(), calls["caller"].to_pylist()
    rows = own_trained.last.feed.rows[:: max(1, len(own_trained.last.feed.rows) // 300)]
    values = own_trained.last.feed.at(rows)[:, -2:]
    moments = accounts["known_at"].dt.tz_convert(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    for value, row in zip(values, rows, strict=True):
        before = accounts[(accounts["number"] == callers[row]) & (moments < starts[row])]
        assert value.tolist() == [before["tariff"].iloc[-1], float(before["prepaid"].iloc[-1])]
    names = [fact.name for fact in table_facts(own_trained.last.dataset)]
    assert "own columns" in names
    assert check_for_leaks(own_trained)["vectors_again"] > 0


@pytest.mark.system
def test_a_row_from_the_future_is_a_leak(own_trained, accounts):
    late = accounts.assign(known_at=accounts["known_at"] + pd.Timedelta(days=30))
    dataset = replace(own_trained.last.dataset, own=late)
    with pytest.raises(LeakError, match="own_tariff"):
        check_for_leaks(replace(own_trained, last=replace(own_trained.last, dataset=dataset)))


@pytest.mark.system
def test_a_signed_model_scores_a_file_as_its_training_did(own_trained, folder, tmp_path):
    key = Ed25519PrivateKey.generate()
    write_bundle(own_trained, tmp_path / "bundle", key)
    write_public_key(key.public_key(), tmp_path / "signer.pub")
    scorer = Scorer.load(tmp_path / "bundle", trusted=[key.public_key()])
    assert scorer.bundle.features == FEATURES
    chosen = own_trained.pool.certify
    rows, expected = own_trained.pool.row[chosen], own_trained.raw[chosen]
    calls, own = own_trained.last.dataset.calls, read_own_columns(folder / OWN_FILE)
    scores, vectors = score_calls(scorer, calls, columns=own)
    np.testing.assert_array_equal(scores.raw[rows], expected)

    inputs = ScoreInputs(
        calls=CallFile(path=folder / "calls.parquet", layout="keyed"),
        bundle=tmp_path / "bundle",
        out=tmp_path / "verdicts.parquet",
    )
    with pytest.raises(ValueError, match=r"the model has own columns: expected --columns FILE with tariff, prepaid"):
        score_file(replace(inputs, out=None), threads=1, progress=silent)
    score_file(replace(inputs, columns=folder / OWN_FILE), threads=1, progress=silent)
    verdicts = pq.read_table(tmp_path / "verdicts.parquet")
    order = np.lexsort((calls["caller"].to_pylist(), calls["start"].to_numpy()))

    def shown(starts, scores):
        """Returns starts and probabilities in order; -1 for a call without a week before it."""
        return sorted(zip(starts, np.where(np.isnan(scores), -1.0, scores).tolist(), strict=True))

    by_file = shown(verdicts["start"].cast(pa.int64()).to_pylist(), verdicts["probability"].to_numpy())
    assert by_file == shown(calls["start"].to_numpy()[order].tolist(), scores.score[order])

    row = int(rows[0])
    verdict = scorer.explain_row(vectors[row].tolist(), int(calls["start"][row].as_py()))
    assert verdict.raw == scores.raw[row]
    with pytest.raises(ValueError, match="expected names of the catalogue, got own_tariff, own_prepaid"):
        History(scorer.features)


@pytest.mark.system
def test_monitoring_and_rule_figures_read_the_own_columns_of_a_folder(own_trained, folder, tmp_path):
    key = Ed25519PrivateKey.generate()
    write_bundle(own_trained, tmp_path / "bundle", key)
    write_public_key(key.public_key(), tmp_path / "signer.pub")
    model = Scorer.load(tmp_path / "bundle", trusted=[key.public_key()]).bundle.model_id
    (tmp_path / "record").mkdir()
    write_reference(measure_reference(model, scored_calls(own_trained)), tmp_path / "record" / REFERENCE)
    ledger = Ledger(tmp_path / "audit", key, shipped_gates())
    common = {"trust": None, "ledger": ledger, "threads": 1, "progress": lambda *_: None}
    figures = monitor(tmp_path / "bundle", folder, None, **common)
    assert figures["model"] == model and figures["calls"] > 0
    common |= {"policy": None, "key": None, "registers": None}
    assert rule_figures(folder, bundle=tmp_path / "bundle", **common)["calls"] > 0


@pytest.mark.system
def test_the_commands_key_a_table_and_learn_from_it(command_json, command_error, run_command, folder, tmp_path):
    (tmp_path / "number.key").write_text("e1:" + base64.b64encode(b"k" * 32).decode())
    (tmp_path / "number.key").chmod(0o600)
    key = read_key(tmp_path / "number.key")
    rows = (
        "number,known_at,tariff,account_age",
        "013800138000,2026-03-01 09:00,1.5,4",
        "+86 138 0013 8000,2026-03-02,,5",
    )
    (tmp_path / "accounts.csv").write_text("\n".join(rows))
    words = ("--key", tmp_path / "number.key", "--out", tmp_path / OWN_FILE)
    facts = command_json("ingest", "columns", tmp_path / "accounts.csv", *words)
    assert facts == {"rows": 2, "numbers": 1, "columns": ["tariff", "account_age"]}
    frame = read_own_columns(tmp_path / OWN_FILE)
    assert frame["number"].unique().tolist() == [key.token("number", "+8613800138000")]
    moments = ("2026-03-01T01:00Z", "2026-03-01T01:01Z")  # 9:00 and 9:01 in Shanghai
    at = np.array([int(pd.Timestamp(moment).timestamp() * 1000) for moment in moments])
    caller = pa.chunked_array([frame["number"].tolist()])
    np.testing.assert_array_equal(own_values(("own_account_age",), caller, at, frame), [[np.nan], [4.0]])

    (tmp_path / "bad.csv").write_text("number,known_at,tariff\n13800138000,soon,1\n")
    code, _, err = run_command("ingest", "columns", tmp_path / "bad.csv", "--out", tmp_path / "bad.parquet")
    assert code == 1 and "138001" not in err
    assert "bad.csv, row 2, column known_at: bad_time, expected a day or a moment" in err
    assert own_features([folder]) == ("own_tariff", "own_prepaid")
    command_error("train", "--data", tmp_path, "--own-columns", "--out", tmp_path / "run")
    with pytest.raises(ValueError, match=r"expected the own columns of .*, tariff, prepaid"):
        own_features([folder, tmp_path])


def test_settings_with_own_columns_survive_their_record():
    from callsieve.training.tracking.record import settings_json, settings_of

    settings = Settings(features=FEATURES)
    assert settings_of(json.loads(json.dumps(settings_json(settings))), 0).features == FEATURES
