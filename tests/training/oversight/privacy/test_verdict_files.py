"""Retention rules and deletions of a person apply to verdict files and registers."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.files.dates import DAY
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.custody.purposes import declare
from callsieve.serving.lists.discredited import list_firm, unlist_firm
from callsieve.serving.live.swap import current_registers
from callsieve.serving.rules.registers import Registers
from callsieve.training.oversight.log.audit_log import SignedLog
from callsieve.training.oversight.privacy import register_folders
from callsieve.training.oversight.privacy.deletion import delete_everywhere
from callsieve.training.oversight.privacy.places import Person, Places
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.erasures import carried_out
from tests.training.oversight.privacy.test_deletion import NOW, RULES, folder, key, keys_of, log  # noqa: F401 - fixtures


def token(text):
    return real_bundle.NUMBER_KEY.token("number", text)


@pytest.fixture
def register_folder(tmp_path):
    """Registers of two people; each has rows without an end, and rows that ended 30, 400 and 4,000 days ago."""
    ends = (None, NOW - 30 * DAY, NOW - 400 * DAY, NOW - 4000 * DAY)
    rows = [
        {"callee": token(name), "valid_from": NOW - 5000 * DAY + place, "valid_to": end}
        for name in ("mine", "other")
        for place, end in enumerate(ends)
    ]
    registers = real_bundle.make_registers(
        consents=[row | {"principal": "firm"} for row in rows],
        preferences=[row | {"category": "loans", "accepts": True} for row in rows],
    )
    (tmp_path / "registers").mkdir()
    write_registers(registers, tmp_path / "registers")
    declare(tmp_path / "registers", "offices of the test", "law", ["scoring"], "2999-12-31")
    return tmp_path / "registers"


@pytest.mark.source("P5", by="training/oversight/privacy/register_folders.py")
def test_expired_lines_are_unreadable_and_the_retention_run_erases_them(register_folder, log, command_json):  # noqa: F811
    before = {path.name: path.read_bytes() for path in register_folder.iterdir()}
    # A service reads consents of less than 1,095 days, preferences of less than 60, of both people.
    readable = current_registers(register_folder)
    counts = {name: len(columns["callee"]) for name, columns in readable.columns.items()}
    assert counts == {"consents": 6, "preferences": 4}
    assert {path.name: path.read_bytes() for path in register_folder.iterdir()} == before
    report = command_json("privacy", "retention", *keys_of(log), "--registers", register_folder)["files"]
    assert report["registers/consents.jsonl"]["erased"] == 2 and report["registers/preferences.jsonl"]["erased"] == 4
    assert all(entry["past_their_time"] == 0 for entry in report.values())
    assert Registers.read(register_folder).columns == readable.columns
    assert not any(erasure.changes for erasure in register_folders.plan_expiry(register_folder, RULES, NOW))


@pytest.mark.source("L17", by="serving/custody/retention.py")
@pytest.mark.source("P6", by="training/oversight/privacy/register_folders.py")
def test_a_person_is_deleted_from_registers_except_rows_under_a_duty_to_keep(register_folder):
    report = carried_out(register_folders.plan_deletion(register_folder, token("mine"), RULES, NOW))
    # Consents are kept until 180 days after their end; preferences are not.
    assert report["registers/consents.jsonl"] | {"sha256_before": 0, "sha256_after": 0} == {
        "rows": 4, "deleted": 2, "kept": 2, "sha256_before": 0, "sha256_after": 0}  # fmt: skip
    assert (report["registers/preferences.jsonl"]["deleted"], report["registers/preferences.jsonl"]["kept"]) == (4, 0)
    left = Registers.read(register_folder).columns
    assert left["preferences"]["callee"] == [token("other")] * 4
    assert left["consents"]["callee"].count(token("other")) == 4


@pytest.mark.source("P5", by="serving/rules/registers.py")
def test_a_row_and_the_row_that_ended_it_expire_together(tmp_path):
    """Otherwise the open row would count again: a withdrawn consent, or a firm whose appeal was upheld."""
    list_firm(tmp_path, "firm", "agent", "complaints", NOW)
    unlist_firm(tmp_path, "firm", "agent", NOW + 20 * DAY)
    ended = {"callee": token("mine"), "principal": "firm", "valid_from": NOW}
    rows = [ended | {"known_at": NOW}, ended | {"known_at": NOW + DAY, "valid_to": NOW + 20 * DAY}]
    write_registers(real_bundle.make_registers(consents=rows), tmp_path)
    before, after = NOW + 1100 * DAY, NOW + 1120 * DAY
    assert Registers.read(tmp_path).in_time(RULES, before).rows == 4
    assert Registers.read(tmp_path).in_time(RULES, after).rows == 0
    assert not any(erasure.changes for erasure in register_folders.plan_expiry(tmp_path, RULES, before))
    assert [erasure.summary["erased"] for erasure in register_folders.plan_expiry(tmp_path, RULES, after)] == [2, 2]
    # The floor, too, counts for both rows: 180 days after the end.
    for days, rows in ((199, 0), (201, 2)):
        deletion = carried_out(register_folders.plan_deletion(tmp_path, token("mine"), RULES, NOW + days * DAY))
        assert deletion[f"{tmp_path.name}/consents.jsonl"]["deleted"] == rows


def test_a_deletion_everywhere_includes_registers(register_folder, log, tmp_path):  # noqa: F811
    (tmp_path / "data").mkdir()
    signed_log, places = SignedLog(log, small.KEY), Places(data=tmp_path / "data", registers=(register_folder,))
    report = delete_everywhere(Person(token("mine")), places, "asked", signed_log, NOW)
    assert report["files"]["registers/preferences.jsonl"]["deleted"] == 4
    assert set(Registers.read(register_folder).columns["preferences"]["callee"]) == {token("other")}


@pytest.mark.source("P5", "P6", by="training/oversight/privacy/deletion.py")
def test_verdict_files_lose_expired_calls_and_a_deleted_person(folder, log, key, command_json, tmp_path):  # noqa: F811
    person = real_bundle.key_calls(real_bundle.calls(5))[0].caller
    number = real_bundle.calls(5)[0].caller
    ages = np.array([1, 59, 61, 400, 2])
    rows = pa.table({"start": NOW - ages * DAY, "caller": [person, "e1." + "a" * 32, "e1." + "b" * 32, person, person],
                     "callee": ["e1." + "c" * 32] * 5, "action": ["label"] * 5})  # fmt: skip
    path = tmp_path / "of-monday.parquet"
    pq.write_table(rows, path)
    report = command_json("privacy", "retention", *keys_of(log), "--verdicts", path)["files"][str(path)]
    assert (report["erased"], report["past_their_time"]) == (2, 0)
    assert (NOW - pq.read_table(path)["start"].to_numpy() <= 60 * DAY).all()
    words = ("--data", folder, "--key", key, "--why", "asked", *keys_of(log), "--verdicts", path)
    report = command_json("privacy", "delete", *words, stdin=number)
    assert report["files"][str(path)]["deleted"] == 2
    left = pq.read_table(path)
    assert left.num_rows == 1 and not pc.any(pc.equal(left["caller"], person)).as_py()
    assert person not in json.dumps(report)


@pytest.mark.parametrize(("newest", "left"), [(59, 2), (61, 0)])
def test_rows_of_invalid_calls_expire_with_the_last_call_of_their_file(log, command_json, tmp_path, newest, left):  # noqa: F811
    """They have no start, but may hold own columns of the input."""
    path = tmp_path / "verdicts.parquet"
    start = pa.array([NOW - 400 * DAY, None, NOW - newest * DAY], pa.int64())
    pq.write_table(pa.table({"start": start, "own id": ["a", "b", "c"]}), path)
    report = command_json("privacy", "retention", *keys_of(log), "--verdicts", path)["files"][str(path)]
    assert (report["rows_after"], report["past_their_time"]) == (left, 0)
    assert pq.read_table(path)["own id"].to_pylist() == ["b", "c"][:left]
