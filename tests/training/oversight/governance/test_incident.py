"""Incident drills: affected data and people are counted without naming anyone, and every notice is complete."""

import json
import re
import shutil
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import generate_signing_key
from callsieve.training.oversight.governance.affected import affected
from callsieve.training.oversight.governance.incident import drill, read_incident
from tests.support.errors import refused
from tests.support.paths import ROOT

SHIPPED = ROOT / "training" / "oversight" / "governance" / "incident.toml"
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,16}\.[a-p]{32}")


@pytest.fixture(scope="module")
def incident_files(world_folder, tmp_path_factory):
    """A drill on a leaked folder: a world, the key of its tokens, a sharing key and a signing key."""
    folder = tmp_path_factory.mktemp("incident")
    shutil.copytree(world_folder, folder / "gone", ignore=shutil.ignore_patterns("looks.jsonl"))
    Key("e1", bytes(range(32))).write(folder / "gone" / "number.key")
    Key("share1", bytes(range(1, 33)), None, "sharing").write(folder / "gone" / "sharing.key")
    generate_signing_key(folder / "gone" / "signing.key", folder / "gone" / "signer.pub")
    text = SHIPPED.read_text(encoding="utf-8").replace('folders = ["."]', 'folders = ["gone"]')
    (folder / "record.toml").write_text(text, encoding="utf-8")
    (folder / "out").mkdir()
    return folder, drill(folder / "record.toml", folder / "out")


@pytest.mark.source("L39", "P12", by="training/oversight/governance/affected.py")
def test_a_drill_counts_data_people_epochs_and_keys(incident_files, world_folder):
    _, facts = incident_files
    people, rows = set(), {}
    for path in sorted(world_folder.glob("*.parquet")):
        table = pq.read_table(path)
        own = set()
        for name in {"caller", "callee", "number", "reporter"} & set(table.column_names):
            column = table[name].dictionary_encode().combine_chunks()
            own |= set(column.dictionary.to_pylist())  # also entries that no row uses: they leaked too
        people |= own
        rows[path.name] = (table.num_rows, len(own))
    assert {entry["file"]: (entry["rows"], entry["people"]) for entry in facts["datasets"]} == rows
    assert facts["people_at_most"] == len(people) and facts["epochs"] == {"e1": len(people)}
    assert {entry["file"]: entry["kind"] for entry in facts["keys"]} == {
        "number.key": "records", "sharing.key": "sharing", "signing.key": "signing",
    }  # fmt: skip
    assert facts["readable_epochs"] == ["e1"]
    assert facts["call_records"] == rows["calls.parquet"][0] and facts["call_records_reach_criminal_threshold"]
    assert set(facts["datasets"][0]["kinds"]) == {"number", "call record", "place", "device"}
    assert facts["other_files"] == 2  # world.json, signer.pub


def test_a_person_column_without_tokens_counts_no_people(tmp_path):
    """Row numbers, or ids of another organisation, are no people of these epochs."""
    token = Key("e1", bytes(32)).token("number", "x")
    pq.write_table(pa.table({"caller": [1, 2], "callee": [token, "x"]}), tmp_path / "other.parquet")
    answer = affected([tmp_path])
    assert (answer.people, answer.epochs, answer.datasets[0]["rows"]) == (1, {"e1": 1}, 2)


@pytest.mark.source("L39", "P12", by="training/oversight/governance/incident.py")
def test_every_notice_is_complete_and_names_no_person(incident_files):
    folder, facts = incident_files
    detection = datetime.fromisoformat("2026-03-02T09:30:00+08:00")
    assert {name: datetime.fromisoformat(at) - detection for name, at in facts["clocks"].items()} == {
        "regulator_1h": timedelta(hours=1), "regulator_4h": timedelta(hours=4), "authority_72h": timedelta(hours=72),
        "people": timedelta(0),
    }  # fmt: skip
    incident = read_incident(folder / "record.toml")
    written = {path.name: path.read_text(encoding="utf-8") for path in (folder / "out").iterdir()}
    assert set(written) == {*facts["notices"], "incident.json"} and len(written) == 9
    secret = Key("e1", bytes(range(32)))
    for name, text in written.items():
        assert not TOKEN.search(text)
        assert not any(word in text for word in ("{{", "AAECAwQF", secret.secret.hex()))
        if name.endswith(".md"):
            language = name.split(".")[1]
            assert text.startswith("# DRILL: " if language == "en" else "# 【演练】")
            assert incident.handler.contact in text and getattr(incident, language).measures in text
            assert name.startswith("people") or f"{facts['people_at_most']:,}" in text
    # Personal Information Protection Law, art. 57: kinds, cause, harm, measures of handler and person, contact.
    for language, kind in (("en", "call record"), ("zh", "通话记录")):
        text = written[f"people.{language}.md"]
        for item in ("cause", "harm", "measures", "people_can"):
            assert getattr(getattr(incident, language), item) in text
        assert kind in text and incident.handler.name in text


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("privacy@example.com", "+86 138-1234-5679", "handler.contact may contain a telephone number"),
        ('cause = "A copy', 'cause = "13812345679: a copy', "en.cause may contain a telephone number"),
        ("cause =", "reason =", "record.toml: en: .*cause"),
        ('what = "leaked"', 'what = "gone"', "record.toml: what: expected one of .*leaked"),
        ("+08:00", "", "record.toml: found: expected .*timezone"),
        ("drill = true", "drill = 1", "record.toml: drill: expected true or false"),
        ('folders = ["."]', "folders = []", "record.toml: folders: expected"),
        ('folders = ["."]', 'folders = ["nowhere"]', "nowhere: no such folder"),
        ("[zh]", "[zh", "expected a TOML file"),
    ],
)
def test_an_incomplete_record_is_refused_in_one_line(tmp_path, old, new, match):
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "record.toml").write_text(text.replace(old, new), encoding="utf-8")
    (tmp_path / "out").mkdir()
    with refused(match) as error:
        drill(tmp_path / "record.toml", tmp_path / "out")
    assert "5679" not in str(error.value)
    assert not list((tmp_path / "out").iterdir())


def test_the_command_prints_deadlines_and_writes_the_facts(incident_files, run_command, tmp_path):
    words = ("--record", incident_files[0] / "record.toml", "--out", tmp_path / "out")
    code, out, err = run_command("govern", "incident", "drill", *words)
    assert (code, err) == (0, "")
    assert "2026-03-02T10:30:00+08:00  regulator_1h" in out and "the key of epoch e1 leaked, too" in out
    assert json.loads((tmp_path / "out" / "incident.json").read_text(encoding="utf-8")) == incident_files[1]


def test_the_command_prints_the_facts_as_json(command_json, monkeypatch, tmp_path):
    counts = {"datasets": [], "call_records": 0, "people_at_most": 0}
    counts |= {"epochs": ["e1"], "clocks": {}, "readable_epochs": []}
    names = lambda record, out: counts | {"record": record.name, "out": out.name}
    monkeypatch.setattr("callsieve.training.oversight.governance.incident.drill", names)
    facts = command_json("govern", "incident", "drill", "--record", "r", "--out", tmp_path / "o")
    assert facts == counts | {"record": "r", "out": "o"}
