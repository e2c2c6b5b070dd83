"""Figures as text, in the language in force: counts, shares, small rates, calls until detection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from callsieve.features.catalogue import BY_NAME
from callsieve.serving.scorer.reasons import in_chinese
from callsieve.training.language import current_language, gettext, words

if TYPE_CHECKING:
    from callsieve.training.evidence.funnel import TooFew
    from callsieve.training.judging.figures import Headline, HourlyRule, Rate
    from callsieve.training.judging.run_figures import RunFigures


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def in_markdown(text: str) -> str:
    """Returns a text that is neither an HTML element nor a link in Markdown.

    >>> in_markdown("<img src=x> and [a](b)")
    '&lt;img src=x> and [a]\\\\(b)'
    """
    return text.replace("<", "&lt;").replace("](", "]\\(")


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


def span(low: object, high: object) -> str:
    """Returns the interval of a share; "" if it has none."""
    return gettext("%(low)s to %(high)s", low=share(low), high=share(high)) if is_number(low) else ""


def bracketed(text: str) -> str:
    """Returns a text in brackets, to stand behind a figure; "" for an empty one."""
    return gettext(" (%(inside)s)", inside=text) if text else ""


def interval(value: Rate) -> str:
    """Returns a share with its interval.

    >>> interval({"rate": 0.5, "low": 0.25, "high": 0.75}), interval({"rate": None, "low": None, "high": None})
    ('50.0% (25.0% to 75.0%)', 'not measured')
    """
    return share(value["rate"]) + bracketed(span(value["low"], value["high"]))


def meaning(name: str, own: str = "") -> str:
    """Returns the description of a feature or statistic in the language in force; without one `own`, else its name."""
    known = BY_NAME.get(name)
    if known is not None and current_language() == "zh":
        return in_chinese(known)
    return own or (known.en if known else words(name))


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


def per_10_000(rate: object) -> str:
    """Returns a rate among 10,000 calls; only an exact 0 is shown as 0.

    >>> per_10_000(0.00012), per_10_000(0.0), per_10_000(1e-7), per_10_000(None)
    ('1.2 in 10,000', '0 in 10,000', 'under 0.1 in 10,000', 'not measured')
    """
    if not is_number(rate):
        return gettext("not measured")
    if 0 < rate < 1e-5:
        return gettext("under %(calls)s in 10,000", calls="0.1")
    calls = f"{10_000 * rate:,.1f}" if rate > 0 else "0"
    return gettext("%(calls)s in 10,000", calls=calls)


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


def is_counted(figures: RunFigures) -> bool:
    """Returns whether the judged calls are counted by truth and verdict."""
    counts = figures.get("outcomes")
    return bool(counts) and None not in counts.values()


def rule_in_words(rule: HourlyRule) -> str:
    """Returns the rule on calls per hour in words, in the language in force.

    >>> rule_in_words({"more_than": 8, "higher_for_some": True})
    'more than 8 calls in the last hour; a higher limit for some number classes'
    """
    if rule["higher_for_some"]:
        return gettext(
            "more than %(calls)s calls in the last hour; a higher limit for some number classes",
            calls=count(rule["more_than"]),
        )
    return gettext("more than %(calls)s calls in the last hour", calls=count(rule["more_than"]))


def missing(lacking: TooFew) -> str:
    """Returns what is missing for a certificate, as a sentence in the language in force.

    >>> missing({"calls": 1200, "needed": 29956, "days": 700, "checks": None})
    'too few to judge: 1,200 innocent calls, a certificate needs 29,956: about 700 more days of calls'
    """
    ways = [
        gettext("about %(days)s more days of calls", days=count(lacking["days"])) if lacking["days"] else "",
        gettext("about %(checks)s checked callers", checks=count(lacking["checks"])) if lacking["checks"] else "",
    ]
    return gettext(
        "too few to judge: %(calls)s innocent calls, a certificate needs %(needed)s: %(ways)s",
        calls=count(lacking["calls"]),
        needed=count(lacking["needed"]),
        ways=gettext(" or ").join(filter(None, ways)) or gettext("calls of callers that are known to be innocent"),
    )
