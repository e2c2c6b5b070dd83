"""The page of a run: one HTML file without scripts or network access, for readers without statistics."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeGuard, cast

from jinja2 import (
    ChainableUndefined,
    ChoiceLoader,
    Environment,
    PackageLoader,
    StrictUndefined,
    Template,
    Undefined,
)

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.rules.strata import BUSY
from callsieve.serving.scorer.reasons import full_width
from callsieve.training.judging.detection import SOON
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.run_figures import EvaluationFigures, ReasonText, RunFigures
from callsieve.training.language import current_language, day, gettext, message, moment, phrase, table_name, words

from .drawing import Picture, percent
from .pictures import is_counted, meaning, pictures

NOT_MEASURED = "not measured"
"""How the terminal and the pages, in English, show a figure that is missing."""
WIDE = 5
"""A table with more columns is a list of rows on a narrow screen."""


def write_run_page(figures: RunFigures, path: Path, drawn: Mapping[str, Picture] | None = None) -> None:
    """Writes the page in the language in force, whole or not at all; the same figures give the same bytes.

    Args:
        figures: a missing section is left out; None is shown as "not measured".
        drawn: the pictures of these figures, if they are drawn already; drawing takes seconds.
    """
    write_atomic(path, page(figures, drawn).encode())


def page(figures: RunFigures, drawn: Mapping[str, Picture] | None = None) -> str:
    """Returns the page as text."""
    pages = environment(__package__, ChainableUndefined)  # a missing section is empty at any depth
    pages.filters |= {"percent": percent, "pass_share": pass_share, "meaning": meaning, "day": iso_day, "fact": fact}
    data = figures.get("data")
    # Only a simulator knows the truth.
    simulated = bool(data) and (str(data.get("source")).startswith("simulated") or data.get("judged_by") == "truth")
    template = pages.get_template("run_page.html")
    values = {"pictures": drawn or pictures(figures), "catch_basis": basis(figures)}
    return render(template, figures, **values, simulated=simulated, soon=SOON, busy=BUSY)


def render(template: Template, figures: Mapping[str, Any], **values: object) -> str:
    """Returns a page as text. Cells of wide tables name their column, which a narrow screen shows beside the figure."""
    text = template.render(figures, **values).lstrip()
    if current_language() == "zh":
        text = re.sub("(?<=[。；：，]) +(?=[\u4e00-\u9fff])", "", text)  # between sentences of a template
    return re.sub(r"(?s)<table>.*?</table>", _name_cells, text)


def _name_cells(table: re.Match[str]) -> str:
    heads = [re.sub(r"<[^>]*>", " ", head) for head in re.findall(r"(?s)<th[^>]*>(.*?)</th>", table[0])]
    if len(heads) <= WIDE:
        return table[0]

    def named(row: re.Match[str]) -> str:
        columns = iter(heads)
        return re.sub("<td", lambda _: f'<td data-head="{next(columns, "")}"', row[0])

    return re.sub(r"(?s)<tr>.*?</tr>", named, table[0].replace("<table>", '<table class="stack">', 1))


def environment(package: str | None, undefined: type[Undefined] = StrictUndefined) -> Environment:
    """Templates of a package and of this one, in the language in force, with filters that format figures for people."""
    pages = Environment(
        loader=ChoiceLoader([PackageLoader(str(package), "."), PackageLoader(__package__, ".")]),
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    translate: Any = pages  # the extension adds the method
    translate.install_gettext_callables(
        message, lambda single, plural, n: message(single if n == 1 else plural), newstyle=True
    )
    pages.policies["ext.i18n.trimmed"] = True
    pages.globals["lang"] = current_language()
    pages.filters |= {"count": count, "share": share, "one_in": one_in, "words": words, "phrase": phrase}
    pages.filters |= {"moment": moment, "table_name": table_name}
    pages.filters |= {"until": until, "between": between, "data_uri": data_uri}
    pages.filters |= {"by_organisation": by_organisation}
    return pages


def iso_day(text: str) -> str:
    """Returns an ISO 8601 date in the form of the language in force."""
    return day(date.fromisoformat(text))


def fact(text: ReasonText) -> str:
    """Returns a rule or a reason of a verdict in the language in force."""
    return full_width(text["zh"]) if current_language() == "zh" else text["en"]


def data_uri(svg: str) -> str:
    """Returns a picture as a data URI, so that the page needs no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def write_pictures(drawn: Mapping[str, Picture], folder: Path) -> None:
    """Writes every picture of the page as an SVG file, in its wide form."""
    folder.mkdir(exist_ok=True)
    for name, picture in drawn.items():
        write_atomic(folder / f"{name}.svg", picture.wide.encode())


def write_evaluation(figures: EvaluationFigures, folder: Path) -> None:
    """Writes `report.html`, `plots/` and `figures.json` of a bundle on other calls into a new or empty folder.

    The page is that of a run without the parts that only a training has.
    """
    shown = cast(RunFigures, figures)
    drawn = pictures(shown)
    write_run_page(shown, folder / "report.html", drawn)
    write_pictures(drawn, folder / "plots")
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "figures.json", (text + "\n").encode())


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def count(value: object) -> str:
    """Returns a count with thousands separators.

    >>> count(310412), count(None)
    ('310,412', 'not measured')
    """
    return f"{value:,.0f}" if is_number(value) else gettext("not measured")


def share(value: object, digits: int = 1) -> str:
    """Returns a share as a percentage; only an exact 0 or 1 is shown as 0 % or 100 %.

    >>> share(0.4567), share(0.99996), share(1.0), share(1e-5), share(None)
    ('45.7%', 'over 99.9%', '100.0%', 'under 0.1%', 'not measured')
    """
    if not is_number(value):
        return gettext("not measured")
    step = 10.0 ** -(digits + 2)
    most, least = f"{1 - step:.{digits}%}", f"{step:.{digits}%}"
    if 1 - step / 2 <= value < 1:
        return gettext("over %(share)s", share=most)
    if 0 < value <= step / 2:
        return gettext("under %(share)s", share=least)
    return f"{value:.{digits}%}"


def one_in(rate: object) -> str:
    """Returns a small rate as "1 in N"; rounded up, so that it never promises more than the rate.

    >>> one_in(9.3e-5), one_in(0.0), one_in(1.0), one_in(None)
    ('1 in 10,700', '0', 'all', 'not measured')
    """
    if not is_number(rate):
        return gettext("not measured")
    if rate <= 0:
        return "0"
    if rate >= 1:
        return gettext("all")
    every = 1 / rate
    if every < 10:
        return gettext("%(calls)s in 100", calls=math.ceil(rate * 100))
    step = 10 ** max(math.floor(math.log10(every * (1 + 1e-12))) - 2, 0)
    calls = math.floor(every * (1 + 1e-12) / step) * step
    return gettext("1 in %(calls)s", calls=count(calls))


def pass_share(bound: object) -> str:
    """Returns the share of benign calls that pass at least, from an upper bound of the error; rounded down.

    >>> pass_share(9.3e-5), pass_share(0.23), pass_share(1.0)
    ('99.9907%', '77.0%', '0.0%')
    """
    if not is_number(bound):
        return gettext("not measured")
    digits = max(math.ceil(-math.log10(max(bound, 1e-9) * 100)) + 1, 1)
    scale = 10**digits
    return f"{math.floor((1 - bound) * 100 * scale + 1e-9) / scale:.{digits}f}%"


def basis(figures: RunFigures) -> str:
    """Returns what the headline's catch rate rests on: nuisance calls, their numbers, and its spread over folders."""
    rates = [row["model"]["catch"]["call"]["rate"] for row in figures.get("by_folder") or ()]
    measured = [rate for rate in rates if is_number(rate)]
    texts = []
    if is_counted(figures):
        counts = figures["outcomes"]
        calls, numbers = counts["nuisance_flagged"] + counts["nuisance_passed"], counts["nuisance_numbers"]
        texts.append(gettext("of %(calls)s calls from %(numbers)s numbers", calls=count(calls), numbers=count(numbers)))
    if measured:
        low, high = share(min(measured)), share(max(measured))
        texts.append(gettext("%(low)s to %(high)s by folder of calls", low=low, high=high))
    else:
        texts.append(gettext("one folder of calls, so its spread over others is not known"))
    return gettext("; ").join(texts)


def by_organisation(head: Headline) -> str:
    """Returns the bound of the error for a call of an unseen organisation, to stand beside each bound over calls."""
    return gettext("by organisation at most %(bound)s", bound=one_in(head["bound_by_organisation"]))


def until(detection: object, quantile: str) -> str:
    """Returns the calls until detection: a number, "more than" its floor, or "never"; "not measured" without a caller.

    Args:
        detection: as `figures.Quantiles`; fields may be missing.
        quantile: "median" or "p90".

    >>> until({"median": 4.0}, "median"), until({"p90": None, "p90_floor": 37}, "p90"), until({"p90": None}, "p90")
    ('4', 'more than 37', 'never')
    """
    if not isinstance(detection, Mapping) or quantile not in detection or detection.get("callers") == 0:
        return gettext("not measured")
    if is_number(detection[quantile]):
        return count(detection[quantile])
    floor = detection.get(f"{quantile}_floor")
    return gettext("more than %(calls)s", calls=count(floor)) if is_number(floor) else gettext("never")


def between(detection: object, quantile: str) -> str:
    """Returns the 95 % interval of calls until detection.

    >>> between({"median_low": 4, "median_high": 31.0}, "median"), between({"p90_low": 37, "p90_high": None}, "p90")
    ('4 to 31', 'at least 37')
    """
    if not isinstance(detection, Mapping) or not is_number(detection.get(f"{quantile}_low")):
        return gettext("not measured")
    low, high = detection[f"{quantile}_low"], detection[f"{quantile}_high"]
    if is_number(high):
        return gettext("%(low)s to %(high)s", low=count(low), high=count(high))
    return gettext("at least %(calls)s", calls=count(low))
