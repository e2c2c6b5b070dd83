"""The audit report: what it tells, and that it opens in a real Chromium without a network or a complaint."""

import hashlib
import html
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from callsieve.features.catalogue import ALL_FEATURES
from callsieve.training.audit.page import changes, facts, moment, page
from callsieve.training.log.audit_log import payloads
from callsieve.training.log.run_paths import run_paths

CHROMIUM = "chromium"  # Debian's package of that name


@pytest.fixture(scope="module")
def told(training_run):
    return facts(run_paths(training_run[0], None, None), training_run[1]["tracking"]["run"])


@pytest.fixture(scope="module")
def text(told):
    return page(told)


def words(text):
    return " ".join(re.sub(r"<[^>]*>", " ", text.partition("<body>")[2]).split())


def test_the_page_tells_what_a_reviewer_asks(told, text, training_run):
    figures, seen = training_run[1], words(text)
    head = figures["headline"]["model"]
    for said in (
        f"Audit report of model {figures['model']['id']}",
        "record unchanged", "not certified", "fails a gate", "not the champion",
        "3 entries of the audit log, 1 runs in MLflow",
        f"Training used nothing that became known after {moment(figures['folds']['label_cutoff'])}",
        "It is not certified", "It is not in use",
        f"It fails {sum(not gate['passed'] for gate in told['gates'])} of the 4 conditions",
        f"Of {head['benign_calls']:,} benign calls {head['false_calls']:,} were flagged",
        "of callers unseen in training, lower end of the 95 % interval: must be at least 0.55, got",
        "The certification fold was used 1 time up to this run",
        "It was never promoted", "There is no earlier run in this log",
        f"callsieve model replay {figures['tracking']['run']}",
    ):  # fmt: skip
        assert said in seen
    assert not re.search(r"[a-z]\.[A-Z]", seen)  # a sentence that runs into the next
    told_open = seen.partition("Where it is not certified")[2].partition("Most important features")[0]
    lines, _, callers = told_open.partition("For these kinds of caller")
    strata = figures["bands"][0]["strata"]
    assert strata and "may be labelled, but never blocked" in lines
    for name, one in strata.items():  # what a policy goes by, and nothing else is promised
        line = f"{name.replace('_', ' ')} {one['benign_calls']:,} {one['false_calls']:,}"
        assert (line in lines) is not one["certified"]
    assert "may be labelled" not in callers
    for one in figures["slices"]:
        named = f"{one['slice'].replace('_', ' ')} {one['calls']:,}"
        assert (named in seen) is not (one["nuisance"] or one["certified"])
    for name in ("calls", "complaints", "findings", "truth", "vectors", "labelled train"):
        assert re.search(rf"{name} [\d,]+ (training|evaluation) [0-9a-f]{{16}}…", seen)


def test_a_copy_made_with_the_run_is_an_artifact_that_the_log_commits_to(training_run):
    place = run_paths(training_run[0], None, None)
    logged = next(payload for _, payload in payloads(place.log, "run"))
    page_now = (training_run[0] / "audit.html").read_bytes()
    assert logged["record"]["artifact"]["report/audit.html"] == hashlib.sha256(page_now).hexdigest()
    seen = words(page_now.decode())
    assert "This copy was written with the run" in seen and "It has no approvals yet" in seen
    assert "record unchanged" not in seen and "champion" not in seen.partition("Glossary")[0]


def test_drift_since_the_model_before_is_told_in_words(told):
    shift = {
        "name": "out_calls_count_1h",
        "measure": "histogram",
        "part": "below 3",
        "then": 0.5,
        "now": 0.25,
        "days": 9,
    }
    drift = {"model": "abc", "reference": ["2025-03-01", "2025-03-20"], "days": 10, "compared": 160, "moved": 1}
    figures = told["figures"] | {"drift": drift | {"shifts": [shift]}}
    seen = words(page(told | {"figures": figures}))
    assert "1 of 160 statistics lie outside their reference range on at least half of 10 days" in seen
    assert f"{ALL_FEATURES['out_calls_count_1h'].en} below 3 50.0% 25.0% 9" in seen
    assert "There is no earlier model in this log" in words(page(told))


def test_a_record_that_was_changed_is_told_first(run_command, training_run, tmp_path):
    shutil.copytree(training_run[0] / "audit", tmp_path / "audit")
    for name in ("mlflow.db",):
        shutil.copy(training_run[0] / name, tmp_path / name)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'auc'")
    out = tmp_path / "page.html"
    code, said, _ = run_command("audit", "page", training_run[1]["model"]["id"], "--in", tmp_path, "--out", out)
    assert (code, said) == (0, f"{out}: written\n")
    seen = words(out.read_text())
    assert "record was changed" in seen and "metric auc : logged as" in seen


def test_what_changed_since_the_run_before():
    before = {"record": {"parameter": {"seed": "1"}, "tag": {"commit": "a"}, "metric": {"auc": 0.5, "slice/x": 1.0}}}
    now = {"record": {"parameter": {"seed": "1"}, "tag": {"commit": "b"}, "metric": {"auc": 0.6, "ece": 0.125}}}
    assert changes(before, now) == [
        ("tag commit", "a", "b"), ("metric auc", "0.5", "0.6"), ("metric ece", "missing", "0.125"),
    ]  # fmt: skip


def test_text_of_others_stays_text(told):
    hostile = "<script>alert(1)</script>"
    figures = told["figures"] | {"data": told["figures"]["data"] | {"source": hostile}}
    assert hostile not in page(told | {"figures": figures})


# Only in the copy that is measured: the page itself has no script, and forbids any.
MEASURE = '<script>parent.document.title = [innerWidth, document.documentElement.scrollWidth].join(" ")</script></body>'


def in_chromium(folder, text, *words):
    """What Chromium writes about the page; a complaint of its console is an error."""
    assert shutil.which(CHROMIUM), "needs Debian's package chromium"
    (folder / "page.html").write_text(text)
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    command = [CHROMIUM, *quiet, f"--user-data-dir={folder / 'p'}", *words, (folder / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not re.findall(r"CONSOLE.*", done.stderr)
    return done.stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_a_network_or_a_complaint_and_nothing_hangs_over(text, tmp_path, width):
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    measured, policies = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert policies == 1 and measured.count("</body>") == 1
    # A window has a least width; a frame has none.
    inside = html.escape(measured.replace("</body>", MEASURE))
    frame = f'<title></title><iframe width="{width}" height="900" frameborder="0" scrolling="no" srcdoc="{inside}">'
    dom = in_chromium(tmp_path, frame, "--window-size=1400,1000", "--dump-dom")
    inner, whole = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert (inner, whole) == (width, width)


def test_it_prints(text, tmp_path):
    in_chromium(tmp_path, text, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 3 <= len(pages) <= 12
