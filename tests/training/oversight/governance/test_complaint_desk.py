"""The desk of complaints: the clocks, each regulator's own trade, and the status for the person who complained."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.rotation import Rekeying
from callsieve.training.oversight.governance.complaint_desk import Step, complaints_of, enter, notice
from callsieve.training.oversight.governance.parties import regulators
from callsieve.training.oversight.governance.working_days import read_working_days
from callsieve.training.oversight.log.audit_log import SignedLog, payloads
from callsieve.training.oversight.log.folder_log import PersonalLog
from callsieve.training.oversight.privacy import tables
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.simulated import mark_simulated

INTAKE = Intake(real_bundle.NUMBER_KEY)
FRIDAY = datetime(2026, 3, 6, 3, tzinfo=UTC)
PEOPLE = ("13900139000", "13900139001")
CATEGORIES = ("loans", "fraud", "property", "loans")


@pytest.fixture
def folder(tmp_path):
    """Four complaints of two people, known on a Friday."""
    mark_simulated(tmp_path)
    table = {
        "number": [INTAKE.token("number", f"1380000000{place}") for place in range(4)],
        "reporter": [INTAKE.token("number", PEOPLE[place % 2]) for place in range(4)],
        "category": list(CATEGORIES),
        "mode": ["human", "recording", None, "bombing"],
        "channel": ["complaint"] * 4,
        "work_order": ["202603060000001", None, "202603060000003", None],
    }
    moments = pa.array([FRIDAY] * 4, pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(table | {"at": moments, "known_at": moments}), tmp_path / "complaints.parquet")
    return tmp_path


def officer(folder):
    """The log in the folder, for the entries of one person."""
    return PersonalLog(SignedLog(folder / "audit", small.KEY), "p1")


@pytest.mark.source("L44", by="training/oversight/governance/complaint_desk.py")
def test_the_clocks_of_a_complaint_skip_holidays(folder, tmp_path, run_command, command_error):
    """Known before the Spring Festival of 2026; passed on before the end of 2026, whose next notice is another file."""
    path = folder / "complaints.parquet"
    known = pa.array([datetime(2026, 2, 13, 3, tzinfo=UTC)] * 4, pa.timestamp("ms", "UTC"))
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("known_at"), "known_at", known), path)
    row = complaints_of(folder, regulator="police", today=date(2026, 2, 25))[0]
    assert (row["dispatch"], row["overdue"]) == ("2026-02-25", False)
    christmas = int(datetime(2026, 12, 25, 2, tzinfo=UTC).timestamp() * 1000)
    with pytest.raises(ValueError, match="begins on 2026-12-25 reaches 2027"):
        enter(folder, Step(row["complaint"], "dispatched"), officer(folder), christmas)
    assert complaints_of(folder, regulator="police")[0]["status"] == "received", "a refused step was written"
    calendar = tmp_path / "later.toml"
    calendar.write_text('[[notice]]\nyear = 2027\nsource = "the test"\noff = [[2027-01-01, 2027-01-03]]\n')
    later = read_working_days(calendar)
    assert (
        enter(folder, Step(row["complaint"], "dispatched"), officer(folder), christmas, later)["answer"] == "2027-01-18"
    )
    words = ("govern", "complaints", "list", "--data", folder)
    assert "as --calendar" in command_error(*words)
    code, out, _ = run_command(*words, "--calendar", calendar, "--json")
    assert code == 1 and "2027-01-18" in {row["answer"] for row in json.loads(out)["complaints"]}


@pytest.mark.source("L23", "L24", "L27", "L44", by="training/oversight/governance/complaint_desk.py")
def test_each_regulator_sees_the_complaints_about_its_own_trade(folder):
    seen = {name: complaints_of(folder, regulator=name) for name in regulators().regulators}
    assert {name: [row["category"] for row in rows] for name, rows in seen.items() if rows} == {
        "finance": ["loans", "loans"], "police": ["fraud"], "housing": ["property"],
    }  # fmt: skip
    assert sorted(row["plan_class"] for row in complaints_of(folder)) == [
        "harassment", "illegal", "marketing", "marketing",
    ]  # fmt: skip
    assert not any("reporter" in row for row in complaints_of(folder))
    with pytest.raises(ValueError, match="--regulator: expected one of culture and tourism, education"):
        complaints_of(folder, regulator="trade")


@pytest.mark.source("L44", by="training/oversight/governance/complaint_desk.py")
def test_a_complaint_is_passed_on_and_answered_within_its_clocks(folder):
    first = complaints_of(folder, regulator="police", today=date(2026, 3, 11))[0]
    assert (first["status"], first["dispatch"], first["answer"], first["overdue"]) == (
        "received", "2026-03-11", None, False,
    )  # fmt: skip
    assert complaints_of(folder, regulator="police", today=date(2026, 3, 12))[0]["overdue"]
    with pytest.raises(ValueError, match="is received; expected the step dispatched, got answered"):
        enter(folder, Step(first["complaint"], "answered", "done"), officer(folder))
    monday = int(datetime(2026, 3, 9, 2, tzinfo=UTC).timestamp() * 1000)
    row = enter(folder, Step(first["complaint"], "dispatched"), officer(folder), monday)
    assert (row["status"], row["dispatch"], row["answer"]) == ("dispatched", None, "2026-03-30")
    assert "公安部" in notice(row, "zh") and "30 March 2026" in notice(row, "en")
    with pytest.raises(ValueError, match="without a telephone number"):
        enter(folder, Step(first["complaint"], "answered", "call 13800138000"), officer(folder))
    row = enter(folder, Step(first["complaint"], "answered", "已核查"), officer(folder))
    assert (row["status"], row["overdue"]) == ("answered", False) and "已核查" in notice(row, "zh")
    for step in ("answered", "dispatched"):
        with pytest.raises(ValueError, match="is answered"):
            enter(folder, Step(first["complaint"], step), officer(folder))
    with pytest.raises(ValueError, match="no such complaint"):
        enter(folder, Step("a" * 16, "dispatched"), officer(folder))
    assert [row["status"] for row in complaints_of(folder)] == ["received"] * 3 + ["answered"]
    entries = [payload for _, payload in payloads(folder / "audit", "complaint")]
    assert [(entry["person"], entry["status"], entry["note"]) for entry in entries] == [
        ("p1", "dispatched", ""), ("p1", "answered", "已核查"),
    ]  # fmt: skip
    assert entries[0]["entered"] == monday


@pytest.mark.source("L44", by="training/cli/govern_commands.py")
def test_the_status_goes_back_to_the_person_who_complained(folder, run_command, tmp_path):
    key = tmp_path / "keys" / "number.key"
    key.parent.mkdir()
    real_bundle.NUMBER_KEY.write(key)
    code, out, _ = run_command("govern", "complaints", "list", "--data", folder, "--regulator", "housing", "--json")
    [row] = json.loads(out)["complaints"]
    assert row["work_order"] == "202603060000003"
    assert code == 1 and row["overdue"], "the clock of March 2026 is over"
    words = ("govern", "complaints", "enter", row["complaint"], "dispatched", "--data", folder, "--person", "p1")
    assert run_command(*words)[:2] == (0, f"{row['complaint']}: dispatched\n")
    status = ("govern", "complaints", "status", "--data", folder, "--key", key)
    code, out, _ = run_command(*status, stdin=f"{PEOPLE[0]}\n")
    assert code == 0 and "住房和城乡建设部" in out.replace("\n", "")
    assert out.count("2026年3月6日") == out.count("6 March 2026") == 2
    assert PEOPLE[0] not in out
    code, out, _ = run_command(*status, "--json", stdin="13700137000\n")
    assert json.loads(out) == {"complaints": []}


def test_an_entered_complaint_keeps_its_id_under_a_new_key(folder):
    name = complaints_of(folder, regulator="police")[0]["complaint"]
    enter(folder, Step(name, "dispatched"), officer(folder))
    tables.rekey(folder, Rekeying(real_bundle.NUMBER_KEY, real_bundle.NUMBER_KEY.rotated("e9")))
    [row] = complaints_of(folder, regulator="police")
    assert (row["complaint"], row["status"]) == (name, "dispatched") and row["number"].startswith("e9.")
