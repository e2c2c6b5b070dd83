"""The page of a run: one HTML file without scripts or network access, for readers without statistics."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template, Undefined

from callsieve.features.files.atomic import write_atomic
from callsieve.serving.rules.strata import BUSY
from callsieve.training.judging.detection import SOON
from callsieve.training.judging.evaluate import EvaluationFigures
from callsieve.training.judging.run_figures import ReasonText, RunFigures
from callsieve.training.language import current_language, day, gettext, message, moment, phrase, table_name, words

from . import before_after, headline_list
from .drawing import Picture, percent
from .next_steps import missed, next_steps
from .pictures import pictures
from .wording import basis, between, by_organisation, count, meaning, missing, one_in, rule_in_words, share, until

WIDE = 5
"""A table with more columns is a list of rows on a narrow screen."""


def write_run_page(figures: RunFigures, path: Path, drawn: Mapping[str, Picture] | None = None) -> None:
    """Writes the page in the language in force, whole or not at all; the same figures give the same bytes.

    `drawn`: the pictures of these figures, if they are drawn already; drawing takes seconds.
    """
    write_atomic(path, page(figures, drawn).encode())


def page(figures: RunFigures, drawn: Mapping[str, Picture] | None = None) -> str:
    """Returns the page as text."""
    pages = environment(__package__, ChainableUndefined)  # a missing section is empty at any depth
    pages.filters |= {"percent": percent, "day": iso_day, "fact": fact}
    pages.globals |= {"measure": headline_list, "compared": before_after}
    data = figures.get("data")
    # Only a simulator knows the truth.
    simulated = bool(data) and (str(data.get("source")).startswith("simulated") or data.get("judged_by") == "truth")
    template = pages.get_template("run_page.html")
    values = {"pictures": drawn or pictures(figures), "catch_basis": basis(figures), "run": figures}
    values |= {"steps": next_steps(figures), "missed": missed(figures.get("slices") or [])}
    covered = populations(figures)
    return render(template, figures, **values, populations=covered, simulated=simulated, soon=SOON, busy=BUSY)


def render(template: Template, figures: Mapping[str, object], **values: object) -> str:
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
    pages.filters |= {"moment": moment, "table_name": table_name, "meaning": meaning}
    pages.filters |= {"missing": missing, "until": until, "between": between, "data_uri": data_uri}
    pages.filters |= {"by_organisation": by_organisation, "rule_in_words": rule_in_words}
    return pages


def iso_day(text: str) -> str:
    """Returns an ISO 8601 date in the form of the language in force."""
    return day(date.fromisoformat(text))


def fact(text: ReasonText) -> str:
    """Returns a rule or a reason of a verdict in the language in force."""
    return text["zh"] if current_language() == "zh" else text["en"]


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


@dataclass(frozen=True, slots=True)
class Population:
    """A row: the figures, the calls that they cover, and counts and span of these calls as texts."""

    figures: str
    covers: str
    calls: str
    numbers: str
    begin: str = "–"
    end: str = "–"


def populations(figures: RunFigures) -> list[Population]:
    """Returns a row for each population of the figures; those that were not measured are left out."""
    heads, counts, data = figures.get("headline"), figures.get("outcomes"), figures.get("data") or {}
    if not heads:
        return []
    head, adapted = heads["model"], figures.get("adapted")
    several = data.get("folders") not in (None, 1)
    folds = None if several else figures.get("folds")  # each folder has its own spans; the figures have the last ones
    judged = span_of(folds, "certify")
    judged_on = phrase(str(data.get("judged_on") or gettext("judged calls")))
    numbers: Mapping[str, object] = counts or {}
    rows = [
        Population(
            gettext("innocent calls flagged or passed, certificate, calls as independent"),
            gettext("innocent calls: %(calls)s", calls=judged_on),
            count(head["benign_calls"]),
            count(numbers.get("innocent_numbers")),
            *judged,
        ),
        Population(
            gettext("the same, by organisation"),
            gettext("one of these calls for each caller or group of callers"),
            count(head["organisations"]),
            count(head["organisations"]),
            *judged,
        ),
        Population(
            gettext("nuisance calls caught, by call, by caller and by person called"),
            gettext("nuisance calls: %(calls)s", calls=judged_on),
            count(total(numbers.get(name) for name in ("nuisance_flagged", "nuisance_passed"))),
            count(numbers.get("nuisance_numbers")),
            *judged,
        ),
    ]
    lives = head["detection"]
    if lives["callers"]:
        rows.append(
            Population(
                gettext("calls until detection, numbers detected, calls stopped"),
                new_numbers(figures),
                count(lives["calls"]),
                count(lives["callers"]),
                *(judged if adapted else (span_of(folds, "label_cutoff")[0], judged[1])),
            )
        )
    rows += of_adaptation(figures, judged) if adapted else []
    seen = figures.get("seen")
    if seen and seen["calls"] and not adapted:
        groups = gettext("calls of groups with training rows, innocent and nuisance")
        rows.append(Population(gettext("groups seen in training"), groups, count(seen["calls"]), "–", *judged))
    last = figures.get("last_day")
    if last and last.get("calls"):
        by_action = last.get("callers")
        callers = total(by_action.values()) if by_action else None
        every = gettext("every call of the day, whether it is judged or not")
        rows.append(Population(gettext("verdicts of the last day"), every, count(last["calls"]), count(callers)))
    return rows


def of_adaptation(figures: RunFigures, judged: tuple[str, str]) -> list[Population]:
    """Returns the rows that only an adaptation has: the estimate from checks, the certificates."""
    adapted, bands = figures["adapted"], figures.get("bands")
    if adapted is None:
        return []
    covered = adapted["covered"]
    rows = [
        Population(
            gettext("innocent calls flagged, estimate from checks and its bound"),
            gettext(
                "innocent calls of the whole network; %(checked)s checked callers stand for its callers",
                checked=count(adapted["answered"]),
            ),
            count(covered["all"]["calls"]),
            count(covered["all"]["callers"]),
            *judged,
        ),
    ]
    if bands and adapted["learnt"] != "nothing":
        known = gettext("calls of callers that evidence calls innocent, without trusted numbers")
        innocent = count(bands[0]["certificate"]["benign_calls"])
        callers = count(covered["known innocent"]["callers"])
        rows.append(Population(gettext("certificates by number class"), known, innocent, callers, *judged))
    return rows


def new_numbers(figures: RunFigures) -> str:
    """Returns the numbers whose calls to detection are counted, in words."""
    if figures.get("adapted") or not figures.get("folds"):
        return gettext("all calls of nuisance numbers that first called after the first 7 days")
    return gettext("all calls of nuisance numbers that first called after the label cutoff, of unseen groups")


def span_of(folds: Mapping[str, object] | None, name: str) -> tuple[str, str]:
    """Returns begin and end of a fold in words, or a moment twice; dashes if it is not known."""
    span = (folds or {}).get(name)
    if isinstance(span, str):
        return moment(span), moment(span)
    if not isinstance(span, list) or len(span) != 2:
        return "–", "–"
    return moment(span[0]), moment(span[1])


def total(counts: Iterable[object]) -> int | None:
    """Returns the sum of some counts; None if one was not measured."""
    values = list(counts)
    return None if None in values else sum(value for value in values if isinstance(value, int))
