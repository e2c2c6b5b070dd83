"""Reasons: every value is formatted for people, in English and Chinese."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.catalogue import FEATURES, NAMES
from callsieve.serving.scorer.reasons import english_reasons, strongest_reasons

BY_NAME = {feature.name: feature for feature in FEATURES}
CATEGORIES = [feature for feature in FEATURES if feature.levels]
FULL_WIDTH = str.maketrans(",()", "，（）")
LONG = re.compile(r"\d{7,}")


def texts(name, value):
    """Returns the English and the Chinese text of a value."""
    (reason,) = strongest_reasons([name], [value], [1.0])
    if name not in BY_NAME:
        return reason.en, reason.zh
    before_en, before_zh = f"{BY_NAME[name].en}: ", BY_NAME[name].zh.translate(FULL_WIDTH) + "："
    assert reason.en.startswith(before_en)
    assert reason.zh.startswith(before_zh)
    return reason.en.removeprefix(before_en), reason.zh.removeprefix(before_zh)


@pytest.mark.parametrize(
    ("name", "value", "en", "zh"),
    [
        ("out_answered_share_24h", 0.25, "25%", "25%"),
        ("out_answered_share_24h", 0.0, "0%", "0%"),
        ("out_answered_share_24h", 1.0, "100%", "100%"),
        ("out_calls_count_7d", 0.0, "0", "0"),
        ("out_calls_count_7d", 328.0, "328", "328"),
        ("out_calls_count_7d", 12_345.0, "12,345", "12,345"),
        ("out_calls_count_7d", 1_234_567.0, "1,234,567", "1,234,567"),
        ("out_callee_concentration_7d", 0.04321987, "0.04322", "0.04322"),
        ("out_talk_mean_24h", 11.04, "11.0 seconds", "11.0秒"),
        ("out_talk_mean_24h", 119.9, "119.9 seconds", "119.9秒"),
        ("out_talk_mean_24h", 120.0, "2.0 minutes", "2.0分钟"),
        ("out_talk_mean_24h", 7_200.0, "2.0 hours", "2.0小时"),
        ("number_age", 6.6 * 86_400, "6.6 days", "6.6天"),
        ("call_same_region", 1.0, "yes", "是"),
        ("call_same_region", 0.0, "no", "否"),
        ("call_hour", 23.0, "23", "23"),
        ("call_weekday", 0.0, "0", "0"),
        ("call_shared_prefix", 7.0, "7", "7"),
    ],
)
def test_values_are_formatted_with_their_unit(name, value, en, zh):
    assert texts(name, value) == (en, zh)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_value_of_any_feature_is_not_known(name):
    assert texts(name, math.nan) == ("not known", "未知")


@pytest.mark.parametrize("feature", CATEGORIES, ids=lambda feature: feature.name)
def test_categories_are_formatted_by_name(feature):
    for level, word in enumerate(feature.levels):
        assert texts(feature.name, float(level)) == (word.replace("_", " "),) * 2
    for level in (-1.0, float(len(feature.levels))):
        assert texts(feature.name, level) == (f"{level:g}",) * 2


def test_an_unknown_feature_is_formatted_by_its_name():
    assert texts("new_feature", 0.5) == ("new_feature: 0.5", "new_feature: 0.5")


@given(
    st.lists(
        st.tuples(st.sampled_from([*NAMES, "new_feature"]), st.floats(), st.floats(-20, 20)),
        unique_by=lambda row: row[0],
        max_size=12,
    )
)
def test_reasons_are_the_strongest_features_that_raised_the_score(rows):
    names, values, parts = zip(*rows, strict=True) if rows else ((), (), ())
    reasons = strongest_reasons(names, values, parts)
    assert [reason.contribution for reason in reasons] == sorted((part for part in parts if part > 0), reverse=True)[:4]
    for reason in reasons:
        place = names.index(reason.feature)
        assert parts[place] == reason.contribution
        assert repr(values[place]) == repr(reason.value)


@given(st.integers(1, 7), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_a_table_has_the_sentences_of_its_rows(features, count, seed):
    rng, names = np.random.default_rng(seed), [*NAMES[: features - 1], "new_feature"]
    rows, parts = rng.integers(-1, 3, (2, count, features)).astype(float)  # equal contributions are common
    expected = [[reason.en for reason in strongest_reasons(names, *row)] for row in zip(rows, parts, strict=True)]
    assert english_reasons(names, rows, parts) == expected


@given(st.sampled_from([*NAMES, "new_feature"]), st.floats() | st.integers(-(10**12), 10**12).map(float))
def test_no_value_shows_a_long_run_of_digits(name, value):
    en, zh = texts(name, value)
    assert en.strip()
    assert zh.strip()
    assert not LONG.search(en + " " + zh)
    assert "\n" not in en + zh
