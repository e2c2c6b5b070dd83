"""The comparison with real records: what is observed of a world, each distance, and the command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from callsieve.serving.custody.purposes import declare
from callsieve.training.studies import likeness, observed
from callsieve.training.studies.march import COLUMNS, OUT, march_columns
from callsieve.training.studies.realism import Realism, Statistic, realism, sim_to_real_auc
from tests.support.paths import DATA
from tests.support.worlds import DAY, SHIPPED, small_world, words


@pytest.fixture(scope="module")
def seen():
    return observed.observe(small_world())


def test_what_is_observed_is_what_the_tables_say(seen):
    world = small_world()
    assert len(seen.caller) == world.calls.num_rows
    assert seen.guilty.tolist() == world.truth["nuisance"].to_pylist()
    bad = set(words(world.numbers, "number")[words(world.numbers, "nuisance").astype(bool)])
    strings = np.array(world.calls["caller"].combine_chunks().dictionary.to_pylist())
    assert set(strings[seen.nuisance]) == bad
    assert (seen.answered == (words(world.calls, "outcome") == "answered")).all()


def test_a_months_records_are_the_answered_calls_of_own_mobiles(seen):
    records = observed.month_records(seen)
    month = seen.answered & (seen.start < observed.MONTH * DAY)
    made, taken = seen.own_mobile[seen.caller] & month, seen.own_mobile[seen.callee] & month
    assert len(records.subject) == made.sum() + taken.sum()
    assert (records.kind == OUT).sum() == made.sum()
    assert seen.own_mobile[records.subject].all()


def test_a_world_whose_table_of_numbers_has_an_order_of_its_own_is_the_same(seen):
    world = small_world()
    own = pc.dictionary_decode(world.numbers["number"].combine_chunks()).dictionary_encode()
    place = world.numbers.column_names.index("number")
    other = replace(world, numbers=world.numbers.set_column(place, "number", own))
    assert (observed.observe(other).nuisance == seen.nuisance).all()


def test_gaps_and_hours_by_hand(seen):
    number = int(np.bincount(seen.caller[seen.answered]).argmax())
    rows = seen.answered & ((seen.caller == number) | (seen.callee == number))
    start = np.sort(seen.start[rows])
    assert observed.gaps(seen, np.array([number])) == pytest.approx(np.diff(start) / 1000)
    assert sorted(observed.hours(seen, np.array([number]))) == pytest.approx(sorted(start % DAY / 3_600_000))


def test_churn_by_hand():
    at = np.array([20.0, 21.0, 22.0, 29.5, 20.0, 21.0]) * DAY
    told = observed.Complaints(call=np.arange(6), number=np.array([1, 1, 1, 1, 2, 3]), at=at.astype(np.int64), days=30)
    assert observed.churn(told, 7, 1) == pytest.approx(2 / 6), "the fourth comes more than seven days after the third"
    assert observed.churn(told, 30, 1) == pytest.approx(3 / 6)
    assert observed.churn(told, 30, 3) == pytest.approx(1 / 6)


def test_complaints_concern_nuisance_and_differ_from_draw_to_draw(seen):
    told = observed.complaints(seen, SHIPPED)
    assert len(told.call) > 20
    assert seen.guilty[told.call].all()
    assert len(set(told.number // len(seen.nuisance))) > 5


def test_statistics_say_what_is_near():
    near = Statistic("g", "n", "s", 10.0, 12.0, "ratio", 0.2, "x")
    far = Statistic("g", "n", "s", 10.0, 12.0, "ks", 0.2, "x")
    unknown = Statistic("g", "n", "s", 10.0, float("nan"), "ratio", float("nan"), "x")
    assert (near.within, far.within, unknown.within) == (True, False, False)
    assert unknown.to_json()["world"] is None
    json.dumps(unknown.to_json(), allow_nan=False)
    found = Realism((near, far), 0.8, {})
    assert found.within_share == 0.5
    drawing = likeness.picture(found)
    assert drawing.startswith("<svg")
    assert drawing == likeness.picture(found)


def test_a_model_of_the_world_alone_ranks_rows_of_another(seen):
    """Two halves of one world: what it learns on the one it tells on the other; shuffled labels tell nothing."""
    month = march_columns(observed.month_records(seen))
    rng = np.random.default_rng(0)
    grown = pd.concat([month] * 8, ignore_index=True) * rng.uniform(0.9, 1.1, (8 * len(month), len(COLUMNS)))
    guilty = np.tile(seen.nuisance[month.index.to_numpy()], 8)
    rows = grown.iloc[::2].assign(label=guilty[::2].astype(int))
    auc = sim_to_real_auc(grown.iloc[1::2], guilty[1::2], rows, threads=1)
    shuffled = rows.assign(label=rng.permutation(rows["label"]))
    blind = sim_to_real_auc(grown.iloc[1::2], guilty[1::2], shuffled, threads=1)
    assert auc > 0.8
    assert abs(blind - 0.5) < 0.1


def test_without_the_real_data_it_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"expected the real data, without sichuan_march_calls\.parquet"):
        realism(small_world(), SHIPPED, tmp_path)


@pytest.mark.parametrize("written", [True, False])
def test_the_comparison_is_written_where_asked(monkeypatch, tmp_path, written):
    near = Statistic("g", "n", "s", 10.0, 12.0, "ratio", 0.2, "x")
    monkeypatch.setattr(likeness, "require_real", lambda _data: None)
    monkeypatch.setattr(likeness, "realism", lambda *_, **_told: Realism((near,), 0.8, {"real": 3}))
    monkeypatch.setattr(likeness, "simulate", lambda *_: small_world())
    figures = compare(tmp_path, tmp_path if written else None)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["realism.json", "realism.svg"] * written
    assert figures["statistics"] == [near.to_json()] and figures["world"]["calls"] == small_world().calls.num_rows


def compare(data, out):
    return likeness.compare(data, size="tiny", seed=1, scenario=None, threads=1, out=out, progress=lambda *_: None)


def test_real_records_are_asked_for_before_a_world_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(likeness, "simulate", None)
    with pytest.raises(ValueError, match=r"expected the real data, without sichuan_march_calls\.parquet"):
        compare(tmp_path, None)


@pytest.mark.skipif(not (DATA / "sichuan_march_calls.parquet").is_file(), reason="the real data are not here")
def test_a_tiny_world_beside_the_real_data(tmp_path):
    data = shutil.copytree(DATA, tmp_path / "data")
    with pytest.raises(ValueError, match="nobody said where these rows are from"):
        realism(small_world(), SHIPPED, data)
    declare(data, "sample of the test", "published", ["statistics"], "2999-12-31")
    figures = compare(data, tmp_path)
    assert 0.5 < figures["sim_to_real_auc"] < 1
    assert len(figures["statistics"]) >= 40
    assert {one["group"] for one in figures["statistics"]} >= {"ordinary subscribers", "nuisance SIMs", "reports"}
    assert json.loads((tmp_path / "realism.json").read_text()) == figures
    assert (tmp_path / "realism.svg").read_text().startswith("<svg")
