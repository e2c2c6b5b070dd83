"""The Chinese catalogue of the pages: complete, without unused texts, with the placeholders of the English texts."""

import re
import tomllib

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.custody.purposes import PURPOSES, UNDECLARED
from callsieve.serving.rules.plan_classes import plan_table
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rules import CLASSES_ZH
from callsieve.serving.rules.strata import STRATA
from callsieve.training.data.dataset_tables import TABLES
from callsieve.training.data.feeds import LACKS
from callsieve.training.evidence.funnel import INNOCENT
from callsieve.training.judging.calls_made import BUCKETS
from callsieve.training.judging.evasions import PLAIN
from callsieve.training.judging.judge import SHIPPED
from callsieve.training.language import CATALOGUE, NAME, gettext, language, words
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.governance.complaint_counts import NO_REGULATOR
from callsieve.training.oversight.governance.parties import NOT_REGISTERED, UNCLASSIFIED, regulators
from callsieve.training.oversight.log.audit_log import ERASABLE, KINDS, MOVES, append
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.reports.headline_list import AT_MOST, HEADLINE, HINDSIGHT
from callsieve.training.reports.pictures import STYLES
from callsieve.training.reports.wording import between, count, one_in, rule_in_words, share, until
from callsieve.training.studies.demo import ADAPTED
from callsieve.training.tracking.record import ANSWERS
from callsieve.training.world.basis.scenario import load_scenario
from callsieve.training.world.callers.tricks import RELAY
from tests.support import small_bundle as small
from tests.support.paths import ROOT

PACKAGES = ("oversight/audit", "cli", "oversight/governance", "oversight/log", "reports", "tracking")
OPTIONS = dict.fromkeys(("trimmed", "trim_blocks", "lstrip_blocks", "newstyle_gettext"), "true")
OTHER_NAMES = (
    *("unallocated", "elsewhere", "ordinary", "content", "mode", "other", "certified", "watch", "logistic", "isotonic"),
    *("logistic regression", "number class", "five counters", "reputation list", "simulated world #, seed #"),
    *("train", "choose", "certify", "groups", "model", "second", "truth", "labels", "groups unseen in training"),
    "every call after the first # days; the rule's threshold is fitted to these calls",
    *("every call after the first # days", "calls after the first # days, of callers that evidence decides"),
    *("groups unseen in training, of callers that evidence decides", "in the days that judge", "in groups that judge"),
    *INNOCENT.values(),
    *("trusted", "known innocent", "known nuisance", "probably innocent", "probably nuisance"),
    *("nothing", "threshold", "threshold and trees"),
    "complaints name # nuisance numbers: probable catch #%, #% with own trees",
    "complaints name # nuisance numbers: probable catch #%, #% with own trees; the base stays as it is",
    "# numbers checked, expected at least #, and complaints name # nuisance numbers, expected at least #; "
    "the base stays as it is",
    "# numbers checked, expected at least #, and the base has no threshold for such records; the base stays as it is",
    "the answers contradict each other or the scores; check them again, the base stays as it is",
    "no number was answered as innocent, so nothing shows where to stop; the base stays as it is",
    "the base catches as much within the allowed rate; it stays as it is",
    "# numbers known as nuisance, expected at least # for own trees",
    "probable catch #% with the base's ranking, #% with own trees",
    "times: #% of the calls start from # to # h, and the fewest from # to # h; "
    "check the time zone of the clock (zone under [clock] of the layout, or --zone)",
    "times: hardly any call starts from # to # h; check whether the records lack a part of each day",
    "lines: one line takes part in #% of the calls, and the feed was recognised as #; if the records are of one site, "
    "score them with a policy that has feed = #: thresholds for # do not hold there",
    *("training", "evaluation"),
    *("metric", "moment of metric", "history of metric", "parameter", "tag", "artifact", "dataset", "experiment"),
    *("signed by key #, which is not trusted", "the signature of key # does not fit the signed file"),
    *("signature must be one line #", "signature must be canonical base64"),
    *(
        f"must be {bound} #, got {value}"
        for bound in ("at most", "at least")
        for value in ("#", "over #", "not measured")
    ),
)


def texts():
    """The texts of templates, and the literals of `gettext` in code."""
    training = ROOT / "training"
    paths = [path for package in PACKAGES for path in sorted((training / package).glob("*.*"))]
    for path in (training / "language.py", *paths):
        if path.suffix in (".html", ".py"):
            method = "jinja2.ext:babel_extract" if path.suffix == ".html" else "python"
            keywords = {"gettext": None} | ({"_": None} if path.suffix == ".html" else {})
            with path.open("rb") as file:
                yield from (text for _, text, _, _ in extract(method, file, keywords, options=OPTIONS))


def names():
    """The names of kinds that the code and the simulated world give, as the catalogue writes them."""
    world = load_scenario()
    outfits = world.table("outfits")
    kinds = {*world.table("people.kinds"), *outfits, *(outfit["attack"] for outfit in outfits.values())} - {""}
    classes = plan_table()
    parts = (STRATA, ACTIONS, LACKS, kinds, classes["content"], classes["mode"], ("human", "recording"))
    parts += (classes["names"], regulators().industries, regulators().complaints)
    parts += (("all", NOT_REGISTERED, UNCLASSIFIED, NO_REGULATOR, "group #"),)
    known = {name for part in parts for name in part} | {name for name, _, _ in BUCKETS}
    known |= {PLAIN, SHIPPED, ADAPTED, RELAY, STYLES["rule"][-1]} | set(OTHER_NAMES)
    known |= {*TABLES, "calls", "own columns", ANSWERS, "vectors", "labelled train", *PURPOSES, UNDECLARED}
    known |= {re.sub(r"\d[\d,]*", "#", figure.name) for figure in (*HEADLINE, AT_MOST, HINDSIGHT)}
    gates = tomllib.loads(shipped_gates().data.decode())["gate"]
    known |= {re.sub(r"\d+", "#", gate["means"]) for gate in gates} | (set(KINDS) - set(ERASABLE)) | set(MOVES)
    pattern = {name.replace("_", " ") for name in known}
    return {re.sub(r"[0-9]+", "#", name) if name.startswith("calls ") else name for name in pattern}


@pytest.fixture(scope="module")
def catalogue():
    with CATALOGUE.open("rb") as file:
        return read_po(file)


def test_the_catalogue_has_exactly_the_texts_and_names_of_the_pages(catalogue):
    ids = {(message.context, message.id) for message in catalogue if message.id}
    assert ids == {(None, text) for text in texts()} | {(NAME, name) for name in names()}
    assert [message.id for message in catalogue if message.id and (message.fuzzy or not message.string)] == []


def test_a_translation_has_the_placeholders_and_tags_of_its_text(catalogue):
    for message in catalogue:
        for pattern in (r"%\(\w+\)s", "%%", "</?[a-z]+>", "#") if message.id else ():
            assert sorted(re.findall(pattern, message.string)) == sorted(re.findall(pattern, message.id)), message.id
        assert message.context or "%" not in re.sub(r"%\(\w+\)s|%%", "", message.string)


def test_number_classes_have_the_names_that_rules_give_them():
    with language("zh"):
        assert [words(name) for name in NUMBER_CLASSES] == list(CLASSES_ZH)


@pytest.mark.parametrize(
    ("shown", "chinese"),
    [
        (lambda: one_in(9.3e-5), "1/10,700"),
        (lambda: one_in(0.23), "23/100"),
        (lambda: share(0.99996), "超过99.9%"),
        (lambda: count(None), "未测"),
        (lambda: until({"p90": None, "p90_floor": 37}, "p90"), "超过37"),
        (lambda: between({"median_low": 4, "median_high": 31.0}, "median"), "4至31"),
        (lambda: rule_in_words({"more_than": 31, "higher_for_some": False}), "最近1小时呼叫超过31次"),
        (lambda: words("a kind of my own # 7"), "a kind of my own # 7"),
    ],
)
def test_figures_are_in_the_language_in_force(shown, chinese):
    english = shown()
    with language("zh"):
        assert shown() == chinese
    assert shown() == english


def test_a_fault_of_the_record_has_its_text_from_the_catalogue(tmp_path):
    for path in sorted((ROOT / "training" / "oversight" / "audit").glob("*.py")):
        assert not re.findall(r'Fault\([^()]*, f?"', path.read_text()), path
    for number in range(3):
        append(tmp_path / "log", "access", {"what": f"case {number}", "why": "appeal"}, small.KEY)
    (tmp_path / "log" / "payloads" / "000001.json").unlink()
    with (tmp_path / "log" / "log.jsonl").open("ab") as file:
        file.write(b"{")
    with language("zh"):
        assert [str(fault) for fault in verify(tmp_path / "log").faults] == [
            "第3条记录：该行不完整，由程序中断或改动造成；写入下一条记录时将被清除",
            "第1条记录：其内容缺失，且没有删除记录",
        ]


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="language: expected one of en, zh, got 'fr'"), language("fr"):
        gettext("calls")
