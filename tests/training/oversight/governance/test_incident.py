"""Incident drills: affected data and people are counted without naming anyone, and every notice is complete."""

import gzip
import json
import re
import shutil
from datetime import date, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.numbers import parse
from callsieve.features.keys.tokens import Key
from callsieve.features.offline.table import vectors
from callsieve.features.reading.call_files import read_calls
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.bundle.signing import generate_signing_key
from callsieve.serving.custody.purposes import declare
from callsieve.training.oversight.governance.canaries import Canaries, canary_numbers, plant, raw_lines, search
from callsieve.training.oversight.governance.incident import affected, drill, read_incident
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


@pytest.mark.source("L39", "P12", by="training/oversight/governance/incident.py")
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
        ("cause =", "reason =", "record.toml: en: .*`reason`"),
        ('what = "leaked"', 'what = "gone"', "record.toml: what: invalid enum value 'gone'"),
        ("+08:00", "", "record.toml: found: expected .*timezone"),
        ("drill = true", "drill = 1", "record.toml: drill: expected `bool`"),
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
    words = (incident_files[0] / "record.toml", "--out", tmp_path / "out")
    code, out, err = run_command("govern", "incident", "drill", *words)
    assert (code, err) == (0, "")
    assert "2026-03-02T10:30:00+08:00  regulator_1h" in out and "the key of epoch e1 leaked, too" in out
    assert json.loads((tmp_path / "out" / "incident.json").read_text(encoding="utf-8")) == incident_files[1]


def test_the_command_prints_the_facts_as_json(command_json, monkeypatch, tmp_path):
    counts = {"datasets": [], "call_records": 0, "people_at_most": 0}
    counts |= {"epochs": ["e1"], "clocks": {}, "readable_epochs": []}
    names = lambda record, out: counts | {"record": record.name, "out": out.name}
    monkeypatch.setattr("callsieve.training.oversight.governance.incident.drill", names)
    facts = command_json("govern", "incident", "drill", "r", "--out", tmp_path / "o")
    assert facts == counts | {"record": "r", "out": "o"}


# Canaries


KEY, STORE = Key("c1", bytes(range(5, 45)), purpose="canaries"), Key("e1", b"k" * 32)
PARTNER, OTHER = Canaries("partner-a", 20), Canaries("partner-b", 20)


def test_canaries_are_unassigned_numbers_derived_from_a_key():
    numbers = canary_numbers(KEY, PARTNER)
    assert len(set(numbers)) == 20 and not set(numbers) & set(canary_numbers(KEY, OTHER))
    for year in range(2000, 2030):
        assert {parse(number, date(year, 6, 1)).kind for number in numbers} == {"irregular"}
    assert all(re.fullmatch(r"1\d{10}", number) for number in numbers)
    assert canary_numbers(KEY, Canaries("partner-a", 5)) == numbers[:5]
    assert not set(numbers) & set(canary_numbers(Key("c1", bytes(range(6, 46)), purpose="canaries"), PARTNER))
    with pytest.raises(ValueError, match="without seven digits in a row"):
        canary_numbers(KEY, Canaries("13812345679", 3))


@pytest.fixture(scope="module")
def planted(world_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(0, 6000), folder / "calls.parquet")
    declare(folder, "made for a test", "none needed", ["statistics"], "2999-12-31")
    with pytest.raises(ValueError, match="declared for statistics, not for export"):
        plant(folder / "calls.parquet", folder / "x.parquet", KEY, STORE, PARTNER, folder / "canaries.json")
    declare(folder, "made for a test", "none needed", ["export"], "2999-12-31", change=True)
    for copy in (PARTNER, OTHER):
        plant(folder / "calls.parquet", folder / f"{copy.dataset}.parquet", KEY, STORE, copy, folder / "canaries.json")
    return folder


@pytest.mark.source("L29", "L45", by="training/oversight/governance/canaries.py")
def test_no_history_of_a_real_number_changes(planted):
    before, after = (read_keyed(planted / name) for name in ("calls.parquet", "partner-a.parquet"))
    assert after.num_rows == before.num_rows + 20 and after["start"].to_pylist() == sorted(after["start"].to_pylist())
    real = pc.less(after["call"], before.num_rows).to_numpy()
    assert after.filter(pa.array(real)).to_pylist() == before.to_pylist()
    np.testing.assert_array_equal(vectors(after, threads=1)[real], vectors(before, threads=1))
    planted_calls = after.filter(pa.array(~real))
    callers, callees = (set(planted_calls[name].to_pylist()) for name in ("caller", "callee"))
    assert callers == callees and len(callers) == 20
    assert not callers & {*before["caller"].to_pylist(), *before["callee"].to_pylist()}


@pytest.mark.source("L29", "L45", by="training/oversight/governance/canaries.py")
@pytest.mark.parametrize("form", ["{}", "+86 {}", "0086{}", "name,{},x"])
def test_canaries_are_found_in_lists(planted, tmp_path, form):
    numbers, others = canary_numbers(KEY, PARTNER), [f"138{n:08d}" for n in range(200)]
    lines = [form.format(number) for number in [*others[:100], *numbers[:7], *others[100:]]]
    (tmp_path / "list").write_text("\n".join(lines), encoding="utf-8")
    with gzip.open(tmp_path / "list.gz", "wt") as file:
        file.write("\n".join(lines))
    pq.write_table(pa.table({"n": lines}), tmp_path / "list.parquet")
    for name in ("list", "list.gz", "list.parquet"):
        result = search(tmp_path / name, KEY, planted / "canaries.json")
        assert result["lines"] == 207
        counts = [(row["dataset"], row["planted"], row["found"]) for row in result["datasets"]]
        assert counts == [("partner-a", 20, 7), ("partner-b", 20, 0)]
        assert result["datasets"][0]["lines"] == list(range(101, 108))


def test_tokens_of_canaries_are_found_in_the_planted_copy(planted):
    state = planted / "canaries.json"
    result = search(planted / "partner-b.parquet", KEY, state, STORE)
    assert [row["found"] for row in result["datasets"]] == [0, 20]
    assert [row["found"] for row in search(planted / "calls.parquet", KEY, state, STORE)["datasets"]] == [0, 0]


def test_canaries_in_other_notations_are_found(planted, tmp_path):
    number = canary_numbers(KEY, OTHER)[0]
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in number)
    lines = f"{number[:3]}-{number[3:7]}-{number[7:]}\n{wide}\n{number[:3]} {number[3:]}\n"
    (tmp_path / "list").write_text(lines, encoding="utf-8")
    result = search(tmp_path / "list", KEY, planted / "canaries.json")
    assert [row["found"] for row in result["datasets"]] == [0, 1]


def test_no_file_contains_a_canary_in_plain_text_and_canaries_are_planted_once(planted):
    numbers = [number for copy in (PARTNER, OTHER) for number in canary_numbers(KEY, copy)]
    for path in planted.iterdir():
        data = path.read_bytes()
        assert not any(number.encode() in data for number in numbers), path.name
    with pytest.raises(ValueError, match="partner-a has canaries already"):
        plant(planted / "calls.parquet", planted / "new.parquet", KEY, STORE, PARTNER, planted / "canaries.json")
    with pytest.raises(FileExistsError):
        plant(*[planted / "calls.parquet"] * 2, KEY, STORE, Canaries("c", 2), planted / "canaries.json")


def test_raw_lines_are_read_as_calls(tmp_path):
    (tmp_path / "calls.csv").write_text("\n".join(raw_lines(KEY, PARTNER, 1767225600, 1767312000)) + "\n")
    read = read_calls(tmp_path / "calls.csv", read_layout("callsieve"))
    assert read.table.num_rows == 20 and not read.quarantined
    assert set(read.table["caller"].to_pylist()) == set(canary_numbers(KEY, PARTNER))


@pytest.mark.system
def test_commands_plant_and_search(run_command, monkeypatch, planted, tmp_path):
    KEY.write(tmp_path / "canary.key")
    STORE.write(tmp_path / "store.key")
    monkeypatch.chdir(tmp_path)
    run = partial(run_command, "govern", "incident")
    copy = ["--calls", planted / "calls.parquet", "--store-key", "store.key", "--out", "copy.parquet"]
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--name", "x", *copy, "--json")
    assert code == 0 and json.loads(out)["rows"] == 6020
    code, out, _ = run("search-canaries", "copy.parquet", "--key", "canary.key", "--store-key", "store.key")
    assert code == 1 and "x: 20 of 20 canaries found" in out
    code, out, _ = run("search-canaries", planted / "calls.parquet", "--key", "canary.key", "--json")
    assert code == 0 and json.loads(out)["datasets"][0]["found"] == 0
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--name", "raw", "--first",
                         "2026-03-01T00:00:00Z", "--last", "2026-03-02T00:00:00Z")  # fmt: skip
    assert code == 0 and len(out.splitlines()) == 21
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--name", "json", "--first",
                         "2026-03-01T00:00:00Z", "--last", "2026-03-02T00:00:00Z", "--json")  # fmt: skip
    assert code == 0 and len(json.loads(out)["lines"]) == 21
    code, _, err = run("plant-canaries", "--key", "canary.key", "--name", "raw2", "--first", "2026-03-01T00:00:00Z",
                         "--last", "2026-03-02")  # fmt: skip
    assert code == 1 and "--last: expected a time with its zone" in err
    assert "raw2" not in (tmp_path / "canaries.json").read_text()  # the state lists printed canaries only
    code, _, err = run("plant-canaries", "--key", "canary.key", "--name", "raw2")
    assert code == 2 and "--store-key" in err


def test_calls_without_ids_stay_without_and_an_empty_table_is_refused(planted, tmp_path):
    table = pq.read_table(planted / "calls.parquet")
    declare(tmp_path, "made for a test", "none needed", ["export"], "2999-12-31")
    arguments = (tmp_path / "copy.parquet", KEY, STORE, PARTNER, tmp_path / "canaries.json")
    pq.write_table(table.slice(0, 0), tmp_path / "calls.parquet")
    with pytest.raises(ValueError, match="expected at least one call"):
        plant(tmp_path / "calls.parquet", *arguments)
    pq.write_table(table.slice(0, 9).drop_columns("call"), tmp_path / "calls.parquet")
    assert plant(tmp_path / "calls.parquet", *arguments) == 29
    assert "call" not in pq.read_schema(tmp_path / "copy.parquet").names
