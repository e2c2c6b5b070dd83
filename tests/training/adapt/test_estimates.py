"""Draws, weights, thresholds and bounds against brute force, other libraries, and many draws."""

from types import SimpleNamespace

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from callsieve.serving.bundle.metadata import Band, Certificate
from callsieve.training.adapt import adapting, own_trees
from callsieve.training.adapt.asking import draw, inclusion, maybe_forged
from callsieve.training.adapt.choice import (
    Basis,
    Choice,
    Weights,
    base_suffices,
    shares_checked,
    weights_of,
    with_thresholds,
)
from callsieve.training.adapt.own_trees import MEMBERS, grow_own_trees, stacked_model
from callsieve.training.adapt.thresholds import MARGIN, ONE_CALLER, Scored, estimate, threshold_for
from callsieve.training.evidence.callers import (
    ANSWER,
    SHIFT_SD,
    SLOPE,
    SLOPE_SD,
    Callers,
    called_first_by,
    fitted_line,
    posterior,
)
from callsieve.training.model.trees import read_forest
from tests.support import small_bundle as small

SEEDS = 4000
sizes = st.lists(st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 40.0]), min_size=1, max_size=30)


@given(sizes, st.integers(0, 35))
def test_inclusion_probabilities_are_in_proportion_to_sizes_and_sum_to_the_number_asked(size, checks):
    size = np.array(size)
    probability = inclusion(size, checks)
    assert probability.sum() == pytest.approx(min(checks, (size > 0).sum()))
    assert (probability >= 0).all() and (probability <= 1).all() and (probability[size == 0] == 0).all()
    uncertain = (probability > 0) & (probability < 1)
    ratio = probability[uncertain] / size[uncertain]
    assert ratio == pytest.approx(ratio[:1].repeat(len(ratio)))
    if uncertain.any():  # whoever is certain would be so by that ratio
        assert (size[probability == 1] * ratio[0] >= 1 - 1e-9).all()


def test_callers_are_drawn_as_often_as_their_probability_says():
    rng = np.random.default_rng(1)
    calls, nuisance, checks, budget = rng.integers(0, 60, 80), rng.random(80), 12, 20.0
    nuisance[:6] = [0.0, 0.005, 0.01, 0.99, 0.995, 1.0]
    frequency, first, expected = np.zeros(80), np.zeros(80), np.zeros(80)
    for seed in range(SEEDS):
        drawn = draw(calls, nuisance, budget, checks, seed)
        assert len(set(drawn.caller.tolist())) == checks
        frequency[drawn.caller] += 1 / SEEDS
        first[drawn.caller[: checks // 3]] += 3 / SEEDS
        expected[drawn.caller] = drawn.probability
    doubt = [(p * (1 - p)) ** 0.5 if 0.01 <= p <= 0.99 else 0.0 for p in nuisance]
    assert expected == pytest.approx(inclusion(np.minimum(calls, budget) * doubt, checks), abs=1e-12)
    error = np.sqrt(expected * (1 - expected) / SEEDS)
    assert (np.abs(frequency - expected) <= 4.5 * error + 1e-12).all()
    # The first rows of a sheet are a draw, too.
    assert (np.abs(first - expected) <= 4.5 * np.sqrt(expected * (3 - expected) / SEEDS) + 1e-12).all()


@pytest.mark.parametrize("wrong", [0.01, 0.05, 0.3])
def test_the_estimate_is_unbiased_and_its_bound_holds_in_19_of_20_draws(wrong):
    """Flagged calls are fewer than the calls by which callers are drawn, as above a higher threshold."""
    rng = np.random.default_rng(5)
    error, covered, seen = [], [], []
    for seed in range(SEEDS // 2):
        calls = rng.geometric(0.05, 300)
        nuisance, innocent = rng.uniform(0.05, 0.95, 300), rng.random(300) < wrong
        flagged = rng.binomial(calls, rng.choice([0.0, 0.5, 1.0], 300))
        drawn = draw(calls, nuisance, 40.0, 60, seed)
        sums = estimate(flagged[drawn.caller], innocent[drawn.caller], drawn.probability)
        total = flagged[innocent].sum()
        error.append(sums.flagged - total)
        covered.append(sums.bound >= total)
        seen.append(sums.bound >= sums.flagged)
    assert abs(np.mean(error)) <= 4 * np.std(error) / len(error) ** 0.5
    assert np.mean(covered) >= 0.95 and all(seen)


def drawn_network(highest, answered, trusted=None):
    """Returns a network of callers with these scores, of whom some have an answer, "innocent"."""
    callers = SimpleNamespace(
        looks=answered.astype(int),
        token=np.arange(len(highest)).astype(str),
        trusted=np.zeros(len(highest), bool) if trusted is None else trusted,
    )
    return SimpleNamespace(callers=callers, highest=highest)


def test_answers_that_depend_on_the_score_give_an_unbiased_estimate():
    """People answer more about high scores. With one rate of response for all, the estimate is 1.5 times the truth."""
    rng = np.random.default_rng(11)
    highest, calls = np.linspace(-3, 3, 1000), rng.integers(1, 60, 1000)
    flagged = np.where(rng.random(1000) < 0.1 + 0.8 * (highest > 0), calls, 0)
    sums, uniform = [], []
    for seed in range(SEEDS // 10):
        drawn = draw(calls, np.full(1000, 0.4), 1e9, 175, seed)
        answered = np.zeros(1000, dtype=bool)
        answered[drawn.caller] = rng.random(len(drawn.caller)) < np.where(highest[drawn.caller] > 0, 0.9, 0.3)
        draws = pd.DataFrame({"number": drawn.caller.astype(str), "probability": drawn.probability})
        weights, checked = weights_of(drawn_network(highest, answered), np.zeros(1000), draws)
        assert (weights.least[checked.answered.caller] == 1 / checked.answered.probability).all()
        sums.append((weights.least * flagged)[answered].sum())
        known = np.zeros(1000)
        known[drawn.caller] = drawn.probability * answered[drawn.caller].mean()
        uniform.append((flagged[answered] / known[answered]).sum())
    assert np.mean(sums) == pytest.approx(flagged.sum(), rel=0.1)
    assert np.mean(uniform) > 1.3 * flagged.sum()


def test_callers_that_no_answer_speaks_for_may_be_innocent():
    """Without an answer about a score above 0, such callers are innocent in the bound, and none in the estimate."""
    highest, nuisance = np.linspace(-3, 3, 200), np.full(200, 0.4)
    drawn = draw(np.full(200, 10), nuisance, 1e9, 100, 3)
    answered = np.zeros(200, dtype=bool)
    answered[drawn.caller] = highest[drawn.caller] < 0
    draws = pd.DataFrame({"number": drawn.caller.astype(str), "probability": drawn.probability})
    network = drawn_network(highest, answered)
    weights, checked = weights_of(network, nuisance, draws)
    silent = np.sort(drawn.caller[highest[drawn.caller] > 0.9])  # parts that hold no score below 0
    assert set(silent) <= set(checked.silent.caller) and not answered[checked.silent.caller].any()
    assert (weights.least[silent] == 0).all() and weights.most[silent] == pytest.approx(2.0)  # half were drawn
    network.caller, network.scored = np.arange(200), lambda raw: Scored(np.arange(200), raw)
    bands = (Band("certified", 0.9, Certificate("evidence", 0, 0, 1.0, 0.95, 1e-4, False)),)
    figures = adapting.side(network, highest, bands, nuisance, checked)
    assert figures["flagged"] == 0 and figures["bound"] > len(silent) * 2 / 120
    everyone = weights_of(drawn_network(highest, np.isin(np.arange(200), drawn.caller)), nuisance, draws)
    assert not len(everyone[1].silent.caller)


def lowest_threshold(caller, raw, weight, allowed):
    """Returns what `threshold_for` does, by trying every threshold at which a call is no longer flagged."""
    for threshold in sorted([min(raw), *np.nextafter([score for score in raw if score >= min(raw)], np.inf)]):
        flagged = {}
        for number, score in zip(caller, raw, strict=True):
            if score >= threshold:
                flagged[number] = flagged.get(number, 0.0) + weight[number]
        if sum(min(count, ONE_CALLER * allowed) for count in flagged.values()) <= MARGIN * allowed + 1e-9:
            return threshold
    raise AssertionError


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-4, 6)), min_size=1, max_size=40),
    st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.5, 7.0]), min_size=6, max_size=6),
    st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0, 12.0, 1000.0]),
)
def test_a_threshold_is_the_lowest_that_flags_at_most_half_of_the_allowed_calls(calls, weight, allowed):
    caller, raw = (np.array(column) for column in zip(*calls, strict=True))
    expected = lowest_threshold(caller, raw.astype(float), weight, allowed)
    chosen = threshold_for(Scored(caller, raw.astype(float)), np.array(weight), allowed)
    assert np.ceil(chosen) == np.ceil(expected) and (chosen > np.floor(chosen)) == (expected > np.floor(expected))


def test_one_caller_alone_does_not_move_a_threshold():
    caller, raw = np.repeat(np.arange(50), 20), np.tile(np.linspace(-5.0, 0.0, 20), 50)
    raw[caller == 7] = 9.0
    scored, weight = Scored(caller, raw), np.ones(50)
    assert threshold_for(scored, weight, 60.0) < 1.0
    raw[caller == 8] = 9.0  # two callers do
    assert threshold_for(scored, weight, 60.0) > 9.0


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=60))
def test_people_who_call_first_are_counted_as_by_a_loop(calls):
    caller, callee = ([f"n{end}" for end in column] for column in zip(*calls, strict=True))
    token = list(dict.fromkeys(caller))
    first, contacts, pairs = dict.fromkeys(token, 0), dict.fromkeys(token, 0), set()
    for number, other in zip(caller, callee, strict=True):
        if number != other and frozenset((number, other)) not in pairs:
            pairs.add(frozenset((number, other)))
            contacts[number] += 1
            if other in first:
                first[other] += 1
                contacts[other] += 1
    table = pa.table({"caller": caller, "callee": pa.array(callee).dictionary_encode()})
    code = np.array([token.index(number) for number in caller])
    counts = called_first_by(table, code, np.array(token, dtype=object))
    assert [column.tolist() for column in counts] == [list(first.values()), list(contacts.values())]


@pytest.mark.parametrize("answers", [0, 1, 3, 20, 300])
def test_the_line_of_the_posterior_is_the_mode_by_another_optimiser(answers):
    rng = np.random.default_rng(answers)
    x, offset = rng.normal(0, 3, answers), rng.normal(0, 2, answers)
    y = rng.random(answers) < 1 / (1 + np.exp(-(1.0 + 0.6 * x + offset)))

    def loss(line):
        z = np.where(y, 1, -1) * (line[0] + line[1] * x + offset)
        return np.logaddexp(0, -z).sum() + (line[0] / SHIFT_SD) ** 2 / 2 + ((line[1] - SLOPE) / SLOPE_SD) ** 2 / 2

    assert fitted_line(x, y, offset) == pytest.approx(minimize(loss, [0.0, 0.0], tol=1e-12).x, abs=1e-4)


def test_with_many_answers_the_line_is_the_one_of_logistic_regression():
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, 200_000)
    y = rng.random(len(x)) < 1 / (1 + np.exp(0.5 - 0.9 * x))
    plain = LogisticRegression(C=np.inf).fit(x[:, None], y)
    expected = (plain.intercept_[0], plain.coef_[0, 0])
    assert fitted_line(x, y, np.zeros(len(x))) == pytest.approx(expected, abs=2e-3)
    assert fitted_line(x, ~y, np.zeros(len(x)))[1] == 0.1  # a higher score is never evidence of innocence


def test_checks_that_were_not_drawn_stand_for_all_callers_with_scores_like_theirs():
    rng = np.random.default_rng(3)
    highest = rng.normal(size=600)
    highest[:50] = -np.inf
    checked = rng.random(600) < np.where(highest > 1, 0.6, 0.1)
    share = shares_checked(highest, checked)
    assert (share > 0).all() and (share <= 1).all() and (share[:50] == 1).all()
    weight = np.where(checked & np.isfinite(highest), 1 / share, 0.0)
    assert weight.sum() == pytest.approx(550)
    for level in (-0.5, 0.5, 1.5):  # between the deciles of the checked callers, they stand for too many or too few
        assert weight[highest > level].sum() == pytest.approx((highest > level).sum(), rel=0.25)
    assert (shares_checked(highest, np.ones(600, bool)) == 1).all()
    assert (shares_checked(highest, np.zeros(600, bool)) == 1).all()


@pytest.fixture(scope="module")
def network():
    """Vectors, base scores, callers, their probabilities and groups: nuisance differs where the base is blind."""
    X = small.rows(6000, seed=4)
    caller = np.arange(6000) % 300
    nuisance = (caller[:300] % 3 == 0) * 0.9 + 0.05
    X[:, 2] += 2.0 * (nuisance[caller] > 0.5)
    return X, read_forest(small.binary_model()).predict_raw(X, threads=1), caller, nuisance, np.arange(300) // 4


def grown(network, nuisance, threads=1):
    X, raw, caller, _, group = network
    options = {"categorical": list(small.LEVELS), "seed": 3, "threads": threads}
    return grow_own_trees(X.astype(np.float32), raw, caller, nuisance, group, small.FEATURES, **options)


def test_the_model_of_base_and_own_trees_adds_the_mean_of_the_members(network, monkeypatch):
    monkeypatch.setattr(own_trees, "TREES", 30)
    X, _, caller, nuisance, _ = network
    trees = grown(network, nuisance)
    text = stacked_model(small.binary_model(), trees.texts)
    rows = np.vstack([X[:500], small.awkward_rows()])
    booster = lambda text: lightgbm.Booster(model_str=text).predict(rows, raw_score=True)
    stacked = read_forest(text).predict_raw(rows, threads=2)
    assert stacked.tolist() == booster(text).tolist()
    members = np.array([booster(text) for text in trees.texts])
    assert stacked == pytest.approx(booster(small.binary_model()) + members.mean(0), abs=1e-12)
    added = trees.margins(X[:500], caller[:500], 1)
    assert added.tolist() == members[trees.held_out[caller[:500]], np.arange(500)].tolist()
    assert np.corrcoef(added, nuisance[caller[:500]])[0, 1] > 0.5  # of callers that the member did not learn from
    assert grown(network, nuisance, threads=2).texts == trees.texts


def test_a_member_learns_nothing_of_its_part_of_the_callers(network, monkeypatch):
    monkeypatch.setattr(own_trees, "TREES", 5)
    nuisance, group = network[3], network[4]
    trees = grown(network, nuisance)
    assert all(len(set(trees.held_out[group == number])) == 1 for number in set(group))
    for member in range(MEMBERS):
        mine = trees.held_out == member
        other = grown(network, np.where(mine, 1 - nuisance, nuisance))
        same = [mine == theirs for mine, theirs in zip(trees.texts, other.texts, strict=True)]
        assert same == [place == member for place in range(MEMBERS)]


@pytest.mark.parametrize(
    ("above", "flagged", "catch", "stays"),
    [
        pytest.param(1, 100, 0.5, True, id="one innocent caller above: within the allowed rate"),
        pytest.param(4, 100, 0.5, False, id="four innocent callers above: more than allowed"),
        pytest.param(6, 1, 0.5, True, id="six innocent calls above: too many only if each caller stands for others"),
        pytest.param(1, 100, 0.9, False, id="own trees catch more"),
    ],
)
def test_the_base_stays_where_it_catches_as_much_within_the_allowed_rate(above, flagged, catch, stays):
    innocent, calls = 1000, 100  # callers, and calls of each
    caller = np.repeat(np.arange(innocent + 10), calls)
    raw = np.full(len(caller), -5.0)
    raw[(caller < above) & (np.arange(len(caller)) % calls < flagged)] = 9.0
    raw[caller >= innocent + 2] = 9.0  # the base catches eight of ten nuisance callers
    nuisance = (np.arange(innocent + 10) >= innocent).astype(float)
    network = SimpleNamespace(caller=caller, raw=raw, scored=lambda scores: Scored(caller, scores))
    band = Band("certified", 4.0, Certificate("evidence", 0, 0, 1.0, 0.95, 1e-4, False))
    weights = Weights(np.where(nuisance > 0, 0.0, 1.0), np.where(nuisance > 0, 0.0, 50.0))
    assert base_suffices(network, nuisance, weights, Basis(0.0, (band,)), Choice(raw, (4.0,), catch)) is stays
    assert not base_suffices(network, nuisance, weights, Basis(0.0), Choice(raw, (4.0,), catch))


@pytest.mark.parametrize(
    ("base", "threshold"),
    [
        pytest.param(2.5, 3.0, id="raised as far as checked callers demand"),
        pytest.param(4.5, 4.5, id="left where checked callers may demand more, or less"),
        pytest.param(9.0, 9 - 4 / 11, id="lowered a part of the way: one answer is about a caller above 5"),
        pytest.param(None, 5.0, id="the stricter one without a base"),
    ],
)
def test_callers_that_somebody_chose_to_check_move_the_threshold_of_the_base_no_further_than_they_must(base, threshold):
    caller = np.arange(
        60_000
    )  # six innocent calls are allowed, the margin is three, and a caller counts for two at most
    raw = np.full(len(caller), -5.0)
    raw[:3] = 6.0, 5.0, 3.0
    certificate = Certificate("evidence", 0, 0, 1.0, 0.95, 1e-4, False)
    basis = Basis(0.0) if base is None else Basis(0.0, tuple(Band(name, base, certificate) for name in "abc"))
    callers = SimpleNamespace(looks=caller < 3)
    network = SimpleNamespace(caller=caller, raw=raw, scored=lambda scores: Scored(caller, scores), callers=callers)
    checked = np.where(caller < 3, 1.2, 0.0)
    chosen = with_thresholds(network, raw, np.zeros(len(raw)), Weights(checked, checked * 2), basis)
    assert chosen.thresholds[0] == pytest.approx(threshold)


def test_only_drawn_checks_say_anything_about_callers_with_like_scores():
    """Forty callers with high scores are checked as innocent; one caller like them is not checked."""
    count = 41
    none, checked = np.zeros(count, dtype=int), np.where(np.arange(count) < 40, -1, 0)
    callers = Callers(
        token=np.arange(count).astype(str), calls=none, answered=none, reports=none, called_first_by=none,
        trusted=none > 0, silence=np.zeros(count), checked=checked, looks=np.abs(checked), changed=none > 0,
        evidence=ANSWER * checked,
    )  # fmt: skip
    highest = np.full(count, 4.0)
    before = posterior(callers.unanswered(), highest, 0.0)[-1]
    assert before > 0.8
    assert posterior(callers, highest, 0.0)[-1] == before
    assert posterior(callers, highest, 0.0, checked != 0)[-1] < 0.2
    assert (posterior(callers, highest, 0.0)[:40] < before).all()  # their own answers count


@pytest.mark.parametrize(
    ("calls", "forged"),
    [
        pytest.param([("a", "b", "none")], True, id="a single call"),
        pytest.param([("a", "b", "none"), ("b", "a", "none")], True, id="called back, perhaps its owner"),
        pytest.param([("b", "a", "none"), ("a", "c", "none")], False, id="called before"),
        pytest.param([("a", "b", "none"), ("a", "c", "none")], False, id="two calls"),
        pytest.param([("a", "b", "A")], False, id="the network vouches for the number"),
        pytest.param([("a", "b", None)], True, id="no result"),
    ],
)
def test_a_number_with_one_call_and_no_earlier_life_is_not_asked_about(calls, forged):
    names = ("caller", "callee", "attestation")
    table = pa.table({name: [call[place] for call in calls] for place, name in enumerate(names)})
    token = np.array(list(dict.fromkeys(table["caller"].to_pylist())))
    assert maybe_forged(table, token)[token.tolist().index("a")] == forged
    alone = table.drop_columns("attestation")
    assert maybe_forged(alone, token)[token.tolist().index("a")] == (forged or calls[0][2] == "A")
