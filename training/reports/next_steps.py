"""Sentences of the run page: whom the model misses, and what to do next."""

from __future__ import annotations

from callsieve.training.evidence.funnel import fewest_calls
from callsieve.training.judging.metrics import Slice
from callsieve.training.judging.run_figures import RunFigures
from callsieve.training.language import gettext, words
from callsieve.training.model.certify import CONFIDENCE

from .wording import count, is_counted, is_number, share

FEW_NUMBERS = 30  # nuisance numbers; an interval of their catch rate is about 35 points wide
MOST_KINDS = 3
CAUTIOUS = 0.1  # of a catch rate: a threshold that gives up more than this is worth moving


def missed(slices: list[Slice]) -> str:
    """Returns the kinds of nuisance callers with the most missed calls, in words; "" if none is missed."""
    by_kind = [(row["calls"] - row["flagged"], row) for row in slices if row["nuisance"]]
    most = sorted((pair for pair in by_kind if pair[0]), key=lambda pair: (-pair[0], pair[1]["slice"]))[:MOST_KINDS]
    parts = [
        gettext(
            "%(kind)s %(missed)s of %(calls)s", kind=words(row["slice"]), missed=count(calls), calls=count(row["calls"])
        )
        for calls, row in most
    ]
    return gettext("; ").join(parts)


def next_steps(figures: RunFigures) -> list[str]:
    """Returns what would improve the model or its figures, most urgent first; a run that needs nothing has none."""
    heads, steps = figures.get("headline"), list[str]()
    if not heads:
        return []
    head = heads["model"]
    if head["certified"] is False and not figures.get("too_few"):  # the page says first what is too few
        if head["false_calls"]:
            step = gettext(
                "Not certified: check the innocent callers nearest to the threshold. A check that calls one of them "
                "nuisance removes it from the false positives."
            )
        else:
            step = gettext(
                "Not certified: no innocent call is flagged, but %(calls)s are too few to show it; the certificate "
                "needs %(enough)s. More days or more folders give them.",
                calls=count(head["benign_calls"]),
                enough=count(fewest_calls(head["target"], CONFIDENCE)),
            )
        steps.append(step)
    numbers = figures["outcomes"]["nuisance_numbers"] if is_counted(figures) else None
    if numbers is not None and numbers < FEW_NUMBERS:
        steps.append(
            gettext(
                "Nuisance numbers that measure the catch rate: %(numbers)s. From %(enough)s on its interval is useful. "
                "More days, complaints or checked numbers give them.",
                numbers=count(numbers),
                enough=FEW_NUMBERS,
            )
        )
    caught, possible = head["catch"]["call"]["rate"], head["in_hindsight"]
    if is_number(caught) and is_number(possible) and possible > caught + CAUTIOUS:
        steps.append(
            gettext(
                "In hindsight %(possible)s would be caught, and the threshold gives %(caught)s: it is cautious, "
                "because few innocent callers chose it. Checked or trusted numbers, or more folders of calls, lower "
                "it.",
                possible=share(possible),
                caught=share(caught),
            )
        )
    return steps
