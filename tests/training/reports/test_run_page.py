"""The run page: its figures, its pictures, and the safety of its HTML."""

import base64
import re
from functools import reduce
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from callsieve.training.reports import before_after, pictures
from callsieve.training.reports.run_page import page, write_run_page
from callsieve.training.reports.wording import one_in, pass_share
from tests.support.errors import raising
from tests.training.reports.run_figures import COMMAND, adapted_figures, example_figures

pytestmark = pytest.mark.system

PICTURES = {
    "errors", "detection", "precision", "scores", "benign", "nuisance", "reliability", "features", "learning", "folds",
}  # fmt: skip
HOSTILE = """<script>alert("x")</script>'><img src=http://evil.example/x onerror=alert(1)> $\\frac{$ 拒接"""
VOID = {"meta", "source", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is closed in the wrong order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def example_page():
    return page(example_figures())


@pytest.fixture(scope="module")
def adapted_page():
    return Page(page(adapted_figures())).text


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "DRAWN", {})


def svg_texts(text):
    """The SVG text of every picture of a page."""
    return [base64.b64decode(code).decode() for code in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", text)]


@pytest.mark.parametrize(
    "text",
    [
        "99.9937%",  # lower bound of the benign calls that pass
        "99.9918%",  # the same for the rule
        "1 in 15,900",
        "12 of 310,412 innocent calls",
        "87.4%",
        "84.3% to 90.1%",
        "23.3%",
        "more than 31 calls in the last hour",
        "median more than 87, nine in ten more than 402",
        "for nine in ten: 41",
        "between 1 in 83,300 and 1 in 12,300",
        "95 service 21,188 2 1 in 3,360 ◆ not certified",
        "mobile 281,104 10 1 in 16,500 ● certified",
        "1% of calls are nuisance 99.3%",
        "different numbers per call in the last hour: 100%",
        "c-20250404-5be1",
        "label without a score",
        "later not measured",
        "logistic regression 14 of 310,412 1 in 14,000 by organisation at most 1 in 1,230 ● certified 41.2%",
        "flagged, calls as independent; by organisation at most 1 in 1,260",
        "90.1%; of 6,142 calls from 212 numbers; 87.4% to 87.4% by folder of calls",
        "Simulated.",
        "9c1f" * 16,
        COMMAND,
    ],
)
def test_the_page_shows_the_figures(example_page, text):
    assert text in Page(example_page).text


def test_every_picture_has_a_wide_and_a_narrow_form(example_page):
    attributes = Page(example_page).attributes
    assert sum(tag == "img" and name == "src" for tag, name, _ in attributes) == len(PICTURES)
    assert sum(tag == "source" and name == "srcset" for tag, name, _ in attributes) == len(PICTURES)
    assert all(value for tag, name, value in attributes if (tag, name) == ("img", "alt"))
    names = " ".join(svg_texts(example_page))
    for word in ("low and slow", "customer service", "6 of 31,004", "1 in 10,000", "328 calls", "choose threshold"):
        assert f">{word}" in names


def test_the_page_has_no_network_access_and_no_script(example_page):
    parsed = Page(example_page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(parsed.tags)
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "srcset", "href"):
            assert value.startswith("data:image/svg+xml;base64,")
    assert not any(text in example_page for text in ("http:", "https:", "url(", "@import"))
    for svg in svg_texts(example_page):
        assert not re.search(r"(href|src)=[\"'](?!#)", svg)
        assert not re.search(r"url\((?!#)", svg)


def test_the_same_figures_give_the_same_bytes(example_page, tmp_path):
    figures = example_figures()
    write_run_page(figures, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == example_page
    assert figures == example_figures()


@pytest.mark.usefixtures("no_pictures")
def test_a_failed_write_leaves_the_earlier_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("earlier")
    monkeypatch.setattr(Path, "replace", raising(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_run_page(example_figures(), path)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def places(value, path=()):
    """Yields the path of every text in nested figures."""
    if isinstance(value, str):
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def test_hostile_text_is_escaped():
    figures = example_figures()
    for path in places(figures):
        if path[0] != "folds" and path[-1] not in ("judged_by", "date"):
            holder = figures
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = HOSTILE
    figures["bands"][0]["strata"] = {HOSTILE: figures["bands"][0]["strata"]["mobile"]}
    figures["last_day"]["actions"] = figures["last_day"]["callers"] = {HOSTILE: 1}
    text = page(figures)
    parsed = Page(text)
    assert "script" not in parsed.tags and "<script" not in text
    assert parsed.tags.count("img") == len(PICTURES)
    assert text.count(str(escape(HOSTILE))) > 15
    assert not any("<script" in svg or "<img" in svg for svg in svg_texts(text))
    assert any("&lt;script&gt;" in svg for svg in svg_texts(text))


@pytest.mark.parametrize("section", [*example_figures(), "all"])
@pytest.mark.parametrize("form", ["missing", "none"])
@pytest.mark.usefixtures("no_pictures")
def test_a_missing_section_is_left_out(section, form):
    figures = example_figures()
    for name in [section] if section != "all" else list(figures):
        if form == "missing":
            del figures[name]
        else:
            figures[name] = None
    text = Page(page(figures)).text
    assert "Nuisance calls: what this model catches, and its errors" in text
    assert ("Verdicts of the last day" in text) == (section not in ("last_day", "all"))
    assert ("The certificate, in words" in text) == (section != "all")
    assert ("callsieve train --data calls" in text) == (section not in ("made_by", "all"))
    assert ("The most important features" in text) == (section not in ("model", "all"))


def test_only_known_evasions_have_a_section():
    empty = {"judged_calls": 0, "numbers": 0, "known_group": {"numbers": 0}}
    for names, shown in ((["no evasion"], False), (["no evasion", "one_ring"], True)):
        figures = example_figures() | {"attacks": [empty | {"attack": name} for name in names]}
        assert ("What each evasion gains" in page(figures)) == shown


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ("curve", {"errors", "precision"}),
        ("outcomes", {"precision"}),
        ("histogram", {"scores"}),
        ("learning_curve", {"learning"}),
        ("detection_curve", {"detection"}),
        ("slices", {"benign", "nuisance"}),
        ("reliability", {"reliability"}),
        ("folds", {"folds"}),
        ("headline", set()),
        ("bands", set()),
    ],
)
def test_a_picture_without_figures_is_left_out(section, missing, monkeypatch):
    monkeypatch.setattr(pictures, "svg", lambda figure: str(figure.get_size_inches()))
    figures = example_figures()
    figures[section] = None
    assert set(pictures.pictures(figures)) == PICTURES - missing


@pytest.mark.parametrize("path", [("bound",), ("catch", "call", "low"), ("catch", "call", "high")])
def test_a_missing_interval_is_not_drawn(path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "whisker", lambda *arguments: drawn.append(arguments))
    monkeypatch.setattr(pictures, "svg", str)
    monkeypatch.setattr(pictures, "DRAWN", {"errors": pictures.DRAWN["errors"]})
    figures = example_figures()
    pictures.pictures(figures)
    before = len(drawn)
    *parents, last = path
    reduce(dict.__getitem__, parents, figures["headline"]["model"])[last] = None
    pictures.pictures(figures)
    assert len(drawn) - before == before - 2  # one interval less in the wide and in the narrow picture


def test_a_missing_rule_and_a_missing_label_cutoff_have_no_legend_and_no_line():
    figures = example_figures()
    labels = lambda: pictures.detection_curve(figures, False).axes[0].get_legend_handles_labels()[1]
    lines = lambda: len(pictures.time_line(figures, False).axes[0].lines)
    both, before = labels(), lines()
    figures["detection_curve"]["rule"] = figures["folds"]["label_cutoff"] = None
    assert len(both) == 2 and labels() == both[:1]
    assert lines() == before - 1


def test_missing_figures_are_shown_as_not_measured():
    figures = blanked(example_figures())
    text = Page(page(figures)).text
    assert "not measured" in text
    assert "None" not in text and "nan" not in text.split()


def blanked(value, key=None):
    """The figures with None for every measured value of headline, slices, bands, buckets and last day."""
    if isinstance(value, dict):
        unchanged = {"curve", "detection_curve", "histogram", "learning_curve", "reliability", "folds", "model"}
        return {k: v if k in unchanged else blanked(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [blanked(item, key) for item in value]
    counted = {"calls", "flagged", "false_calls", "benign_calls", "target", "nuisance", "callers", "prior"}
    return value if isinstance(value, str) or key in counted else None


@pytest.mark.usefixtures("no_pictures")
def test_each_cell_of_a_wide_table_names_its_column():
    text = page(example_figures())
    heads = [value for tag, name, value in Page(text).attributes if (tag, name) == ("td", "data-head")]
    assert heads.count("detected within 10 calls") == 7  # five models and rules, two folders
    assert '<td data-head="innocent calls flagged">12 of 310,412' in text
    assert all("data-head" not in table for table in re.findall(r"(?s)<table>.*?</table>", text))


@pytest.mark.usefixtures("no_pictures")
def test_a_catch_on_one_folder_says_that_its_spread_is_unknown():
    figures = example_figures() | {"by_folder": []}
    assert "212 numbers; one folder of calls, so its spread over others is not known" in Page(page(figures)).text


@pytest.mark.usefixtures("no_pictures")
def test_the_page_names_missed_kinds_the_nearest_innocent_callers_and_what_to_do():
    figures = example_figures()
    text = Page(page(figures)).text
    assert "What to do next" not in text and "12 ordinary 88 0 -0.03" in text  # a good run needs nothing
    kinds = sorted((row for row in figures["slices"] if row["nuisance"]), key=lambda row: row["flagged"] - row["calls"])
    worst = kinds[0]["slice"].replace("_", " ")
    assert f"Most missed calls by kind: {worst} {kinds[0]['calls'] - kinds[0]['flagged']:,} of" in text
    figures["outcomes"]["nuisance_numbers"] = 4
    figures["headline"]["model"] |= {"certified": False, "in_hindsight": 0.99}
    figures["data"]["judged_by"] = "labels"
    text = Page(page(figures)).text
    assert "Not certified: check the innocent callers nearest" in text and "measure the catch rate: 4. From 30" in text
    assert "In hindsight 99.0% would be caught" in text and "labelled nuisance" in text
    figures["headline"]["model"] |= {"false_calls": 0, "benign_calls": 259}
    text = Page(page(figures)).text
    assert "no innocent call is flagged, but 259 are too few to show it; the certificate needs 29,956" in text
    assert "nearest to the threshold. A check" not in text


@pytest.mark.usefixtures("no_pictures")
def test_certified_and_uncertified_models_look_different():
    figures = example_figures()
    strip = r"Innocent calls passed, at least .*? (● certified|◆ not certified)"
    assert re.search(strip, Page(page(figures)).text)[1] == "● certified"
    figures["headline"]["model"] |= {"certified": False, "bound": 2e-4}
    text = Page(page(figures)).text
    assert re.search(strip, text)[1] == "◆ not certified"
    assert "The target is 1 in 10,000: not reached" in text


@pytest.mark.usefixtures("no_pictures")
def test_every_kind_of_caller_has_a_row():
    text = Page(page(example_figures())).text
    kinds = text[text.index("All kinds of callers") :]
    assert re.search(r"telemarketer 9,214 102 8,384 91\.0% caught", kinds)
    assert re.search(r"courier 31,004 775 6 99\.98% passed", kinds)
    assert kinds.index("low and slow") < kinds.index("ordinary"), "nuisance callers first"


@pytest.mark.usefixtures("no_pictures")
def test_real_calls_are_not_labelled_as_simulated():
    figures = example_figures()
    figures["data"] |= {"source": "calls of March", "judged_by": "labels"}
    text = Page(page(figures)).text
    assert "Simulated." not in text
    assert "Evaluated by labels." in text


@pytest.mark.parametrize(
    "text",
    [
        "Learnt: threshold and trees. Reason: probable catch 42.0% with the base's ranking, 81.0% with own trees.",
        "The base is model 70764091aeb0, signed by key cb6b8f35fd39d5aa.",
        "Use the new model: at equal error it catches 87.4%, the base 39.1%. Caught is the share of 6,142 nuisance",
        "calls of 212 numbers: calls after the first 7 days, of callers that evidence decides.",
        "Equal error: each flags at most 12 of the 310,412 innocent calls judged.",
        "innocent calls flagged, estimate from checks 1.2 in 10,000 0.9 in 10,000",
        "innocent calls flagged, at most (95 % by checks) 7.4 in 10,000 6.1 in 10,000",
        "innocent calls flagged 31 of 310,412 (1.0 in 10,000) 12 of 310,412 (0.4 in 10,000)",
        "numbers detected 91.2% 91.2%",
        "telemarketer, nuisance 9,214 102 8,384 (91.0%) 8,384 (91.0%)",
        "ordinary 251,020 6,275 abstains on such records 3 (0.1 in 10,000)",
        "known nuisance 250 22,500",
        "not drawn: one call, number may be forged; no estimate covers them 67",
        "callers checked 175 checked twice or more 25 checked with different answers 2",
        "Evidence counts until 5 April 2025, 00:00 UTC.",
        "chose the threshold, so the count is no independent test",
        "Evaluated by evidence.",
    ],
)
def test_the_page_of_an_adaptation_shows_both_models(adapted_page, text):
    assert text in adapted_page


@pytest.mark.parametrize(
    "text",
    [
        "Folds in time", "Learning curve", "Catch rate on groups seen and unseen in training",
        "Too few checks to judge", "The threshold was not chosen on these calls", "so none was used in training",
        "were trained on the same labels",
    ],
)  # fmt: skip
def test_the_page_of_an_adaptation_says_nothing_of_a_training(adapted_page, text):
    assert text not in adapted_page


@pytest.mark.parametrize(
    ("equal", "sentence"),
    [
        pytest.param({"caught": 0.3}, "Keep the base: at equal error it catches 39.1%, the new model 30.0%", id="less"),
        pytest.param({"caught": 0.3, "base_flagged": 99}, "Use the new model: the base flags 99 of 310,412", id="over"),
        pytest.param({"flagged": 32}, "Keep the base: at equal error", id="more errors than target and base"),
        pytest.param({"caught": None}, "Keep the base: no judged nuisance call", id="nothing to compare"),
        pytest.param({"base_caught": None}, "Use the new model: the base abstains", id="base abstains"),
    ],
)
def test_the_page_advises_the_model_that_catches_more_at_equal_error(equal, sentence):
    figures = adapted_figures()
    figures["base"]["equal"] |= equal
    assert before_after.advice(figures).startswith(sentence)


@pytest.mark.usefixtures("no_pictures")
def test_without_checks_the_page_says_how_many_are_needed():
    text = Page(page(adapted_figures(checks=0))).text
    assert "Too few checks to judge: 20 more are needed. Fill in to_check.csv" in text
    assert text.count("too few checks to judge: 20 more are needed") == 4
    assert "Keep the base: nothing was learnt; no number was answered as innocent, so nothing shows where" in text
    assert "The threshold was not chosen on these calls" in text
    figures = adapted_figures(checks=0) | {"base": None}
    figures["adapted"]["before"]["threshold"] = None
    assert "innocent calls flagged, estimate from checks abstains on such records" in Page(page(figures)).text


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("figures", "rows"),
    [
        (
            example_figures(),
            [
                "innocent calls: judged calls 310,412 3,412 31 March 2025, 00:00 UTC 5 April 2025, 00:00 UTC",
                "of callers 1,200 1,200 31 March",
                "nuisance calls: judged calls 6,142 212",
                "first called after the label cutoff, of unseen groups 80,124 612 20 March 2025, 00:00 UTC 5 April",
                "calls of groups with training rows, innocent and nuisance 90,312 –",
                "every call of the day, whether it is judged or not 35,210 9,251 – –",
            ],
        ),
        (
            adapted_figures(),
            [
                "innocent calls: calls after the first 7 days, of callers that evidence decides 310,412 3,412",
                "first called after the first 7 days 80,124 612 31 March",
                "175 checked callers stand for its callers 90,000 1,000",
                "innocent, without trusted numbers 310,412 333",
            ],
        ),
    ],
    ids=["training", "adaptation"],
)
def test_one_table_says_whom_each_figure_covers(figures, rows):
    text = Page(page(figures)).text
    for row in rows:
        assert row in text


@pytest.mark.usefixtures("no_pictures")
def test_several_folders_have_no_common_span():
    figures = example_figures()
    figures["data"]["folders"] = 2
    text = Page(page(figures)).text
    assert "innocent calls: judged calls 310,412 3,412 – –" in text
    assert "first called after the label cutoff, of unseen groups 80,124 612 – –" in text


@given(st.floats(1e-9, 1.0, exclude_max=True))
def test_one_in_is_never_below_the_rate(rate):
    top, every = re.fullmatch(r"(\d+) in ([\d,]+)", one_in(rate)).groups()
    shown = int(top) / int(every.replace(",", ""))
    assert rate * (1 - 1e-9) <= shown <= max(rate * 1.12, rate + 0.01)


@settings(max_examples=200)
@given(st.floats(1e-9, 1.0))
def test_the_pass_share_is_never_above_the_bound(bound):
    shown = float(pass_share(bound).rstrip("%")) / 100
    assert shown <= 1 - bound + 1e-12
    assert shown >= 1 - bound - max(bound, 1e-3)
