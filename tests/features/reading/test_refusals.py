"""Invalid input is refused in one line that says what was expected. Unknown figures are reported as unknown."""

import re
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.files.dates import parse_day, parse_time
from callsieve.features.intake import numberplan
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.keys.tokens import Key
from callsieve.serving.batch.output_keys import with_callee_keys
from callsieve.serving.batch.register_files import read_registers
from callsieve.serving.custody.expiry import row_moments
from callsieve.serving.custody.purposes import FILE, PURPOSES, declare, require_purpose
from callsieve.serving.custody.retention import RetentionRule
from callsieve.training.data.complaint_files import layout_named
from callsieve.training.judging.compare import compare
from callsieve.training.judging.evaluate import NOT_KNOWN, SeenGroups, by_seen_groups, seen_groups
from callsieve.training.judging.metrics import calibration_table
from callsieve.training.model import folds
from callsieve.training.oversight.governance import canaries, incident, parties
from callsieve.training.oversight.governance.incident import Affected, affected
from callsieve.training.oversight.log import tickets
from callsieve.training.oversight.privacy import exports
from callsieve.training.reports.wording import meaning, until
from callsieve.training.world import simulate
from callsieve.training.world.basis.draws import choose
from callsieve.training.world.callers import outfits
from tests.support.calls.worlds import scenario_of

KEY = Key("e1", b"k" * 32)
CALLS = pa.table({"day": pa.array([], pa.int32()), "hour": pa.array([], pa.int8())})


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def of_catalogue(name):
    return SimpleNamespace(catalogue_hash=name)


REFUSED = {
    "no day": (lambda _: folds.day_slices(CALLS), "calls: expected some, got none"),
    "nothing to draw": (lambda _: choose(np.random.default_rng(1), {}, 1), "weights must have a positive sum"),
    "no bin": (lambda _: calibration_table([0.5], [True], bins=0), "bins must be 1 or more, got 0"),
    "no token": (lambda f: exports.reidentify_act(["13800138000"], "p", "q", f), "expected tokens of numbers"),
    "catalogues": (lambda _: compare(of_catalogue("a"), of_catalogue("b"), None, None, None), "one feature catalogue"),
    "layout": (lambda _: layout_named("none"), "layout 'none': expected one of "),
    "no moment": (
        lambda _: row_moments(pa.table({"a": [1]}), RetentionRule("start", 0, 0)),
        "expected a column 'start', got a",
    ),
    "day": (lambda _: parse_day("soon", "--first"), "--first: expected a day such as 2026-03-01, got 'soon'"),
    "day of digits": (lambda _: parse_day("+86 138 1234 5679", "day"), "day: expected a day such as 2026-03-01, got"),
    "no zone": (lambda _: parse_time("2026-03-01T00:00:00", "--first"), "--first: expected a time with its zone"),
    "act": (lambda f: tickets.read_act(write(f, "act", '{"act": 7}')), "act: expected `str`, got `int`"),
    "canaries": (lambda f: canaries.read_state(write(f, "s", '{"kind": 1}')), "`incident canaries plant` writes"),
    "folder": (lambda f: affected([f / "none"]), "no such folder; expected a copy of the affected data"),
    "purpose": (lambda f: declare(f, "switch", "contract", ["fun"], "2030-01-01"), "purposes[0]: invalid enum value"),
    "until": (lambda f: declare(f, "switch", "contract", ["scoring"], "20300101"), "until: invalid RFC3339"),
    "two files": (lambda f: read_registers(two_files(f), KEY), "expected one file of consents, got consents."),
    "outfits": (lambda _: many_outfits(), "calls_per_1000 needs more than 1 outfits"),
    "people": (lambda _: world_of(EVERYBODY_TWICE), "subscribers, the size has"),
    "ties": (lambda _: world_of('[people.ties.work]\ngroup = "far"\n'), "group must be near, mixed, anyone or outside"),
}  # fmt: skip


EVERYBODY_TWICE = "[people.kinds.teacher]\nshare = 1.0\n[people.kinds.elderly]\nshare = 1.0\n"


def two_files(folder):
    for ending in ("csv", "jsonl"):
        (folder / f"consents.{ending}").write_text("")
    return folder


def world_of(text):
    return simulate(scenario_of(text), 1, "tiny")


def many_outfits():
    with patch.object(outfits, "MAX_OUTFITS", 1):
        world_of("[outfits.telemarketer]\ncalls_per_1000 = 900.0\n")


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_input_is_refused_in_one_line(name, tmp_path):
    act, words = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        act(tmp_path)
    assert "\n" not in str(caught.value) and "13800138000" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [("callsieve dataset", "another"), ("2999-12-31", "2999-02-30"), ('"scoring"', '"fun"'), ('"switch"', '""')],
)
def test_a_declaration_is_read_strictly(old, new, tmp_path):
    declare(tmp_path, "switch", "contract", ["scoring"], "2999-12-31")
    assert require_purpose(tmp_path, "scoring").source == "switch" and "scoring" in PURPOSES
    text = (tmp_path / FILE).read_text()
    assert old in text
    (tmp_path / FILE).write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / FILE))):
        require_purpose(tmp_path, "scoring")


def test_a_table_of_statistics_is_checked(tmp_path):
    names = ("number", "reporter")
    read = lambda: parties._table(tmp_path / "complaints.parquet", names, None)
    for table, words in (
        (pa.table({"number": ["e1.a"]}), "complaints.parquet: column 'reporter' is missing"),
        (pa.table({"number": ["13800138000"], "reporter": ["e1.a"]}), "has an invalid value, expected keyed tokens"),
    ):
        pq.write_table(table, tmp_path / "complaints.parquet")
        with pytest.raises(ValueError, match=words) as caught:
            read()
        assert "13800138000" not in str(caught.value)
    write(tmp_path, "complaints.parquet", "no table")
    with pytest.raises(ValueError, match="broken Parquet file"):
        read()
    with pytest.raises(ValueError, match="expected verdicts, as `callsieve score --out` writes them"):
        parties._verdicts(tmp_path / "complaints.parquet", pa.table({}))


@pytest.mark.parametrize(
    ("cells", "words"),
    [("2020-1-1,,fixed", "valid_from and valid_to must be YYYY-MM-DD"), (",,a thing", "must be a number class")],
)
def test_a_table_of_the_number_plan_is_checked(cells, words, tmp_path, monkeypatch):
    write(tmp_path, "other.csv", f"valid_from,valid_to,kind\n,,fixed\n{cells}\n")
    monkeypatch.setattr(numberplan, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ValueError, match=f"other.csv line 3: .*{words}"):
        numberplan._table.__wrapped__("other.csv")


def test_affected_files_that_cannot_be_read_are_counted(tmp_path):
    write(tmp_path, "broken.parquet", "no table")
    write(tmp_path, "large.txt", "x" * 5000)
    report = affected([tmp_path])
    assert report.datasets == [{"file": "broken.parquet", "rows": None, "people": None, "epochs": [], "kinds": []}]
    assert (report.others, report.people, report.keys) == (1, 0, [])
    assert [incident._kinds(Affected(), chinese) for chinese in (False, True)] == ["none", "无"]


def test_seen_groups_are_unknown_for_a_card_without_folds(dataset):
    assert seen_groups(dataset, SimpleNamespace(training={})) == SeenGroups(None, NOT_KNOWN)
    figures = by_seen_groups(None, None, SeenGroups(None, NOT_KNOWN))
    assert figures == {"seen_basis": NOT_KNOWN, "seen": None, "unseen": None}


def test_figures_that_were_not_measured_are_shown_as_such():
    assert until(None, "median") == until({}, "median") == "not measured"
    no_callers = {"callers": 0, "median": None, "median_floor": None}
    assert until(no_callers, "median") == "not measured"  # without callers, "never detected" would be untrue
    assert meaning("none of the catalogue") == "none of the catalogue"


def test_exports_and_canaries_overwrite_no_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a new file; nothing is overwritten"):
        exports.export_calls(None, None, tmp_path, tmp_path / "out", None, None)
    with pytest.raises(FileExistsError, match="exists already; nothing is overwritten"):
        canaries.plant(tmp_path, tmp_path / "out", KEY, KEY, None, tmp_path)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_table_of_no_calls_has_no_called_people():
    none = pa.table({"callee": pa.chunked_array([], pa.dictionary(pa.int32(), pa.string()))})
    assert with_callee_keys(none, CalleeCipher(Key("c1", b"c" * 32, purpose="callees"))).equals(none)
