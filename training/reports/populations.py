"""The calls and callers that each figure of a run covers, as one table for the run page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from callsieve.training.judging.run_figures import RunFigures
from callsieve.training.language import gettext, moment, phrase

from .wording import count


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
    """Returns the rows that only an adaptation has: the estimate from checks, the probable catch, the certificates."""
    adapted, bands = figures["adapted"], figures.get("bands")
    if adapted is None:
        return []
    covered = adapted["covered"]
    suspects = [covered[kind] for kind in ("known nuisance", "probably nuisance")]
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
        Population(
            gettext("nuisance calls caught, probably"),
            gettext("calls of callers that are nuisance with a probability of at least 50 %%, weighted by it"),
            count(sum(part["calls"] for part in suspects)),
            count(sum(part["callers"] for part in suspects)),
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
