"""`audit verify` names a declaration or a step of a complaint that was changed without an entry in the folder's log."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.training.oversight.governance.complaint_desk import complaints_of
from callsieve.training.oversight.log.audit_log import erase, payloads
from callsieve.training.oversight.log.folder_log import folder_log

STEPS = "complaint_status.parquet"
MOMENT = datetime(2026, 3, 6, 3, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path, command_json):
    """A declared folder with a complaint that was passed on and answered."""
    moments = pa.array([MOMENT], pa.timestamp("ms", "UTC"))
    table = {"number": ["e1.b"], "reporter": ["e1.a"], "category": ["fraud"], "mode": ["human"], "channel": ["x"]}
    pq.write_table(pa.table(table | {"at": moments, "known_at": moments}), tmp_path / "complaints.parquet")
    facts = ("--source", "desk", "--basis", "law", "--purpose", "statistics", "--until", "2999-12-31")
    command_json("privacy", "declare", tmp_path, *facts, "--person", "p1")
    (row,) = complaints_of(tmp_path)
    for step, note in (("dispatched", ""), ("answered", "checked")):
        words = (row["complaint"], step, "--data", tmp_path, "--person", "p2", "--note", note)
        command_json("govern", "complaints", "enter", *words)
    return tmp_path


@pytest.fixture
def verify(run_command):
    return lambda folder: run_command("audit", "verify", "--in", folder)[:2]


def declared(folder, **changes):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def steps(folder, name, *values):
    table = pq.read_table(folder / STEPS)
    column = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), folder / STEPS)


def repeated(folder):
    table = pq.read_table(folder / STEPS)
    pq.write_table(pa.concat_tables([table, table.slice(1)]), folder / STEPS)
    steps(folder, "note", "", "checked", "checked twice")


MANIPULATIONS = {
    "the purposes are edited": (lambda f: declared(f, purposes=["export", "statistics"]), "dataset.json: differs from"),
    "the last day is edited": (lambda f: declared(f, until="3000-01-01"), "dataset.json: differs from"),
    "the declaration is no JSON": (lambda f: (f / "dataset.json").write_text("{"), "dataset.json: differs from"),
    "the declaration is removed": (lambda f: (f / "dataset.json").unlink(), "dataset.json: differs from"),
    "a note is replaced": (lambda f: steps(f, "note", "", "apologised"), "answered: has no entry"),
    "a step is backdated": (lambda f: steps(f, "entered", MOMENT, MOMENT), "dispatched: has no entry"),
    "a step is added": (repeated, "answered: has no entry"),
}


@pytest.mark.source("L42", by="training/oversight/audit/verify.py")
@pytest.mark.parametrize("name", MANIPULATIONS)
def test_a_change_without_an_entry_is_named(folder, verify, run_command, name):
    assert verify(folder)[0] == 0
    change, text = MANIPULATIONS[name]
    change(folder)
    code, answer = verify(folder)
    assert code == 1 and text in answer
    if "JSON" not in name and "removed" not in name:
        duties = json.loads(run_command("govern", "compliance", "--data", folder, "--json")[1])["duties"]
        assert [duty["holds"] for duty in duties if duty["name"] == "declared"] == [False]


@pytest.mark.source("L42", by="training/cli/privacy_commands.py")
def test_changes_by_the_commands_are_no_faults(folder, verify, command_json):
    command_json("privacy", "declare", folder, "--change", "--until", "2998-12-31", "--person", "p3")
    assert verify(folder)[0] == 0
    command_json("privacy", "undeclare", folder, "--person", "p3")
    assert verify(folder)[0] == 0
    acts = [(payload["person"], payload["act"]) for _, payload in payloads(folder / "audit", "declaration")]
    assert acts == [("p1", "declare"), ("p3", "change"), ("p3", "undeclare")]


def test_an_erased_step_stays_without_a_fault_and_a_declaration_cannot_be_erased(folder, verify):
    log = folder_log(folder, None)
    with pytest.raises(ValueError, match="is of kind declaration; it must stay"):
        erase(log.folder, 0, "asked", log.key)
    erase(log.folder, 1, "asked", log.key)
    assert verify(folder)[0] == 0
    steps(folder, "note", "other", "others")
    assert verify(folder)[0] == 1


@pytest.mark.parametrize("person", [" ", "138 0013 8000", "a" * 101, "a\nb"])
def test_a_person_is_a_name_in_one_line_without_a_number(folder, command_error, person):
    answer = command_error("privacy", "undeclare", folder, "--person", person)
    assert "--person: expected a name" in answer and (folder / "dataset.json").exists()
