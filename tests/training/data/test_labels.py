"""Labels as known at a cutoff: findings, lists, the weight of reports, and who never counts as benign."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.batch.complaint_rows import COMPLAINTS
from callsieve.training.data.dataset import FINDINGS, LISTS, RECYCLED, make_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import COLUMNS, busiest_days, label_numbers
from tests.support.strategies import EXAMPLE_CALL, as_keyed_table

DAY = 86_400_000
POLICY = read_label_policy()
RULES = POLICY.complaints
CUTOFF = 20


def at(day):
    return pd.Timestamp(round(day * DAY), unit="ms", tz="UTC")


def rows(schema, *given):
    """Rows by the columns of a schema, days instead of moments, None for what is left out."""
    names = schema.names
    filled = [{name: row.get(name) for name in names} for row in given]
    frame = pd.DataFrame(filled, columns=names).astype(object)
    for name in names:
        if str(schema.field(name).type).startswith("timestamp"):
            moments = [None if day is None else at(day) for day in frame[name]]
            frame[name] = pd.Series(moments, dtype="datetime64[ms, UTC]")
    return frame.astype({"nuisance": bool}) if "nuisance" in names else frame


def call(caller, callee, day, **more):
    whole = round(day * DAY)
    return EXAMPLE_CALL | {"caller": caller, "callee": callee, "start": whole, "day": whole // DAY} | more


def calls_of(*some):
    """A keyed table; one call long ago opens the records, and each person was called by somebody in it."""
    people = sorted({one["callee"] for one in some})
    opening = [call("opening", person, 0) for person in ["nobody", *people]]
    return as_keyed_table(sorted([*opening, *some], key=lambda one: one["start"]))


def told(number, reporter, day, category="loans", delay=0.0, **more):
    return {"number": number, "reporter": reporter, "at": day, "known_at": day + delay, "category": category} | more


def label(calls=(), reports=(), findings=(), recycled=(), lists=(), policy=POLICY, cutoff=CUTOFF):
    given = make_dataset(
        calls_of(*calls), rows(COMPLAINTS, *reports), rows(FINDINGS, *findings),
        recycled=rows(RECYCLED, *recycled), lists=rows(LISTS, *lists),
    )  # fmt: skip
    found = label_numbers(given, at(cutoff), policy)
    assert found["number"].is_unique
    assert tuple(found.columns) == COLUMNS
    assert (found["known_at"] <= at(cutoff)).all()
    assert (found["event_time"] <= found["known_at"]).all()
    assert found["confidence"].between(0, 1).all()
    return found.set_index("number")


def called(number, people, day):
    """A call to each of these people."""
    return [call(number, person, day + 0.001 * i) for i, person in enumerate(people)]


CROWD = [f"person {i}" for i in range(40)]


@pytest.mark.source("L44", by="training/data/credibility.py")
def test_people_who_were_called_make_a_label_and_people_who_were_not_make_none():
    victims, accomplices = CROWD[:3], CROWD[3:40]
    said = [told("dialler", person, 18.1) for person in victims]
    false = [told("hospital", person, 18.1) for person in accomplices]
    labels = label([*called("dialler", CROWD, 18), *called("hospital", victims, 18)], [*said, *false])
    assert labels.loc["dialler", ["nuisance", "source"]].tolist() == [True, "complaints"]
    assert "hospital" not in labels.index  # accused, so nobody's word for benign either
    assert "dialler" not in label(called("dialler", CROWD, 18), said[:1]).index


def test_confidence_by_hand():
    said = [told("a", person, 18.1) for person in CROWD[:3]] + [told("a", CROWD[3], 18.1, "not_nuisance")]
    found = label(called("a", CROWD[:30], 18), said).loc["a"]
    word = 4 / 5 * 0.5 ** (1.9 / RULES.half_life_days)  # prior of a reporter, times age
    assert found["confidence"] == pytest.approx(3 * word / (4 * word + RULES.doubt))
    assert found["event_time"] == found["known_at"] == at(18.1)


def test_a_call_long_before_the_report_does_not_stand_behind_it():
    said = [told("a", person, 18.1) for person in CROWD[:9]]
    assert "a" in label(called("a", CROWD[:9], 18.1 - RULES.behind_days + 0.02), said).index
    assert "a" not in label(called("a", CROWD[:9], 18.1 - RULES.behind_days - 0.02), said).index


def test_people_of_other_networks_count_a_little():
    """The records hold no call to them, so that none can be asked for."""
    strangers = [told("a", f"stranger {i}", 18.1) for i in range(9)]
    busy = called("a", CROWD, 18)
    assert "a" not in label(busy, strangers[:4]).index
    few = replace(POLICY, complaints=replace(RULES, burst_voices=9.0))
    assert label(busy, strangers, policy=few).loc["a", "source"] == "complaints"


def test_old_reports_fade():
    said = [told("a", person, 2.1) for person in CROWD[:4]]
    calls = called("a", CROWD, 2)
    assert "a" in label(calls, said, cutoff=20).index
    assert "a" not in label(calls, said, cutoff=20 + 2 * RULES.half_life_days).index


@pytest.mark.parametrize("known, source", [(19, "unreported"), (21, "complaints")])
def test_reports_and_findings_of_the_last_holder_do_not_count(known, source):
    """But only as far as the change of hands was known."""
    moved = [{"number": name, "valid_from": 15, "known_at": known} for name in "ab"]
    said = [told("a", person, 14.1) for person in CROWD[:4]]
    calls = called("a", CROWD, 14) + called("b", CROWD, 14)
    labels = label(calls, said, [{"number": "b", "nuisance": True, "known_at": 14.5}], moved)
    assert labels["source"].loc[["a", "b"]].tolist() == [source, source.replace("complaints", "finding")]
    assert pd.isna(labels.loc["a", "held_since"]) is (known > CUTOFF)
    later = [told("a", person, 16.1) for person in CROWD[:4]]
    assert label(called("a", CROWD, 16), later, recycled=moved).loc["a", "nuisance"]


def test_later_findings_make_a_reporter_more_or_less_credible():
    liars, honest = CROWD[:4], CROWD[4:8]
    innocents = [f"innocent {i}" for i in range(12)]
    calls = [*called("a", CROWD, 18), *called("b", CROWD, 18)]
    history = [told(number, one, 3.1 + 0.6 * i) for i, number in enumerate(innocents) for one in liars]
    calls += [one for i, number in enumerate(innocents) for one in called(number, CROWD, 3 + 0.6 * i)]
    findings = [{"number": number, "nuisance": False, "known_at": 12.0} for number in innocents]
    # As company, the liars would be one voice anyway: here that is switched off.
    alone = replace(POLICY, complaints=replace(RULES, alike_share=2.0))
    said = [told("a", one, 18.1) for one in liars] + [told("b", one, 18.1) for one in honest]
    labels = label(calls, [*history, *said], findings, policy=alone)
    assert labels.loc["b", "source"] == "complaints"
    assert "a" not in labels.index
    # A finding that came before the words does not judge them.
    before = [{"number": number, "nuisance": False, "known_at": 2.0} for number in innocents]
    assert label(calls, [*history, *said], before, policy=alone).loc["a", "source"] == "complaints"


@pytest.mark.parametrize("nuisance", [True, False])
def test_a_finding_after_the_cutoff_makes_no_reporter_more_or_less_credible(nuisance):
    """The drawn histories hardly ever have a reporter who is borne out later; so this one has."""
    witness = CROWD[0]
    calls = [*called("a", CROWD[:30], 18), *called("checked", CROWD[:30], 18)]
    said = [*(told("a", person, 18.1) for person in CROWD[:3]), told("checked", witness, 18.2)]
    late = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF + 1}]
    timely = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF - 1}]
    unchecked, later, sooner = (label(calls, said, checks).loc["a", "confidence"] for checks in ([], late, timely))
    assert later == unchecked
    assert sooner > unchecked if nuisance else sooner < unchecked


def test_people_who_name_the_same_numbers_are_one_voice():
    ring, honest = CROWD[:6], CROWD[6:12]
    calls = [one for name in ("a", "b", "c") for one in called(name, CROWD, 18)]
    said = [told(name, one, 18.1) for name in ("a", "b") for one in ring] + [told("c", one, 18.1) for one in honest]
    labels = label(calls, said)
    assert "c" in labels.index
    assert "a" not in labels.index
    assert "b" not in labels.index


def test_a_burst_counts_as_much_as_the_called_people_can_say():
    """Of twenty people called, nineteen within the hour: that is an agreement."""
    strict = replace(POLICY, complaints=replace(RULES, burst_voices=1.0, burst_share=0.05))
    said = [told("a", person, 18.1) for person in CROWD[:19]]
    spread = [told("a", person, 12.1 + 0.4 * i) for i, person in enumerate(CROWD[:19])]
    calls = called("a", CROWD[:20], 18)
    assert "a" not in label(calls, said, policy=strict).index
    apart = [call("a", person, 12 + 0.4 * i) for i, person in enumerate(CROWD[:20])]
    assert "a" in label(apart, spread, policy=strict).index


@pytest.mark.source("L27", "L44", by="training/data/labels.py")
def test_a_complaint_weighs_more_than_a_mark():
    said = [told("a", CROWD[0], 18.1, channel="complaint")]
    assert "a" in label(called("a", CROWD, 18), said).index
    assert "a" not in label(called("a", CROWD, 18), [said[0] | {"channel": "mark"}]).index


def test_a_busy_number_needs_more_voices():
    many = [f"customer {i}" for i in range(1000)]
    said = [told("courier", person, 18.5) for person in many[:4]]
    assert "courier" not in label(called("courier", many, 18), said).index  # 4 of 1000, less than the least rate
    assert "courier" in label(called("courier", many[:100], 18), said).index


def test_votes_for_a_number_and_quarrels():
    calls = called("a", CROWD, 18)
    votes = [
        told("a", one, 18.1, word) for one, word in zip(CROWD, ["courier", "not_nuisance", "courier"], strict=False)
    ]
    assert label(calls, votes).loc["a", ["nuisance", "source"]].tolist() == [False, "votes"]
    quarrel = [told("a", one, 18.1) for one in CROWD[10:13]]
    assert "a" not in label(calls, votes + quarrel).index


def test_one_person_is_one_voice_and_the_last_word_counts():
    calls = called("a", CROWD, 18)
    assert "a" not in label(calls, [told("a", CROWD[0], 18.1 + 0.1 * i) for i in range(9)]).index
    regret = [told("a", one, 18.1) for one in CROWD[:3]] + [told("a", one, 18.6, "not_nuisance") for one in CROWD[:3]]
    assert label(calls, regret).loc["a", "source"] == "votes"


def test_a_finding_beats_all_and_the_last_finding_the_first():
    said = [told("a", one, 1.1, "fraud") for one in CROWD[:9]]
    checks = [{"number": "a", "nuisance": yes, "known_at": day} for yes, day in ((True, 2), (False, 5), (True, 21))]
    listed = [{"number": "a", "list": "blocked", "valid_from": 1, "known_at": 1}]
    found = label(called("a", CROWD, 1), said, checks, lists=listed).loc["a"]
    assert found[["nuisance", "source", "known_at"]].tolist() == [False, "finding", at(5)]
    assert found["confidence"] == POLICY.finding_confidence
    assert pd.isna(found["content"])  # reported as fraud, found benign


def test_lists_in_force_and_known():
    def listed(**more):
        entry = {"number": "a", "list": "protected", "valid_from": 3, "known_at": 5} | more
        found = label(called("a", CROWD, 1), lists=[entry])
        return found.loc["a"].to_dict() if "a" in found.index and found.loc["a", "source"] != "unreported" else None

    assert listed()["source"] == "list protected"
    assert not listed()["nuisance"]
    assert (listed()["event_time"], listed()["known_at"]) == (at(3), at(5))
    assert listed(list="blocked")["nuisance"]
    assert listed(valid_from=7, known_at=5)["known_at"] == at(7)
    for more in ({"known_at": 21}, {"valid_from": 21}, {"valid_to": 19}, {"list": "a list of no policy"}):
        assert listed(**more) is None
    both = [{"number": "a", "list": name, "valid_from": 1, "known_at": 1} for name in ("blocked", "protected")]
    assert not label(called("a", CROWD, 1), lists=both).loc["a", "nuisance"]  # protected is surer


def test_a_busy_number_that_nobody_reported_has_no_label():
    most = POLICY.unreported_most_calls
    calls = called("quiet", [f"p{i}" for i in range(most)], 18) + called("busy", [f"p{i}" for i in range(most + 1)], 18)
    labels = label(calls)
    assert labels.loc["quiet", ["nuisance", "source", "known_at"]].tolist() == [False, "unreported", at(CUTOFF)]
    assert "busy" not in labels.index
    assert busiest_days(calls_of(*calls)).loc[["quiet", "busy"]].tolist() == [most, most + 1]


@pytest.mark.source("L2", by="training/data/labels.py")
def test_content_and_mode_are_what_the_heaviest_voices_named():
    words = [("loans", "human"), ("fraud", "robot"), ("fraud", "robot"), ("courier", "human"), ("loans", None)]
    said = [told("a", one, 18.1, word, mode=mode) for one, (word, mode) in zip(CROWD, words, strict=False)]
    found = label(called("a", CROWD, 18), said).loc["a"]
    assert (found["content"], found["mode"]) == ("fraud", "robot")  # of two equal ones, the first by name


drawn_reports = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(CROWD[:6]), st.integers(1, 30), st.integers(0, 8),
        st.sampled_from(["loans", "fraud", "courier", "not_nuisance"]),
    ),
    max_size=20,
)  # fmt: skip
drawn_facts = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 30)), max_size=4)


@settings(max_examples=30)
@given(drawn_reports, drawn_facts, drawn_facts)
def test_what_became_known_after_the_cutoff_changes_nothing(said, checks, moves):
    calls = [one for day in range(1, 30, 3) for name in "abc" for one in called(name, CROWD[:8], day)]
    late = [one for one in calls if one["start"] >= CUTOFF * DAY]
    assert late
    reports = [told(number, one, day, word, delay) for number, one, day, delay, word in said]
    findings = [{"number": number, "nuisance": yes, "known_at": day} for number, yes, day in checks]
    recycled = [{"number": n, "valid_from": max(day - 5, 1), "known_at": day} for n, _, day in moves]
    lists = [{"number": n, "list": "blocked", "valid_from": 1, "known_at": day} for n, _, day in moves]

    def known(some):
        return [row for row in some if row["known_at"] <= CUTOFF]

    everything = label(calls, reports, findings, recycled, lists)
    early = [one for one in calls if one["start"] < CUTOFF * DAY]
    now = label(early, known(reports), known(findings), known(recycled), known(lists))
    pd.testing.assert_frame_equal(everything, now)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random):
    people = CROWD[:12]
    said = [told(name, one, 18.1 + 0.01 * i, word) for i, one in enumerate(people)
            for name, word in (("a", "loans"), ("b", "courier"))]  # fmt: skip
    shuffled = said.copy()
    random.shuffle(shuffled)
    calls = called("a", people, 18) + called("b", people, 18)
    pd.testing.assert_frame_equal(label(calls, said), label(calls, shuffled))


def test_names_do_not_matter():
    """Other tokens for the same people and numbers, as after a change of the key, give the same labels."""
    calls = called("a", CROWD, 18) + called("b", CROWD[:4], 18)
    said = [told("a", one, 18.1) for one in CROWD[:4]] + [told("b", one, 18.2, "courier") for one in CROWD[:4]]
    renamed = [one | {name: f"z{one[name][::-1]}" for name in ("caller", "callee")} for one in calls]
    again = [row | {name: f"z{row[name][::-1]}" for name in ("number", "reporter")} for row in said]
    one, other = label(calls, said), label(renamed, again)
    other.index = [name if name == "opening" else name[1:][::-1] for name in other.index]
    pd.testing.assert_frame_equal(one.sort_index(), other.sort_index(), check_names=False)


@pytest.mark.source("L1", by="training/data/labels.py")
def test_the_version_stands_in_every_row():
    labels = label(called("a", CROWD[:9], 18), policy=replace(POLICY, version="9"))
    assert set(labels["policy"]) == {"9"}
    assert labels["nuisance"].dtype == bool
    assert Counter(labels["source"]) == {"unreported": 2}


def test_nothing_known_is_no_label():
    given = make_dataset(as_keyed_table([EXAMPLE_CALL]), rows(COMPLAINTS), rows(FINDINGS))
    labels = label_numbers(given, pd.Timestamp(EXAMPLE_CALL["start"] - 1, unit="ms", tz="UTC"), POLICY)
    assert labels.empty
    assert tuple(labels.columns) == COLUMNS


def test_without_a_report_there_are_labels_by_findings():
    """The table of reports is one that was read from a file, whose columns have no chunk."""
    told = pa.table([pa.chunked_array([], field.type) for field in COMPLAINTS], schema=COMPLAINTS).to_pandas()
    calls = calls_of(call("a", "x", 1.0), call("a", "y", 2.0))
    given = make_dataset(calls, told, rows(FINDINGS, {"number": "a", "nuisance": True, "known_at": 3}))
    found = label_numbers(given, at(CUTOFF), POLICY).set_index("number")
    assert found.index[found["nuisance"]].tolist() == ["a"]


def test_a_number_whose_call_was_stopped_is_nobodys_word_for_benign():
    """Nobody can complain of a call that never rang, and those it was for are not among the called."""
    quiet = called("a", CROWD[:3], 18)
    assert label(quiet).loc["a", "source"] == "unreported"
    assert "a" not in label([*quiet, call("a", CROWD[5], 19, outcome="blocked", released_by="network")]).index
    for late in ({"recorded": CUTOFF * DAY}, {"talk": 1.001 * DAY}):  # nobody knew of it at the cutoff
        unknown = call("a", CROWD[5], 19, **({"outcome": "blocked", "released_by": "network"} | late))
        assert label([*quiet, unknown]).loc["a", "source"] == "unreported"
    stopped_calls = [one | {"outcome": "blocked"} for one in called("a", CROWD[:9], 18)]
    assert "a" not in label(stopped_calls, [told("a", person, 18.1) for person in CROWD[:9]]).index
