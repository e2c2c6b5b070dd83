"""Listed numbers: single calls, a live service and a table get the same facts, and only calls after publication."""

import dataclasses
import time

import pyarrow.parquet as pq
import pytest

from callsieve.features import Call, History, Intake
from callsieve.features.files.dates import DAY, HOUR, now_ms
from callsieve.features.files.progress import silent
from callsieve.features.keys.tokens import Key
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving import ClearedCallers
from callsieve.serving.batch import file_scoring
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.http.metrics import metrics
from callsieve.serving.lists.following import open_lists
from callsieve.serving.live.cleared_callers import write_cleared
from callsieve.serving.rules.policy import Policy
from callsieve.serving.rules.rules import LISTED, LISTED_CONFIRMED
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.calls.record_files import write_records
from tests.support.lists import list_numbers, write_toml

RULES = {LISTED: "label", LISTED_CONFIRMED: "block"}
POLICY = Policy("t", {}, RULES, appeal="here", known_caller="pass", history_days=0)
BEGIN = round(real_bundle.START * 1000)
SINGLE, DOUBLE, CERTIFIED, WITHDRAWN = real_bundle.CALLERS[:4]
PROTECTED = real_bundle.CALLERS[6]


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Two issuers; a third has a certificate. One number is listed by one, one by both, one is withdrawn."""
    folder = tmp_path_factory.mktemp("lists")
    both = [DOUBLE, WITHDRAWN, PROTECTED]
    list_numbers(folder, "carrier-a", [SINGLE, *both], now=BEGIN + 10 * HOUR)
    list_numbers(folder, "carrier-a", [], now=BEGIN + 3 * DAY, withdrawn=[WITHDRAWN])
    list_numbers(folder, "carrier-b", both, now=BEGIN + 2 * DAY)
    list_numbers(folder, "exchange", [CERTIFIED], now=BEGIN + 10 * HOUR, bound=9e-5)
    return write_toml(folder, "carrier-a", "carrier-b", "exchange")


@pytest.fixture(scope="module")
def calls():
    return [dataclasses.replace(call, attestation="A") for call in real_bundle.calls(400)]


def expected(call):
    """The rules that a call meets; an entry lives a week after the last flagged call."""
    after, number = round(call.start * 1000) - BEGIN, call.caller
    by_a = 10 * HOUR < after < (3 * DAY if number == WITHDRAWN else 10 * HOUR + 7 * DAY)
    by_b = 2 * DAY < after < 9 * DAY
    if number in (SINGLE, CERTIFIED):
        return {LISTED_CONFIRMED if number == CERTIFIED else LISTED} if by_a else set()
    if number not in (DOUBLE, WITHDRAWN, PROTECTED) or not (by_a or by_b):
        return set()
    return {LISTED_CONFIRMED if by_a and by_b else LISTED}


def on_lists(verdict):
    return {fact.rule for fact in verdict.rules} & RULES.keys()


def test_single_calls_a_service_and_a_file_get_the_same_rules(lists, bundle_folder, calls, tmp_path, monkeypatch):
    scorer = real_bundle.load_scorer(bundle_folder, POLICY)
    scorer.listed = listed = open_lists(lists).listed
    history, intake, single = History(scorer.history_features), Intake(real_bundle.NUMBER_KEY), []
    for call in calls:
        keyed = intake(call)
        single.append(scorer.score(history, keyed, shared=listed.token(call.caller)))
        history.observe(keyed)
    rules = [on_lists(verdict) for verdict in single]
    assert rules == [expected(call) for call in calls]
    assert sum(map(bool, rules)) > 30 and sum(LISTED_CONFIRMED in names for names in rules) > 10
    for call, verdict in zip(calls, single, strict=True):
        names = expected(call)
        stopped = LISTED_CONFIRMED in names and call.caller != PROTECTED and call.callee not in (PROTECTED, "12345")
        known = any(fact.rule in ("called_first", "long_talks") for fact in verdict.rules)
        if names and not known and not stopped and call.caller != PROTECTED:
            assert verdict.action == "label"
        assert verdict.action != "block" or stopped
    assert sum(verdict.action == "block" for verdict in single) > 5
    swap = live_states.loaded(bundle_folder, policy=POLICY, listed=open_lists(lists).listed)
    live = live_states.begin(swap, tmp_path / "state")
    assert [on_lists(live.attempt(live_states.attempt_of(call))) for call in calls] == rules
    live.close()
    monkeypatch.setattr(file_scoring, "read_policy", lambda _: POLICY)
    write_public_key(small.KEY.public_key(), trust := tmp_path / "signer.pub")
    records = write_records(calls, tmp_path / "records")
    inputs = ScoreInputs(
        calls=CallFile(path=records / "calls.csv", layout="callsieve", key=records / "number.key"),
        bundle=bundle_folder, trust=trust, out=tmp_path / "verdicts.parquet",
        listed=open_lists(lists).listed,
    )  # fmt: skip
    score_file(inputs, threads=2, progress=silent)
    table = pq.read_table(tmp_path / "verdicts.parquet").to_pylist()
    assert [set(row["rules"].split(",")) & RULES.keys() for row in table] == rules
    assert [row["action"] == "block" for row in table] == [verdict.action == "block" for verdict in single]


def test_a_fact_names_issuers_behaviour_and_age(lists, bundle_folder):
    scorer = real_bundle.load_scorer(bundle_folder, POLICY)
    scorer.listed = listed = open_lists(lists).listed
    call = dataclasses.replace(real_bundle.calls(1)[0], caller=DOUBLE, start=real_bundle.START + 60 * 3600)
    verdict = scorer.score(History(), Intake(real_bundle.NUMBER_KEY)(call), shared=listed.token(DOUBLE))
    texts = {fact.rule: (fact.en, fact.zh) for fact in verdict.rules}
    assert texts[LISTED_CONFIRMED] == (
        "Two issuers list this number, or one with a certificate: carrier-b, carrier-a, for illegal calls, the last of "
        "them 12 hours ago.",
        "该号码被两个名单列入，或被一个经认证的名单列入：carrier-b, carrier-a（违法犯罪类），最近一次在12小时前。",
    )
    assert listed.calls == {"carrier-a": 1, "carrier-b": 1}


@pytest.mark.parametrize(("bound", "confirmed"), [(1e-4, True), (1.1e-4, False), (None, False)])
def test_one_issuer_confirms_only_with_a_certificate(tmp_path, bound, confirmed):
    list_numbers(tmp_path, "carrier-a", [SINGLE], now=BEGIN, bound=bound)
    listed = open_lists(write_toml(tmp_path, "carrier-a")).listed
    facts = listed.at(listed.token(SINGLE), BEGIN + 1).rule_input(BEGIN + 1, NUMBER_CLASSES.index("mobile"))
    assert (facts.list_bound <= 1e-4) == confirmed and facts.list_issuers == 1


def test_a_watched_issuer_leads_to_no_action(lists):
    listed = open_lists(lists).listed
    at = BEGIN + 5 * DAY
    listed.watched = frozenset(("carrier-a",))
    assert listed.at(listed.token(SINGLE), at) is None
    assert listed.at(listed.token(DOUBLE), at).issuers() == ("carrier-b",)
    assert listed.calls["carrier-a"] == 2


def test_numbers_under_other_keys_are_not_listed(lists):
    listed = open_lists(lists).listed
    other = type(listed)(Key("share1", bytes(range(1, 41)), purpose="sharing"))
    other.table = listed.table
    at = BEGIN + 5 * DAY
    assert listed.at(listed.token(SINGLE), at) is not None and other.at(other.token(SINGLE), at) is None


def test_a_poisoned_list_only_watches_once_its_callers_are_cleared(tmp_path, bundle_folder):
    """An issuer lists a hundred innocent numbers; the desk clears the callers who appeal."""
    now = round(time.time() * 1000)
    wrong = [f"139000{n:05d}" for n in range(100)]
    for issuer, numbers in (("carrier-a", [*wrong, "13800138111"]), ("carrier-b", ["13800138111"])):
        list_numbers(tmp_path, issuer, numbers, now=now - HOUR)
    listed = open_lists(write_toml(tmp_path, "carrier-a", "carrier-b")).listed
    intake, cleared = Intake(real_bundle.NUMBER_KEY), ClearedCallers(tmp_path / "cleared")
    swap = live_states.loaded(bundle_folder, policy=POLICY, listed=listed, cleared=cleared)
    live = live_states.begin(swap, tmp_path / "state")
    ring = lambda number: live.attempt(Call(time.time(), number, "13900139000", attestation="A"))
    actions, appeals = [], {}
    for number in wrong:
        verdict = ring(number)
        actions.append(verdict.action)
        if verdict.action == "label":
            appeals[str(intake.token("number", number))] = now + DAY
            write_cleared(tmp_path / "cleared", appeals, len(appeals))
            cleared.look()
            assert ring(number).action == "pass"
    assert actions == ["label"] * 3 + ["pass"] * 97
    assert (listed.watched, listed.calls["carrier-a"]) == ({"carrier-a"}, 103)
    verdict = ring("13800138111")  # only the other issuer counts
    assert [fact.rule for fact in verdict.rules if fact.rule in RULES] == [LISTED]
    text = metrics(live, swap, {}).decode()
    for line in (
        'callsieve_list_watched{issuer="carrier-a"} 1.0',
        'callsieve_list_watched{issuer="carrier-b"} 0.0',
        'callsieve_list_entries{issuer="carrier-a"} 101.0',
        'callsieve_list_calls_total{issuer="carrier-a"} 104.0',
        'callsieve_list_published_to_acted_seconds{issuer="carrier-a"} NaN',
    ):
        assert line in text
    live.close()


def test_two_clocks_are_measured(tmp_path):
    """A call is flagged; its list is published 30 minutes later, and is in service an hour after that."""
    now = now_ms()
    flagged = now - now % HOUR - 2 * HOUR
    list_numbers(tmp_path, "carrier-a", [], now=flagged)
    lists = open_lists(write_toml(tmp_path, "carrier-a"))
    list_numbers(tmp_path, "carrier-a", [SINGLE], now=flagged + HOUR // 2, at=flagged)
    lists.refresh()
    state = lists.listed.states["carrier-a"]
    assert (state.entries, state.flagged_to_published) == (1, 1800)
    assert state.published_to_acted == pytest.approx((now - flagged) / 1000 - 1800, abs=60)
