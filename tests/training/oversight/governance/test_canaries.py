"""Canary numbers: a key derives them, they are unassigned, change no real history and are found in leaked lists."""

import gzip
import json
import re
from datetime import date
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
from callsieve.serving.custody.purposes import declare
from callsieve.training.oversight.governance.canaries import Canaries, canary_numbers, plant, raw_lines, search

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
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--dataset", "x", *copy, "--json")
    assert code == 0 and json.loads(out)["rows"] == 6020
    code, out, _ = run("search-canaries", "copy.parquet", "--key", "canary.key", "--store-key", "store.key")
    assert code == 1 and "x: 20 of 20 canaries found" in out
    code, out, _ = run("search-canaries", planted / "calls.parquet", "--key", "canary.key", "--json")
    assert code == 0 and json.loads(out)["datasets"][0]["found"] == 0
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--dataset", "raw", "--count", 3, "--since",
                         "2026-03-01T00:00:00Z", "--until", "2026-03-02T00:00:00Z")  # fmt: skip
    assert code == 0 and len(out.splitlines()) == 4
    code, out, _ = run("plant-canaries", "--key", "canary.key", "--dataset", "json", "--count", 3, "--since",
                         "2026-03-01T00:00:00Z", "--until", "2026-03-02T00:00:00Z", "--json")  # fmt: skip
    assert code == 0 and len(json.loads(out)["lines"]) == 4
    code, _, err = run("plant-canaries", "--key", "canary.key", "--dataset", "raw2", "--since", "2026-03-01T00:00:00Z",
                         "--until", "2026-03-02")  # fmt: skip
    assert code == 1 and "--until: expected a time with its zone" in err
    assert "raw2" not in (tmp_path / "canaries.json").read_text()  # the state lists printed canaries only
    code, _, err = run("plant-canaries", "--key", "canary.key", "--dataset", "raw2")
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
