"""No figure without a command: the texts, the claims, and the page of evidence say the same."""

import re
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.features.catalogue.feature import ROLES
from callsieve.features.catalogue.lite import LITE
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.live.cleared_callers import EVERY
from callsieve.training.figures import claims, page
from callsieve.training.figures.claim_figures import by_kind
from callsieve.training.figures.claims import CLAIMS, WORLDS, Claim, Statement
from callsieve.training.figures.page import COLUMNS, Row, kept, mark, outdated, run, update_texts, write_page
from callsieve.training.judging.baselines import COUNTERS
from callsieve.training.judging.detection import SOON
from callsieve.training.log.gates import shipped_gates
from callsieve.training.model import fit
from tests.support.paths import ROOT

TEXTS = sorted({name for claim in CLAIMS for one in claim.statements for name in one.where} | {"CONTRIBUTING.md"})
CODE = re.compile(r"^```.*?^```$|`[^`]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
# Figures that are no measurement: what is asked for, names, versions, and sizes that a test elsewhere holds.
SETTINGS = (
    r"1 in 10,000|95 %|ask for 55 %",
    r"Python 3\.11|Apache-2\.0|SHA-256|Ed25519|RFC \d+|libgomp1|ISO 27001|HTTP/1\.1|[Vv]ersions? \d[\d.]*|12321",
    r"\d\d\d\d-\d\d-\d\d|1 h(our)?\b|24 hours|7 days|about 350 lines|<\d+|(first|of) \d+ (people|callers)",
    r"exit codes? \d|of format 3|of 500 or more|fewer than 10 people called or 5 callers",
    r"(?m)^\| (0|1|2|130) \|.*$|0\.1\.0",
)
PAGE = ROOT / page.PAGE
# Numbers in words: those that something decides, held to it, and those that the text itself shows.
WORD = re.compile(
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|twice|double"
    r"|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|dozens?|half|thirds?|quarters?|fifths?)\b",
    re.IGNORECASE,
)
HELD = {
    r"mean of ten|two fifths": lambda: (len(fit.held_out_folds(fit.CV_FOLDS)), fit.CV_FOLDS) == (10, 5),
    r"five others|of the five": lambda: len(WORLDS) == 5,
    r"six histories": lambda: len({*ROLES, "call"}) == 6,
    r"ten features": lambda: len(LITE) == 10,
    r"ten calls": lambda: SOON == 10,
    r"five\s+counters": lambda: len(COUNTERS) == 5,
    r"five\s+or more": lambda: read_case_rules().crowd == 5,
    r"five times a second": lambda: EVERY == 1 / 5,
    r"[Ff]ive (notebooks|pages)": lambda: len(list((ROOT / "notebooks").glob("*.ipynb"))) == 5,
    r"three links": lambda: len(list((ROOT / ".typing" / "callsieve").iterdir())) == 3,
}
SHOWN = (
    r"Two commands|for two\s+words|the four files|One kernel, three ways|that the three understand",
    r"starts to hold two|allows for the two|two databases",
)


def without(text, patterns):
    for pattern in patterns:
        text = re.sub(pattern, " ", text)
    return text


def of(name):
    return [one for claim in CLAIMS for one in claim.statements if name in one.where]


@pytest.mark.parametrize("name", TEXTS)
def test_every_figure_in_a_text_has_a_command(name):
    text = CODE.sub(" ", (ROOT / name).read_text())
    left = without(text, [*(one.pattern for one in of(name)), *SETTINGS])
    bare = [line.strip() for line in left.splitlines() if re.search(r"\d", line)]
    assert bare == [], "figures that no statement of training/figures/claims.py covers"


@pytest.mark.parametrize("name", TEXTS)
def test_every_number_in_words_is_held_to_what_it_counts(name):
    left = without(CODE.sub(" ", (ROOT / name).read_text()), [*HELD, *SHOWN])
    assert [line.strip() for line in left.splitlines() if WORD.search(line)] == []


@pytest.mark.parametrize("words", HELD)
def test_numbers_in_words_are_what_they_count(words):
    assert HELD[words]()
    assert any(re.search(words, CODE.sub(" ", (ROOT / name).read_text())) for name in TEXTS), "no text says so any more"


@pytest.mark.parametrize("name", TEXTS)
def test_a_figure_that_nobody_measured_is_found(name):
    text = (ROOT / name).read_text() + "\nIt catches 97 % of them.\n"
    left = without(CODE.sub(" ", text), [*(one.pattern for one in of(name)), *SETTINGS])
    assert "97 %" in left


@pytest.mark.parametrize(("name", "statement"), [(n, s) for n in TEXTS for s in of(n)], ids=lambda v: str(v)[:40])
def test_every_statement_stands_in_its_text(name, statement):
    assert statement.pattern.search((ROOT / name).read_text()), statement.text


def test_the_page_says_what_the_texts_say():
    """Each claim was run, and no text has other figures than the page."""
    lines = kept(PAGE.read_text())
    for claim in CLAIMS:
        for line in lines.get(claim.name, ()):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == len(COLUMNS)
            said = cells[1]
            (statement,) = (one for one in claim.statements if one.pattern.fullmatch(said))
            assert date.fromisoformat(cells[5]) <= date.today()
            for name in statement.where:
                whole = " ".join((ROOT / name).read_text().split())
                assert said in whole, f"{name}: run `callsieve evidence --only {claim.name!r}`"
    missing = {claim.name for claim in CLAIMS} - lines.keys()
    assert ("Not run yet" in PAGE.read_text()) == bool(missing)


def test_the_gates_ask_for_what_the_readme_says():
    asked = {gate.metric: gate.at_least for gate in shipped_gates().gates}
    assert f"{asked['model_catch_by_call_low']:.0%}".replace("%", " %") == "55 %"


CLAIM = Claim(
    "catalogue",
    ("callsieve", "catalogue", "--json"),
    (Statement("{n} features, first {first}", lambda told: {"n": str(len(told["features"])), "first": "1"}, "{n}-{n}",
               where=("text.md",)),),
    of_code=lambda told: told["hash"],
)  # fmt: skip


def test_a_run_writes_page_and_text(tmp_path):
    (tmp_path / "text.md").write_text("There are 3 features,\nfirst 7.\n")
    rows = run(CLAIM, tmp_path, tmp_path, quick=False)
    assert rows[0].said == f"{len(NAMES) + len(COMPLAINT_NAMES)} features, first 1"
    write_page(rows, tmp_path / "EVIDENCE.md")
    page = (tmp_path / "EVIDENCE.md").read_text()
    assert f"| catalogue | {rows[0].said} |" in page
    assert "`callsieve catalogue --json`" in page
    assert update_texts([CLAIM], rows, tmp_path) == ["text.md"]
    assert (tmp_path / "text.md").read_text() == f"There are {rows[0].said.replace(', f', f',{chr(10)}f')}.\n"
    assert update_texts([CLAIM], rows, tmp_path) == []
    # Of two claims in one text, that which did not run keeps its figures.
    (tmp_path / "text.md").write_text("There are 3 features, first 7. Of 5 worlds.\n")
    other = replace(CLAIM, name="worlds", statements=(Statement("Of {n} worlds", dict, where=("text.md",)),))
    assert update_texts([CLAIM, other], rows, tmp_path) == ["text.md"]
    assert (tmp_path / "text.md").read_text() == f"There are {rows[0].said}. Of 5 worlds.\n"
    # What is not run again stays.
    write_page([], tmp_path / "EVIDENCE.md")
    assert (tmp_path / "EVIDENCE.md").read_text() == page


def test_a_page_is_older_than_the_code_when_its_command_gives_something_else(tmp_path):
    page = tmp_path / "EVIDENCE.md"
    write_page(run(CLAIM, ROOT, tmp_path, quick=False), page)
    again = run(CLAIM, ROOT, tmp_path, quick=True)
    assert outdated(again, page.read_text()) == []
    assert outdated([replace(row, code="0") for row in again], page.read_text()) == ["catalogue"]
    # A page on which nobody noted the code is no newer than anything.
    page.write_text(page.read_text().replace(f" {again[0].code} |", " |"))
    assert outdated(again, page.read_text()) == ["catalogue"]
    assert outdated(again, "") == []  # not run yet, and told so


def test_the_page_is_of_this_catalogue():
    """The one claim that costs nothing; `callsieve evidence --quick` in CI does the same for all."""
    (claim,) = (one for one in CLAIMS if one.name == "catalogue")
    rows = [Row(claim.name, "", "", "", "", "", "", mark(claim, {"hash": catalogue_hash()}))]
    assert outdated(rows, PAGE.read_text()) == []


def test_times_and_machines_are_no_part_of_what_the_code_gives():
    worlds = next(one for one in CLAIMS if one.name == "worlds")
    line = {"catch": 0.5, "seconds": 3, "peak_gib": 1.5}
    of = lambda **changes: mark(worlds, {"lines": [line | changes]})
    assert of() == of(seconds=9, peak_gib=7.0) == of(catch=0.5 + 1e-9)
    assert of() != of(catch=0.51)
    install = next(one for one in CLAIMS if one.name == "base install")
    assert mark(install, {"megabytes": 1}) == ""


def test_which_model_a_training_gave_is_no_part_of_what_the_code_gives():
    """Its id is another one each time, for its calls are keyed anew."""
    demo = next(one for one in CLAIMS if one.name == "demo")
    told = {"headline": {"catch": 0.5}, "ranking": {}, "rows": {}, "bands": [], "baselines": {}, "model": {"id": "a"}}
    assert mark(demo, told) == mark(demo, told | {"model": {"id": "b"}})
    assert mark(demo, told) != mark(demo, told | {"headline": {"catch": 0.51}})


def test_a_command_that_fails_is_one_line(tmp_path):
    wrong = Claim("catalogue", ("callsieve", "verify", str(tmp_path / "nowhere"), "--json"), ())
    with pytest.raises(ValueError, match=r"^catalogue: exit code 1: callsieve: ") as error:
        run(wrong, tmp_path, tmp_path, quick=False)
    assert "\n" not in str(error.value)


def test_a_command_that_prints_no_json_is_named(tmp_path):
    wrong = Claim("demo", ("python", "-c", "print('done')"), ())
    with pytest.raises(ValueError, match=r"^demo: expected JSON on standard output, got 'done\\n'$"):
        run(wrong, tmp_path, tmp_path, quick=False)


def test_a_figure_that_a_command_does_not_tell_is_one_line(tmp_path):
    odd = replace(CLAIM, statements=(Statement("{n} features", lambda told: {"n": told["nothing"]}),))
    with pytest.raises(ValueError, match=r"^catalogue: no figure for '\{n\} features': KeyError\('nothing'\)$"):
        run(odd, ROOT, tmp_path, quick=False)


def test_what_is_said_otherwise_is_put_nowhere():
    with pytest.raises(ValueError, match=r"'so many calls': expected '\{a\} of \{b\} calls'"):
        page.with_figures("1 of 2 calls", Statement("{a} of {b} calls", dict), "so many calls")


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=5), st.floats(0, 100))
def test_figures_are_put_where_they_belong(whole, part):
    statement = Statement("with {a} of {b} calls, {c} %", dict)
    figures = {"a": ", ".join(f"{one:,}" for one in whole), "b": f"{whole[0]:,}", "c": f"{part:.1f}"}
    said = statement.text.format_map(figures)
    text = "Well, with 3\nof  4 calls,\n5 %: and 6."
    now = page.with_figures(text, statement, said)
    assert " ".join(now.split()) == f"Well, {said}: and 6."
    assert now.count("\n") == 2


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder like that of the project, with two claims: one of data that nobody has."""
    (tmp_path / "README.md").write_text("There are 3 features, first 7.\n")
    there = replace(CLAIM, statements=(replace(CLAIM.statements[0], where=("README.md",)),))
    away = replace(CLAIM, name="worlds", needs="nobody-has.csv")
    monkeypatch.setattr(claims, "CLAIMS", (there, away))
    monkeypatch.setattr(page, "CLAIMS", (there, away))
    return tmp_path


def test_the_command_writes_page_and_texts_and_a_quick_one_finds_them_outdated(call, told, project):
    features = len(told("catalogue")["features"])
    code, out, _ = call("evidence", "--root", project)
    assert code == 0
    assert f"catalogue: {features} features, first 1" in out
    assert "worlds: not run, its data are not here" in out and "README.md: figures changed" in out
    assert (project / "README.md").read_text() == f"There are {features} features, first 1.\n"
    page = (project / "EVIDENCE.md").read_text()
    again = told("evidence", "--root", project, "--quick")
    assert (again["changed"], again["skipped"], again["outdated"]) == ([], ["worlds"], [])
    (project / "EVIDENCE.md").write_text(page.replace(again["rows"][0]["code"], "0" * 8))
    code, out, _ = call("evidence", "--root", project, "--quick")
    assert code == 1
    assert "catalogue: EVIDENCE.md is older than the code; run callsieve evidence --only 'catalogue'" in out
    code, _, err = call("evidence", "--root", project, "--only", "nothing")
    assert code == 2 and "expected one of 'catalogue', 'worlds', got nothing" in err
    code, _, err = call("evidence", "--root", project / "nowhere")
    assert code == 1 and "expected the folder of the project" in err


def test_figures_are_said_as_texts_say_them():
    """By hand, from what the commands print."""
    call = {"rate": 0.641, "low": 0.47, "high": 0.789}
    found = {"callers": 1088, "soon_share": 0.182, "soon_low": 0.11, "soon_high": 0.278, "stopped_share": 0.577}
    found |= {"median": 12.0, "median_floor": 12, "median_low": 7, "median_high": None}
    found |= {"p90": None, "p90_floor": 1040, "p90_low": 33, "p90_high": None}
    rule, logistic = {"soon_share": 0.02, "stopped_share": 0.1}, {"soon_share": 0.27, "stopped_share": 0.6}
    head = {"catch": {"call": call}, "false_calls": 1234, "benign_calls": 105_336, "bound": 0.45e-4, "detection": found}
    soon = {
        "numbers": "1,088", "soon": "18", "least": "11", "most": "28", "stopped": "58", "rule_soon": "2",
        "rule_stopped": "10", "logistic_soon": "27", "logistic_stopped": "60", "median": "12",
        "median_between": "at least 7", "p90": "more than 1,040", "p90_between": "at least 33",
        "median_least": "12", "p90_least": "1,040",
    }  # fmt: skip
    both = {"model": head, "rule": {"detection": rule}}
    told = {"headline": both, "data": {"calls": 2_810_000}, "ranking": {"nuisance": 4754},
            "baselines": {"logistic regression": {"catch": {"call": {"rate": 0.57}}, "detection": logistic}},
    }  # fmt: skip
    assert claims.demo(told) == {
        "rate": "64", "low": "47", "high": "79", "millions": "2.8", "false": "1,234", "benign": "105,336",
        "bound": "0.45", "nuisance": "4,754", "logistic": "57", **soon,
    }  # fmt: skip
    line = {"catch": 0.6, "low": 0.4, "high": 0.8, "false_calls": 0, "benign_calls": 29_956, "seconds": 216.6,
            "peak_gib": 5.94, "logistic regression": 0.31, "number class": 0.0, "five counters": 0.02,
            "reputation list": 0.014, "innocent": {
                "customer_service": {"calls": 1422, "flagged": 17, "certified": False},
                "ordinary": {"calls": 90_000, "flagged": 0, "certified": True},
                "alerts": {"calls": 9, "flagged": 0, "certified": None}}}  # fmt: skip
    ways = {"model": found, "rule": rule, "logistic regression": logistic}
    assert claims.town({"lines": [line], "lives": {"7": ways}}) == {
        "rate": "60", "low": "40", "high": "80", "false": "0", "benign": "29,956", "bound": "1.00", "seconds": "217",
        "gib": "5.9", "logistic": "31", "number_class": "0", "counters": "2", "listed": "1", "kinds": "3",
        "proven": "1", "hit": "17 of 1,422 calls of customer service", **soon,
    }  # fmt: skip
    quiet = {"ordinary": {"calls": 5, "flagged": 0, "certified": False}}
    assert by_kind(quiet) == {"kinds": "1", "proven": "0", "hit": "none"}
    lines = [{"catch": one, "logistic regression": other, "in_hindsight": {"model": one, "logistic regression": other},
              "baselines_certified": {"logistic regression": other > 0.1}}
             for one, other in ((0.5, 0.2), (0.3, 0.4), (0.4, 0.1))]  # fmt: skip
    middle = {"certified": 2, "elsewhere_false_per_10000": [1.0, 2.0], "elsewhere_catch": [0.2, 0.3, 0.9]}
    found = {name: {"soon_share": soon, "stopped_share": stopped}
             for name, soon, stopped in (("model", 0.2, 0.6), ("logistic regression", 0.1, 0.7))}  # fmt: skip
    assert claims.worlds({"lines": lines, "middle": middle, "lives": {"7": found, "8": found}}) == {
        "certified": "2", "rates": "50, 30 and 40", "least": "30", "most": "50", "middle": "40", "logistic_least": "10",
        "logistic_most": "40", "logistic_middle": "20", "logistic_certified": "2", "away_false": "1.0 and 2.0",
        "away_mean": "1.5", "away_catch": "30", "hindsight": "40", "hindsight_logistic": "20", "soon": "20 and 20",
        "logistic_soon": "10 and 10", "stopped": "60 and 60", "logistic_stopped": "70 and 70",
    }  # fmt: skip
    weights = {"megabytes": 61.4, "import_milliseconds": 80.6, "import_least": 79.5, "import_most": 99.4}
    assert claims.install(weights) == {"size": "61", "milliseconds": "81", "least": "80", "most": "99"}
    assert claims.catalogue({"features": [{"name": "calls"}, {"name": "calls_reported"}, {"name": "x"}]}) == {
        "features": "2", "reports": "1"}  # fmt: skip
    assert claims.ready_made({"test": {"auc": 0.91239, "macro_f1": 0.8}}) == {"auc": "0.912", "macro_f1": "0.800"}
    assert claims.reach({"churn": {"shares": {"7d_1": 0.123}}}) == {"7d_1": "12"}
    days = [{"day": 1, "innocent": 20_000, "reach_the_band": 800}, {"day": 8, "innocent": 5_000, "reach_the_band": 1}]
    assert claims.first_days({"days": days}) == {
        "first": "400.0", "first_calls": "800", "first_innocent": "20,000",
        "eighth": "2.0", "eighth_calls": "1", "eighth_innocent": "5,000",
    }  # fmt: skip
    rate = lambda value: {"call": {"rate": value}}
    week = lambda *rates, false: {"benign_calls": 1000, "false_calls": false} | dict(
        zip(("unseen", "at_target"), map(rate, rates), strict=True))  # fmt: skip
    weeks = [{"once": week(0.5, 0.6, false=2), "anew": week(0.5, 0.6, false=0), "fold": "x"},
             {"once": week(0.3, None, false=1), "anew": week(0.4, 0.7, false=0), "fold": "y"}]  # fmt: skip
    areas = {"area_under_time": {"once": 0.4, "anew": 0.45}, "area_at_target": {"once": None, "anew": 0.65}}
    assert claims.ageing({"periods": weeks} | areas) == {
        "once": "50 and 30", "anew": "50 and 40", "once_mean": "40", "anew_mean": "45", "once_equal": "60 and 0",
        "anew_equal": "60 and 70", "once_equal_mean": "0", "anew_equal_mean": "65", "once_false": "3",
        "anew_false": "0", "innocent": "2,000",
    }  # fmt: skip
    assert "fold" not in str(claims.aged({"periods": weeks}))
    names = ("clean", "5% of labels flipped", "10% of labels flipped", "1% of reporters collude", "no reports", "other")
    faults = [
        {"fault": name, "worlds": 3, "certified": 3 - n, "catch_at_target": {"mean": 0.5 - n / 10},
         "change_at_target": {"mean": -n / 10, "low": -n / 5, "high": None}}
        for n, name in enumerate(names)
    ]  # fmt: skip
    assert claims.stressed({"faults": faults}) == {
        "worlds": "3", "clean": "50", "flips": "40 and 30", "collusion": "20", "silence": "10",
        "certified_clean": "3", "certified_flips": "2 and 1", "certified_collusion": "0", "certified_silence": "-1",
        "changes": "-10 (-20 to +0); -20 (-40 to +0); -30 (-60 to +0); -40 (-80 to +0)",
    }  # fmt: skip
    people = [("fake_1", 1200, 7, 5), ("fake_2", 1300, 0, None), ("white_1", 900, 1, 3), ("white_2", 200, 0, None)]
    real = {
        "subscribers": [dict(zip(("sample", "calls", "labelled", "first"), one, strict=True)) for one in people],
        "copenhagen": {"calls": 3600, "labelled": 2}, "reality": {"no_threshold": {"unknown": 25000, "fixed": 448}},
    }  # fmt: skip
    assert claims.real_callers(real) == {
        "calls": "1,200", "labelled": "7", "first": "5", "other": "1,300", "other_labelled": "0", "honest": "1,100",
        "honest_labelled": "1", "students": "3,600", "students_labelled": "2", "unknown": "25,448",
    }  # fmt: skip
