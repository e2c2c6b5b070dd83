"""No figure without a command: the texts quote EVIDENCE.md, and EVIDENCE.md names the command of each figure."""

import re
from dataclasses import replace
from datetime import date

import pytest

from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.training.figures import claims, page, statements
from callsieve.training.figures.claims import CLAIMS, Claim
from callsieve.training.figures.page import COLUMNS, Row, code_hash, lines_by_claim, outdated, run, write_page
from callsieve.training.figures.statements import Statement
from callsieve.training.log.gates import shipped_gates
from tests.support.paths import ROOT

TEXTS = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md")
PAGE = (ROOT / page.PAGE).read_text()
CODE = re.compile(r"^```.*?^```$|`[^`]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
# Figures without a command: targets, names, versions, and sizes that another test holds.
SETTINGS = (
    r"1 in 10,000|95 %|ask for 55 %",
    r"Python 3\.11|Apache-2\.0|SHA-256|Ed25519|RFC \d+|libgomp1|ISO 27001|HTTP/1\.1|[Vv]ersions? \d[\d.]*|12321",
    r"\d\d\d\d-\d\d-\d\d|1 h(our)?\b|24 hours|7 days|about 350 lines|<\d+|(first|of) \d+ (people|callers)",
    r"exit codes? \d|of format 3|of 500 or more|fewer than 10 people called or 5 callers",
    r"(?m)^\| (0|1|2|130) \|.*$|0\.1\.0",
)


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def bare_figures(text):
    """Lines of a text with a figure that no statement of EVIDENCE.md has."""
    stated = [cells_of(line)[1] for lines in lines_by_claim(PAGE).values() for line in lines]
    text = CODE.sub(" ", text)
    for statement in sorted(stated, key=len, reverse=True):
        text = re.sub(r"\s+".join(map(re.escape, statement.split())), " ", text)
    for pattern in SETTINGS:
        text = re.sub(pattern, " ", text)
    return [line.strip() for line in text.splitlines() if re.search(r"\d", line)]


@pytest.mark.parametrize("name", TEXTS)
def test_every_figure_in_a_text_stands_in_evidence(name):
    text = (ROOT / name).read_text()
    assert bare_figures(text) == [], "quote a statement of EVIDENCE.md, as training/figures/claims.py explains"
    assert bare_figures(f"{text}\nIt catches 97 % of them.\n") == ["It catches 97 % of them."]


def test_every_claim_has_rows_in_evidence():
    lines = lines_by_claim(PAGE)
    assert list(lines) == [claim.name for claim in CLAIMS if claim.name in lines]
    for claim in CLAIMS:
        for line in lines.get(claim.name, ()):
            cells = cells_of(line)
            assert len(cells) == len(COLUMNS)
            assert cells[3] == f"`{claim.command.replace(claims.WORK, 'OUT')}`"
            assert date.fromisoformat(cells[5]) <= date.today()
    missing = {claim.name for claim in CLAIMS} - lines.keys()
    assert ("Not run yet" in PAGE) == bool(missing) and PAGE.startswith(page.HEAD)


def test_the_gates_ask_for_what_the_readme_states():
    minimum = {gate.metric: gate.at_least for gate in shipped_gates().gates}
    assert f"{minimum['model_catch_by_call_low']:.0%}" == "55%"


CLAIM = Claim(
    "catalogue",
    "callsieve features --list --json",
    lambda output: [Statement(f"{len(output['features'])} features", "1-2")],
    lambda output: output["hash"],
)


def test_a_run_writes_the_page_and_rows_that_were_not_run_again_stay(tmp_path):
    path = tmp_path / "EVIDENCE.md"
    rows = run(CLAIM, tmp_path, tmp_path, quick=False)
    assert rows[0].statement == f"{len(NAMES) + len(COMPLAINT_NAMES)} features"
    write_page(rows, path)
    text = path.read_text()
    assert f"| catalogue | {rows[0].statement} | 1-2 | `callsieve features --list --json` |" in text
    assert "Not run yet: base install, demo, " in text
    write_page([], path)
    assert path.read_text() == text


def test_a_page_is_outdated_when_its_command_gives_something_else(tmp_path):
    path = tmp_path / "EVIDENCE.md"
    write_page(run(CLAIM, ROOT, tmp_path, quick=False), path)
    again = run(CLAIM, ROOT, tmp_path, quick=True)
    assert outdated(again, path.read_text()) == []
    assert outdated([replace(row, code="0") for row in again], path.read_text()) == ["catalogue"]
    # A row without a code hash counts as outdated, a claim without rows does not.
    path.write_text(path.read_text().replace(f" {again[0].code} |", " |"))
    assert outdated(again, path.read_text()) == ["catalogue"]
    assert outdated(again, "") == []


def test_evidence_belongs_to_this_catalogue():
    """The cheapest claim; `callsieve evidence --quick` in CI does this for all."""
    assert outdated([Row("catalogue", "", "", "", "", "", "", code_hash(catalogue_hash()))], PAGE) == []


def hash_of(name, output):
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    return claim.hashed and code_hash(claim.hashed(output))


def test_times_and_machines_are_not_hashed():
    line = {"catch": 0.5, "seconds": 3, "peak_gib": 1.5}
    code = hash_of("worlds", {"lines": [line]})
    assert code == hash_of("worlds", {"lines": [line | {"seconds": 9, "peak_gib": 7.0, "catch": 0.5 + 1e-9}]})
    assert code != hash_of("worlds", {"lines": [line | {"catch": 0.51}]})
    assert hash_of("base install", {"megabytes": 1}) is None


def test_ids_that_each_run_draws_anew_are_not_hashed():
    output = {"headline": {"catch": 0.5}, "ranking": {}, "rows": {}, "bands": [], "baselines": {}, "model": {"id": "a"}}
    assert hash_of("demo", output) == hash_of("demo", output | {"model": {"id": "b"}})
    assert hash_of("demo", output) != hash_of("demo", output | {"headline": {"catch": 0.51}})
    period = {"once": 1, "anew": 2}
    folds = [{"periods": [period | {"fold": name}]} for name in "xy"]
    assert hash_of("ageing", folds[0]) == hash_of("ageing", folds[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "callsieve model verify --bundle nowhere --json"}, r"^catalogue: exit code 1: callsieve: "),
        ({"command": "python -c print('done')"}, r"^catalogue: expected JSON on standard output, got 'done\\n'$"),
        ({"statements": lambda output: output["x"]}, r"^catalogue: the output lacks a figure: KeyError\('x'\)$"),
    ],
)
def test_a_command_without_figures_fails_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        run(replace(CLAIM, **changes), ROOT, tmp_path, quick=False)
    assert "\n" not in str(error.value)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with two claims, one of which needs a missing data set."""
    (tmp_path / "README.md").touch()
    two = (CLAIM, replace(CLAIM, name="worlds", needs="missing.csv"))
    monkeypatch.setattr(claims, "CLAIMS", two)
    monkeypatch.setattr(page, "CLAIMS", two)
    return tmp_path


def test_the_command_writes_the_page_and_a_quick_run_finds_it_outdated(run_command, command_json, project):
    features = len(command_json("features", "--list")["features"])
    code, out, _ = run_command("evidence", "--root", project)
    assert code == 0
    assert f"catalogue: {features} features (1-2)" in out and "worlds: not run, its data set is missing" in out
    text = (project / "EVIDENCE.md").read_text()
    again = command_json("evidence", "--root", project, "--quick")
    assert (again["skipped"], again["outdated"]) == (["worlds"], [])
    (project / "EVIDENCE.md").write_text(text.replace(again["rows"][0]["code"], "0" * 8))
    code, out, _ = run_command("evidence", "--root", project, "--quick")
    assert code == 1
    assert "catalogue: EVIDENCE.md is older than the code; run callsieve evidence --only 'catalogue'" in out
    code, _, err = run_command("evidence", "--root", project, "--only", "nothing")
    assert code == 2 and "expected one of 'catalogue', 'worlds', got nothing" in err
    code, _, err = run_command("evidence", "--root", project / "nowhere")
    assert code == 1 and "expected the folder of the project" in err


def test_statements_of_trainings():
    """By hand, from what the commands print."""
    call = {"rate": 0.641, "low": 0.47, "high": 0.789}
    detection = {"callers": 1088, "soon_share": 0.182, "soon_low": 0.11, "soon_high": 0.278, "stopped_share": 0.577}
    detection |= {"median": 12.0, "median_floor": 12, "median_low": 7, "median_high": None}
    detection |= {"p90": None, "p90_floor": 1040, "p90_low": 33, "p90_high": None}
    rule, regression = {"soon_share": 0.02, "stopped_share": 0.1}, {"soon_share": 0.27, "stopped_share": 0.6}
    head = {"catch": {"call": call}, "false_calls": 1234, "benign_calls": 105_336, "bound": 0.45e-4}
    output = {
        "headline": {"model": head | {"detection": detection}, "rule": {"detection": rule}},
        "data": {"calls": 2_810_000},
        "ranking": {"nuisance": 4754},
        "baselines": {"logistic regression": {"catch": {"call": {"rate": 0.57}}, "detection": regression}},
    }
    until_found = (
        "calls until half of them are found, at least 12, and until nine in ten are, at least 1,040",
        "12 (at least 7), and more than 1,040 (at least 33)",
    )
    assert statements.demo(output) == [
        ("of seed 1, 2.8 million calls", ""),
        ("1,234 of 105,336, proven: at most 0.45 in 10,000", "95 %, one-sided, exact"),
        ("64 % of its 4,754 (47-79 %)", "47-79 %"),
        ("57 % of those", ""),
        (
            "of 1,088 nuisance numbers that came later it finds 18 % within ten calls, and stops 58 % of their calls; "
            "the regression 27 % and 60 %, the rule on calls per hour 2 % and 10 %",
            "11-28 %",
        ),
        until_found,
    ]
    innocent = {
        "customer_service": {"calls": 1422, "flagged": 17, "certified": False},
        "ordinary": {"calls": 90_000, "flagged": 0, "certified": True},
        "alerts": {"calls": 9, "flagged": 0, "certified": None},
    }
    shares = {"logistic regression": 0.31, "number class": 0.0, "five counters": 0.02, "reputation list": 0.014}
    line = {"catch": 0.6, "low": 0.4, "high": 0.8, "false_calls": 0, "benign_calls": 29_956, "seconds": 216.6}
    line |= {"peak_gib": 5.94, "innocent": innocent} | shares
    ways = {"model": detection, "rule": rule, "logistic regression": regression}
    kinds = "kinds of innocent caller: 3, certified by themselves: 1"
    assert statements.town({"lines": [line], "lives": {"7": ways}}) == [
        ("0 of the larger's 29,956: at most 1.00 in 10,000", "95 %, one-sided, exact"),
        ("60 % there (40-80 %)", "40-80 %"),
        ("31 % of the larger's", ""),
        (
            "of 1,088 there it finds 18 % within ten calls, and stops 58 %; the regression 27 % and 60 %, "
            "the rule 2 % and 10 %",
            "11-28 %",
        ),
        until_found,
        (kinds, "flagged: 17 of 1,422 calls of customer service"),
        (
            "the number class alone catches 0 % there, five counters 2 %, and a list of reported numbers 1 %",
            "",
        ),
        ("trained and judged in 217 s and 5.9 GiB", ""),
    ]
    quiet = line | {"innocent": {"ordinary": {"calls": 5, "flagged": 0, "certified": False}}}
    assert statements.town({"lines": [quiet], "lives": {"7": ways}})[5].interval == "flagged: none"


def test_statements_of_several_worlds():
    lines = [
        {
            "catch": model,
            "logistic regression": regression,
            "in_hindsight": {"model": model, "logistic regression": regression},
            "baselines_certified": {"logistic regression": regression > 0.1},
        }
        for model, regression in ((0.5, 0.2), (0.3, 0.4), (0.4, 0.1))
    ]
    middle = {"certified": 2, "elsewhere_false_per_10000": [1.0, 2.0], "elsewhere_catch": [0.2, 0.3, 0.9]}
    ways = {
        "model": {"soon_share": 0.2, "stopped_share": 0.6},
        "logistic regression": {"soon_share": 0.1, "stopped_share": 0.7},
    }
    assert statements.worlds({"lines": lines, "middle": middle, "lives": {"7": ways, "8": ways}}) == [
        ("2 of these certified", ""),
        ("50, 30 and 40 %, the middle being 40 %", "30-50 %"),
        ("10-40 %, in the middle 20 %", ""),
        (
            "in the five others 20 and 20 % within ten calls, the regression 10 and 10 %, and 60 and 60 % of their "
            "calls are stopped, by the regression 70 and 70 %",
            "",
        ),
        ("the regression is certified in 2 of these worlds", ""),
        ("1.0 and 2.0 in 10,000, in the mean 1.5", ""),
        ("30 % elsewhere", ""),
        ("callsieve catches 40 % in the middle of the five, the regression 20 %", ""),
    ]
    rate = lambda value: {"call": {"rate": value}}
    week = lambda unseen, at_target, false: {
        "benign_calls": 1000,
        "false_calls": false,
        "unseen": rate(unseen),
        "at_target": rate(at_target),
    }
    weeks = [
        {"once": week(0.5, 0.6, 2), "anew": week(0.5, 0.6, 0)},
        {"once": week(0.3, None, 1), "anew": week(0.4, 0.7, 0)},
    ]
    areas = {"area_under_time": {"once": 0.4, "anew": 0.45}, "area_at_target": {"once": None, "anew": 0.65}}
    assert statements.ageing({"periods": weeks} | areas) == [
        (
            "trained once, of nuisance calls of unseen groups 50 and 30 % are caught week by week, trained anew each "
            "week 50 and 40 %",
            "in the mean 40 and 45 %",
        ),
        (
            "at 1 in 10,000 of each week's own innocent calls 60 and 0 % and 60 and 70 %",
            "in the mean 0 and 65 %",
        ),
        ("innocent calls flagged in these weeks: 3 and 0 of 2,000", ""),
    ]
    names = ("clean", "5% of labels flipped", "10% of labels flipped", "1% of reporters collude", "no reports", "other")
    faults = [
        {
            "fault": name,
            "worlds": 3,
            "certified": 3 - n,
            "catch_at_target": {"mean": 0.5 - n / 10},
            "change_at_target": {"mean": -n / 10, "low": -n / 5, "high": None},
        }
        for n, name in enumerate(names)
    ]
    assert statements.wrong_labels({"faults": faults}) == [
        (
            "at 1 in 10,000 a training on clean labels catches 50 %, with 5, 10 and 20 % of labels flipped 40 and 30 "
            "%, with 1 % of reporters colluding 20 %, and without reports 10 %",
            "changes in points, over 3 worlds: -10 (-20 to +0); -20 (-40 to +0); -30 (-60 to +0); -40 (-80 to +0)",
        ),
        ("certified of 3 worlds: 3 clean, 2 and 1 flipped, 0 with collusion, -1 without reports", ""),
        ("of 3 more, of a study of wrong labels, 3 were", ""),
    ]


def test_statements_of_the_package_and_of_real_records():
    weights = {"megabytes": 61.4, "import_milliseconds": 80.6, "import_least": 79.5, "import_most": 99.4}
    assert statements.install(weights) == [
        ("the base install takes 61 MB", ""),
        ("it is imported in 81 ms", "80-99 ms over 5 imports"),
    ]
    assert statements.catalogue({"features": [{"name": "calls"}, {"name": "calls_reported"}, {"name": "x"}]}) == [
        ("2 features over six histories", ""),
        ("1 more of earlier reports", ""),
    ]
    assert statements.published_table({"test": {"auc": 0.91239, "macro_f1": 0.8}}) == [
        ("on the Sichuan table AUC 0.912, macro F1 0.800", "")
    ]
    assert statements.reach({"churn": {"shares": {"90d_1": 0.123}}}) == [
        ("a list of 90 days reaches 12 % of the next day's complaints", "")
    ]
    days = [{"day": 1, "innocent": 20_000, "reach_the_band": 800}, {"day": 8, "innocent": 5_000, "reach_the_band": 1}]
    assert statements.first_days({"days": days}) == [
        (
            "on the first day that it knows, 400.0 of 10,000 innocent calls would reach the band of the "
            "demonstration's model, on the eighth 2.0",
            "800 of 20,000, and 1 of 5,000",
        )
    ]
    people = [("fake_1", 1200, 7, 5), ("fake_2", 1300, 0, None), ("white_1", 900, 1, 3), ("white_2", 200, 0, None)]
    output = {
        "subscribers": [dict(zip(("sample", "calls", "labelled", "first"), person, strict=True)) for person in people],
        "copenhagen": {"calls": 3600, "labelled": 2},
        "reality": {"no_threshold": {"unknown": 25000, "fixed": 448}},
    }
    assert statements.real_callers(output) == [
        (
            "of 1,200 calls of a real fraud number it labels 7, the first being call 5; of 1,300 of another one, which "
            "calls like a person, 0; of 1,100 of honest subscribers 1; and of 3,600 of students in Copenhagen 2",
            "",
        ),
        ("of 25,448 calls of the Reality Mining Study it says nothing", ""),
    ]
    assert statements.other_models({"models": [output, output]}) == [
        ("models of 2 other worlds label 7 and 7 of those 1,200, and 2 and 2 of those 3,600", "")
    ]
