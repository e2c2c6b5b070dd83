"""The March table equals the published row of a subscriber with known records, and a naive count."""

from collections import Counter, defaultdict
from statistics import mean, median

import numpy as np
import pandas as pd
import pytest

from tests.bench.realism.march_table import COLUMNS, IN, OUT, Records, march_columns
from tests.support.paths import DATA


def records(rows):
    return Records(*(np.array(column) for column in zip(*rows, strict=True)))


@pytest.mark.skipif(not (DATA / "sichuan_march_calls.parquet").is_file(), reason="the real data are not here")
def test_every_column_equals_the_published_one():
    raw = pd.read_csv(DATA / "sichuan_raw_calls_4_subscribers.csv", parse_dates=["start_datetime"])
    start = raw["start_datetime"]
    raw = raw[(raw["sample"] == "fake_2") & (start >= "2020-03-01") & (start < "2020-04-01")]
    day = (raw["start_datetime"].dt.normalize() - pd.Timestamp("2020-03-01")).dt.days
    columns = (raw["phone_no_m"], raw["opposite_no_m"], raw["calltype_id"], day, raw["call_dur"])
    table = march_columns(Records(*(column.to_numpy() for column in columns))).iloc[0]
    published = pd.read_parquet(DATA / "sichuan_march_calls.parquet")
    row = published[(published["voc_cnt"] == len(raw)) & (published["call_dur"] == raw["call_dur"].sum())].iloc[0]
    for name in COLUMNS:
        assert table[name] == pytest.approx(row[name], rel=1e-9), name


def test_columns_equal_a_naive_count():
    rng = np.random.default_rng(4)
    low, high = (0, 0, OUT, 0, 1), (3, 8, IN + 1, 31, 90)
    rows = [tuple(map(int, rng.integers(low, high))) for _ in range(120)]
    table = march_columns(records(rows))
    for subject in range(3):
        own = [row[1:] for row in rows if row[0] == subject]
        peers, days = Counter(row[0] for row in own), defaultdict(list)
        for peer, _, day, _ in own:
            days[day].append(peer)
        spans = [
            max(d for p, _, d, _ in own if p == peer) - min(d for p, _, d, _ in own if p == peer) + 1 for peer in peers
        ]
        out = [row for row in own if row[1] == OUT]
        both = {p for p, kind, _, _ in own if kind == OUT} & {p for p, kind, _, _ in own if kind == IN}
        row = table.loc[subject]
        assert row["voc_cnt"] == len(own)
        assert row["call_type_1_ratio"] == pytest.approx(len(out) / len(own))
        assert row["user_cnt"] == len(peers)
        assert row["voc_user_median_cnt"] == median(peers.values())
        assert row["interactive_call_user_ratio"] == pytest.approx(len(both) / len(peers))
        assert row["duration_days_mean"] == pytest.approx(mean(spans))
        assert row["active_days"] == len(days)
        assert row["max_cnt_inner_day"] == max(map(len, days.values()))
        assert row["user_max_cnt_inner_day"] == max(len(set(some)) for some in days.values())
        assert row["initial_call_dur"] == sum(row[3] for row in out)
        assert row["initiative_call_active_days"] == len({row[2] for row in out})


def test_one_peer_has_no_deviation():
    table = march_columns(records([(1, 2, OUT, 0, 5), (1, 2, OUT, 0, 5)])).loc[1]
    assert table["voc_user_std_cnt"] == table["duration_days_std"] == 0
