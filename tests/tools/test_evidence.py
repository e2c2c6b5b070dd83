"""Every figure of a text is in EVIDENCE.md, and EVIDENCE.md has the command of every figure."""

import json
import re
from dataclasses import replace
from datetime import date

import pytest

from callsieve.features.catalogue import NAMES, catalogue_hash
from callsieve.training.oversight.log.gates import shipped_gates
from tests.support.errors import refused
from tests.support.paths import ROOT
from tests.tools import claims, evidence
from tests.tools.claims import CLAIMS, Claim
from tests.tools.evidence import COLUMNS, OLDER, Row, code_hash, lines_by_claim, main, outdated, run, write_page

TEXTS = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs/explanation/limits.md", "docs/explanation/worlds.md")
PAGE = (ROOT / evidence.PAGE).read_text()
CODE = re.compile(r"^```.*?^```$|`[^`]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
# Numbers that need no command: targets, names, versions, and sizes that another test checks.
SETTINGS = (
    r"1 in 10,000|95 %|ask for 55 %",
    r"Python 3\.11|Apache-2\.0|SHA-256|Ed25519|RFC \d+|libgomp1|x86-64|ISO 27001|IEC 42001|HTTP/1\.1|12321",
    r"[Vv]ersions? \d[\d.]*",
    r"\d\d\d\d-\d\d-\d\d|1 h(our)?\b|24 hours|7 days|about 350 lines|<\d+|(first|of) \d+ (people|callers)",
    r"exit codes? \d|of format 4|of 500 or more|fewer than 10 people called or 5 callers",
    r"(?m)^\| (0|1|2|130) \|.*$|0\.[12]\.0",
)
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def bare_figures(text):
    """Returns the numbers of a text that no figure of EVIDENCE.md has."""
    stated = {number for line in lines_by_claim(PAGE).values() for number in NUMBER.findall(cells_of(line)[1])}
    text = CODE.sub(" ", text)
    for pattern in SETTINGS:
        text = re.sub(pattern, " ", text)
    return [number for number in NUMBER.findall(text) if number not in stated]


@pytest.mark.parametrize("name", TEXTS)
def test_every_figure_of_a_text_is_in_evidence(name):
    text = (ROOT / name).read_text()
    assert bare_figures(text) == [], "add a claim for it, as tests/tools/claims.py explains"
    assert bare_figures(f"{text}\nIt catches 97.3 % of 1,234,567.\n") == ["97.3", "1,234,567"]


def test_every_claim_has_a_row_in_evidence():
    lines = lines_by_claim(PAGE)
    assert list(lines) == [claim.name for claim in CLAIMS if claim.name in lines]
    for claim in CLAIMS:
        if claim.name in lines:
            cells = cells_of(lines[claim.name])
            assert len(cells) == len(COLUMNS)
            assert cells[2] == f"`{claim.command.replace(claims.WORK, 'OUT')}`"
            assert date.fromisoformat(cells[4]) <= date.today()
    missing = {claim.name for claim in CLAIMS} - lines.keys()
    assert ("Not run yet" in PAGE) == bool(missing) and PAGE.startswith(evidence.HEAD)


def test_the_gates_require_the_catch_rate_of_the_readme():
    minimum = {gate.metric: gate.at_least for gate in shipped_gates().gates}
    assert f"{minimum['model_catch_by_call_low']:.0%}" == "55%"


CLAIM = Claim(
    "catalogue",
    "callsieve features --list --json",
    lambda output: {"features": f"{len(output['features'])} (1-2)"},
    lambda output: output["hash"],
)


def test_a_run_writes_the_page_and_keeps_the_other_rows(tmp_path):
    path = tmp_path / "EVIDENCE.md"
    row = run(CLAIM, tmp_path, tmp_path, quick=False)
    assert row.figures == {"features": f"{len(NAMES)} (1-2)"}
    write_page([row], path)
    text = path.read_text()
    assert f"| catalogue | features: {row.figures['features']} | `callsieve features --list --json` |" in text
    assert "Not run yet: base install, shipped model, " in text
    write_page([], path)
    assert path.read_text() == text


@pytest.mark.system
def test_a_row_is_outdated_when_its_code_hash_differs(tmp_path):
    path = tmp_path / "EVIDENCE.md"
    write_page([run(CLAIM, ROOT, tmp_path, quick=False)], path)
    again = run(CLAIM, ROOT, tmp_path, quick=True)
    assert outdated([again], path.read_text()) == []
    assert outdated([replace(again, code="0")], path.read_text()) == ["catalogue"]
    write_page([replace(again, code=OLDER)], path)
    assert outdated([again], path.read_text()) == []  # the page says itself that the row awaits its next run
    # A row without a code hash counts as outdated, a claim without a row does not.
    path.write_text(path.read_text().replace(f" {OLDER} |", " |"))
    assert outdated([again], path.read_text()) == ["catalogue"]
    assert outdated([again], "") == []


def test_the_evidence_is_that_of_this_catalogue():
    """Checks the cheapest claim; `python -m tests.tools.evidence --quick` checks all claims in CI."""
    assert outdated([Row("catalogue", {}, "", "", "", "", code_hash(catalogue_hash()))], PAGE) == []


def hash_of(name, output):
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    return claim.hashed and code_hash(claim.hashed(output))


def test_times_machines_and_random_ids_are_not_hashed():
    sections = ("headline", "ranking", "rows", "bands", "baselines", "by_folder", "feeds")
    output = dict.fromkeys(sections) | {"baselines": {}, "by_folder": []}
    output |= {"headline": {"catch": 0.5}, "model": {"id": "a"}, "seconds": 3}
    code = hash_of("shipped model", output)
    assert code == hash_of("shipped model", output | {"headline": {"catch": 0.5 + 1e-9}, "seconds": 9})
    assert code != hash_of("shipped model", output | {"by_folder": [{"model": 0.51, "baselines": {}}]})
    assert code == hash_of("shipped model", output | {"baselines": {claims.SHIPPED_MODEL: 0.9}})
    assert code != hash_of("shipped model", output | {"baselines": {"rule": 0.9}})
    assert hash_of("base install", {"megabytes": 1}) is None
    assert hash_of("demo", output) == hash_of("demo", output | {"model": {"id": "b"}})
    assert hash_of("demo", output) != hash_of("demo", output | {"headline": {"catch": 0.51}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "callsieve model verify --bundle nowhere --json"}, r"^catalogue: exit code 1: callsieve: "),
        ({"command": "python -c print('done')"}, r"^catalogue: expected JSON on standard output, got 'done\\n'$"),
        ({"figures": lambda output: output["x"]}, r"^catalogue: the output lacks a figure: KeyError\('x'\)$"),
    ],
)
def test_a_command_without_figures_fails_in_one_line(tmp_path, changes, message):
    with refused(message):
        run(replace(CLAIM, **changes), ROOT, tmp_path, quick=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder of a project with two claims; the second needs a missing data set."""
    (tmp_path / "README.md").touch()
    pair = (CLAIM, replace(CLAIM, name="worlds", needs="missing.csv"))
    monkeypatch.setattr(evidence, "CLAIMS", pair)
    return tmp_path


@pytest.mark.system
def test_the_command_writes_the_page_and_a_quick_run_names_outdated_rows(command_json, run_tool, project):
    features = len(command_json("features", "--list")["features"])
    code, out, _ = run_tool(main, "--root", project)
    assert code == 0
    assert f"catalogue: features: {features} (1-2)" in out and "worlds: not run, its data set is missing" in out
    text = (project / "EVIDENCE.md").read_text()
    again = json.loads(run_tool(main, "--root", project, "--quick", "--json")[1])
    assert (again["skipped"], again["outdated"]) == (["worlds"], [])
    (project / "EVIDENCE.md").write_text(text.replace(again["rows"][0]["code"], "0" * 8))
    code, out, _ = run_tool(main, "--root", project, "--quick")
    assert code == 1
    assert "catalogue: EVIDENCE.md is older than the code; run python -m tests.tools.evidence --only 'catalogue'" in out
    code, _, err = run_tool(main, "--root", project, "--only", "nothing")
    assert code == 2 and "expected one of 'catalogue', 'worlds', got nothing" in err
    code, _, err = run_tool(main, "--root", project / "nowhere")
    assert code == 1 and "expected the folder of the project" in err


@pytest.mark.system
@pytest.mark.parametrize("words", [("--work", "new/work"), ()], ids=["kept", "deleted"])
def test_the_output_of_commands_is_kept_where_it_is_asked_for(run_tool, project, monkeypatch, words):
    claim = replace(CLAIM, command="python -c open('{work}/output','w');print('{}')", figures=lambda _: {}, hashed=None)
    monkeypatch.setattr(evidence, "CLAIMS", (claim,))
    monkeypatch.chdir(project)
    assert run_tool(main, *words)[0] == 0
    assert (project / "new/work/output").exists() == bool(words)


CALL = {"rate": 0.641, "low": 0.47, "high": 0.789}
DETECTION = {
    **{"callers": 1088, "soon_share": 0.182, "soon_low": 0.11, "soon_high": 0.278, "stopped_share": 0.577},
    **{"median": 12.0, "median_floor": 12, "median_low": 7, "median_high": None},
    **{"p90": None, "p90_floor": 1040, "p90_low": 33, "p90_high": None},
}
RULE, REGRESSION = {"soon_share": 0.02, "stopped_share": 0.1}, {"soon_share": 0.27, "stopped_share": 0.6}
DETECTED = {
    "new nuisance numbers": "1,088",
    "found within ten calls, model": "18 % (11-28 %)",
    "calls stopped, model": "58 %",
    "found within ten calls, logistic regression": "27 %",
    "calls stopped, logistic regression": "60 %",
    "found within ten calls, rule": "2 %",
    "calls stopped, rule": "10 %",
    "calls until half are found": "12 (at least 7)",
    "calls until nine in ten are found": "more than 1,040 (at least 33)",
}


def test_figures_of_the_demonstration():
    """Here and below, the expected texts are written by hand from the output of the command."""
    head = {"catch": {"call": CALL}, "false_calls": 1234, "benign_calls": 105_336, "bound": 0.45e-4}
    output = {
        "headline": {"model": head | {"detection": DETECTION}, "rule": {"detection": RULE}},
        "data": {"calls": 2_810_000},
        "ranking": {"nuisance": 4754},
        "baselines": {
            "logistic regression": {"catch": {"call": {"rate": 0.57}}, "detection": REGRESSION},
            "the shipped model": {"catch": {"call": {"rate": 0.8}}, "detection": {"soon_share": 0.9}, "false_calls": 3},
            "the shipped model, adapted to this world": {"catch": {"call": {"rate": 0.85}}, "false_calls": 2},
        },
    }
    assert claims.demo(output) == {
        "calls": "2.8 million", "false calls": "1,234 of 105,336, at most 0.45 in 10,000 (95 %, one-sided, exact)",
        "nuisance calls": "4,754", "catch": "64 % (47-79 %)", "catch, logistic regression": "57 %",
        "false calls, shipped model": "3", "catch, shipped model": "80 %",
        "found within ten calls, shipped model": "90 %", "false calls, adapted model": "2",
        "catch, adapted model": "85 %", **DETECTED,
    }  # fmt: skip


def test_figures_of_the_shipped_model():
    rate = lambda value: {"call": {"rate": value}}
    head = lambda false, catch, soon, stopped: {
        "benign_calls": 20_000,
        "false_calls": false,
        "catch": rate(catch),
        "detection": {"soon_share": soon, "stopped_share": stopped},
    }
    simpler = {name: head(2, 0.4, 0.3, None) for name in ("logistic regression", "rule", "five counters")}
    rows = [
        {"folder": "judge/default/world-1001", "model": head(1, 0.8, 0.9, 0.96), "baselines": simpler},
        {"folder": "judge/town/world-1031", "model": head(4, 0.7, 0.86, 0.98), "baselines": simpler},
    ]
    whole = {"false_calls": 5, "benign_calls": 40_000, "bound": 2.63e-4, "bound_by_organisation": 9e-4}
    whole |= {"in_hindsight": 0.66, "detection": DETECTION | {"median": 2.0, "p90": 9.0}}
    poorer = {"certified": True, "false_calls": 3, "benign_calls": 94_000, "catch": 0.37}
    output = {
        "model": {"id": "0123456789ab"},
        "headline": {"model": whole, "policy": {"false_calls": 41}},
        "by_folder": rows,
        "feeds": {"outgoing only": poorer, "answered only": poorer | {"certified": False}},
        "bands": [{"strata": {"resale": {"false_calls": 1, "benign_calls": 9_000}, "fixed": poorer}}],
        "announcing": {"flagged": 40, "calls": 1_200},
        "flags": {"sparse": poorer | {"catch_of_single_calls": 0.31}},
    }
    others = {}
    for name in ("logistic regression", "rule", "five counters"):
        others[f"catch, {name}"] = "40 %, 40 %, mean 40 %, least 40 %"
        others[f"found within ten calls, {name}"] = "30 %, 30 %, mean 30 %, least 30 %"
        others[f"calls stopped, {name}"] = "0 %, 0 %, mean 0 %, least 0 %"
    assert claims.shipped_model(output) == {
        "model": "0123456789ab",
        "worlds": "default/world-1001, town/world-1031",
        "false calls": "5 of 40,000, at most 2.63 in 10,000 (95 %, one-sided, exact)",
        "bound by organisation": "9.00 in 10,000",
        "false calls in 10,000 by world": "0.5, 2.0, mean 1.25",
        "worlds with at most 1 in 10,000": "1 of 2",
        "false calls, with the rules": "41",
        "false calls by number class": "fixed 3 of 94,000, resale 1 of 9,000",
        "calls of surveys and announcements flagged, in no other figure": "40 of 1,200",
        "catch in hindsight": "66 %",
        "catch, model": "80 %, 70 %, mean 75 %, least 70 %",
        "found within ten calls, model": "90 %, 86 %, mean 88 %, least 86 %",
        "calls stopped, model": "96 %, 98 %, mean 97 %, least 96 %",
        **others,
        "calls until half are found": "2",
        "calls until nine in ten are found": "9",
        "outgoing only": "certified, 3 of 94,000, catch 37 %",
        "answered only": "not certified, 3 of 94,000, catch 37 %",
        "sparse, with flagged numbers": "3 of 94,000, catch 37 %, by single calls 31 %",
    }
