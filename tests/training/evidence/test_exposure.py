"""Complaints as counts with an exposure: beside SciPy, by properties, crowds, late reports, mixed kinds."""

import numpy as np
import pytest
from scipy.stats import nbinom

from callsieve.training.data.dataset import COMPLAINTS, FINDINGS, RECYCLED, make_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.evidence.exposure import (
    MOST_EVIDENCE,
    arrived_share,
    bounded,
    complaint_ratio,
    exposures,
    fitted_rate,
    log_likelihood,
    prior_line,
)
from tests.training.data.test_labels import CROWD, at, call, calls_of, calls_to, complaint, complaints_about, rows

POLICY = read_label_policy()


def network(rng, innocent=4000, bad=300):
    """Returns reports, exposure and truth of callers: most never reported, couriers reported a little, some nuisance
    kinds never."""
    nuisance = np.arange(innocent + bad) < bad
    exposed = np.where(nuisance, rng.integers(5, 200, len(nuisance)), rng.integers(1, 60, len(nuisance)))
    courier = ~nuisance & (np.arange(len(nuisance)) % 50 == 0)
    exposed[courier] = rng.integers(500, 2000, courier.sum())
    rate = np.where(nuisance, rng.choice([0.0, 0.02, 0.1], len(nuisance)), np.where(courier, 0.002, 0.0002))
    return rng.poisson(rate * exposed).astype(float), exposed.astype(float), nuisance


@pytest.mark.parametrize(("rate", "shape"), [(0.05, 0.4), (0.001, 3.0)])
def test_the_likelihood_of_counts_is_that_of_scipy(rate, shape):
    counts, exposed = np.meshgrid(np.arange(12.0), [1.0, 30.0, 900.0])
    other = nbinom.logpmf(counts, shape, shape / (shape + rate * exposed))
    other -= nbinom.logpmf(counts, 2.0, 2.0 / (2.0 + 0.01 * exposed))
    own = log_likelihood(counts, exposed, rate, shape) - log_likelihood(counts, exposed, 0.01, 2.0)
    np.testing.assert_allclose(own, other, atol=1e-9)


def test_a_rate_is_fitted_to_the_callers_of_a_class_alone():
    rng = np.random.default_rng(2)
    reports, exposed, nuisance = network(rng)
    rate, _ = fitted_rate(reports, exposed, nuisance.astype(float))
    assert rate == pytest.approx(0.04, rel=0.25)
    assert rate == pytest.approx(
        fitted_rate(reports[nuisance], exposed[nuisance], np.ones(nuisance.sum()))[0], rel=0.01
    )


def test_no_complaint_is_more_evidence_the_more_people_answered():
    reports, exposed, nuisance = network(np.random.default_rng(5))
    reports, exposed = np.append(reports, [0, 0, 0]), np.append(exposed, [1, 30, 3000])
    few, some, many = complaint_ratio(reports, exposed, np.append(nuisance, [0, 0, 0]))[-3:]
    assert 0 > few > some > many > -1.7
    assert few > -0.2 and many < -0.9


def test_more_complaints_are_never_less_evidence():
    reports, exposed, nuisance = network(np.random.default_rng(6))
    more, people = np.arange(60.0), np.full(60, 100.0)
    ratio = complaint_ratio(np.append(reports, more), np.append(exposed, people), np.append(nuisance, more > 3))
    assert (np.diff(ratio[-60:]) >= 0).all() and ratio[-1] > MOST_EVIDENCE
    assert bounded(ratio)[-1] == MOST_EVIDENCE


def test_complaints_that_tell_nothing_are_no_evidence():
    exposed = np.full(500, 40.0)
    assert not complaint_ratio(np.zeros(500), exposed, np.full(500, 0.5)).any()
    backwards = np.where(np.arange(500) < 250, 4.0, 0.0)  # reports about the innocent alone
    assert not complaint_ratio(backwards, exposed, (backwards == 0).astype(float)).any()


def test_the_share_of_complaints_that_has_arrived_is_that_of_their_delays():
    """The late ones of recent days are not seen yet, so the plain share of those seen would be too high."""
    rng = np.random.default_rng(3)
    delay, horizon = rng.exponential(5.0, 20_000), rng.uniform(0.5, 15.0, 20_000)
    seen = delay <= horizon
    waited = np.array([1.0, 5.0, 10.0])
    true = (1 - np.exp(-waited / 5)) / (1 - np.exp(-15 / 5))
    np.testing.assert_allclose(arrived_share(delay[seen], horizon[seen], waited), true, atol=0.03)
    assert ((delay[seen][:, None] <= waited).mean(axis=0) - true).min() > 0.05
    assert arrived_share(np.zeros(0), np.zeros(0), waited).tolist() == [1, 1, 1]


def exposure_of(calls, complaints=(), recycled=(), cutoff=20):
    dataset = make_dataset(
        calls_of(*calls), rows(COMPLAINTS, *complaints), rows(FINDINGS), recycled=rows(RECYCLED, *recycled)
    )
    return exposures(dataset, at(cutoff), POLICY.complaints)


def test_exposure_is_the_number_of_distinct_people_who_answered():
    answered = [call("a", person, 10, outcome="answered") for person in CROWD[:6] * 2]
    missed = [call("a", person, 11, outcome="no_answer", talk=0) for person in CROWD[6:9]]
    later = [call("a", person, 21, outcome="answered") for person in CROWD[9:]]
    known = exposure_of([*answered, *missed, *later]).loc["a"]
    assert (known["reports"], known["exposed"]) == (0, 6)


def test_people_who_answered_lately_count_for_the_complaints_that_have_arrived():
    old = [call("old", person, 10, outcome="answered") for person in CROWD]
    new = [call("new", person, 19.5, outcome="answered") for person in CROWD]
    late = [complaint("old", person, 10.1, delay=4) for person in CROWD[:5]]
    known = exposure_of([*old, *new], late)
    assert known.loc["old", "exposed"] == len(CROWD) and known.loc["new", "exposed"] == 0
    prompt = [complaint("old", person, 10.1, delay=0.1) for person in CROWD[:5]]
    assert exposure_of([*old, *new], prompt).loc["new", "exposed"] == len(CROWD)


def test_only_founded_complaints_against_a_number_count_and_favours_are_taken_off():
    calls = [call(name, person, 18, outcome="answered") for name in "ab" for person in CROWD[:9]]
    unfounded = complaints_about("b", CROWD[9:], 18.1)  # `b` did not call them
    against, favour = complaints_about("a", CROWD[:3], 18.1), complaints_about("a", CROWD[3:5], 18.1, "courier")
    known = exposure_of([*calls, *calls_to("x", CROWD, 17)], [*against, *unfounded])
    both = exposure_of([*calls, *calls_to("x", CROWD, 17)], [*against, *favour, *unfounded])
    assert known.loc["b", "reports"] == 0 < both.loc["a", "reports"] < known.loc["a", "reports"] <= 3


def test_the_prior_line_is_the_line_that_complaints_support():
    rng = np.random.default_rng(4)
    score = rng.normal(-3, 3, 40_000)
    nuisance = rng.random(len(score)) < 1 / (1 + np.exp(-(0.5 + 0.9 * score)))
    ratio = np.where(nuisance, 1.0, -1.0) * 2 + rng.normal(0, 2, len(score))  # log-likelihood ratio of two normals
    shift, slope = prior_line(score, ratio)
    assert (shift, slope) == pytest.approx((0.5, 0.9), abs=0.1)
