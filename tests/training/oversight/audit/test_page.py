"""The audit page: its content, and that Chromium opens and prints it without a network and without errors."""

import hashlib
import html
import re
import shlex
import shutil
import sqlite3
from contextlib import closing

import pytest

from callsieve.training.language import moment
from callsieve.training.oversight.audit.audit_page import changes, facts, page, write_page
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.run_paths import run_paths
from callsieve.training.tracking.reproduce import Reproduction
from tests.support.servers.chromium import in_chromium
from tests.support.trainings import short_trainings


@pytest.fixture(scope="module")
def content(training_run):
    return facts(run_paths(training_run[0], None, None), training_run[1]["tracking"]["run"])


@pytest.fixture(scope="module")
def text(content):
    return page(content)


@pytest.fixture
def blank_pictures(monkeypatch):
    short_trainings.leave_blank(monkeypatch)


def words(text):
    return " ".join(re.sub(r"<[^>]*>", " ", text.partition("<body>")[2]).split())


def test_the_page_answers_the_questions_of_a_reviewer(content, text, training_run):
    figures, shown = training_run[1], words(text)
    head = figures["headline"]["model"]
    for sentence in (
        f"Audit report of model {figures['model']['id']}",
        "record unchanged", "not certified", "refused by a gate", "not the champion",
        "3 entries of the audit log, 1 runs in MLflow",
        f"Training used nothing that became known after {moment(figures['folds']['label_cutoff'])}",
        "It is not certified", "It is not in use",
        f"It fails {sum(not gate['passed'] for gate in content['gates'])} of the 5 conditions",
        f"{head['false_calls']:,} of {head['benign_calls']:,} innocent calls were flagged",
        "callers unseen in training, lower end of the 95 % interval: must be at least 0.55, got",
        "The certification fold was used 1 time up to this run",
        "It was never promoted", "There is no earlier run in this log",
        "callsieve audit verify --in . finds any edit",
    ):  # fmt: skip
        assert sentence in shown
    assert not re.search(r"[a-z]\.[A-Z]", shown)  # no two sentences run together
    uncertified = shown.partition("Where it is not certified")[2].partition("Most important features")[0]
    lines, _, callers = uncertified.partition("For these kinds of caller")
    strata = figures["bands"][0]["strata"]
    assert strata and "may be labelled, but never blocked" in lines
    for name, stratum in strata.items():  # a policy blocks by these alone
        line = f"{name.replace('_', ' ')} {stratum['benign_calls']:,} {stratum['false_calls']:,}"
        assert (line in lines) is not stratum["certified"]
    assert "may be labelled" not in callers
    for row in figures["slices"]:
        line = f"{row['slice'].replace('_', ' ')} {row['calls']:,}"
        assert (line in shown) is not (row["nuisance"] or row["certified"])
    for name in ("calls", "complaints", "findings", "truth", "vectors", "labelled train"):
        assert re.search(rf"{name} [\d,]+ (training|evaluation) [0-9a-f]{{16}}…", shown)


def test_the_log_commits_to_the_page_written_with_the_run(training_run):
    place = run_paths(training_run[0], None, None)
    payload = next(payload for _, payload in payloads(place.log, "run"))
    page_now = (training_run[0] / "audit.html").read_bytes()
    assert payload["record"]["artifact"]["report/audit.html"] == hashlib.sha256(page_now).hexdigest()
    shown = words(page_now.decode())
    assert "This copy was written with the run" in shown and "It has no approvals yet" in shown
    assert "record unchanged" not in shown and "champion" not in shown.partition("Glossary")[0]


def test_the_commands_of_the_page_run_as_printed(run_command, training_run, monkeypatch):
    printed = re.findall(r"<pre>callsieve (.*?)</pre>", (training_run[0] / "audit.html").read_text())
    monkeypatch.chdir(training_run[0])
    seen = []
    reproduction = Reproduction("one", True, True, ["model.txt"], [])
    monkeypatch.setattr(
        "callsieve.training.tracking.reproduce.reproduce", lambda run, *_, **_more: seen.append(run) or reproduction
    )
    assert len(printed) == 2
    for command in printed:
        code, out, err = run_command(*shlex.split(html.unescape(command)))
        assert code == 0, out + err
    assert seen == ["."]


@pytest.mark.usefixtures("blank_pictures")
def test_a_later_page_names_a_log_elsewhere_in_its_commands(training_run, tmp_path):
    folder = training_run[0]
    shutil.copytree(folder / "audit", tmp_path / "the log")
    place = run_paths(folder, tmp_path / "the log", None)
    write_page(place, training_run[1]["tracking"]["run"], folder, tmp_path / "page.html")
    for command in re.findall(r"<pre>callsieve (.*?)</pre>", (tmp_path / "page.html").read_text()):
        *_, option, log = shlex.split(html.unescape(command))
        assert (option, (folder / log).resolve()) == ("--audit", (tmp_path / "the log").resolve())


@pytest.mark.usefixtures("blank_pictures")
def test_the_page_names_an_edit_of_the_record(run_command, training_run, tmp_path):
    shutil.copytree(training_run[0] / "audit", tmp_path / "audit")
    shutil.copy(training_run[0] / "mlflow.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'")
    out = tmp_path / "page.html"
    code, text, _ = run_command("audit", "page", training_run[1]["model"]["id"], "--in", tmp_path, "--out", out)
    assert (code, text) == (0, f"{out}: written\n")
    shown = words(out.read_text())
    assert "record was changed" in shown and "metric auc: logged as" in shown


def test_changes_are_the_differences_from_the_earlier_run():
    before = {"record": {"parameter": {"seed": "1"}, "tag": {"commit": "a"}, "metric": {"auc": 0.5, "slice/x": 1.0}}}
    now = {"record": {"parameter": {"seed": "1"}, "tag": {"commit": "b"}, "metric": {"auc": 0.6, "ece": 0.125}}}
    assert changes(before, now) == [
        ("tag commit", "a", "b"), ("metric auc", "0.5", "0.6"), ("metric ece", "missing", "0.125"),
    ]  # fmt: skip


def test_markup_in_the_data_is_escaped(content):
    hostile = "<script>alert(1)</script>"
    figures = content["figures"] | {"data": content["figures"]["data"] | {"source": hostile}}
    assert hostile not in page(content | {"figures": figures})


# Added to the measured copy alone: the page itself has no script, and its policy forbids any.
MEASURE = '<script>parent.document.title = [innerWidth, document.documentElement.scrollWidth].join(" ")</script></body>'


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_without_a_network_and_fits_the_width(text, tmp_path, width):
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    measured, policies = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert policies == 1 and measured.count("</body>") == 1
    # A window has a minimum width; a frame has none.
    inside = html.escape(measured.replace("</body>", MEASURE))
    frame = f'<title></title><iframe width="{width}" height="900" frameborder="0" scrolling="no" srcdoc="{inside}">'
    (tmp_path / "page.html").write_text(frame)
    url = (tmp_path / "page.html").as_uri()
    dom = in_chromium(tmp_path, url, "--window-size=1400,1000", "--dump-dom")
    inner, whole = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert (inner, whole) == (width, width)


def test_the_page_prints_on_a_few_sheets(text, tmp_path):
    (tmp_path / "page.html").write_text(text)
    in_chromium(tmp_path, (tmp_path / "page.html").as_uri(), f"--print-to-pdf={tmp_path / 'page.pdf'}")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 3 <= len(pages) <= 12
