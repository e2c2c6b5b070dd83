"""Labels as known at a cutoff, against a plain reading of the policy."""

from collections import Counter
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest
from callsieve.training.labels import COLUMNS, busiest_days, label_numbers, read_label_policy
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = read_label_policy()
CUTOFF = 10
DAY = 86_400_000


def at(day):
    return pd.Timestamp(day * DAY, unit="ms", tz="UTC")


def reports_of(rows):
    """Rows of reporter, number, day known, category; told three days before it was known."""
    known = pd.Series([at(row[2]) for row in rows], dtype="datetime64[ms, UTC]")
    return pd.DataFrame(
        {
            "reporter": pd.Series([row[0] for row in rows], dtype=object),
            "number": pd.Series([row[1] for row in rows], dtype=object),
            "at": known - pd.Timedelta(days=3),
            "known_at": known,
            "category": pd.Series([row[3] for row in rows], dtype=object),
        }
    )


def findings_of(rows):
    """Rows of number, nuisance, day known."""
    return pd.DataFrame(
        {
            "number": pd.Series([row[0] for row in rows], dtype=object),
            "nuisance": pd.Series([row[1] for row in rows], dtype=bool),
            "known_at": pd.Series([at(row[2]) for row in rows], dtype="datetime64[ms, UTC]"),
        }
    )


def label(reports=(), findings=(), busiest=None, policy=POLICY):
    counts = pd.Series(busiest or {}, dtype="int64")
    found = label_numbers(counts, reports_of(list(reports)), findings_of(list(findings)), at(CUTOFF), policy)
    assert found["number"].is_unique
    return found.set_index("number")


def told(number, categories, day=1):
    """One report by each of as many people as categories."""
    return [(f"reporter {i}", number, day, category) for i, category in enumerate(categories)]


rows_of_reports = st.lists(
    st.tuples(
        st.sampled_from("pqrstu"),
        st.sampled_from("abc"),
        st.integers(0, 20),
        st.sampled_from(["loans", "fraud", "courier", "not_nuisance"]),
    ),
    max_size=25,
)
rows_of_findings = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 20)), max_size=4)


def plainly(reports, findings, busiest):
    """Number -> (nuisance, source), read from the policy's words."""
    held = {}
    known = sorted((row for row in reports if row[2] <= CUTOFF), key=lambda row: row[2])
    for number, nuisance, _ in sorted((row for row in findings if row[2] <= CUTOFF), key=lambda row: row[2]):
        held[number] = (nuisance, "finding")
    for number in {row[1] for row in known} - set(held):
        voice = {}
        for reporter, about, _, category in known:
            if about == number:
                voice.setdefault(reporter, category)
        against = sum(category in POLICY.against for category in voice.values())
        if against >= POLICY.minimum_reporters and against >= POLICY.minimum_share * len(voice):
            held[number] = (True, "reports")
    spoken_of = {row[1] for row in known} | set(held)
    for number, calls in busiest.items():
        if number not in spoken_of and calls <= POLICY.unreported_most_calls:
            held[number] = (False, "unreported")
    return held


@given(rows_of_reports, rows_of_findings)
def test_labels_follow_the_policy(reports, findings):
    busiest = {"a": 40, "b": 41, "c": 1, "d": 2, "e": 1000}
    labels = label(reports, findings, busiest)
    held = {n: (bool(row.nuisance), row.source) for n, row in labels.iterrows()}
    assert held == plainly(reports, findings, busiest)


@settings(max_examples=50)
@given(rows_of_reports, rows_of_findings)
def test_what_became_known_after_the_cutoff_changes_nothing(reports, findings):
    busiest = dict.fromkeys("abcd", 3)
    everything = label(reports, findings, busiest)
    known = label([row for row in reports if row[2] <= CUTOFF], [row for row in findings if row[2] <= CUTOFF], busiest)
    pd.testing.assert_frame_equal(everything, known)
    assert (everything["known_at"] <= at(CUTOFF)).all()
    assert (everything["event_time"] <= everything["known_at"]).all()


def test_three_people_are_enough_and_one_person_is_one_voice():
    assert label(told("a", ["loans"] * 3))["nuisance"].tolist() == [True]
    assert label(told("a", ["loans"] * 2)).empty
    assert label([("p", "a", day, "loans") for day in range(9)] + [("q", "a", 1, "loans")]).empty


@pytest.mark.parametrize("mark", ["courier", "not_nuisance", "a mark never heard of"])
def test_other_marks_count_for_the_number(mark):
    assert not label(told("a", ["loans"] * 3 + [mark] * 2)).empty  # 3 of 5
    assert label(told("a", ["loans"] * 3 + [mark] * 3)).empty
    # Spoken of but undecided: not benign either.
    assert label(told("a", [mark] * 3), busiest={"a": 1}).empty


def test_a_finding_beats_any_number_of_reports_and_the_last_finding_the_first():
    labels = label(told("a", ["fraud"] * 9), [("a", True, 2), ("a", False, 5), ("a", True, 11)], {"a": 1000})
    assert not labels.loc["a", "nuisance"]
    assert labels.loc["a", "source"] == "finding"
    assert labels.loc["a", "known_at"] == at(5)
    assert labels.loc["a", "confidence"] == POLICY.finding_confidence
    assert pd.isna(labels.loc["a", "content"])  # reported as fraud, found benign


def test_a_busy_number_that_nobody_reported_has_no_label():
    labels = label(busiest={"quiet": POLICY.unreported_most_calls, "busy": POLICY.unreported_most_calls + 1})
    assert labels.index.tolist() == ["quiet"]
    assert labels.loc["quiet", "confidence"] == POLICY.unreported_confidence
    assert labels.loc["quiet", "known_at"] == at(CUTOFF)


def test_content_is_what_most_people_named():
    labels = label(told("a", ["loans", "fraud", "fraud", "courier"], day=2))
    assert labels.loc["a", "content"] == "fraud"
    one_loud = [("p", "a", day, "loans") for day in range(1, 9)] + [("q", "a", 1, "fraud"), ("r", "a", 1, "fraud")]
    assert label(one_loud).loc["a", "content"] == "fraud"
    assert label(one_loud)["mode"].isna().all()


def test_mode_is_named_where_reporters_could_tell():
    reports = reports_of(told("a", ["loans"] * 3)).assign(mode=["robot", "human", "robot"])
    labels = label_numbers(pd.Series(dtype="int64"), reports, findings_of([]), at(CUTOFF), POLICY)
    assert labels["mode"].tolist() == ["robot"]


def test_columns_and_version():
    labels = label_numbers(
        pd.Series({"b": 1}), reports_of(told("a", ["loans"] * 3)), findings_of([]), at(CUTOFF),
        replace(POLICY, version="9"),
    )  # fmt: skip
    assert tuple(labels.columns) == COLUMNS
    assert set(labels["policy"]) == {"9"}
    assert labels["nuisance"].dtype == bool
    assert Counter(labels["source"]) == {"reports": 1, "unreported": 1}


def test_nothing_known_is_no_label():
    labels = label()
    assert labels.empty
    assert (*labels.index.names, *labels.columns) == COLUMNS


def test_the_policy_as_json():
    told = POLICY.to_json()
    assert told["version"] == "1"
    assert told["effective"] == POLICY.effective.isoformat()
    assert "courier" not in told["against"]


@pytest.mark.parametrize(
    "text",
    [
        "version = ",
        'version = "1"',
        "\x00",
        'version = "1"\neffective = "soon"\n',
        'version = "1"\neffective = 2026-01-01\nfindings = 3\n',
    ],
)
def test_a_bad_policy_file_is_one_line(tmp_path, text):
    path = tmp_path / "labels.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a label policy") as caught:
        read_label_policy(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_policy_file_that_is_not_text_is_one_line(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a label policy"):
        read_label_policy(path)


def test_the_busiest_day_counts_calls_before_the_cutoff():
    rows = [("a", 0, 0)] * 3 + [("a", 1, DAY)] * 2 + [("b", 1, DAY)] + [("a", 9, CUTOFF * DAY)] * 50
    calls = pa.table(
        {
            "caller": pa.array([row[0] for row in rows]).dictionary_encode(),
            "day": pa.array([row[1] for row in rows], pa.int32()),
            "start": pa.array([row[2] for row in rows], pa.int64()),
        }
    )
    assert busiest_days(calls, at(CUTOFF)).to_dict() == {"a": 3, "b": 1}
    assert busiest_days(calls, at(CUTOFF) + pd.Timedelta(seconds=1))["a"] == 50
