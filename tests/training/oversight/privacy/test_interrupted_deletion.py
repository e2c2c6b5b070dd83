"""A deletion enters its plan in the audit log before any change; the next run finishes an interrupted deletion."""

import itertools
import json
import shutil
import sqlite3
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.files.atomic import sha256
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.cases import erasure as case_erasure
from callsieve.serving.cases.store import CaseStore
from callsieve.training.oversight.governance.compliance import AuditScope, report
from callsieve.training.oversight.log.audit_log import SignedLog, append, payloads
from callsieve.training.oversight.privacy.deletion import KIND, delete_everywhere
from callsieve.training.oversight.privacy.intents import open_intents
from callsieve.training.oversight.privacy.places import Person, Places
from callsieve.training.oversight.privacy.states import calls_fingerprint
from tests.serving.cases.test_store import example_record, fill
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.keys import write_key
from tests.training.oversight.privacy.test_deletion import PERSON, replace_word
from tests.training.oversight.privacy.test_retention_run import NEW, OLD, was_killed

OTHER = real_bundle.NUMBER_KEY.token("number", "other")
TABLES = ("data/calls.parquet", "data/truth.parquet", "data/complaints.parquet", "verdicts.parquet",
          "registers/preferences.jsonl")  # fmt: skip


@pytest.fixture
def everything(world_folder, tmp_path):
    """A person's rows in every kind of place, and two models that learnt from them."""
    (tmp_path / "data").mkdir()
    calls = pq.read_table(world_folder / "calls.parquet").slice(0, 60)
    callers = calls["caller"].cast(pa.string()).value_counts()
    busiest = callers.field(0)[pc.index(callers.field(1), pc.max(callers.field(1))).as_py()].as_py()
    truth = pq.read_table(world_folder / "truth.parquet")
    tables = {
        "calls": calls,
        "truth": truth.filter(pc.is_in(truth["call"], calls["call"].combine_chunks())),
        "complaints": pq.read_table(world_folder / "complaints.parquet").slice(0, 5),
    }
    first = tables["complaints"]["number"].cast(pa.string())[0].as_py()
    for name, table in tables.items():
        renamed = replace_word(table, first if name == "complaints" else busiest, PERSON)
        pq.write_table(renamed, tmp_path / f"data/{name}.parquet")
    verdicts = {"start": [NEW, OLD], "caller": [PERSON, OTHER], "callee": [OTHER] * 2, "action": ["label"] * 2}
    pq.write_table(pa.table(verdicts), tmp_path / "verdicts.parquet")
    (tmp_path / "registers").mkdir()
    wishes = [{"callee": token, "category": "loans", "accepts": True, "valid_from": OLD} for token in (PERSON, OTHER)]
    write_registers(real_bundle.make_registers(preferences=wishes), tmp_path / "registers")
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db")
    fill(store, tmp_path / "state", example_record(1, PERSON, at=OLD), example_record(2, at=OLD))
    store.close()
    before = calls_fingerprint(tmp_path / "data")
    source = json.dumps({"tags": {"source": "elsewhere"}})
    for run, calls_of in (("r1", before), ("r2", "another table")):
        record = {"tag": {"data_sha256": calls_of}, "dataset": {"calls": {"source": source}}}
        append(tmp_path / "audit", "run", {"run": run, "model": f"m{run}", "record": record}, small.KEY)
    write_key(small.KEY, tmp_path / "signing.key")
    return tmp_path


def run_on(folder, token=PERSON, **changes):
    places = {"data": folder / "data", "states": (folder / "state",), "store": f"sqlite:///{folder}/cases.db",
              "verdicts": (folder / "verdicts.parquet",), "registers": (folder / "registers",)}  # fmt: skip
    places = Places(**places | changes)
    return delete_everywhere(Person(token), places, "asked", SignedLog(folder / "audit", small.KEY), NEW)


def entries(folder):
    return [payload for _, payload in payloads(folder / "audit", KIND)]


def hashes(folder):
    return {name: sha256(folder / name) for name in TABLES}


def cases_of(folder, token):
    with closing(sqlite3.connect(folder / "cases.db")) as connection:
        return connection.execute("select count(*) from callsieve_cases where caller = ?", (token,)).fetchone()[0]


def persons_rows(folder):
    """Rows of the person by place, counted without the code's help."""
    counts = {
        name: sum(PERSON in row.values() for row in pq.read_table(folder / name).to_pylist())
        for name in TABLES
        if "parquet" in name
    }
    journals = (folder / "state").glob("cases-*.log")
    lines = (folder / "registers/preferences.jsonl").read_text().splitlines()
    return {**counts, "registers/preferences.jsonl": sum(PERSON in line for line in lines),
            "cases": cases_of(folder, PERSON),
            "state": sum(PERSON.encode() in path.read_bytes() for path in journals)}  # fmt: skip


WRONG = {
    "registers": ({"registers": ("nowhere",)}, "not found"),
    "no register": ({"registers": ("data",)}, "expected a folder of registers|no register"),
    "verdicts": ({"verdicts": ("verdict.parquet",)}, "not found"),
    "state": ({"states": ("stat",)}, "not found"),
    "store": ({"store": "nosuch://x"}, "cannot be opened"),
    "data": ({"data": "dat"}, "not found"),
}


@pytest.mark.source("P6", by="training/oversight/privacy/deletion.py")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_refused_before_anything_is_deleted(everything, wrong):
    before, rows = hashes(everything), persons_rows(everything)
    changes, says = WRONG[wrong]
    [(option, value)] = changes.items()
    if option != "store":
        value = everything / value if isinstance(value, str) else tuple(everything / name for name in value)
    with pytest.raises(ValueError, match=says):
        run_on(everything, **{option: value})
    assert hashes(everything) == before and persons_rows(everything) == rows
    assert entries(everything) == [] and not list(everything.rglob("*.new")) and not list(everything.rglob("excl*"))


def test_a_table_without_a_rule_and_a_key_of_another_epoch_are_refused(everything):
    before = hashes(everything)
    with pytest.raises(ValueError, match=r"calls\.parquet: tokens are of key e1, got key e2"):
        run_on(everything, PERSON.replace("e1.", "e2."))
    shutil.copyfile(everything / "data/complaints.parquet", everything / "data/secrets.parquet")
    with pytest.raises(ValueError, match="expected a rule for the table 'secrets'"):
        run_on(everything)
    assert hashes(everything) == before and entries(everything) == []


@pytest.mark.source("P6", by="training/oversight/privacy/deletion.py")
def test_the_plan_precedes_every_change_and_the_result_has_the_models(everything):
    rows = persons_rows(everything)
    assert all(rows[name] for name in rows if name != "data/truth.parquet")
    answer = run_on(everything)
    plan, result = entries(everything)
    assert (plan["stage"], result["stage"]) == ("intent", "result") and answer["resumes"] is None
    assert [model["model"] for model in plan["models"]] == [model["model"] for model in result["models"]] == ["mr1"]
    for name, summary in answer["files"].items():
        assert plan["files"][name]["deleted"] == summary["deleted"] > 0, name
    deleted = {name.rpartition("/")[2]: summary["deleted"] for name, summary in answer["files"].items()}
    journal = next((everything / "state").glob("cases-*.log")).name
    expected = {
        name.rpartition("/")[2]: count for name, count in rows.items() if name not in ("state", "data/truth.parquet")
    }
    assert deleted == expected | {"truth.parquet": rows["data/calls.parquet"], journal: rows["state"]}
    assert not any(persons_rows(everything).values())
    assert PERSON not in json.dumps(entries(everything))


def interrupted(everything, monkeypatch):
    """A deletion whose tables were replaced; the case store then failed."""
    with monkeypatch.context() as patched:
        patched.setattr(case_erasure, "erase_subject", raising(OSError("the disk is full")))
        with pytest.raises(OSError, match="the disk is full"):
            run_on(everything)


@pytest.mark.source("P6", by="training/oversight/privacy/deletion.py")
def test_an_interrupted_deletion_is_an_open_duty_until_the_same_person_is_deleted(everything, monkeypatch):
    rows = persons_rows(everything)
    interrupted(everything, monkeypatch)
    scope = AuditScope((), everything / "audit", (), None)

    def duty():
        [line] = [line for line in report(scope)["duties"] if line["name"] == "deletions finished"]
        return line["holds"], line["result"]

    assert duty() == (False, "entries 2: interrupted; run callsieve privacy delete again for these persons")
    run_on(everything, OTHER)
    assert not duty()[0], "the deletion of another person finishes this one"
    with pytest.raises(ValueError, match=r"entry 2 of the audit log: .* expected --store URL, --verdicts .*verdicts\."):
        run_on(everything, store=None, verdicts=())
    answer = run_on(everything)
    assert answer["resumes"] == 2 and [model["model"] for model in answer["models"]] == ["mr1"]
    assert answer["files"]["calls.parquet"]["deleted"] == rows["data/calls.parquet"], "the plan's rows are recorded"
    assert answer["files"]["cases"]["deleted"] == answer["files"]["cases"]["cases"] == 1
    assert duty() == (True, "none was interrupted")
    assert run_on(everything)["resumes"] is None


@pytest.mark.system
@pytest.mark.source("P6", by="training/oversight/privacy/deletion.py")
def test_a_deletion_that_is_killed_at_any_step_is_finished_and_recorded_whole(everything, tmp_path_factory):
    before = hashes(everything)
    base, partly = tmp_path_factory.mktemp("killed"), 0
    whole = None
    for step in itertools.count(1):
        folder = base / "copy"
        shutil.copytree(everything, folder)
        killed = was_killed(step, lambda folder=folder: run_on(folder))
        if killed:
            now = hashes(folder)
            changed = {name for name in before if now[name] != before[name]}
            partly += 0 < len(changed) < len(before)
            assert not changed or entries(folder)[0]["stage"] == "intent"
            if changed and step % 3 == 0:  # and the next run is killed, too
                was_killed(step % 20, lambda folder=folder: run_on(folder))
            run_on(folder)
        result = next(payload for payload in entries(folder) if payload["stage"] == "result")
        counts = {name: summary["deleted"] for name, summary in result["files"].items()}
        names = [model["model"] for model in result["models"]]
        whole = whole or (counts, names)
        assert (counts, names) == whole and names == ["mr1"]
        assert not any(persons_rows(folder).values())
        assert open_intents(folder / "audit", KIND) == []
        [row] = {tuple(row.values()) for row in pq.read_table(folder / "data/exclusions.parquet").to_pylist()}
        assert row[0] == PERSON
        if not killed:
            break
        shutil.rmtree(folder)
    assert step > 20 and partly > 2
