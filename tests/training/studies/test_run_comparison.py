"""Two runs are compared on the calls that judged both, by counts that a loop over calls gives, too."""

import json
from dataclasses import replace

import numpy as np
import pytest

from callsieve.training import Settings
from callsieve.training.data.sources import sources_of
from callsieve.training.model.fit import PARAMETERS
from callsieve.training.model.pool import gather
from callsieve.training.model.split import FOLDS
from callsieve.training.studies.run_comparison import (
    ENOUGH_CALLERS,
    LEAST_CALLERS,
    by_caller,
    by_slice,
    compare_runs,
    enough_callers,
    pair_of,
    shares,
)
from callsieve.training.tracking.record import (
    DATASETS,
    JUDGED,
    SETTINGS,
    Judged,
    read_judged,
    settings_json,
    write_judged,
)


def judged(rows, seed, shift=0.0, callers=40):
    """Returns judged calls at these rows of one folder: 1 in 4 callers is a nuisance, and scores are noisy."""
    rng, caller = np.random.default_rng(seed), rows % callers
    nuisance = caller % 4 == 0
    raw = np.where(nuisance, 2.0 + shift, 0.0) + rng.normal(size=len(rows))
    kind = np.where(nuisance, "spam", np.where(caller % 2 == 0, "courier", "person"))
    return Judged(np.zeros(len(rows), dtype=int), rows, caller, kind, nuisance, raw, raw > 3.0)


def run_folder(path, calls, settings=None, data="aa"):
    """Writes the record of a run with these judged calls."""
    (path / "record").mkdir(parents=True)
    entries = {"calls": {"sha256": data}, "vectors": {"sha256": str(path)}}
    for name, value in ((SETTINGS, settings_json(settings or Settings())), (DATASETS, entries)):
        (path / "record" / name).write_text(json.dumps(value))
    write_columns(calls, path / "record" / JUDGED)
    return path


def write_columns(calls, path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("folder", "row", "caller", "slice", "nuisance", "raw", "flagged")
    pq.write_table(pa.table({name: getattr(calls, name) for name in names}), path)


def test_a_better_run_is_named_with_an_interval_above_zero(tmp_path):
    weak, strong = judged(np.arange(4000), 0), judged(np.arange(4000), 1, shift=2.0)
    folders = (
        run_folder(tmp_path / "weak", weak, Settings(seed=1, judge_seed=7)),
        run_folder(tmp_path / "strong", strong),
    )
    result = compare_runs(*folders)
    assert (result["better"], result["judged_calls"], result["judged_by_one"]) == ("second", 4000, [0, 0])
    assert result["first"] == {"run": str(folders[0]), "seed": 1, "judge_seed": 7}
    catch = [sum(f for f, n in zip(run.flagged, run.nuisance, strict=True) if n) / 1000 for run in (weak, strong)]
    assert [result["catch"]["first"], result["catch"]["second"]] == catch
    assert result["catch"]["low"] < catch[1] - catch[0] < result["catch"]["high"]
    # At the target share, both runs flag as few innocent calls: the highest innocent score is the threshold.
    at_target = [np.mean(run.raw[run.nuisance] > run.raw[~run.nuisance].max()) for run in (weak, strong)]
    assert [result["catch_at_target"][side] for side in ("first", "second")] == pytest.approx(at_target)
    assert compare_runs(*reversed(folders))["better"] == "first"
    assert compare_runs(folders[0], folders[0])["better"] == "unknown"  # with 10 nuisance callers


def test_a_comparison_tells_from_enough_nuisance_callers_alone(tmp_path):
    """All of 4 callers may prefer a run by chance; 30 that hardly differ exclude a difference of 10 points."""

    def compared(callers, shift):
        folder = tmp_path / f"{callers} {shift}"
        first, second = (judged(np.arange(6000), seed, more, callers) for seed, more in ((0, 0.0), (1, shift)))
        result = compare_runs(run_folder(folder / "first", first), run_folder(folder / "second", second))
        return result["better"], result["nuisance_callers"], result["enough_callers"]

    assert compared(16, 2.0)[:2] == ("unknown", 4)
    assert compared(120, 2.0)[:2] == ("second", 30)
    assert compared(120, 0.0) == ("neither", 30, 29)
    assert 0.9**ENOUGH_CALLERS < 0.05 < 0.9 ** (ENOUGH_CALLERS - 1)
    assert 2 * 0.5**LEAST_CALLERS < 0.05 < 2 * 0.5 ** (LEAST_CALLERS - 1)
    wide = {"first": 0.3, "second": 0.3, "difference": 0.0, "low": -0.2, "high": 0.2}
    assert enough_callers(wide, 50) == 200  # half of the width takes four times as many


def test_only_calls_that_judged_both_runs_count():
    first, second = judged(np.arange(0, 300), 0), judged(np.arange(200, 600), 1)
    pair = pair_of(first, second)
    assert len(pair.nuisance) == 100
    np.testing.assert_array_equal(pair.flagged[0], first.flagged[200:])
    np.testing.assert_array_equal(pair.flagged[1], second.flagged[:100])


def test_equal_rows_of_different_folders_are_different_calls():
    calls = judged(np.arange(100), 0)
    assert len(pair_of(calls, replace(calls, folder=np.ones(100, dtype=int))).nuisance) == 0


def test_callers_and_slices_count_the_flags_of_their_calls():
    first, second = judged(np.arange(900), 0), judged(np.arange(900), 1, shift=1.0)
    pair = pair_of(first, second)
    rows = by_caller(pair)
    gaps = [abs(row["second"] - row["first"]) for row in rows]
    assert gaps == sorted(gaps, reverse=True) and 0 not in gaps
    for row in rows:
        own = [i for i in range(900) if first.caller[i] == row["caller"]]
        assert row["calls"] == len(own) and row["slice"] == first.slice[own[0]]
        assert row["first"] == sum(first.flagged[i] for i in own)
        assert row["second"] == sum(second.flagged[i] for i in own)
    slices = by_slice(pair)
    assert [row["slice"] for row in slices] == ["spam", "courier", "person"]
    assert sum(row["calls"] for row in slices) == 900
    for row in slices:
        inside = [i for i in range(900) if first.slice[i] == row["slice"]]
        flagged = [{run.caller[i] for i in inside if run.flagged[i]} for run in (first, second)]
        assert row["callers"] == len({first.caller[i] for i in inside})
        assert (row["only_first"], row["only_second"]) == (len(flagged[0] - flagged[1]), len(flagged[1] - flagged[0]))


def test_the_interval_of_many_equal_callers_covers_the_true_difference():
    rng, covered = np.random.default_rng(0), 0
    for seed in range(60):
        caller = np.repeat(np.arange(80), 5)
        flags = rng.random(400) < 0.5, rng.random(400) < 0.6
        interval = shares(flags, np.ones(400, dtype=bool), caller, seed)
        covered += interval["low"] <= 0.1 <= interval["high"]
    assert covered >= 52  # of 57 expected


def test_runs_that_cannot_be_compared_say_why(tmp_path):
    calls, other = judged(np.arange(100), 0), judged(np.arange(100, 200), 0)
    first = run_folder(tmp_path / "first", calls)
    with pytest.raises(ValueError, match="the runs read other data, calls; train both on the same folders"):
        compare_runs(first, run_folder(tmp_path / "data", calls, data="bb"))
    with pytest.raises(ValueError, match=r"compare: the runs share 0 test calls, of 100 and 100.*one --seed"):
        compare_runs(first, run_folder(tmp_path / "seed", other))
    with pytest.raises(ValueError, match=r"settings\.json: expected the record of a run: it is missing$"):
        compare_runs(first, tmp_path / "none")
    (first / "record" / JUDGED).unlink()
    with pytest.raises(ValueError, match="expected the judged calls of a run"):
        compare_runs(first, first)


@pytest.mark.system
def test_a_run_writes_the_calls_that_its_headline_counts(training_run, trained, tmp_path):
    folder, figures = training_run
    calls, head = read_judged(folder / "record" / JUDGED), figures["headline"]["model"]
    assert (~calls.nuisance & ~np.isnan(calls.raw)).sum() == head["benign_calls"]
    assert (~calls.nuisance & calls.flagged).sum() == head["false_calls"]
    assert calls.flagged[calls.nuisance].mean() == pytest.approx(head["catch"]["call"]["rate"])
    write_judged(trained, tmp_path / JUDGED)
    for name in ("row", "caller", "slice", "nuisance", "flagged"):
        np.testing.assert_array_equal(getattr(read_judged(tmp_path / JUDGED), name), getattr(calls, name))


def test_one_judge_seed_gives_two_seeds_the_same_judging_calls(dataset):
    def read(**seeds):
        settings = Settings(threads=2, features=("out_calls_count_1h",), parameters=PARAMETERS, **seeds)
        return gather(sources_of(dataset), settings, lambda *_: None)

    first, second, other = read(seed=1, judge_seed=5), read(seed=2, judge_seed=5), read(seed=2)
    for flag in ("certify", "choose"):
        rows = [run.pool.row[getattr(run.pool, flag)] for run in (first, second, other)]
        np.testing.assert_array_equal(rows[0], rows[1])
        assert not np.array_equal(rows[1], rows[2])
    assert not np.array_equal(first.matrix.moment, second.matrix.moment)  # other calls of the same callers are drawn
    assert Settings(seed=3).judging_seed == 3
    assert FOLDS == ("train", "certify")


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_a_judge_seed_is_a_whole_number(value):
    with pytest.raises(ValueError, match="judge_seed must be a whole number, 0 or more"):
        Settings(judge_seed=value)


@pytest.mark.system
def test_the_command_compares_two_runs(training_run, command_json, command_text):
    folder, _ = training_run
    result = command_json("study", "compare", folder, folder)
    assert result["better"] == "unknown" and result["callers"] == []  # its nuisance callers are few
    assert result["catch"]["difference"] == 0
    assert "cannot tell from 4 nuisance callers" in " ".join(command_text("study", "compare", folder, folder).split())
