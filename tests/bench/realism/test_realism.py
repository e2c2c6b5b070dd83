"""The comparison with real records: the arrays of a world, each statistic, and the script."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from tests.bench.realism import world_arrays as arrays
from tests.bench.realism.comparison import Realism, Statistic, realism, sim_to_real_auc
from tests.bench.realism.march_table import COLUMNS, OUT, march_columns
from tests.support.calls.worlds import DAY, SHIPPED_SCENARIO, small_world, text_values
from tests.support.paths import DATA, ROOT


@pytest.fixture(scope="module")
def simulated():
    return arrays.world_arrays(small_world())


def test_arrays_equal_the_tables(simulated):
    world = small_world()
    assert len(simulated.caller) == world.calls.num_rows
    assert simulated.guilty.tolist() == world.truth["nuisance"].to_pylist()
    bad = set(text_values(world.numbers, "number")[text_values(world.numbers, "nuisance").astype(bool)])
    strings = np.array(world.calls["caller"].combine_chunks().dictionary.to_pylist())
    assert set(strings[simulated.nuisance]) == bad
    assert (simulated.answered == (text_values(world.calls, "outcome") == "answered")).all()


def test_records_of_a_month_are_the_answered_calls_of_own_mobiles(simulated):
    records = arrays.month_records(simulated)
    month = simulated.answered & (simulated.start < arrays.MONTH * DAY)
    outgoing, incoming = simulated.own_mobile[simulated.caller] & month, simulated.own_mobile[simulated.callee] & month
    assert len(records.subject) == outgoing.sum() + incoming.sum()
    assert (records.kind == OUT).sum() == outgoing.sum()
    assert simulated.own_mobile[records.subject].all()


def test_arrays_do_not_depend_on_the_dictionary_of_the_number_table(simulated):
    world = small_world()
    own = pc.dictionary_decode(world.numbers["number"].combine_chunks()).dictionary_encode()
    place = world.numbers.column_names.index("number")
    other = replace(world, numbers=world.numbers.set_column(place, "number", own))
    assert (arrays.world_arrays(other).nuisance == simulated.nuisance).all()


def test_gaps_and_hours_equal_a_direct_computation(simulated):
    number = int(np.bincount(simulated.caller[simulated.answered]).argmax())
    rows = simulated.answered & ((simulated.caller == number) | (simulated.callee == number))
    start = np.sort(simulated.start[rows])
    assert arrays.gaps(simulated, np.array([number])) == pytest.approx(np.diff(start) / 1000)
    assert sorted(arrays.hours(simulated, np.array([number]))) == pytest.approx(sorted(start % DAY / 3_600_000))


def test_churn_equals_a_direct_count():
    at = np.array([20.0, 21.0, 22.0, 29.5, 20.0, 21.0]) * DAY
    numbers = np.array([1, 1, 1, 1, 2, 3])
    complaints = arrays.Complaints(call=np.arange(6), number=numbers, at=at.astype(np.int64), days=30)
    assert arrays.churn(complaints, 7, 1) == pytest.approx(2 / 6)  # more than seven days from third to fourth
    assert arrays.churn(complaints, 30, 1) == pytest.approx(3 / 6)
    assert arrays.churn(complaints, 30, 3) == pytest.approx(1 / 6)


def test_complaints_are_about_nuisance_calls_and_differ_between_draws(simulated):
    complaints = arrays.complaints(simulated, SHIPPED_SCENARIO)
    assert len(complaints.call) > 20
    assert simulated.guilty[complaints.call].all()
    assert len(set(complaints.number // len(simulated.nuisance))) > 5


def test_statistics_within_their_limits_are_marked():
    near = Statistic("g", "n", "s", 10.0, 12.0, "ratio", 0.2, "x")
    far = Statistic("g", "n", "s", 10.0, 12.0, "ks", 0.2, "x")
    unknown = Statistic("g", "n", "s", 10.0, float("nan"), "ratio", float("nan"), "x")
    assert (near.within, far.within, unknown.within) == (True, False, False)
    assert unknown.to_json()["world"] is None
    json.dumps(unknown.to_json(), allow_nan=False)
    result = Realism((near, far), 0.8, {})
    assert result.within_share == 0.5


def test_a_model_of_simulated_rows_ranks_other_rows(simulated):
    """A model of one half of a world ranks the other half; with shuffled labels it does not."""
    month = march_columns(arrays.month_records(simulated))
    rng = np.random.default_rng(0)
    sample = pd.concat([month] * 8, ignore_index=True) * rng.uniform(0.9, 1.1, (8 * len(month), len(COLUMNS)))
    guilty = np.tile(simulated.nuisance[month.index.to_numpy()], 8)
    rows = sample.iloc[::2].assign(label=guilty[::2].astype(int))
    auc = sim_to_real_auc(sample.iloc[1::2], guilty[1::2], rows, threads=1)
    shuffled = rows.assign(label=rng.permutation(rows["label"]))
    blind = sim_to_real_auc(sample.iloc[1::2], guilty[1::2], shuffled, threads=1)
    assert auc > 0.8
    assert abs(blind - 0.5) < 0.1


def test_missing_real_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected the real data, missing: sichuan_march_calls\.parquet"):
        realism(small_world(), SHIPPED_SCENARIO, tmp_path)


def run(data):
    module = (sys.executable, "-m", "tests.bench.bench_realism")
    command = [*module, "--data", str(data), "--size", "tiny", "--threads", "1", "--json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.system
def test_the_script_refuses_missing_real_data(tmp_path):
    result = run(tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "expected the real data, missing: sichuan_march_calls.parquet" in result.stderr


@pytest.mark.system
@pytest.mark.skipif(not (DATA / "sichuan_march_calls.parquet").is_file(), reason="the real data are not here")
def test_a_tiny_world_is_compared_with_the_real_data():
    figures = json.loads(run(DATA).stdout)
    assert 0.5 < figures["sim_to_real_auc"] < 1
    assert len(figures["statistics"]) >= 40
    groups = {statistic["group"] for statistic in figures["statistics"]}
    assert groups >= {"ordinary subscribers", "nuisance SIMs", "complaints"}
