"""The scorer: single calls, tables and threads give equal verdicts, and scoring never raises."""

import copy
import dataclasses
import json
import math
import pickle

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from callsieve.features.catalogue import FEATURES, NAMES, catalogue_hash
from callsieve.features.files import strict_json
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import COMPLETE, NO_ROUTES
from callsieve.features.online.history import History
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving import BundleError, Policy, Scorer
from callsieve.serving.batch.verdict_file import statuses
from callsieve.serving.bundle.metadata import Band
from callsieve.serving.rules.policy import ACTIONS, band_action
from callsieve.serving.rules.strata import strata_of, stratum_of
from callsieve.serving.scorer.status import MESSAGES, STATUSES, status_of_score
from callsieve.serving.scorer.verdict import case_id
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.http_service import STRICT_POLICY
from tests.support.real_bundle import replayed

CLASS, CALLS = NAMES.index("call_caller_class"), NAMES.index("out_calls_count_7d")
SOME_STRATA = (*NUMBER_CLASSES[:3], "quiet_mobile")
BAND_NAMES = ("certified", "watch", "none")


@pytest.fixture(scope="module")
def scorer(bundle_folder):
    return Scorer.load(bundle_folder, trusted=small.TRUSTED, policy=STRICT_POLICY)


@pytest.fixture(scope="module")
def calls():
    return real_bundle.key_calls(real_bundle.calls())


@pytest.fixture(scope="module")
def matrix():
    return vectors(real_bundle.key_table(real_bundle.calls()), threads=1)


@pytest.fixture(scope="module")
def verdicts(scorer, calls):
    return replayed(scorer, calls)


@pytest.fixture(scope="module")
def contributions(matrix):
    import lightgbm

    return lightgbm.Booster(model_str=real_bundle.model_texts()["model"]).predict(matrix, pred_contrib=True)


@pytest.fixture(scope="module")
def quiet(scorer):
    """The scorer with bands that abstain for mobile numbers with few calls."""
    bands = tuple(structs.replace(band, abstains=("quiet_mobile",)) for band in scorer.bundle.thresholds)
    return Scorer(structs.replace(scorer.bundle, thresholds=bands), scorer.policy)


def rows_before(calls):
    history, rows = History(), []
    for call in calls:
        rows.append(history.vector(call))
        history.observe(call)
    return rows


def test_one_call_with_a_wrong_clock_changes_no_other_verdict(scorer, calls, verdicts):
    history, ahead = History(), dataclasses.replace(calls[150], start=calls[150].start + 8 * 86_400_000)
    for i, (call, expected) in enumerate(zip(calls, verdicts, strict=True)):
        if i == 150:
            scorer.score(history, ahead)
            history.observe(ahead)
        verdict = scorer.score(history, call)
        assert (verdict.status, verdict.raw, verdict.action) == (expected.status, expected.raw, expected.action)
        history.observe(call)


def test_the_status_tells_that_the_history_has_moved_past_a_call(scorer, calls, verdicts):
    history = History()
    for call in calls[:-1]:
        history.observe(call)
    best = max(range(len(calls)), key=lambda i: verdicts[i].raw)
    for ms, status in ((60_000, "scored"), (60_001, "behind")):
        history.advance(calls[-1].start + ms)
        verdict = scorer.score(history, dataclasses.replace(calls[best], start=calls[-1].start))
        assert verdict.status == status
    assert verdict.band == "" and not math.isnan(verdict.raw)


def bits(values):
    return np.asarray(values, dtype=np.float64).view(np.uint64).tolist()


class Fixed:
    """A history that returns a fixed vector or raises a fixed exception."""

    features = NAMES

    def __init__(self, answer):
        self.answer = answer

    def covers(self, *_):
        return True

    def lag(self, _at):
        return 0

    def row(self, _call):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_test_calls_cover_every_action(verdicts):
    assert {verdict.action for verdict in verdicts} == {"pass", "label", "block"}
    assert {verdict.band for verdict in verdicts} == {"certified", "watch", ""}


@pytest.mark.source("L18", by="serving/scorer/scorer.py")
def test_single_calls_equal_the_table(scorer, calls, matrix, verdicts):
    scores = scorer.score_table(matrix)
    assert bits([verdict.score for verdict in verdicts]) == bits(scores.score)
    assert [verdict.action for verdict in verdicts] == [ACTIONS[i] for i in scores.action]
    assert bits([verdict.raw for verdict in verdicts]) == bits(scores.raw)
    history = History()
    for call, raw in zip(calls, scores.raw, strict=True):
        assert bits(scorer.bundle.model.predict_one(history.vector(call))) == bits(raw)
        history.observe(call)


def test_a_verdict_has_consistent_fields(scorer, verdicts):
    for verdict in verdicts:
        assert verdict.status == "scored"
        assert 0 < verdict.score < 1
        assert verdict.score == scorer.bundle.calibration.probability(verdict.raw)
        begins = {band.name: band.threshold for band in scorer.bundle.thresholds}
        reached = [name for name, threshold in begins.items() if verdict.raw >= threshold]
        assert verdict.band == (reached[0] if reached else "")
        assert bits(verdict.threshold) == bits(begins.get(verdict.band, math.nan))
        assert verdict.model == scorer.bundle.model_id
        assert verdict.valid_until == "2026-04-01T00:00:00Z"
        assert len(verdict.case) == 16
        assert verdict.mode is None  # the bundle has no such model
        if verdict.action == "pass":
            assert verdict.content is None
            assert verdict.reasons == ()
        else:
            assert verdict.content in small.CONTENT
            assert verdict.reasons


def test_explaining_adds_only_reasons_content_and_mode(scorer, calls, verdicts):
    explained = replayed(scorer, calls, explain=True)
    hidden = {"reasons", "content", "mode"}
    for plain, detailed in zip(verdicts, explained, strict=True):
        for name in set(plain.__slots__) - hidden:
            assert repr(getattr(plain, name)) == repr(getattr(detailed, name))
        assert detailed.content in small.CONTENT
        if plain.action != "pass":
            assert repr(plain) == repr(detailed)  # exact, and NaN equals NaN
    assert any(detailed.reasons for detailed in explained if detailed.action == "pass")


def test_reasons_are_the_strongest_contributions_with_the_values_of_the_features(scorer, calls, matrix, contributions):
    explained = replayed(scorer, calls, explain=True)
    for verdict, values, row in zip(explained, matrix, contributions, strict=True):
        strongest = [value for value in sorted(row[:-1], reverse=True) if value > 0][:4]
        assert [reason.contribution for reason in verdict.reasons] == pytest.approx(strongest, rel=1e-9, abs=1e-12)
        for reason in verdict.reasons:
            assert reason.contribution == pytest.approx(row[NAMES.index(reason.feature)], rel=1e-9, abs=1e-12)
            feature = FEATURES[NAMES.index(reason.feature)]
            assert bits(reason.value) == bits(values[NAMES.index(reason.feature)])
            assert reason.en.startswith(f"{feature.en}: ")
            assert reason.zh.startswith(feature.zh[:4])
            assert len(reason.zh) > len(feature.zh) + 1


@pytest.mark.source("L2", by="serving/scorer/scorer.py")
def test_content_equals_the_content_model(matrix, verdicts):
    import lightgbm

    chances = lightgbm.Booster(model_str=real_bundle.model_texts()["content"]).predict(matrix)
    for verdict, row in zip(verdicts, chances, strict=True):
        assert verdict.content == (None if verdict.action == "pass" else small.CONTENT[int(np.argmax(row))])
    assert {verdict.content for verdict in verdicts} > {None}


def test_protected_callers_pass_at_any_score_and_block_needs_the_certificate_of_the_class(calls, verdicts):
    classes = [NUMBER_CLASSES[call.caller_class] for call in calls]
    protected = [v for v, kind in zip(verdicts, classes, strict=True) if kind in ("emergency", "public_service")]
    assert {verdict.action for verdict in protected} == {"pass"}
    assert any(verdict.band for verdict in protected)  # some of them reach a band and still pass
    blocked = [(kind, v.band) for v, kind in zip(verdicts, classes, strict=True) if v.action == "block"]
    assert set(blocked) <= {("mobile", "certified")}


@pytest.mark.parametrize("leave", [pickle.dumps, copy.deepcopy])
def test_a_scorer_and_its_bundle_are_not_pickled(scorer, leave):
    for whole in (scorer, scorer.bundle):
        with pytest.raises(TypeError, match=r"^a (Scorer|Bundle) cannot be pickled or copied: .* in each process$"):
            leave(whole)


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (NAMES[::-1], "its features are in another order"),
        (NAMES[:-1], "made for other features"),
        (NAMES[1:2], "made for other features"),
    ],
    ids=["reversed", "fewer", "one"],
)
def test_a_history_of_other_columns_is_refused(features, why, scorer, calls):
    history = History(features, calls=100, numbers=20)
    with pytest.raises(ValueError, match=rf"^history: .*{why}.*; make it as History\(scorer.history_features\)$"):
        scorer.check(history)
    assert_unscored(scorer, scorer.score(history, calls[0]), "wrong_input", why)
    same = History(list(scorer.features))
    scorer.check(same)
    assert scorer.score(same, calls[0]).status == "scored"


@pytest.mark.parametrize("history", [None, object(), [1.0]], ids=["None", "object", "list"])
def test_a_missing_history_is_refused(history, scorer, calls):
    with pytest.raises(TypeError, match=f"^history: expected a History, got {type(history).__name__}; make it as "):
        scorer.check(history)
    assert_unscored(scorer, scorer.score(history, calls[0]), "wrong_input", "expected a History")


def test_an_invalid_call_passes(scorer, calls):
    for call in (None, object(), 17, "call", {}):
        assert_unscored(scorer, scorer.score(History(), call), "wrong_input", f"got {type(call).__name__}")
    broken = dataclasses.replace(calls[0], start="now")
    assert_unscored(scorer, scorer.score(History(), broken), "wrong_input", "a field is not as an Intake returns it")


def test_a_call_that_was_not_keyed_is_a_wrong_input_and_logged_once_a_minute(bundle_folder, caplog):
    scorer, (call, *_) = Scorer.load(bundle_folder, trusted=small.TRUSTED), real_bundle.calls()
    for _ in range(3):
        verdict = scorer.score(History(), call)
        assert_unscored(scorer, verdict, "wrong_input", "call: expected a KeyedCall of Intake, got Call")
        assert verdict.case == ""  # an id of a number as written could be guessed back
    assert scorer.problems.counts == {"wrong_input": 3, "fault": 0}
    (record,) = caplog.records
    assert record.name == "callsieve.serving" and "wrong_input" in record.getMessage()
    assert call.caller not in record.getMessage() and call.callee not in record.getMessage()


def test_the_words_of_a_status_are_closed_and_each_has_one_message(verdicts):
    assert tuple(MESSAGES) == STATUSES and all(word.replace("_", "").islower() for word in STATUSES)
    assert len(set(MESSAGES.values())) == len(STATUSES)
    assert {(verdict.status, verdict.message) for verdict in verdicts} == {("scored", MESSAGES["scored"])}


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_message_names_every_condition_and_none_hides_stale(holding):
    conditions = dict(zip(("stale", "behind", "filling", "other_feed", "silent"), holding, strict=True))
    status, message = status_of_score(**conditions)
    words = [name if name != "silent" else "no_threshold" for name, holds in conditions.items() if holds]
    assert status == (words or ["scored"])[0]
    assert message.split("; ") == [MESSAGES[word] for word in words or ["scored"]]
    assert (status == "stale") == conditions["stale"]


def test_a_class_of_number_without_a_threshold_has_a_status_of_its_own(quiet, calls):
    again = replayed(quiet, calls)
    strata = [stratum_of(history_row) for history_row in rows_before(calls)]
    assert [verdict.status for verdict in again] == [
        "no_threshold" if stratum == "quiet_mobile" else "scored" for stratum in strata
    ]
    assert {verdict.band for verdict in again if verdict.status == "no_threshold"} == {""}


@pytest.mark.parametrize("feed", [COMPLETE, NO_ROUTES])
def test_the_statuses_of_a_table_are_those_of_its_rows(quiet, matrix, feed):
    rows = matrix.copy()
    rows[5, 0] = math.inf
    places = np.arange(len(rows))
    covered, start = places % 3 > 0, 1_775_001_600_000 + places % 2
    scores = quiet.score_table(rows, covered=covered, feed=feed)
    stale = start > 1_775_001_600_000
    words, messages = (column.to_pylist() for column in statuses(quiet, strata_of(rows), scores, covered, stale))
    values = zip(rows.tolist(), start.tolist(), covered.tolist(), strict=True)
    single = [quiet.explain_row(row, at, covered=enough, feed=feed) for row, at, enough in values]
    assert words == [verdict.status for verdict in single]
    assert [text.partition(" (")[0] for text in messages] == [verdict.message.partition(" (")[0] for verdict in single]
    assert bits(scores.score) == bits([verdict.score for verdict in single])
    assert (np.isnan(scores.score) == ~covered | (places == 5)).all() and not np.isnan(scores.raw[places != 5]).any()
    others = {"other_feed"} if feed == NO_ROUTES else {"scored", "no_threshold"}
    assert set(words) == {"stale", "filling", "fault"} | others


def test_a_verdict_as_json_is_strict_and_the_same_as_over_http(scorer, verdicts):
    unscored = scorer.score(None, None)
    for verdict in (*verdicts, unscored):
        plain = strict_json.decode(verdict.to_json().encode())  # refuses NaN and infinities
        assert plain == json.loads(msgspec.json.encode(verdict))
        assert "\n" not in verdict.to_json()
    assert any(verdict.reasons and verdict.rules for verdict in verdicts)
    assert (plain["score"], plain["raw"], plain["threshold"], plain["status"]) == (None, None, None, "wrong_input")


def test_a_raw_score_that_is_not_finite_passes(scorer, calls, monkeypatch):
    for raw in (math.inf, math.nan):
        monkeypatch.setattr(type(scorer.bundle.model), "predict_one", lambda *_, raw=raw: raw)
        assert_unscored(scorer, scorer.score(History(), calls[0]), "fault", "is not finite")


FULL = len(NAMES)
NO_VECTORS = ([math.inf] * FULL, [0.0] * (FULL - 1) + [-math.inf], [0.0] * (FULL - 1), ["a"] * FULL, [None] * FULL, [])


@pytest.mark.parametrize("answer", [KeyError(3), RecursionError(), MemoryError(), *NO_VECTORS, None, ValueError("x")])
def test_what_a_history_cannot_give_passes(scorer, calls, answer):
    # A history raises ValueError for an invalid call alone.
    status = "wrong_input" if isinstance(answer, ValueError) else "fault"
    why = type(answer).__name__ if status == "fault" and isinstance(answer, Exception) else ""
    for score in (scorer.score, scorer.explain):
        assert_unscored(scorer, score(Fixed(answer), calls[0]), status, why)
    if not isinstance(answer, Exception):
        assert_unscored(scorer, scorer.explain_row(answer), status)


def assert_unscored(scorer, verdict, status, why=""):
    assert verdict.action == "pass"
    assert math.isnan(verdict.score)
    assert math.isnan(verdict.raw)
    assert math.isnan(verdict.threshold)
    assert verdict.valid_until == scorer.bundle.valid_until
    assert verdict.status == status
    assert why in verdict.message
    assert verdict.message.startswith(MESSAGES[status])
    assert (verdict.band, verdict.content, verdict.mode, verdict.reasons) == ("", None, None, ())
    assert verdict.model == scorer.bundle.model_id


@pytest.mark.parametrize("odd", [-7.0, float(len(NUMBER_CLASSES)), 1e300, math.nan])
def test_an_unknown_number_class_has_no_certificate(scorer, matrix, odd):
    rows = matrix.copy()
    rows[:, CLASS] = odd
    scores = scorer.score_table(rows)
    assert ACTIONS.index("label") in scores.action
    assert scores.action.max() == ACTIONS.index("label")
    for row, action in zip(rows[:40], scores.action, strict=False):
        assert scorer.explain_row(row.tolist()).action == ACTIONS[action]


@pytest.mark.parametrize("shape", [(4, len(NAMES) - 1), (4, len(NAMES) + 1), (len(NAMES),), (1, 2, len(NAMES))])
def test_a_table_of_another_width_is_refused(scorer, shape):
    with pytest.raises(ValueError, match=rf"^vectors: expected \(n, {len(NAMES)}\), got \("):
        scorer.score_table(np.zeros(shape))


@pytest.mark.source("L4", by="serving/scorer/scorer.py")
def test_a_stale_model_still_scores(scorer, calls):
    until = 1_775_001_600_000  # 2026-04-01T00:00:00Z
    for start, status in ((until, "scored"), (until + 1, "stale")):
        verdict = scorer.score(History(), dataclasses.replace(calls[0], start=start))
        assert verdict.status == status
        assert 0 < verdict.score < 1


def test_another_catalogue_and_unknown_features_are_refused(tmp_path):
    real_bundle.write_bundle(tmp_path / "other", catalogue_hash="cd" * 32)
    small.write_bundle(tmp_path / "foreign", catalogue_hash=catalogue_hash())
    for folder, message in (
        ("other", f"catalogue_hash must be {catalogue_hash()}, got {'cd' * 32}"),
        ("foreign", "features that this version does not compute: calls_1h, answered_24h"),
    ):
        with pytest.raises(BundleError, match=message) as caught:
            Scorer.load(tmp_path / folder, trusted=small.TRUSTED)
        assert "\n" not in str(caught.value)


def test_another_key_and_a_withdrawn_epoch_are_refused_and_the_shipped_policy_is_the_default(bundle_folder):
    with pytest.raises(BundleError):
        Scorer.load(bundle_folder, trusted=[small.OTHER_KEY.public_key()])
    with pytest.raises(BundleError, match="epoch must be at least 6, got 5"):
        Scorer.load(bundle_folder, trusted=small.TRUSTED, minimum_epoch=6)
    assert Scorer.load(bundle_folder, trusted=small.TRUSTED).policy.bands == {"certified": "label", "watch": "pass"}


@pytest.mark.system
def test_a_case_id_identifies_call_and_model(scorer, calls, verdicts, tmp_path):
    real_bundle.write_bundle(tmp_path / "next", epoch=6)
    successor = Scorer.load(tmp_path / "next", trusted=small.TRUSTED)
    assert [verdict.case for verdict in verdicts[:50]] == [scorer.explain(History(), call).case for call in calls[:50]]
    cases = [case_id(scorer.bundle.model_id, call.caller, call.callee, call.start) for call in calls]
    assert [verdict.case for verdict in verdicts] == cases
    assert len(set(cases)) == len(calls)
    assert scorer.score(Fixed(ValueError()), calls[0]).case == verdicts[0].case
    assert successor.score(History(), calls[0]).case != verdicts[0].case
    for change in ({"start": calls[0].start + 1}, {"caller": calls[0].callee}, {"callee": calls[0].caller}):
        assert scorer.score(History(), dataclasses.replace(calls[0], **change)).case != verdicts[0].case


def test_scores_do_not_depend_on_the_number_of_threads(scorer):
    rows = real_bundle.rows(5000, seed=9)
    single, double = (scorer.score_table(rows, threads=threads) for threads in (1, 2))
    assert bits(single.raw) == bits(double.raw)
    assert bits(single.score) == bits(double.score)
    assert single.action.tolist() == double.action.tolist()


@settings(max_examples=40)
@given(
    edges=st.lists(st.integers(-40, 40).map(lambda n: n / 10), min_size=1, max_size=3),
    actions=st.lists(st.sampled_from(ACTIONS), min_size=3, max_size=3),
    certified=st.lists(st.booleans(), min_size=3, max_size=3),
    abstains=st.lists(st.sampled_from(SOME_STRATA), unique=True),
    raised=st.dictionaries(st.sampled_from(SOME_STRATA), st.integers(40, 60).map(lambda n: n / 10)),
)
def test_table_actions_equal_the_policy(scorer, matrix, edges, actions, certified, abstains, raised):
    sound, loose = small.certificate(), small.certificate(false_calls=90, bound=0.0036, certified=False)
    strata = {"mobile": sound, "quiet_mobile": loose, "unknown": sound, "fixed": loose}
    bands = tuple(
        Band(name, edge, sound if good else loose, strata, tuple(abstains), raised)
        for name, edge, good in zip(BAND_NAMES, sorted(edges, reverse=True), certified, strict=False)
    )
    policy = Policy("drawn", dict(zip(BAND_NAMES, actions[: len(bands)], strict=False)), appeal="office")
    judge = Scorer(structs.replace(scorer.bundle, thresholds=bands), policy)
    scores = judge.score_table(matrix[:80])
    for raw, row, action in zip(scores.raw, matrix[:80], scores.action, strict=True):
        kind = NUMBER_CLASSES[int(row[CLASS])]
        stratum = f"quiet_{kind}" if kind in ("mobile", "resale") and row[CALLS] < 15 else kind
        assert band_action(policy, bands, raw, stratum)[0] == ACTIONS[action]
