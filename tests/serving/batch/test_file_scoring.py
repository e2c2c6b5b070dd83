"""A file in many shards gets the verdicts that its calls get in memory, in bounded memory, also after a kill."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from callsieve.features.catalogue import NAMES
from callsieve.features.files.dates import DAY
from callsieve.features.files.progress import silent
from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.keys.tokens import Key
from callsieve.features.offline import keyed_file, shards
from callsieve.features.offline.shards import ShardVectors
from callsieve.features.online.feeds import NO_ROUTES
from callsieve.serving.batch import file_scoring, shard_scoring
from callsieve.serving.batch.call_files import CallFile, read_keyed_file
from callsieve.serving.batch.file_scoring import ScoreInputs, open_registers, open_scorer, score_calls, score_file
from callsieve.serving.batch.shard_scoring import verdict_counts
from callsieve.serving.batch.verdict_file import verdict_table
from callsieve.serving.bundle import level
from callsieve.serving.bundle.metadata import Level
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import MESSAGES
from tests.support import real_bundle
from tests.support.calls.record_files import write_records
from tests.support.simulated import mark_simulated

CALLEES = Key.generate("c1", "callees")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Returns a folder with a bundle and with records: some twice, some late, some of withheld or respelled callers."""
    folder = tmp_path_factory.mktemp("site")
    calls = real_bundle.calls(3000)
    for i in range(0, 3000, 50):
        calls[i] = dataclasses.replace(calls[i], caller=("", "86" + calls[i].caller)[i % 100 == 0])
        calls[i + 1] = dataclasses.replace(calls[i + 1], recorded=calls[i + 1].start + 7000)
    write_records(calls + calls[100:120], folder / "records")
    bands = real_bundle.card().thresholds  # the records have neither trunks nor devices
    unreached = tuple(structs.replace(band, threshold=1e9) for band in bands)
    real_bundle.write_signed(folder, thresholds=unreached, feeds={NO_ROUTES: bands})
    CALLEES.write(folder / "callees.key")
    return folder


def records(site):
    folder = site / "records"
    return CallFile(path=folder / "calls.csv", layout="callsieve", key=folder / "number.key")


def score(site, out, *, threads=2, progress=silent, **changes):
    inputs = {"calls": records(site), "bundle": site / "bundle", "out": out, "callees": site / "callees.key"}
    return score_file(ScoreInputs(**(inputs | changes)), threads=threads, progress=progress)


@pytest.fixture
def in_many_parts(monkeypatch):
    """Cuts work on a few calls as that on billions of calls is cut."""
    for module, sizes in (
        (keyed_file, {"SHARD_BYTES": 1 << 14, "CHUNK_ROWS": 700}),
        (shards, {"CALL_BYTES": 1 << 20, "CHUNK_BYTES": 1 << 20}),
        (file_scoring, {"SPAN_ROWS": 500}),
        (shard_scoring, {"BLOCK_ROWS": 64}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)


def rows_of(table):
    """Returns the rows of a table of verdicts, without dictionaries, in an order that does not depend on ties."""
    table = pa.table({name: dictionary_decoded(table[name]).combine_chunks() for name in table.column_names})
    return table.sort_by([(name, "ascending") for name in ("start", "caller", "callee")]).to_pylist()


def in_memory(site, registers=None):
    """Returns counts and verdicts of the calls of the records, scored in memory."""
    read = read_keyed_file(records(site), "scoring")
    scorer = open_scorer(site / "bundle", None, None, open_registers(registers, None, "scoring"))
    scores, _ = score_calls(scorer, read.calls, threads=1)
    values = scores.score, scores.action, scores.rule_bits
    counts = verdict_counts(scores, read.calls) | {"quarantined": read.quarantined}
    return counts, verdict_table(read.calls, *values, CalleeCipher(CALLEES))


@pytest.mark.system
@pytest.mark.usefixtures("in_many_parts")
def test_a_file_in_many_shards_gets_the_verdicts_of_its_calls_in_memory(site, tmp_path):
    counts, expected = in_memory(site)
    steps = []
    result = score(site, tmp_path / "new" / "verdicts.parquet", progress=lambda _, part: steps.append(part))
    assert {name: result[name] for name in counts} == counts
    assert counts["quarantined"]["duplicate"] == 20
    assert "resumed" not in result
    assert (result["feed"], result["other_feed"]) == (NO_ROUTES, 0)
    verdicts = pq.read_table(tmp_path / "new" / "verdicts.parquet")
    assert verdicts["row"].to_pylist() == list(range(2, 3022))  # lines of the file, below its header
    refused = verdicts.filter(verdicts["action"].is_null())
    assert refused["status"].to_pylist() == ["wrong_input"] * 20 and refused["start"].null_count == 20
    assert refused["message"].to_pylist() == [f"{MESSAGES['wrong_input']}: duplicate"] * 20
    verdicts = verdicts.filter(verdicts["action"].is_valid())
    assert rows_of(verdicts.select(expected.column_names)) == rows_of(expected)
    assert verdicts.select(expected.column_names).schema == expected.schema
    assert pq.read_metadata(tmp_path / "new" / "verdicts.parquet").num_row_groups > 3
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["verdicts.parquet"]
    assert score(site, None, callees=None) == result  # counts alone


@pytest.mark.parametrize("parts", [1, 2])
def test_a_file_has_one_shift_by_the_score_level_of_its_first_shard(site, tmp_path, monkeypatch, parts):
    monkeypatch.setattr(level, "ABOVE", -0.5)
    monkeypatch.setattr(level, "FEWEST_CALLS", 500)
    if parts > 1:
        monkeypatch.setattr(shards, "CALL_BYTES", 1 << 19)
    bands = real_bundle.card().thresholds
    read = read_keyed_file(records(site), "scoring")
    plain, _ = score_calls(open_scorer(site / "bundle", None), read.calls, threads=1)
    high = np.sort(plain.raw[plain.raw > -0.5])
    top = float(high[len(high) // 2]) + 1.0
    real_bundle.write_signed(tmp_path, thresholds=bands, feed=NO_ROUTES, levels={NO_ROUTES: Level(top - 1.2, top)})
    shifts, score_table = [], Scorer.score_table

    def noted(self, *inputs, **options):
        shifts.append(options.get("shift"))
        return score_table(self, *inputs, **options)

    monkeypatch.setattr(Scorer, "score_table", noted)
    scored = score(site, tmp_path / "verdicts.parquet", bundle=tmp_path / "bundle", callees=site / "callees.key")
    (shift,) = {shift for shift in shifts if shift}
    # All calls are covered but those of the first week; the level of some callers is near that of all.
    assert -1.3 < shift.amount < 0 and scored["calls"] == read.calls.num_rows
    if parts == 1:
        scorer = open_scorer(tmp_path / "bundle", None)
        expected, _ = score_calls(scorer, read.calls, threads=1)
        assert shift == expected.shift
        verdicts = pq.read_table(tmp_path / "verdicts.parquet")
        actions = verdicts.filter(verdicts["action"].is_valid())["action"].value_counts().to_pylist()
        counts = np.bincount(expected.action, minlength=len(ACTIONS))
        assert {row["values"]: row["counts"] for row in actions} == {
            name: count for name, count in zip(ACTIONS, counts.tolist(), strict=True) if count
        }


@pytest.mark.system
@pytest.mark.usefixtures("in_many_parts")
def test_a_keyed_file_needs_no_order(site, tmp_path):
    _, expected = in_memory(site)
    read = read_keyed_file(records(site), "scoring")
    mixed = read.calls.take(np.random.default_rng(1).permutation(read.calls.num_rows))
    pq.write_table(mixed, tmp_path / "calls.parquet", row_group_size=100)
    mark_simulated(tmp_path)
    keyed = CallFile(path=tmp_path / "calls.parquet", layout="keyed")
    score(site, tmp_path / "verdicts.parquet", calls=keyed, threads=1)
    verdicts = pq.read_table(tmp_path / "verdicts.parquet")
    assert rows_of(verdicts.select(expected.column_names)) == rows_of(expected)
    assert verdicts["start"].to_pylist() == mixed["start"].to_pylist()  # in the order of the file


RUN = """
import json, resource, sys
from contextlib import nullcontext
from pathlib import Path
from callsieve.features.files.progress import silent
from callsieve.features.intake import number_memory
from callsieve.features.offline import keyed_file, shards
from callsieve.serving.batch import file_scoring
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs

site, layout, calls, out, sizes = Path(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4]), json.loads(sys.argv[5])
for module in (keyed_file, number_memory, shards, file_scoring):
    for name, size in sizes.items():
        if hasattr(module, name):
            setattr(module, name, size)
calls = CallFile(path=Path(calls), layout=layout, key=site / "records" / "number.key")
inputs = ScoreInputs(calls=calls, bundle=site / "bundle", callees=site / "callees.key", out=out)
file_scoring.score_file(inputs, threads=2, progress=silent)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def started(site, calls, out, **sizes):
    words = [str(site), "callsieve", str(calls), str(out), json.dumps(sizes)]
    return subprocess.Popen([sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, text=True)


@pytest.mark.system
@pytest.mark.parametrize(
    "file", ["_intake.json", "out-00000.arrow", "block_values-00001.arrow", "verdicts-00001.arrow"]
)
def test_a_killed_run_is_resumed_with_equal_bytes(file, site, tmp_path, monkeypatch):
    monkeypatch.setattr(file_scoring, "SPAN_ROWS", 500)
    sizes = {"SHARD_BYTES": 1 << 14, "CALL_BYTES": 1 << 20, "CHUNK_BYTES": 1 << 20, "SPAN_ROWS": 500}
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    score(site, whole)
    run = started(site, site / "records" / "calls.csv", killed, **sizes)
    work = Path(f"{killed}.work")
    deadline = time.monotonic() + 120
    while not any(work.rglob(file)) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert not killed.exists()
    if file != "_intake.json":  # keyed calls are the same for every model
        with pytest.raises(ValueError, match="its run differs in model; expected the same input"):
            other_model(site, killed, tmp_path)
    assert score(site, killed, threads=1)["resumed"]
    assert not work.exists()
    assert killed.read_bytes() == whole.read_bytes()


def other_model(site, out, folder):
    """Scores the records with another bundle."""
    real_bundle.write_signed(folder, valid_until="2026-05-31T00:00:00Z")
    score(site, out, bundle=folder / "bundle", threads=1)


@pytest.mark.system
def test_memory_does_not_grow_with_the_file(site, tmp_path):
    sizes = {"SHARD_BYTES": 1 << 20, "CHUNK_ROWS": 1 << 14, "SPAN_ROWS": 1 << 14, "TABLE_CACHE_SIZE": 1 << 14}
    peaks = []
    for repeats in (5, 30):
        folder = tmp_path / str(repeats)
        write_records([], folder)
        header, *lines = (site / "records" / "calls.csv").read_text().splitlines()
        rng = np.random.default_rng(repeats)
        with (folder / "calls.csv").open("w") as file:
            print(header, file=file)
            for _ in range(repeats):
                for line, numbers in zip(lines, rng.integers(13 * 10**9, 14 * 10**9, (len(lines), 2)), strict=True):
                    start, _, _, rest = line.split(",", 3)
                    print(start, *numbers, rest, sep=",", file=file)
        run = started(
            site, folder / "calls.csv", folder / "verdicts.parquet", CALL_BYTES=60_000, CHUNK_BYTES=40_000, **sizes
        )
        peaks.append(int(run.communicate()[0]))
        assert run.returncode == 0
        assert pq.read_metadata(folder / "verdicts.parquet").num_rows > 2900 * repeats
    assert peaks[1] < peaks[0] + 60, peaks


@pytest.mark.parametrize(("most", "measured"), [(1_000, 7), (4, 2)])
def test_the_level_of_a_file_is_measured_over_all_its_shards_within_a_limit(monkeypatch, tmp_path, most, measured):
    read = []

    def rows_of(_plan, _job, shard, step):
        read.append((shard, step))
        return np.zeros((1, 1))

    monkeypatch.setattr(shard_scoring, "sampled_rows", rows_of)
    monkeypatch.setattr(shard_scoring, "MEASURED_CALLS", most)
    scorer = SimpleNamespace(bundle=SimpleNamespace(levels={"complete": 1}), shift_of=lambda rows, **_: (len(rows),))
    plan = SimpleNamespace(work=tmp_path, rows=14, shards=7)
    job = SimpleNamespace(scorer=scorer, feed="complete", lock=Lock())
    assert shard_scoring.shift_of_file(plan, job).amount == measured
    assert read == [(shard, 1) for shard in range(measured)]
    assert shard_scoring.shift_of_file(plan, job).amount == measured == len(read)  # a resumed run reads it again


@pytest.mark.parametrize("count", [1, 3])
def test_the_sample_that_shows_the_level_does_not_depend_on_the_number_of_shards(monkeypatch, count):
    start = np.arange(60) * DAY + DAY // 2

    def shard_of_rows(_plan, shard):
        rows = np.random.default_rng(1).permutation(60)[shard::count]
        parties = pa.table({"caller": rows})
        vectors = np.repeat(rows[:, None], len(NAMES), axis=1)
        return nullcontext(ShardVectors(rows, start[rows], parties, vectors, rows[:0]))

    monkeypatch.setattr(shard_scoring, "shard_vectors", shard_of_rows)
    monkeypatch.setattr(shard_scoring, "keyed_columns", lambda *_: None)
    scorer = SimpleNamespace(policy=SimpleNamespace(history_days=7), features=NAMES)
    job = SimpleNamespace(scorer=scorer, days=set(range(60)), complaints=None, columns=None)
    rows = np.concatenate([shard_scoring.sampled_rows(None, job, shard, 5) for shard in range(count)])
    assert sorted(rows[:, 0].tolist()) == list(range(10, 60, 5))
