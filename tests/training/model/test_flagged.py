"""Thresholds of flagged numbers: certificates equal an oracle's counts, and a threshold descends while they hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.online.feeds import COMPLETE, ONE_SITE, SPARSE
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.strata import STRATA
from callsieve.serving.scorer.flags import NAME
from callsieve.training.evidence.judging_labels import JudgingLabels
from callsieve.training.model.certify import FeedScores, certificate_of
from callsieve.training.model.flagged import REACHES, choose_flags

MOBILE, WITHHELD = STRATA.index("mobile"), STRATA.index("withheld")
HIGHEST = Band("certified", 4.0, certificate_of("certify", 0, 10**6, 1e-4), {}, ("iot",), {"fixed": 5.0})
LOWEST = Band("watch", 1.0, certificate_of("certify", 0, 10**6, 1e-3), {}, ("iot",), {"fixed": 2.0})


def oracle(calls, reach, known_trunks):
    """Whether each call is flagged, from the moments of the caught calls before it; one call after the other."""
    flagged = []
    for caller, trunk, start, raw, stratum in calls:
        high, low = HIGHEST.threshold_for(STRATA[stratum]), LOWEST.threshold_for(STRATA[stratum])
        moments = sorted(
            {
                at
                for other, route, at, score, kind in calls
                if other == caller and (route == trunk or not known_trunks) and at < start
                and score >= HIGHEST.threshold_for(STRATA[kind]) and stratum != WITHHELD
            }
        )  # fmt: skip
        run = 0
        for at, last in zip(moments, [-np.inf, *moments], strict=False):
            run = run + 1 if at - last <= (7 * DAY if run >= 10 else 24 * HOUR) else 1
        is_flagged = run >= 10 and start - moments[-1] <= 7 * DAY
        flagged.append(raw >= high or (is_flagged and raw >= high - reach * (high - low)))
    return np.array(flagged)


def drawn(seed):
    """Calls of a few numbers, each on one or two trunks for some days, with scores about its own level."""
    rng, calls = np.random.default_rng(seed), []
    for caller in range(12):
        stratum = WITHHELD if caller == 11 else MOBILE if caller % 2 else STRATA.index("fixed")
        for _ in range(90):
            start = int(rng.integers(0, 9 * DAY // (1 + caller % 3)))
            calls.append((caller, int(rng.integers(-1, 1)), start, float(rng.normal(1.5 + caller / 4, 1.5)), stratum))
    return sorted(calls, key=lambda call: call[2])


def chosen(calls, nuisance, lack=COMPLETE, innocent_more=400_000, announcing=None):
    """The choice on these calls, among many innocent ones of other numbers that nothing flags."""
    caller, trunk, start, raw, stratum = (np.array(column) for column in zip(*calls, strict=True))
    more = np.arange(innocent_more)
    raw, stratum = np.append(raw, np.full(len(more), -5.0)), np.append(stratum, np.full(len(more), MOBILE))
    nuisance = np.append(nuisance[caller], np.zeros(len(more), dtype=bool))
    caller, start, trunk = (
        np.append(caller, 100 + more),
        np.append(start, more),
        np.append(trunk, np.full(len(more), -1)),
    )
    every, zeros = np.ones(len(raw), dtype=bool), np.zeros(len(raw), dtype=int)
    judged = JudgingLabels(
        every, nuisance, np.where(caller == announcing, "satisfaction", "person"), "truth", zeros, zeros
    )
    pool = SimpleNamespace(certify=every, judged=judged, caller=caller, start=start, trunk=trunk)
    return choose_flags({lack: FeedScores(raw, stratum)}, {lack: (HIGHEST, LOWEST)}, pool, COMPLETE)


@pytest.mark.parametrize("lack", [COMPLETE, "no routes"])
@pytest.mark.parametrize("seed", range(4))
def test_the_certificate_counts_the_calls_that_an_oracle_flags(seed, lack):
    calls, nuisance = drawn(seed), np.arange(12) >= 3
    of_nuisance = nuisance[[caller for caller, *_ in calls]]
    result = chosen(calls, nuisance, lack)
    counts = [oracle(calls, reach, lack == COMPLETE) for reach in REACHES]
    band, figures = result.by_feed[lack], result.figures[lack]
    last = next((place for place, hits in enumerate(counts) if hits[~of_nuisance].sum() > 27), len(REACHES)) - 1
    assert band.name == NAME and band.abstains == ("iot",)
    assert band.threshold == pytest.approx(4.0 - 3.0 * REACHES[last])
    assert band.threshold_for("fixed") == pytest.approx(5.0 - 3.0 * REACHES[last])
    assert (figures["false_calls"], figures["certified"]) == (counts[last][~of_nuisance].sum(), True)
    assert figures["catch"] == counts[last][of_nuisance].mean() > figures["catch_of_single_calls"]


def test_no_number_is_flagged_on_the_feed_of_one_site():
    """Its calls are those of a network, where one site sees the calls of a number to itself alone."""
    calls, nuisance = drawn(0), np.arange(12) >= 3
    assert chosen(calls, nuisance, ONE_SITE).by_feed == {} != chosen(calls, nuisance, SPARSE).by_feed


def test_calls_of_a_survey_count_neither_as_innocent_nor_as_nuisance():
    caught = [(0, 0, at * HOUR, 4.5, MOBILE) for at in range(60)]
    assert chosen(caught, np.zeros(12, dtype=bool)).by_feed == {}
    (figures,) = chosen(caught, np.zeros(12, dtype=bool), announcing=0).figures.values()
    assert (figures["false_calls"], figures["catch"]) == (0, None)


def test_a_threshold_descends_only_while_the_certificate_holds():
    """One innocent number with 12 caught calls makes 30 that lie between the bands: 42 of 400,000 are too many."""
    caught = [(0, 0, at * HOUR, 4.5, MOBILE) for at in range(12)]
    between = [(0, 0, (12 + at) * HOUR, 2.5, MOBILE) for at in range(30)]
    (band,) = chosen(caught + between, np.zeros(12, dtype=bool)).by_feed.values()
    assert band.threshold == pytest.approx(3.0) and band.certificate.false_calls == 12
    assert chosen(caught + between, np.zeros(12, dtype=bool), innocent_more=100_000).by_feed == {}
