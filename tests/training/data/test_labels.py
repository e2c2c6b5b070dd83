"""Labels as known at a cutoff: from findings, lists, weighted complaints, and numbers without complaints."""

from collections import Counter

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from callsieve.training.data.dataset import COMPLAINTS, FINDINGS, LISTS, RECYCLED, make_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import COLUMNS, busiest_days, label_numbers
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_table

DAY = 86_400_000
POLICY = read_label_policy()
RULES = POLICY.complaints
CUTOFF = 20


def at(day):
    return pd.Timestamp(round(day * DAY), unit="ms", tz="UTC")


def rows(schema, *entries):
    """Returns a frame with the columns of a schema; entries have days for moments and may lack values."""
    names = schema.names
    filled = [{name: row.get(name) for name in names} for row in entries]
    frame = pd.DataFrame(filled, columns=names, dtype=object)
    for name in names:
        if str(schema.field(name).type).startswith("timestamp"):
            moments = [None if day is None else at(day) for day in frame[name]]
            frame[name] = pd.Series(moments, dtype="datetime64[ms, UTC]")
    return frame.astype({"nuisance": bool}) if "nuisance" in names else frame


def call(caller, callee, day, **more):
    whole = round(day * DAY)
    return EXAMPLE_CALL | {"caller": caller, "callee": callee, "start": whole, "day": whole // DAY} | more


def calls_of(*calls):
    """Returns a keyed table of the calls, after opening calls that reach each callee at day 0."""
    people = sorted({entry["callee"] for entry in calls})
    opening = [call("opening", person, 0) for person in ["first callee", *people]]
    return as_keyed_table(sorted([*opening, *calls], key=lambda entry: entry["start"]))


def complaint(number, reporter, day, category="loans", delay=0.0, **more):
    return {"number": number, "reporter": reporter, "at": day, "known_at": day + delay, "category": category} | more


def complaints_about(number, people, day, category="loans", **more):
    """Returns one complaint about the number by each person."""
    return [complaint(number, person, day, category, **more) for person in people]


def label(calls=(), complaints=(), findings=(), recycled=(), lists=(), policy=POLICY, cutoff=CUTOFF):
    dataset = make_dataset(
        calls_of(*calls), rows(COMPLAINTS, *complaints), rows(FINDINGS, *findings),
        recycled=rows(RECYCLED, *recycled), lists=rows(LISTS, *lists),
    )  # fmt: skip
    labels = label_numbers(dataset, at(cutoff), policy)
    assert labels["number"].is_unique
    assert tuple(labels.columns) == COLUMNS
    assert (labels["known_at"] <= at(cutoff)).all()
    assert (labels["event_time"] <= labels["known_at"]).all()
    assert labels["confidence"].between(0, 1).all()
    return labels.set_index("number")


def calls_to(number, people, day):
    """Returns one call of the number to each person."""
    return [call(number, person, day + 0.001 * i) for i, person in enumerate(people)]


CROWD = [f"person {i}" for i in range(40)]


@pytest.mark.source("L44", by="training/data/credibility.py")
def test_only_complaints_of_called_persons_make_a_label():
    victims, accomplices = CROWD[:3], CROWD[3:40]
    true = complaints_about("dialler", victims, 18.1)
    false = complaints_about("hospital", accomplices, 18.1)
    labels = label([*calls_to("dialler", CROWD, 18), *calls_to("hospital", victims, 18)], [*true, *false])
    assert labels.loc["dialler", ["nuisance", "source"]].tolist() == [True, "complaints"]
    assert "hospital" not in labels.index  # a number with complaints does not count as benign either
    assert "dialler" not in label(calls_to("dialler", CROWD, 18), true[:1]).index


def test_confidence_equals_a_manual_computation():
    complaints = [*complaints_about("a", CROWD[:3], 18.1), complaint("a", CROWD[3], 18.1, "not_nuisance")]
    row = label(calls_to("a", CROWD[:30], 18), complaints).loc["a"]
    weight = 4 / 5 * 0.5 ** (1.9 / RULES.half_life_days)  # prior of a reporter, times age
    assert row["confidence"] == pytest.approx(3 * weight / (4 * weight + RULES.doubt))
    assert row["event_time"] == row["known_at"] == at(18.1)


def test_a_call_long_before_a_complaint_does_not_support_it():
    complaints = complaints_about("a", CROWD[:9], 18.1)
    assert "a" in label(calls_to("a", CROWD[:9], 18.1 - RULES.behind_days + 0.02), complaints).index
    assert "a" not in label(calls_to("a", CROWD[:9], 18.1 - RULES.behind_days - 0.02), complaints).index


def test_complaints_from_other_networks_count_a_little():
    """The records have no call to these people, so no supporting call can be required."""
    strangers = [complaint("a", f"stranger {i}", 18.1) for i in range(9)]
    busy = calls_to("a", CROWD, 18)
    assert "a" not in label(busy, strangers[:4]).index
    few = replace(POLICY, complaints=replace(RULES, burst_voices=9.0))
    assert label(busy, strangers, policy=few).loc["a", "source"] == "complaints"


def test_old_complaints_lose_weight():
    complaints = complaints_about("a", CROWD[:4], 2.1)
    calls = calls_to("a", CROWD, 2)
    assert "a" in label(calls, complaints, cutoff=20).index
    assert "a" not in label(calls, complaints, cutoff=20 + 2 * RULES.half_life_days).index


@pytest.mark.parametrize("known_at, source", [(19, "unreported"), (21, "complaints")])
def test_complaints_and_findings_about_the_previous_subscriber_do_not_count(known_at, source):
    """Only a change of subscriber that is known at the cutoff counts."""
    moved = [{"number": name, "valid_from": 15, "known_at": known_at} for name in "ab"]
    complaints = complaints_about("a", CROWD[:4], 14.1)
    calls = calls_to("a", CROWD, 14) + calls_to("b", CROWD, 14)
    labels = label(calls, complaints, [{"number": "b", "nuisance": True, "known_at": 14.5}], moved)
    assert labels["source"].loc[["a", "b"]].tolist() == [source, source.replace("complaints", "finding")]
    assert pd.isna(labels.loc["a", "held_since"]) is (known_at > CUTOFF)
    later = complaints_about("a", CROWD[:4], 16.1)
    assert label(calls_to("a", CROWD, 16), later, recycled=moved).loc["a", "nuisance"]


def test_later_findings_make_a_reporter_more_or_less_credible():
    liars, honest = CROWD[:4], CROWD[4:8]
    innocents = [f"innocent {i}" for i in range(12)]
    calls = [*calls_to("a", CROWD, 18), *calls_to("b", CROWD, 18)]
    history = [complaint(number, person, 3.1 + 0.6 * i) for i, number in enumerate(innocents) for person in liars]
    for i, number in enumerate(innocents):
        calls += calls_to(number, CROWD, 3 + 0.6 * i)
    findings = [{"number": number, "nuisance": False, "known_at": 12.0} for number in innocents]
    # Reporters with the same targets count as one voice; this policy does not merge them.
    alone = replace(POLICY, complaints=replace(RULES, alike_share=2.0))
    complaints = complaints_about("a", liars, 18.1) + complaints_about("b", honest, 18.1)
    labels = label(calls, [*history, *complaints], findings, policy=alone)
    assert labels.loc["b", "source"] == "complaints"
    assert "a" not in labels.index
    # A finding does not judge later complaints.
    before = [{"number": number, "nuisance": False, "known_at": 2.0} for number in innocents]
    assert label(calls, [*history, *complaints], before, policy=alone).loc["a", "source"] == "complaints"


@pytest.mark.parametrize("nuisance", [True, False])
def test_a_finding_after_the_cutoff_makes_no_reporter_more_or_less_credible(nuisance):
    """Random histories rarely have a reporter whom a later finding confirms, so this test builds such a history."""
    witness = CROWD[0]
    calls = [*calls_to("a", CROWD[:30], 18), *calls_to("checked", CROWD[:30], 18)]
    complaints = [*complaints_about("a", CROWD[:3], 18.1), complaint("checked", witness, 18.2)]
    late = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF + 1}]
    timely = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF - 1}]
    labels = (label(calls, complaints, findings) for findings in ([], late, timely))
    without, with_late, with_timely = (table.loc["a", "confidence"] for table in labels)
    assert with_late == without
    assert with_timely > without if nuisance else with_timely < without


def test_reporters_of_the_same_numbers_count_as_one():
    ring, honest = CROWD[:6], CROWD[6:12]
    calls = [*calls_to("a", CROWD, 18), *calls_to("b", CROWD, 18), *calls_to("c", CROWD, 18)]
    of_ring = complaints_about("a", ring, 18.1) + complaints_about("b", ring, 18.1)
    labels = label(calls, [*of_ring, *complaints_about("c", honest, 18.1)])
    assert "c" in labels.index
    assert "a" not in labels.index
    assert "b" not in labels.index


def test_a_burst_counts_as_a_share_of_the_called_persons():
    """Nineteen of twenty callees complain within an hour, as colluding reporters do."""
    strict = replace(POLICY, complaints=replace(RULES, burst_voices=1.0, burst_share=0.05))
    burst = complaints_about("a", CROWD[:19], 18.1)
    spread = [complaint("a", person, 12.1 + 0.4 * i) for i, person in enumerate(CROWD[:19])]
    calls = calls_to("a", CROWD[:20], 18)
    assert "a" not in label(calls, burst, policy=strict).index
    spread_calls = [call("a", person, 12 + 0.4 * i) for i, person in enumerate(CROWD[:20])]
    assert "a" in label(spread_calls, spread, policy=strict).index


@pytest.mark.source("L27", "L44", by="training/data/credibility.py")
def test_a_complaint_weighs_more_than_a_mark():
    complaints = [complaint("a", CROWD[0], 18.1, channel="complaint")]
    assert "a" in label(calls_to("a", CROWD, 18), complaints).index
    assert "a" not in label(calls_to("a", CROWD, 18), [complaints[0] | {"channel": "mark"}]).index


def test_a_busy_number_needs_more_complaints():
    many = [f"customer {i}" for i in range(1000)]
    complaints = complaints_about("courier", many[:4], 18.5)
    assert "courier" not in label(calls_to("courier", many, 18), complaints).index  # rate 0.004
    assert "courier" in label(calls_to("courier", many[:100], 18), complaints).index


def test_votes_make_a_benign_label_unless_complaints_disagree():
    calls = calls_to("a", CROWD, 18)
    votes = [complaint("a", CROWD[i], 18.1, word) for i, word in enumerate(("courier", "not_nuisance", "courier"))]
    assert label(calls, votes).loc["a", ["nuisance", "source"]].tolist() == [False, "votes"]
    against = complaints_about("a", CROWD[10:13], 18.1)
    assert "a" not in label(calls, votes + against).index


def test_a_person_counts_once_with_the_last_complaint():
    calls = calls_to("a", CROWD, 18)
    assert "a" not in label(calls, [complaint("a", CROWD[0], 18.1 + 0.1 * i) for i in range(9)]).index
    changed = complaints_about("a", CROWD[:3], 18.1) + complaints_about("a", CROWD[:3], 18.6, "not_nuisance")
    assert label(calls, changed).loc["a", "source"] == "votes"


def test_the_last_known_finding_overrides_all_other_grounds():
    complaints = complaints_about("a", CROWD[:9], 1.1, "fraud")
    checks = [{"number": "a", "nuisance": yes, "known_at": day} for yes, day in ((True, 2), (False, 5), (True, 21))]
    listed = [{"number": "a", "list": "blocked", "valid_from": 1, "known_at": 1}]
    row = label(calls_to("a", CROWD, 1), complaints, checks, lists=listed).loc["a"]
    assert row[["nuisance", "source", "known_at"]].tolist() == [False, "finding", at(5)]
    assert row["confidence"] == POLICY.findings.confidence
    assert pd.isna(row["content"])  # complaints of fraud, but a benign finding


@pytest.mark.system
def test_only_lists_in_force_and_known_at_the_cutoff_count():
    def listed(**more):
        entry = {"number": "a", "list": "protected", "valid_from": 3, "known_at": 5} | more
        labels = label(calls_to("a", CROWD, 1), lists=[entry])
        return labels.loc["a"].to_dict() if "a" in labels.index and labels.loc["a", "source"] != "unreported" else None

    assert listed()["source"] == "list protected"
    assert not listed()["nuisance"]
    assert (listed()["event_time"], listed()["known_at"]) == (at(3), at(5))
    assert listed(list="blocked")["nuisance"]
    assert listed(valid_from=7, known_at=5)["known_at"] == at(7)
    for more in ({"known_at": 21}, {"valid_from": 21}, {"valid_to": 19}, {"list": "a list without a rule"}):
        assert listed(**more) is None
    both = [{"number": "a", "list": name, "valid_from": 1, "known_at": 1} for name in ("blocked", "protected")]
    assert not label(calls_to("a", CROWD, 1), lists=both).loc["a", "nuisance"]  # protected has the higher confidence


def test_each_kind_of_trusted_numbers_is_a_list_of_the_policy():
    kinds = {"customer", "own_line", "survey", "announcement", "other"}
    assert {f"trusted {kind}" for kind in kinds} == {name for name in POLICY.lists if name.startswith("trusted")}
    for kind in kinds:
        listed = [{"number": "a", "list": f"trusted {kind}", "valid_from": 1, "known_at": 1}]
        row = label(calls_to("a", CROWD, 1), complaints_about("a", CROWD[:9], 1.1, "fraud"), lists=listed).loc["a"]
        assert row[["nuisance", "source", "confidence"]].tolist() == [False, f"list trusted {kind}", 0.99]


def test_a_busy_number_without_complaints_has_no_label():
    most = POLICY.unreported.most_calls_in_a_day
    people = [f"p{i}" for i in range(most + 1)]
    calls = calls_to("quiet", people[:-1], 18) + calls_to("busy", people, 18)
    labels = label(calls)
    assert labels.loc["quiet", ["nuisance", "source", "known_at"]].tolist() == [False, "unreported", at(CUTOFF)]
    assert "busy" not in labels.index
    assert busiest_days(calls_of(*calls)).loc[["quiet", "busy"]].tolist() == [most, most + 1]


@pytest.mark.source("L2", "L27", by="training/data/labels.py")
def test_content_and_mode_are_those_of_most_weight():
    words = [("loans", "human"), ("fraud", "robot"), ("fraud", "robot"), ("courier", "human"), ("loans", None)]
    complaints = [complaint("a", CROWD[i], 18.1, word, mode=mode) for i, (word, mode) in enumerate(words)]
    row = label(calls_to("a", CROWD, 18), complaints).loc["a"]
    assert (row["content"], row["mode"]) == ("fraud", "robot")  # among equal weights, the first name wins


drawn_complaints = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(CROWD[:6]), st.integers(1, 30), st.integers(0, 8),
        st.sampled_from(["loans", "fraud", "courier", "not_nuisance"]),
    ),
    max_size=20,
)  # fmt: skip
drawn_facts = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 30)), max_size=4)


@pytest.mark.system
@settings(max_examples=30)
@given(drawn_complaints, drawn_facts, drawn_facts)
def test_facts_known_after_the_cutoff_change_no_label(drawn, checks, moves):
    calls = [entry for day in range(1, 30, 3) for name in "abc" for entry in calls_to(name, CROWD[:8], day)]
    early = [entry for entry in calls if entry["start"] < CUTOFF * DAY]
    assert len(early) < len(calls)
    complaints = [complaint(number, person, day, word, delay) for number, person, day, delay, word in drawn]
    findings = [{"number": number, "nuisance": yes, "known_at": day} for number, yes, day in checks]
    recycled = [{"number": n, "valid_from": max(day - 5, 1), "known_at": day} for n, _, day in moves]
    lists = [{"number": n, "list": "blocked", "valid_from": 1, "known_at": day} for n, _, day in moves]

    facts = (complaints, findings, recycled, lists)
    known_facts = ([row for row in table if row["known_at"] <= CUTOFF] for table in facts)
    pd.testing.assert_frame_equal(label(calls, *facts), label(early, *known_facts))


@pytest.mark.system
@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random):
    people = CROWD[:12]
    complaints = [complaint(name, person, 18.1 + 0.01 * i, word) for i, person in enumerate(people)
                  for name, word in (("a", "loans"), ("b", "courier"))]  # fmt: skip
    shuffled = complaints.copy()
    random.shuffle(shuffled)
    calls = calls_to("a", people, 18) + calls_to("b", people, 18)
    pd.testing.assert_frame_equal(label(calls, complaints), label(calls, shuffled))


def test_labels_do_not_depend_on_the_tokens():
    """After a change of the key, other tokens of the same people and numbers give the same labels."""
    calls = calls_to("a", CROWD, 18) + calls_to("b", CROWD[:4], 18)
    complaints = complaints_about("a", CROWD[:4], 18.1) + complaints_about("b", CROWD[:4], 18.2, "courier")
    renamed = [entry | {name: f"z{entry[name][::-1]}" for name in ("caller", "callee")} for entry in calls]
    again = [row | {name: f"z{row[name][::-1]}" for name in ("number", "reporter")} for row in complaints]
    labels, other = label(calls, complaints), label(renamed, again)
    other.index = [name if name == "opening" else name[1:][::-1] for name in other.index]
    pd.testing.assert_frame_equal(labels.sort_index(), other.sort_index(), check_names=False)


@pytest.mark.source("L1", by="training/data/label_policy.py")
@pytest.mark.source("L1", by="training/data/credibility.py")
@pytest.mark.source("L1", by="training/data/labels.py")
def test_the_policy_decides_what_counts_as_nuisance():
    """Equal calls and complaints have other labels under another policy."""
    complaints = complaints_about("a", CROWD[:3], 18.1, "loans")
    nuisance = lambda rules: label(calls_to("a", CROWD, 18), complaints, policy=replace(POLICY, complaints=rules))
    assert nuisance(RULES).loc["a", "nuisance"]
    welcome = replace(RULES, against=tuple(word for word in RULES.against if word != "loans"))
    assert not nuisance(welcome).loc["a", "nuisance"]
    assert "a" not in nuisance(replace(RULES, minimum_weight=99.0)).index


@pytest.mark.source("L1", by="training/data/labels.py")
def test_every_row_has_the_version_of_its_policy():
    labels = label(calls_to("a", CROWD[:9], 18), policy=replace(POLICY, version="9"))
    assert set(labels["policy"]) == {"9"}
    assert labels["nuisance"].dtype == bool
    assert Counter(labels["source"]) == {"unreported": 2}


def test_without_facts_there_is_no_label():
    dataset = make_dataset(as_keyed_table([EXAMPLE_CALL]), rows(COMPLAINTS), rows(FINDINGS))
    labels = label_numbers(dataset, pd.Timestamp(EXAMPLE_CALL["start"] - 1, unit="ms", tz="UTC"), POLICY)
    assert labels.empty
    assert tuple(labels.columns) == COLUMNS


def test_findings_label_without_a_complaint():
    """An empty table of complaints that was read from a file has columns without chunks."""
    complaints = pa.table([pa.chunked_array([], field.type) for field in COMPLAINTS], schema=COMPLAINTS).to_pandas()
    calls = calls_of(call("a", "x", 1.0), call("a", "y", 2.0))
    dataset = make_dataset(calls, complaints, rows(FINDINGS, {"number": "a", "nuisance": True, "known_at": 3}))
    labels = label_numbers(dataset, at(CUTOFF), POLICY).set_index("number")
    assert labels.index[labels["nuisance"]].tolist() == ["a"]


def test_a_number_with_a_blocked_call_is_not_labelled_benign():
    """A blocked call never rang: it can have no complaint, and its callee does not count as called."""
    quiet = calls_to("a", CROWD[:3], 18)
    assert label(quiet).loc["a", "source"] == "unreported"
    assert "a" not in label([*quiet, call("a", CROWD[5], 19, outcome="blocked", released_by="network")]).index
    for late in ({"recorded": CUTOFF * DAY}, {"talk": 1.001 * DAY}):  # not known at the cutoff
        unknown = call("a", CROWD[5], 19, **({"outcome": "blocked", "released_by": "network"} | late))
        assert label([*quiet, unknown]).loc["a", "source"] == "unreported"
    stopped_calls = [entry | {"outcome": "blocked"} for entry in calls_to("a", CROWD[:9], 18)]
    assert "a" not in label(stopped_calls, complaints_about("a", CROWD[:9], 18.1)).index
