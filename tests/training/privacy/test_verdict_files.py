"""Verdict files and registers' lines are kept as long as their rules say, and a person is deleted from them, too."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.custody.purposes import declare
from callsieve.serving.live.swap import current_registers
from callsieve.serving.rules.registers import Registers
from callsieve.training.privacy.deletion import delete_everywhere
from callsieve.training.privacy.verdict_files import delete_from_registers, erase_registers
from tests.support import real_bundle
from tests.training.privacy.test_deletion import NOW, RULES, folder, keys_of, log  # noqa: F401 - fixtures


def token(text):
    return real_bundle.NUMBER_KEY.token("number", text)


@pytest.fixture
def kept(tmp_path):
    """Registers of which each has rows that have no end, ended lately, and ended long ago; of two people."""
    ends = {"none": None, "lately": NOW - 30 * DAY, "year": NOW - 400 * DAY, "ages": NOW - 4000 * DAY}
    mine, other = token("mine"), token("other")
    people = [(who, end) for who in (mine, other) for end in ends.values()]
    registers = real_bundle.make_registers(
        consents=[{"callee": who, "principal": "firm", "valid_to": end} for who, end in people],
        preferences=[{"callee": who, "category": "loans", "accepts": True, "valid_to": end} for who, end in people],
    )
    (tmp_path / "registers").mkdir()
    write_registers(registers, tmp_path / "registers")
    declare(tmp_path / "registers", "offices of the test", "law", ["scoring"], "2999-12-31")
    return tmp_path / "registers"


@pytest.mark.source("P5", by="training/privacy/verdict_files.py")
def test_lines_past_their_time_are_unreadable_at_once_and_erased_by_the_run(kept, log, command_json):  # noqa: F811
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    # A service reads consents of less than 1,095 days, preferences of less than 60, of both people.
    seen = current_registers(kept)
    assert {name: len(columns["callee"]) for name, columns in seen.columns.items()} == {"consents": 6, "preferences": 4}
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    report = command_json("privacy", "retention", *keys_of(log), "--registers", kept)["files"]
    assert report["registers/consents.jsonl"]["erased"] == 2 and report["registers/preferences.jsonl"]["erased"] == 4
    assert all(one["past_their_time"] == 0 for one in report.values())
    assert Registers.read(kept).columns == seen.columns
    again = erase_registers(kept, RULES, NOW)
    assert all(one["sha256_before"] == one["sha256_after"] for one in again.values())


@pytest.mark.source("P6", by="training/privacy/verdict_files.py")
def test_a_person_is_deleted_from_registers_but_what_must_stay_stays(kept):
    report = delete_from_registers(kept, token("mine"), RULES, NOW)
    # Consents are kept for 180 days after their end, and while they have none; preferences are not.
    assert report["consents.jsonl"] | {"sha256_before": 0, "sha256_after": 0} == {
        "rows": 4, "deleted": 2, "kept": 2, "sha256_before": 0, "sha256_after": 0}  # fmt: skip
    assert (report["preferences.jsonl"]["deleted"], report["preferences.jsonl"]["kept"]) == (4, 0)
    left = Registers.read(kept).columns
    assert left["preferences"]["callee"] == [token("other")] * 4
    assert left["consents"]["callee"].count(token("other")) == 4


def test_a_person_is_deleted_everywhere_from_registers_too(kept, log, tmp_path):  # noqa: F811
    (tmp_path / "data").mkdir()
    report = delete_everywhere(
        tmp_path / "data", token("mine"), "asked", log, log.parent / "signing.key", None, (), None, NOW, (), (kept,)
    )
    assert report["files"]["registers/preferences.jsonl"]["deleted"] == 4
    assert set(Registers.read(kept).columns["preferences"]["callee"]) == {token("other")}


@pytest.mark.source("P5", "P6", by="training/privacy/deletion.py")
def test_files_of_verdicts_lose_old_calls_and_a_persons(folder, log, command_json, tmp_path, monkeypatch):  # noqa: F811
    real_bundle.NUMBER_KEY.write(tmp_path / "number.key")
    mine = real_bundle.key_calls(real_bundle.calls(5))[0].caller
    number = real_bundle.calls(5)[0].caller
    ages = np.array([1, 59, 61, 400, 2])
    rows = pa.table({"start": NOW - ages * DAY, "caller": [mine, "e1." + "a" * 32, "e1." + "b" * 32, mine, mine],
                     "callee": ["e1." + "c" * 32] * 5, "action": ["label"] * 5})  # fmt: skip
    where = tmp_path / "of-monday.parquet"
    pq.write_table(rows, where)
    report = command_json("privacy", "retention", *keys_of(log), "--verdicts", where)["files"][str(where)]
    assert (report["erased"], report["past_their_time"]) == (2, 0)
    assert (NOW - pq.read_table(where)["start"].to_numpy() <= 60 * DAY).all()
    monkeypatch.setattr("sys.stdin", io.StringIO(number))
    report = command_json("privacy", "delete", "--data", folder, "--key", tmp_path / "number.key", "--why", "asked",
                  *keys_of(log), "--verdicts", where)  # fmt: skip
    assert report["files"][str(where)]["deleted"] == 2
    left = pq.read_table(where)
    assert left.num_rows == 1 and not pc.any(pc.equal(left["caller"], mine)).as_py()
    assert mine not in json.dumps(report)
