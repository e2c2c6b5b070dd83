"""Promotion needs gates logged before the run, two approvals, and a win over the champion."""

import dataclasses
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from callsieve.features.intake.text_columns import factorize
from callsieve.training.judging.compare import compare_flags
from callsieve.training.oversight.audit import promote as promoting
from callsieve.training.oversight.audit.promote import _run_of_version, candidate, promote, rollback
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.log.approvals import approve, check
from callsieve.training.oversight.log.audit_log import append, payloads, read
from callsieve.training.oversight.log.gates import parse_gates, shipped_gates
from callsieve.training.tracking import mlflow_read, mlflow_write
from tests.support import small_bundle as small
from tests.support.errors import raising, refused
from tests.support.trainings import recorded_run

pytestmark = pytest.mark.system


def champion(place):
    return mlflow_read.registry(place.uri)["aliases"].get(mlflow_write.CHAMPION)


def approvals(place, run, folder, keys=recorded_run.APPROVERS[:2]):
    """Writes one approval file per key, and returns their paths."""
    statement = candidate(place, run).statement
    folder.mkdir(exist_ok=True)
    paths = []
    for key in keys:
        paths.append(folder / f"{len(list(folder.iterdir()))}.json")
        approve(statement, key, paths[-1])
    return paths


@pytest.fixture
def place(empty_store, tmp_path):
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return recorded_run.run_paths_in(tmp_path)


@pytest.fixture
def one_run(place, tmp_path):
    """A recorded run, and the approvals of two persons for its promotion."""
    run = recorded_run.record_run(place, tmp_path / "one")
    return run, approvals(place, run["run"], tmp_path / "approvals")


@pytest.mark.source("L38", by="training/oversight/audit/promote.py")
def test_a_first_champion_needs_gates_and_two_approvals(place, one_run):
    run, files = one_run
    with pytest.raises(ValueError, match="expected 2 by different persons that the gates name, got 1"):
        promote(place, run["run"], files[:1], small.KEY, data=None)
    assert champion(place) is None
    payload = promote(place, run["run"], files, small.KEY, data=None)
    assert (champion(place), payload["from"], payload["comparison"]) == (run["version"], None, None)
    entry, logged = next(payloads(place.log, "promotion"))
    assert entry.kind == "promotion" and logged["approvals"] == payload["approvals"]
    assert [approval["by"] for approval in logged["approvals"]] == ["risk", "legal"]
    assert len({approval["key"] for approval in logged["approvals"]}) == 2
    assert all(gate["passed"] for gate in logged["gates"])
    assert verify(place.log, uri=place.uri).faults == ()
    # An alias that moves without a log entry is a fault.
    MlflowClient(place.uri).delete_registered_model_alias(mlflow_write.MODEL, mlflow_write.CHAMPION)
    assert [fault.where for fault in verify(place.log, uri=place.uri).faults] == ["alias champion"]


@pytest.mark.source("L38", by="training/oversight/audit/promote.py")
def test_concurrent_promotions_do_not_share_approvals(place, one_run, monkeypatch):
    run, files = one_run
    barrier, fetch = threading.Barrier(2, timeout=1), promoting.fetch

    def fetch_together(*words):
        with suppress(threading.BrokenBarrierError):
            barrier.wait()  # both read the statement to approve, unless one promotion waits for the other
        return fetch(*words)

    def outcome(_n):
        try:
            return promote(place, run["run"], files, small.KEY, data=None)["from"]
        except ValueError as error:
            return str(error)

    monkeypatch.setattr(promoting, "fetch", fetch_together)
    with ThreadPoolExecutor(2) as pool:
        first, second = sorted(pool.map(outcome, range(2)), key=str)
    assert "statement: move must be 1, got '0'" in first and second is None
    assert len(list(payloads(place.log, "promotion"))) == 1


@pytest.mark.parametrize(
    ("metric", "value", "message"),
    [
        ("model_benign_error_bound", 2e-4, "model_benign_error_bound must be at most 0.0001, got 0.0002"),
        ("model_catch_by_call_low", 0.31, "model_catch_by_call_low must be at least 0.55, got 0.31"),
        ("model_detection_median", None, "model_detection_median must be at most 10, got not measured"),
        ("test_fold_touches", 2.0, "test_fold_touches must be at most 1, got 2"),
    ],
)
def test_a_failed_gate_stops_a_promotion(place, tmp_path, metric, value, message):
    metrics = recorded_run.PASSING_METRICS | {metric: value}
    metrics = {name: figure for name, figure in metrics.items() if figure is not None}
    run = recorded_run.record_run(place, tmp_path / "one", metrics=metrics)
    files = approvals(place, run["run"], tmp_path / "approvals")
    with pytest.raises(ValueError, match=f"promote: {message}"):
        promote(place, run["run"], files, small.KEY, data=None)
    assert champion(place) is None
    assert "promotion" not in {entry.kind for entry in read(place.log)}


def test_a_median_beyond_all_calls_fails_with_its_floor(place, tmp_path):
    metrics = recorded_run.PASSING_METRICS | {"model_detection_median_floor": 25.0}
    del metrics["model_detection_median"]
    run = recorded_run.record_run(place, tmp_path / "one", metrics=metrics)
    assert candidate(place, run["run"]).failed == ["model_detection_median must be at most 10, got over 25"]


def test_a_required_certified_slice_is_a_gate(place, tmp_path):
    gates = recorded_run.gates(**{"certified = []": 'certified = ["courier"]'})
    run = recorded_run.record_run(place, tmp_path / "one", judged_by=gates)
    assert candidate(place, run["run"]).failed == [
        "slice/benign/courier/certified must be at least 1, got not measured"
    ]


def test_an_edited_artifact_stops_a_promotion(place, one_run, tmp_path):
    run, files = one_run
    model = next((tmp_path / "mlartifacts").rglob("model.txt"))
    model.write_bytes(model.read_bytes().replace(b"tree", b"Tree", 1))
    with pytest.raises(ValueError, match=r"artifact model/bundle/model\.txt: logged as .*; see callsieve audit verify"):
        promote(place, run["run"], files, small.KEY, data=None)


def test_gates_are_those_that_were_logged_before_the_run(place, tmp_path):
    run = recorded_run.record_run(place, tmp_path / "one")
    entry, logged = next(payloads(place.log, "run"))
    shipped = shipped_gates()
    late = append(place.log, "gates", {"sha256": shipped.sha256, "text": shipped.data.decode()}, small.KEY)
    changed = logged | {"gates": logged["gates"] | {"entry": late, "sha256": shipped.sha256}, "run": "later"}
    append(place.log, "run", changed, small.KEY)
    assert candidate(place, "later").gates.sha256 == shipped.sha256
    append(place.log, "run", changed | {"gates": changed["gates"] | {"entry": late + 2}, "run": "latest"}, small.KEY)
    with pytest.raises(ValueError, match="of the log, before the run's own entry"):
        candidate(place, "latest")
    append(place.log, "run", changed | {"gates": changed["gates"] | {"entry": 0}, "run": "other"}, small.KEY)
    with pytest.raises(ValueError, match="gates: expected SHA-256"):
        candidate(place, "other")
    with pytest.raises(ValueError, match="run unknown: the audit log has no such run or model"):
        candidate(place, "unknown")
    assert candidate(place, run["run"]).run == logged and entry.index < late


def test_a_failed_write_leaves_no_approval_file(tmp_path, monkeypatch):
    monkeypatch.setattr("callsieve.features.files.atomic.os.fsync", raising(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        approve({"model": "a"}, recorded_run.APPROVERS[0], tmp_path / "approval.json")
    assert not list(tmp_path.iterdir())  # a leftover file would make the next attempt fail: it exists


def test_an_invalid_approval_is_refused(tmp_path):
    statement, gates = {"kind": "callsieve approval", "model": "a", "move": 0}, recorded_run.gates()
    first, second, third = (tmp_path / f"{i}.json" for i in range(3))
    name = approve(statement, recorded_run.APPROVERS[0], first)
    approve(statement | {"model": "b"}, recorded_run.APPROVERS[1], second)
    approve(statement, small.OTHER_KEY, third)
    same = tmp_path / "same.json"
    shutil.copy(first, same)
    for files, signers, message in (
        ([first, same], (), rf"same\.json: risk approved already, with key {name}"),
        ([first, second], (), "model must be 'a', got 'b'"),
        ([first, third], (), "which is not trusted"),
        ([first], (name,), "signed the bundle or its log, and cannot approve it"),
    ):
        with pytest.raises(ValueError, match=message):
            check(files, statement, gates, len(files), signers)
    with pytest.raises(FileExistsError):
        approve(statement, recorded_run.APPROVERS[0], first)
    edited = json.loads(first.read_text())
    edited["statement"]["model"] = "c"
    first.write_text(json.dumps(edited))
    with pytest.raises(ValueError, match="does not fit"):
        check([first], statement | {"model": "c"}, gates, 1, ())


def killed_before_the_alias_moves(monkeypatch, move):
    """Runs `move`, and kills it after its log entry and before the alias moves."""

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(mlflow_write, "move_champion", raising(Killed))
        move()


def test_the_same_command_finishes_an_interrupted_promotion(place, one_run, monkeypatch):
    run, files = one_run
    killed_before_the_alias_moves(monkeypatch, lambda: promote(place, run["run"], files, small.KEY, data=None))
    assert champion(place) is None
    assert [fault.where for fault in verify(place.log, uri=place.uri).faults] == ["alias champion"]
    payload = promote(place, run["run"], files, small.KEY, data=None)
    ((entry, logged),) = payloads(place.log, "promotion")
    assert (champion(place), payload) == (run["version"], logged | {"entry": entry.index})
    assert verify(place.log, uri=place.uri).faults == ()


def test_the_same_command_finishes_an_interrupted_rollback_without_a_second_step(contest, tmp_path, monkeypatch):
    place, weak, strong, calls = contest
    files = approvals(place, strong["run"], tmp_path / "second")
    killed_before_the_alias_moves(monkeypatch, lambda: promote(place, strong["run"], files, small.KEY, data=calls))
    assert champion(place) == weak["version"]
    assert promote(place, strong["run"], files, small.KEY, data=calls)["version"] == champion(place)
    back = approvals(place, weak["run"], tmp_path / "back")
    killed_before_the_alias_moves(monkeypatch, lambda: rollback(place, "complaints", back, small.KEY))
    assert champion(place) == strong["version"]
    assert rollback(place, "complaints", back, small.KEY)["version"] == champion(place) == weak["version"]
    kinds = [entry.kind for entry, _ in payloads(place.log, "promotion", "rollback")]
    assert kinds == ["promotion", "promotion", "rollback"]
    assert verify(place.log, uri=place.uri).faults == ()


def test_an_edited_alias_does_not_count_as_an_interrupted_move(place, tmp_path):
    first, second = (recorded_run.record_run(place, tmp_path / name) for name in ("one", "two"))
    files = approvals(place, first["run"], tmp_path / "approvals")
    promote(place, first["run"], files, small.KEY, data=None)
    mlflow_write.move_champion(place.uri, second["version"])
    with pytest.raises(ValueError, match="alias champion: logged as pointing to version 1, now to version 2"):
        promote(place, first["run"], files, small.KEY, data=None)
    assert champion(place) == second["version"]


@pytest.fixture
def contest(place, world_folder, dataset, tmp_path):
    """A champion that flags nothing, a challenger that flags everything, and the calls to compare them on."""
    same = {"data": dataset.fingerprint}
    weak = recorded_run.record_run(place, tmp_path / "weak", threshold=50.0, **same)
    promote(place, weak["run"], approvals(place, weak["run"], tmp_path / "first"), small.KEY, data=None)
    strong = recorded_run.record_run(place, tmp_path / "strong", threshold=-50.0, **same)
    return place, weak, strong, half_nuisance(world_folder, tmp_path / "calls")


def half_nuisance(world_folder, folder):
    """Copies the world and makes half its callers nuisances: enough calls to show a difference of two models."""
    shutil.copytree(world_folder, folder)
    calls = pq.read_table(folder / "calls.parquet")
    odd = factorize(calls["caller"])[0] % 2 == 1
    pq.write_table(pa.table({"call": calls["call"], "nuisance": odd, "slice": ["x"] * len(odd)}),
                   folder / "truth.parquet")  # fmt: skip
    return folder


def test_a_challenger_must_beat_the_champion_and_rollback_restores_it(contest, dataset, tmp_path):
    place, weak, strong, calls = contest
    used = sorted((tmp_path / "first").iterdir())
    files = approvals(place, strong["run"], tmp_path / "second")
    with pytest.raises(ValueError, match="must be"):  # an approval is for one model and one move
        promote(place, strong["run"], used, small.KEY, data=calls)
    with pytest.raises(ValueError, match="expected --data FOLDER with the calls of the run"):
        promote(place, strong["run"], files, small.KEY, data=None)
    progress = []
    payload = promote(place, strong["run"], files, small.KEY, data=calls, progress=lambda *step: progress.append(step))
    stages, parts = zip(*progress, strict=True)
    assert stages == ("log", "run 1/2", "run 2/2", "verified", "read calls", "compare", "compare")
    assert list(parts) == sorted(parts) and (parts[0], parts[-1]) == (0.0, 1.0)
    comparison = payload["comparison"]
    assert comparison["better"] and comparison["low"] > 0
    assert (comparison["challenger"], comparison["champion"], comparison["difference"]) == (1.0, 0.0, 1.0)
    assert (comparison["challenger_false"], comparison["champion_false"]) == (comparison["benign_calls"], 0)
    assert champion(place) == strong["version"]
    assert sorted(verify(place.log, uri=place.uri).touches.values()) == [1, 2]  # two runs and the comparison

    # The weak model does not beat the strong one, and nothing moves.
    again = recorded_run.record_run(place, tmp_path / "again", threshold=50.0, data=dataset.fingerprint)
    with pytest.raises(ValueError, match="the challenger does not beat the champion: catch rate difference -"):
        promote(place, again["run"], approvals(place, again["run"], tmp_path / "third"), small.KEY, data=calls)
    assert champion(place) == strong["version"]

    progress.clear()
    with pytest.raises(ValueError, match="statement: run must be"):
        rollback(place, "complaints", files, small.KEY)
    files = approvals(place, weak["run"], tmp_path / "back")
    with pytest.raises(ValueError, match="expected 2 by different persons that the gates name, got 1"):
        rollback(place, "complaints", files[:1], small.KEY)
    assert champion(place) == strong["version"]
    back = rollback(place, "complaints from a hospital", files, small.KEY, lambda *step: progress.append(step))
    assert [approval["by"] for approval in back["approvals"]] == ["risk", "legal"]
    assert progress[-1] == ("verified", 1.0)
    assert (back["version"], champion(place)) == (weak["version"], weak["version"])
    assert verify(place.log, uri=place.uri).faults == ()
    with pytest.raises(ValueError, match="expected a champion before the current one, got none"):
        rollback(place, "again", files, small.KEY)
    used = sorted((tmp_path / "second").iterdir())
    with pytest.raises(ValueError, match="move must be 3"):  # an approval does not hold for a later move
        promote(place, strong["run"], used, small.KEY, data=calls)


def test_calls_of_another_run_are_refused(contest, tmp_path):
    place, _, _, calls = contest
    other = recorded_run.record_run(place, tmp_path / "other")
    with pytest.raises(ValueError, match="expected the calls of the run, 0000000000000000, got"):
        promote(place, other["run"], approvals(place, other["run"], tmp_path / "more"), small.KEY, data=calls)


def test_rollback_refuses_an_edited_bundle(contest, tmp_path):
    place, weak, strong, calls = contest
    files = approvals(place, strong["run"], tmp_path / "second")
    promote(place, strong["run"], files, small.KEY, data=calls)
    earlier, current = (
        tmp_path / "mlartifacts" / run["run"] / "artifacts/model/bundle/bundle.json" for run in (weak, strong)
    )
    whole = earlier.read_bytes()
    earlier.write_bytes(whole + b" ")
    back = approvals(place, weak["run"], tmp_path / "back")
    with pytest.raises(ValueError, match=rf"rollback: run {weak['run']}, artifact model/bundle/bundle\.json"):
        rollback(place, "complaints", back, small.KEY)
    assert champion(place) == strong["version"]
    earlier.write_bytes(whole)
    current.write_bytes(current.read_bytes() + b" ")  # an edited bundle of the model that leaves does not matter
    assert rollback(place, "complaints", back, small.KEY)["version"] == weak["version"]
    with pytest.raises(ValueError, match="model version 7: the log has no run of this version"):
        _run_of_version(place, "7")


LOOSE = dataclasses.replace(shipped_gates(), least_callers=1, rounds=200)
flags = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9)), min_size=2, max_size=60)


@given(flags)
def test_the_difference_lies_in_its_interval_and_changes_sign_with_the_sides(calls):
    left, right, nuisance, caller = (np.array(column) for column in zip(*calls, strict=True))
    nuisance[0] = True
    comparison = compare_flags(left, right, nuisance, caller, LOOSE, seed=1)
    reversed_sides = compare_flags(right, left, nuisance, caller, LOOSE, seed=1)
    assert -1 <= comparison.low <= comparison.high <= 1
    assert comparison.challenger == reversed_sides.champion == pytest.approx(sum(left & nuisance) / sum(nuisance))
    assert (comparison.calls, comparison.callers) == (sum(nuisance), len(set(caller[nuisance])))
    assert comparison.benign_calls + comparison.calls == len(calls)
    assert not (comparison.better and reversed_sides.better)
    same = compare_flags(left, left, nuisance, caller, LOOSE, seed=1)
    assert same.low <= 0 <= same.high and not same.better


def test_the_interval_equals_that_of_a_caller_bootstrap():
    """The reference is a plain bootstrap, written independently."""
    rng = np.random.default_rng(4)
    caller = rng.integers(0, 80, 4000)
    skill = rng.random(80)
    left, right = rng.random(4000) < skill[caller], rng.random(4000) < 0.9 * skill[caller]
    every_call, many = np.ones(4000, dtype=bool), dataclasses.replace(LOOSE, rounds=4000)
    comparison = compare_flags(left, right, every_call, caller, many, seed=1)
    ahead = [(left[caller == c].sum() - right[caller == c].sum(), (caller == c).sum()) for c in range(80)]
    drawn = []
    for _ in range(4000):
        some = [ahead[i] for i in rng.integers(0, 80, 80)]
        drawn.append(sum(top for top, _ in some) / sum(calls for _, calls in some))
    assert (comparison.low, comparison.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.004)
    assert comparison.better
    few = dataclasses.replace(LOOSE, least_callers=81)
    assert not compare_flags(left, right, every_call, caller, few, seed=1).better
    with pytest.raises(ValueError, match="expected nuisance calls"):
        compare_flags(left, right, ~every_call, caller, few, seed=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('version = "3"', "version = 3", "version: expected `str`, got `int`"),
        ("at_most = 1e-4", "", r"gate\[0\]: expected at_most or at_least"),
        ("at_most = 1e-4", 'at_most = "low"', r"gate\[0\]\.at_most: expected `float | null`, got `str`"),
        ("at_most = 1e-4", "most = 1", r"gate\[0\]: object contains unknown field `most`"),
        ("needed = 2", "needed = 0", "approvals.needed: expected `int` >= 1"),
        ('means = "how', 'mean = "how', r"gate\[4\]: object contains unknown field `mean`"),
        ("keys = {}", "keys = []", "approvals.keys: expected `object`"),
        ("keys = {}", "keys = { a = 1 }", r"approvals\.keys\[...\]: expected `str | array`, got `int`"),
        ("keys = {}", 'keys = { a = ["abc", 1] }', r"approvals\.keys\[...\]\[1\]: expected `str`, got `int`"),
        ("keys = {}", 'keys = { a = "abc" }', "approvals: a key must be 64 hex digits"),
        ("keys = {}", f'keys = {{ a = "{"ab" * 32}", b = "{"ab" * 32}" }}', "approvals: keys must differ"),
        ("certified = []", "certified = [1]", r"slices\.certified\[0\]: expected `str`, got `int`"),
        ("margin = 0.0", "margins = 0.0", "challenger: object contains unknown field `margins`"),
        ("[slices]", "[slice", "line"),
    ],
)
def test_an_invalid_gates_file_is_refused_in_one_line(old, new, message):
    text = shipped_gates().data.decode()
    assert text.count(old) >= 1
    with refused(rf"^mine\.toml: .*{message}"):
        parse_gates(text.replace(old, new, 1).encode(), "mine.toml")
