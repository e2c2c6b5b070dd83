"""Health: ready is refused while the service starts, has no model, an expired one, or knows no week of calls."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from callsieve.features import Call
from callsieve.features.kernel.windows import DAY_MS
from callsieve.serving.live.health import days_left, health
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.status import MESSAGES
from tests.support import live_states
from tests.support import small_bundle as small
from tests.support.http_service import STRICT_POLICY

END = datetime(2026, 4, 1, tzinfo=UTC)  # of the validity of the bundle
END_MS = round(END.timestamp() * 1000)


@pytest.fixture(scope="module")
def live(bundle_folder, tmp_path_factory):
    """A live state that knows a call on each of the eight days before the end of the bundle's validity."""
    judge = live_states.loaded(bundle_folder, policy=dataclasses.replace(STRICT_POLICY, history_days=7))
    folder = tmp_path_factory.mktemp("state")
    live = live_states.begin(judge, folder)
    for day in range(8, 0, -1):
        live.end(Call(END.timestamp() - 86_400 * day, "13800138000", "13900139000", 1.0, 2.0, "answered"))
    yield live
    live.close()


def with_policy(live, **changes):
    """Returns the swap of a live state, with another policy."""
    scorer = live.scorers.scorer
    swap = Swap(trusted=small.TRUSTED)
    swap._scorer = type(scorer)(scorer.bundle, dataclasses.replace(scorer.policy, **changes))
    return swap


def test_a_service_is_ready_only_with_a_valid_model_and_a_known_week(live):
    early = END_MS - 5 * DAY_MS
    assert health(None, live.scorers, END_MS - 1).status == "starting"
    assert health(live, Swap(trusted=small.TRUSTED), END_MS - 1).status == "no_model"
    state = health(live, live.scorers, END_MS + 1)
    assert (state.ready, state.status) == (False, "stale")
    assert state.why == f"{MESSAGES['stale']} (valid until 2026-04-01T00:00:00Z)"
    state = health(live, live.scorers, END_MS - 1)
    assert (state.ready, state.status, state.why) == (True, "scored", "")
    filling = [health(live, with_policy(live, filling_is_ready=ready), early) for ready in (False, True)]
    assert [(state.ready, state.status) for state in filling] == [(False, "filling"), (True, "filling")]
    assert {state.why for state in filling} == {MESSAGES["filling"]}
    # An expired model is not ready, whatever the history holds.
    assert not health(live, with_policy(live, filling_is_ready=True), END_MS + 20 * DAY_MS).ready


@pytest.mark.parametrize("feed", ["unknown", "outgoing only, no ring time"])
def test_a_service_on_a_feed_without_thresholds_is_not_ready_and_says_which_feeds_have_some(live, monkeypatch, feed):
    monkeypatch.setattr(live.memory.history.memory_feed, "name", feed)
    for ready in (False, True):
        live_swap = with_policy(live, filling_is_ready=ready)
        monkeypatch.setattr(live, "scorers", live_swap)
        state = health(live, live_swap, END_MS - 1)
        assert (state.ready, state.status) == (ready, "other_feed")
        assert f"the feed of the records is {feed!r}; the model has thresholds for the feeds 'complete'" in state.why
    assert health(live, with_policy(live, history_days=30), END_MS - 1).status == "filling"
    monkeypatch.setattr(live, "scorers", with_policy(live, feed="complete"))
    assert health(live, live.scorers, END_MS - 1).status == "scored"


def test_the_refused_bundle_is_named(live, tmp_path):
    swap = Swap(trusted=small.TRUSTED)
    with pytest.raises(ValueError, match="MANIFEST"):
        swap.load(tmp_path)
    assert swap.refusal in health(live, swap, END_MS).why


def test_days_left_count_down_to_the_end_of_the_validity(live):
    days = [days_left(live.scorers.scorer, END_MS + shift * DAY_MS // 2) for shift in (-3, 0, 1)]
    assert days == [1.5, 0.0, -0.5]


def test_the_newest_event_is_known(live, tmp_path):
    assert live.memory.newest == END_MS - DAY_MS
    for newest in (None, END_MS):
        restarted = live_states.begin(live.scorers, tmp_path)
        assert restarted.memory.newest == newest
        for at in (END, END - timedelta(days=1)):
            restarted.end(Call(at.timestamp(), "13800138000", "13900139000", 1.0, 2.0, "answered"))
        assert restarted.memory.newest == END_MS
        restarted.close()
