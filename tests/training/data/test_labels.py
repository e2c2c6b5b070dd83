"""Labels as known at a cutoff: findings, lists, weighted complaints, and quiet numbers."""

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
    """Rows with the columns of a schema: days in place of moments, None for missing values."""
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
    """A keyed table; one early call opens the records, and each person received a call in it."""
    people = sorted({one["callee"] for one in some})
    opening = [call("opening", person, 0) for person in ["nobody", *people]]
    return as_keyed_table(sorted([*opening, *some], key=lambda one: one["start"]))


def complaint(number, reporter, day, category="loans", delay=0.0, **more):
    return {"number": number, "reporter": reporter, "at": day, "known_at": day + delay, "category": category} | more


def label(calls=(), complaints=(), findings=(), recycled=(), lists=(), policy=POLICY, cutoff=CUTOFF):
    given = make_dataset(
        calls_of(*calls), rows(COMPLAINTS, *complaints), rows(FINDINGS, *findings),
        recycled=rows(RECYCLED, *recycled), lists=rows(LISTS, *lists),
    )  # fmt: skip
    found = label_numbers(given, at(cutoff), policy)
    assert found["number"].is_unique
    assert tuple(found.columns) == COLUMNS
    assert (found["known_at"] <= at(cutoff)).all()
    assert (found["event_time"] <= found["known_at"]).all()
    assert found["confidence"].between(0, 1).all()
    return found.set_index("number")


def calls_to(number, people, day):
    """One call to each of these persons."""
    return [call(number, person, day + 0.001 * i) for i, person in enumerate(people)]


CROWD = [f"person {i}" for i in range(40)]


@pytest.mark.source("L44", by="training/data/credibility.py")
def test_only_persons_who_were_called_make_a_label():
    victims, accomplices = CROWD[:3], CROWD[3:40]
    said = [complaint("dialler", person, 18.1) for person in victims]
    false = [complaint("hospital", person, 18.1) for person in accomplices]
    labels = label([*calls_to("dialler", CROWD, 18), *calls_to("hospital", victims, 18)], [*said, *false])
    assert labels.loc["dialler", ["nuisance", "source"]].tolist() == [True, "complaints"]
    assert "hospital" not in labels.index  # accused, so nobody's word for benign either
    assert "dialler" not in label(calls_to("dialler", CROWD, 18), said[:1]).index


def test_confidence_equals_a_manual_computation():
    said = [complaint("a", person, 18.1) for person in CROWD[:3]] + [complaint("a", CROWD[3], 18.1, "not_nuisance")]
    found = label(calls_to("a", CROWD[:30], 18), said).loc["a"]
    word = 4 / 5 * 0.5 ** (1.9 / RULES.half_life_days)  # prior of a reporter, times age
    assert found["confidence"] == pytest.approx(3 * word / (4 * word + RULES.doubt))
    assert found["event_time"] == found["known_at"] == at(18.1)


def test_a_call_long_before_a_complaint_does_not_found_it():
    said = [complaint("a", person, 18.1) for person in CROWD[:9]]
    assert "a" in label(calls_to("a", CROWD[:9], 18.1 - RULES.behind_days + 0.02), said).index
    assert "a" not in label(calls_to("a", CROWD[:9], 18.1 - RULES.behind_days - 0.02), said).index


def test_people_of_other_networks_count_a_little():
    """The records hold no call to them, so a founding call cannot be required."""
    strangers = [complaint("a", f"stranger {i}", 18.1) for i in range(9)]
    busy = calls_to("a", CROWD, 18)
    assert "a" not in label(busy, strangers[:4]).index
    few = replace(POLICY, complaints=replace(RULES, burst_voices=9.0))
    assert label(busy, strangers, policy=few).loc["a", "source"] == "complaints"


def test_old_complaints_lose_weight():
    said = [complaint("a", person, 2.1) for person in CROWD[:4]]
    calls = calls_to("a", CROWD, 2)
    assert "a" in label(calls, said, cutoff=20).index
    assert "a" not in label(calls, said, cutoff=20 + 2 * RULES.half_life_days).index


@pytest.mark.parametrize("known, source", [(19, "unreported"), (21, "complaints")])
def test_complaints_and_findings_about_the_last_holder_do_not_count(known, source):
    """Only changes of hands known at the cutoff count."""
    moved = [{"number": name, "valid_from": 15, "known_at": known} for name in "ab"]
    said = [complaint("a", person, 14.1) for person in CROWD[:4]]
    calls = calls_to("a", CROWD, 14) + calls_to("b", CROWD, 14)
    labels = label(calls, said, [{"number": "b", "nuisance": True, "known_at": 14.5}], moved)
    assert labels["source"].loc[["a", "b"]].tolist() == [source, source.replace("complaints", "finding")]
    assert pd.isna(labels.loc["a", "held_since"]) is (known > CUTOFF)
    later = [complaint("a", person, 16.1) for person in CROWD[:4]]
    assert label(calls_to("a", CROWD, 16), later, recycled=moved).loc["a", "nuisance"]


def test_later_findings_make_a_reporter_more_or_less_credible():
    liars, honest = CROWD[:4], CROWD[4:8]
    innocents = [f"innocent {i}" for i in range(12)]
    calls = [*calls_to("a", CROWD, 18), *calls_to("b", CROWD, 18)]
    history = [complaint(number, one, 3.1 + 0.6 * i) for i, number in enumerate(innocents) for one in liars]
    calls += [one for i, number in enumerate(innocents) for one in calls_to(number, CROWD, 3 + 0.6 * i)]
    findings = [{"number": number, "nuisance": False, "known_at": 12.0} for number in innocents]
    # As company, the liars would be one voice anyway: here that is switched off.
    alone = replace(POLICY, complaints=replace(RULES, alike_share=2.0))
    said = [complaint("a", one, 18.1) for one in liars] + [complaint("b", one, 18.1) for one in honest]
    labels = label(calls, [*history, *said], findings, policy=alone)
    assert labels.loc["b", "source"] == "complaints"
    assert "a" not in labels.index
    # A finding that came before the words does not judge them.
    before = [{"number": number, "nuisance": False, "known_at": 2.0} for number in innocents]
    assert label(calls, [*history, *said], before, policy=alone).loc["a", "source"] == "complaints"


@pytest.mark.parametrize("nuisance", [True, False])
def test_a_finding_after_the_cutoff_makes_no_reporter_more_or_less_credible(nuisance):
    """Drawn histories hardly ever have a reporter whom a later finding confirms, so this test builds one."""
    witness = CROWD[0]
    calls = [*calls_to("a", CROWD[:30], 18), *calls_to("checked", CROWD[:30], 18)]
    said = [*(complaint("a", person, 18.1) for person in CROWD[:3]), complaint("checked", witness, 18.2)]
    late = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF + 1}]
    timely = [{"number": "checked", "nuisance": nuisance, "known_at": CUTOFF - 1}]
    unchecked, later, sooner = (label(calls, said, checks).loc["a", "confidence"] for checks in ([], late, timely))
    assert later == unchecked
    assert sooner > unchecked if nuisance else sooner < unchecked


def test_persons_who_name_the_same_numbers_count_as_one():
    ring, honest = CROWD[:6], CROWD[6:12]
    calls = [one for name in ("a", "b", "c") for one in calls_to(name, CROWD, 18)]
    said = [complaint(name, one, 18.1) for name in ("a", "b") for one in ring] + [
        complaint("c", one, 18.1) for one in honest
    ]
    labels = label(calls, said)
    assert "c" in labels.index
    assert "a" not in labels.index
    assert "b" not in labels.index


def test_a_burst_is_cut_to_a_share_of_the_persons_called():
    """Nineteen of twenty callees complain within an hour: they collude."""
    strict = replace(POLICY, complaints=replace(RULES, burst_voices=1.0, burst_share=0.05))
    said = [complaint("a", person, 18.1) for person in CROWD[:19]]
    spread = [complaint("a", person, 12.1 + 0.4 * i) for i, person in enumerate(CROWD[:19])]
    calls = calls_to("a", CROWD[:20], 18)
    assert "a" not in label(calls, said, policy=strict).index
    apart = [call("a", person, 12 + 0.4 * i) for i, person in enumerate(CROWD[:20])]
    assert "a" in label(apart, spread, policy=strict).index


@pytest.mark.source("L27", "L44", by="training/data/labels.py")
def test_a_complaint_weighs_more_than_a_mark():
    said = [complaint("a", CROWD[0], 18.1, channel="complaint")]
    assert "a" in label(calls_to("a", CROWD, 18), said).index
    assert "a" not in label(calls_to("a", CROWD, 18), [said[0] | {"channel": "mark"}]).index


def test_a_busy_number_needs_more_complaints():
    many = [f"customer {i}" for i in range(1000)]
    said = [complaint("courier", person, 18.5) for person in many[:4]]
    assert "courier" not in label(calls_to("courier", many, 18), said).index  # 4 of 1000, less than the least rate
    assert "courier" in label(calls_to("courier", many[:100], 18), said).index


def test_votes_for_a_number_and_disagreement():
    calls = calls_to("a", CROWD, 18)
    votes = [
        complaint("a", one, 18.1, word)
        for one, word in zip(CROWD, ["courier", "not_nuisance", "courier"], strict=False)
    ]
    assert label(calls, votes).loc["a", ["nuisance", "source"]].tolist() == [False, "votes"]
    quarrel = [complaint("a", one, 18.1) for one in CROWD[10:13]]
    assert "a" not in label(calls, votes + quarrel).index


def test_a_person_counts_once_with_the_last_complaint():
    calls = calls_to("a", CROWD, 18)
    assert "a" not in label(calls, [complaint("a", CROWD[0], 18.1 + 0.1 * i) for i in range(9)]).index
    regret = [complaint("a", one, 18.1) for one in CROWD[:3]] + [
        complaint("a", one, 18.6, "not_nuisance") for one in CROWD[:3]
    ]
    assert label(calls, regret).loc["a", "source"] == "votes"


def test_the_last_finding_decides_over_all_other_grounds():
    said = [complaint("a", one, 1.1, "fraud") for one in CROWD[:9]]
    checks = [{"number": "a", "nuisance": yes, "known_at": day} for yes, day in ((True, 2), (False, 5), (True, 21))]
    listed = [{"number": "a", "list": "blocked", "valid_from": 1, "known_at": 1}]
    found = label(calls_to("a", CROWD, 1), said, checks, lists=listed).loc["a"]
    assert found[["nuisance", "source", "known_at"]].tolist() == [False, "finding", at(5)]
    assert found["confidence"] == POLICY.finding_confidence
    assert pd.isna(found["content"])  # reported as fraud, found benign


def test_lists_in_force_and_known():
    def listed(**more):
        entry = {"number": "a", "list": "protected", "valid_from": 3, "known_at": 5} | more
        found = label(calls_to("a", CROWD, 1), lists=[entry])
        return found.loc["a"].to_dict() if "a" in found.index and found.loc["a", "source"] != "unreported" else None

    assert listed()["source"] == "list protected"
    assert not listed()["nuisance"]
    assert (listed()["event_time"], listed()["known_at"]) == (at(3), at(5))
    assert listed(list="blocked")["nuisance"]
    assert listed(valid_from=7, known_at=5)["known_at"] == at(7)
    for more in ({"known_at": 21}, {"valid_from": 21}, {"valid_to": 19}, {"list": "a list of no policy"}):
        assert listed(**more) is None
    both = [{"number": "a", "list": name, "valid_from": 1, "known_at": 1} for name in ("blocked", "protected")]
    assert not label(calls_to("a", CROWD, 1), lists=both).loc["a", "nuisance"]  # protected is surer


def test_a_busy_number_that_nobody_reported_has_no_label():
    most = POLICY.unreported_most_calls
    calls = calls_to("quiet", [f"p{i}" for i in range(most)], 18) + calls_to(
        "busy", [f"p{i}" for i in range(most + 1)], 18
    )
    labels = label(calls)
    assert labels.loc["quiet", ["nuisance", "source", "known_at"]].tolist() == [False, "unreported", at(CUTOFF)]
    assert "busy" not in labels.index
    assert busiest_days(calls_of(*calls)).loc[["quiet", "busy"]].tolist() == [most, most + 1]


@pytest.mark.source("L2", by="training/data/labels.py")
def test_content_and_mode_have_the_most_weight():
    words = [("loans", "human"), ("fraud", "robot"), ("fraud", "robot"), ("courier", "human"), ("loans", None)]
    said = [complaint("a", one, 18.1, word, mode=mode) for one, (word, mode) in zip(CROWD, words, strict=False)]
    found = label(calls_to("a", CROWD, 18), said).loc["a"]
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
    calls = [one for day in range(1, 30, 3) for name in "abc" for one in calls_to(name, CROWD[:8], day)]
    late = [one for one in calls if one["start"] >= CUTOFF * DAY]
    assert late
    complaints = [complaint(number, one, day, word, delay) for number, one, day, delay, word in said]
    findings = [{"number": number, "nuisance": yes, "known_at": day} for number, yes, day in checks]
    recycled = [{"number": n, "valid_from": max(day - 5, 1), "known_at": day} for n, _, day in moves]
    lists = [{"number": n, "list": "blocked", "valid_from": 1, "known_at": day} for n, _, day in moves]

    def known(some):
        return [row for row in some if row["known_at"] <= CUTOFF]

    everything = label(calls, complaints, findings, recycled, lists)
    early = [one for one in calls if one["start"] < CUTOFF * DAY]
    now = label(early, known(complaints), known(findings), known(recycled), known(lists))
    pd.testing.assert_frame_equal(everything, now)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random):
    people = CROWD[:12]
    said = [complaint(name, one, 18.1 + 0.01 * i, word) for i, one in enumerate(people)
            for name, word in (("a", "loans"), ("b", "courier"))]  # fmt: skip
    shuffled = said.copy()
    random.shuffle(shuffled)
    calls = calls_to("a", people, 18) + calls_to("b", people, 18)
    pd.testing.assert_frame_equal(label(calls, said), label(calls, shuffled))


def test_tokens_do_not_matter():
    """Other tokens for the same people and numbers, as after a change of the key, give the same labels."""
    calls = calls_to("a", CROWD, 18) + calls_to("b", CROWD[:4], 18)
    said = [complaint("a", one, 18.1) for one in CROWD[:4]] + [
        complaint("b", one, 18.2, "courier") for one in CROWD[:4]
    ]
    renamed = [one | {name: f"z{one[name][::-1]}" for name in ("caller", "callee")} for one in calls]
    again = [row | {name: f"z{row[name][::-1]}" for name in ("number", "reporter")} for row in said]
    one, other = label(calls, said), label(renamed, again)
    other.index = [name if name == "opening" else name[1:][::-1] for name in other.index]
    pd.testing.assert_frame_equal(one.sort_index(), other.sort_index(), check_names=False)


@pytest.mark.source("L1", by="training/data/labels.py")
def test_the_version_stands_in_every_row():
    labels = label(calls_to("a", CROWD[:9], 18), policy=replace(POLICY, version="9"))
    assert set(labels["policy"]) == {"9"}
    assert labels["nuisance"].dtype == bool
    assert Counter(labels["source"]) == {"unreported": 2}


def test_no_facts_give_no_label():
    given = make_dataset(as_keyed_table([EXAMPLE_CALL]), rows(COMPLAINTS), rows(FINDINGS))
    labels = label_numbers(given, pd.Timestamp(EXAMPLE_CALL["start"] - 1, unit="ms", tz="UTC"), POLICY)
    assert labels.empty
    assert tuple(labels.columns) == COLUMNS


def test_findings_label_without_a_complaint():
    """The table of complaints comes from a file, and its columns have no chunk."""
    told = pa.table([pa.chunked_array([], field.type) for field in COMPLAINTS], schema=COMPLAINTS).to_pandas()
    calls = calls_of(call("a", "x", 1.0), call("a", "y", 2.0))
    given = make_dataset(calls, told, rows(FINDINGS, {"number": "a", "nuisance": True, "known_at": 3}))
    found = label_numbers(given, at(CUTOFF), POLICY).set_index("number")
    assert found.index[found["nuisance"]].tolist() == ["a"]


def test_a_number_with_a_blocked_call_is_not_labelled_benign():
    """A blocked call never rang: nobody can complain of it, and its callee does not count as called."""
    quiet = calls_to("a", CROWD[:3], 18)
    assert label(quiet).loc["a", "source"] == "unreported"
    assert "a" not in label([*quiet, call("a", CROWD[5], 19, outcome="blocked", released_by="network")]).index
    for late in ({"recorded": CUTOFF * DAY}, {"talk": 1.001 * DAY}):  # nobody knew of it at the cutoff
        unknown = call("a", CROWD[5], 19, **({"outcome": "blocked", "released_by": "network"} | late))
        assert label([*quiet, unknown]).loc["a", "source"] == "unreported"
    stopped_calls = [one | {"outcome": "blocked"} for one in calls_to("a", CROWD[:9], 18)]
    assert "a" not in label(stopped_calls, [complaint("a", person, 18.1) for person in CROWD[:9]]).index
