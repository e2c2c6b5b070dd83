"""An adapted model beside its base: rows of texts for the run page, the model card and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from callsieve.training.adapt.adapted_figures import AdaptedFigures, Side
from callsieve.training.evidence.funnel import Covered
from callsieve.training.judging.figures import Headline
from callsieve.training.judging.metrics import Slice
from callsieve.training.judging.run_figures import RunFigures
from callsieve.training.language import gettext, phrase, words

from .headline_list import AT_MOST, CAUGHT, DETECTED, DETECTED_SOON, FLAGGED, MEDIAN, MOST, STOPPED
from .wording import bracketed, count, per_10_000, share

ON_JUDGED = (AT_MOST, CAUGHT, DETECTED, DETECTED_SOON, MEDIAN, MOST, STOPPED)

Row = list[str]  # name, value of the base, value of the adapted model


def advice(figures: RunFigures) -> str:
    """Returns in one sentence whether to use the model in place of its base, and why; "" where no base is compared."""
    adapted, base, gain = figures.get("adapted"), figures.get("base"), figures.get("gain")
    if adapted and adapted["learnt"] == "nothing":
        return gettext("Keep the base: nothing was learnt; %(why)s.", why=phrase(adapted["why"]))
    if adapted and base is None:
        return gettext("Use the new model: the base abstains on such records.")
    equal = base["equal"] if adapted and base else gain["equal"] if gain else None
    if equal is None:
        return ""
    caught, base_caught = equal["caught"], equal["base_caught"]
    if caught is None:
        return gettext("Keep the base: no judged nuisance call compares both models.")
    better = gain["better"] if gain else base_caught is None or caught >= base_caught
    if better and base_caught is None:
        return gettext("Use the new model: the base abstains on such records.")
    target = figures["headline"]["model"]["target"] * equal["innocent"]
    numbers = {
        "caught": share(caught),
        "base": share(base_caught),
        "flagged": count(equal["flagged"]),
        "base_flagged": count(equal["base_flagged"]),
        "innocent": count(equal["innocent"]),
    }
    if better and (gain or equal["flagged"] <= max(target, equal["base_flagged"])):
        return gettext("Use the new model: at equal error it catches %(caught)s, the base %(base)s.", **numbers)
    if not gain and equal["base_flagged"] > target >= equal["flagged"]:
        return gettext(
            "Use the new model: the base flags %(base_flagged)s of %(innocent)s innocent calls, more than the target.",
            **numbers,
        )
    if gain:
        return gettext(
            "Keep the shipped model: nothing shows that the new one is better. At equal error it catches %(base)s, the "
            "new model %(caught)s, which flags %(flagged)s of %(innocent)s innocent calls. "
            "callsieve adapt fits the shipped model to your records.",
            **numbers,
        )
    return gettext(
        "Keep the base: at equal error it catches %(base)s, the new model %(caught)s, which flags %(flagged)s of "
        "%(innocent)s innocent calls.",
        **numbers,
    )


def advice_basis(figures: RunFigures) -> str:
    """Returns which calls the catch at equal error covers, in words."""
    compared = figures.get("base") or figures.get("gain")
    if not compared:
        return ""
    equal = compared["equal"]
    return gettext(
        "Caught is the share of %(calls)s nuisance calls of %(callers)s numbers: %(judged)s. Equal error: each flags "
        "at most %(flagged)s of the %(innocent)s innocent calls judged.",
        calls=count(equal["calls"]),
        callers=count(equal["callers"]),
        judged=phrase(str(figures["data"]["judged_on"])),
        flagged=count(equal["flagged"]),
        innocent=count(equal["innocent"]),
    )


def too_few(adapted: AdaptedFigures) -> str:
    """Returns how many checks are still needed before anything is learnt; "" if there are enough."""
    if not adapted["missing"]:
        return ""
    return gettext("too few checks to judge: %(checks)s more are needed", checks=count(adapted["missing"]))


def network_rows(adapted: AdaptedFigures) -> list[Row]:
    """Returns the rows for all calls of the network: innocent calls flagged, estimated from the checks."""

    def row(name: str, text: Callable[[Side], str]) -> Row:
        return [name, *(text(side) if is_used(side) else abstains() for side in (adapted["before"], adapted["after"]))]

    def estimated(rate: float | None) -> str:
        return (too_few(adapted) or gettext("no check has a score")) if rate is None else per_10_000(rate)

    return [
        row(gettext("innocent calls flagged, estimate from checks"), lambda side: estimated(side["flagged"])),
        row(gettext("innocent calls flagged, at most (95 %% by checks)"), lambda side: estimated(side["bound"])),
    ]


def judged_rows(figures: RunFigures) -> list[Row]:
    """Returns the rows for the judged calls: the headline of both models."""
    base = figures.get("base")
    heads = (None if base is None else base["headline"], figures["headline"]["model"])

    def row(name: str, text: Callable[[Headline], str]) -> Row:
        return [name, *(abstains() if head is None else text(head) for head in heads)]

    def flagged(head: Headline) -> str:
        rate = head["false_calls"] / head["benign_calls"] if head["benign_calls"] else None
        return FLAGGED.value(head) + bracketed(per_10_000(rate))

    return [row(FLAGGED.label, flagged), *(row(figure.label, figure.cell) for figure in ON_JUDGED)]


def kind_rows(figures: RunFigures) -> list[Row]:
    """Returns a row for each kind of caller, nuisance first: kind, calls, numbers, and flagged by base and adapted."""
    base = {(row["nuisance"], row["slice"]): row for row in (figures.get("base") or {"slices": []})["slices"]}
    slices = sorted(figures["slices"], key=lambda row: (not row["nuisance"], -row["calls"]))

    def flagged(row: Slice | None) -> str:
        if row is None:
            return abstains()
        rate = row["flagged"] / row["calls"] if row["calls"] else None
        return count(row["flagged"]) + bracketed(share(rate) if row["nuisance"] else per_10_000(rate))

    return [
        [
            gettext("%(kind)s, nuisance", kind=words(row["slice"])) if row["nuisance"] else words(row["slice"]),
            count(row["calls"]),
            count(row["callers"]),
            flagged(base.get((row["nuisance"], row["slice"]))),
            flagged(row),
        ]
        for row in slices
    ]


def check_rows(adapted: AdaptedFigures) -> list[list[str]]:
    """Returns the counts of checks and complaints: name, count."""
    return [
        [gettext("callers drawn for a check"), count(adapted["asked"])],
        [gettext("drawn, but without a call in these records"), count(adapted["absent"])],
        [gettext("not drawn: one call, number may be forged; no estimate covers them"), count(adapted["left_out"])],
        [gettext("callers checked"), count(adapted["answered"])],
        [gettext("checked twice or more"), count(adapted["twice"])],
        [gettext("checked with different answers"), count(adapted["changed"])],
        [gettext("complaints"), count(adapted["complaints"])],
    ]


def covered_rows(covered: Mapping[str, Covered]) -> list[list[str]]:
    """Returns callers and calls by what is known of them: kind, callers, calls."""
    return [[words(kind), count(part["callers"]), count(part["calls"])] for kind, part in covered.items()]


def is_used(side: Side) -> bool:
    """Returns whether a model has a threshold on the records of the network."""
    return side["threshold"] is not None


def abstains() -> str:
    """Returns the cell of a model that gives no verdict on the records of the network."""
    return gettext("abstains on such records")
