"""Spark returns the vectors of the table engine bit for bit, and reports faults in one line. One session serves all."""

import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from msgspec import structs
from pyspark.errors import PythonException

from callsieve.features.catalogue import NAMES
from callsieve.features.files.progress import silent
from callsieve.features.keys.tokens import Key
from callsieve.features.offline import spark
from callsieve.features.offline.table import vectors
from callsieve.features.online.feeds import (
    COMPLETE,
    LACKS,
    NO_ORGANISATIONS,
    NO_RING_TIME,
    NO_ROUTES,
    ONE_SITE,
    SPARSE,
    UNKNOWN_FEED,
    feed_of_table,
)
from callsieve.features.records import KEYED_COLUMNS
from callsieve.serving.batch import spark_scoring
from callsieve.serving.batch.call_files import CallFile
from callsieve.serving.batch.file_scoring import ScoreInputs, open_scorer, score_calls
from callsieve.serving.batch.spark_scoring import WorkerInputs
from callsieve.serving.bundle import level
from callsieve.serving.bundle.bundle import BundleError
from callsieve.serving.bundle.level import NO_SHIFT
from callsieve.serving.bundle.metadata import Level
from callsieve.serving.custody.purposes import declare, require_purpose
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.tracking.mlflow_model import TRUST
from tests.conftest import command
from tests.support import how_to, real_bundle
from tests.support.calls.lacks import week_of_a_site, week_of_busy_callers, week_of_calls, without
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_table, histories
from tests.support.debian import program
from tests.support.simulated import mark_simulated
from tests.training.tracking.test_mlflow_model import assert_same, folder, lite_rows, scores  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def session():
    program("java")
    with pytest.MonkeyPatch.context() as patched:
        # A short session runs most Java code a few times: the second compiler would take half of its processor time.
        patched.setenv("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        started = spark.session(2)
        started.conf.set(spark.PARTITIONS, 2)
        yield started
        started.stop()


@pytest.fixture(scope="module")
def four_days(world_folder, tmp_path_factory):
    """Four days of the tiny world."""
    path = tmp_path_factory.mktemp("some") / "calls.parquet"
    pq.write_table(pq.read_table(world_folder / "calls.parquet").slice(20_000, 10_000), path)
    mark_simulated(path.parent)
    return path


@pytest.fixture
def call(session, monkeypatch, capfd):
    """Returns a function that runs the command in the session: exit code, output and error output."""
    assert spark.session() is session

    def run_it(*words):
        capfd.readouterr()
        return (command(monkeypatch, *words), *capfd.readouterr())

    return run_it


def without_dictionaries(calls):
    """Returns text columns without dictionaries, as other tools write them."""
    text = {field.name: pa.string() for field in calls.schema if pa.types.is_dictionary(field.type)}
    return calls.cast(pa.schema([(field.name, text.get(field.name, field.type)) for field in calls.schema]))


def write_plain(calls, path):
    pq.write_table(without_dictionaries(calls), path)
    return str(path)


def read(path):
    """Reads the output of an engine, in order of the calls."""
    order = [(name, "ascending") for name in ("start", "caller", "callee")]
    return without_dictionaries(pq.read_table(path)).sort_by(order).combine_chunks()


def many_histories():
    """Returns many drawn histories as one table: groups of five share numbers, of ten trunks and devices."""
    together = []

    @given(histories(max_calls=40))
    @settings(max_examples=75)
    def draw(calls):
        turn = len(together)
        together.append([rename(call, turn) for call in calls])

    draw()
    return as_keyed_table([call for calls in together for call in calls])


def rename(call, turn):
    of_five = {name: f"{call[name]}{turn // 5}" for name in ("caller", "callee", "caller_block")}
    of_ten = {name: call[name] and f"{call[name]}{turn // 10}" for name in ("trunk", "device")}
    return call | of_five | of_ten


def collect(frame):
    """Collects a frame in order of the calls."""
    return frame.toArrow().sort_by("call")


def test_drawn_histories_are_bit_equal(session, tmp_path):
    calls = many_histories()
    parties = [pc.cast(calls[name], pa.string()) for name in ("start", "caller", "callee")]
    identity = pc.binary_join_element_wise(*parties, " ")
    assert calls.num_rows > 1000
    assert pc.count_distinct(identity).as_py() < calls.num_rows  # some records repeat a call
    ids = calls.append_column("call", pa.array(np.arange(calls.num_rows)))
    shuffled = ids.take(np.random.default_rng(1).permutation(calls.num_rows))
    frame = session.read.parquet(write_plain(shuffled, tmp_path / "calls.parquet")).repartition(3)
    rows = collect(spark.vectors(frame, buckets=5))
    assert rows.column_names == ["call", "start", "caller", "callee", *NAMES]
    for name in ("start", "caller", "callee"):
        assert rows[name].to_pylist() == calls[name].to_pylist()
    expected = vectors(calls, threads=1)
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(rows[name].to_numpy(), expected[:, i], err_msg=name)


def test_columns_are_in_the_requested_order(session, world, tmp_path):
    calls = world.calls.select(KEYED_COLUMNS).slice(0, 2000)
    names = NAMES[::-1]
    frame = spark.read_keyed(session, write_plain(calls, tmp_path / "calls.parquet"))
    rows = collect(spark.vectors(frame, features=names, buckets=1))
    assert rows.column_names[4:] == list(names)
    expected = vectors(calls, features=names, threads=1)
    np.testing.assert_array_equal(np.column_stack([rows[name].to_numpy() for name in names]), expected)


@pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::pyspark")
def test_the_mlflow_model_scores_on_spark_like_the_scorer(session, folder, lite_rows, scores, tmp_path, monkeypatch):  # noqa: F811
    import mlflow.pyfunc
    from pyspark.sql.functions import struct

    monkeypatch.delenv(TRUST, raising=False)  # only Spark's processes get the trusted key
    trust = {TRUST: str(folder / "signer.pub")}
    judge = mlflow.pyfunc.spark_udf(session, str(folder / "served"), env_manager="local", extra_env=trust)
    lite_rows.assign(row=range(len(lite_rows))).to_parquet(tmp_path / "rows.parquet")
    rows = session.read.parquet(str(tmp_path / "rows.parquet"))
    answers = rows.select("row", judge(struct(*lite_rows.columns)).alias("answer")).select("row", "answer.*")
    assert_same(answers.toArrow().to_pandas().sort_values("row"), scores)


def test_the_features_command_equals_the_table_engine(call, four_days, tmp_path):
    words = ["--calls", four_days, "--layout"]
    code, out, err = call("features", *words, "spark", "--out", tmp_path / "vectors")
    assert (code, err) == (0, "")
    assert "10,000" in out
    assert call("features", *words, "keyed", "--out", tmp_path / "shards", "--json")[0] == 0
    by_table = read(tmp_path / "shards").drop_columns("row")
    by_spark = read(tmp_path / "vectors")
    assert by_spark.column_names == by_table.column_names
    in_order = [(name, "ascending") for name in by_table.column_names]
    by_spark, by_table = by_spark.sort_by(in_order), by_table.sort_by(in_order)
    for name in NAMES:
        np.testing.assert_array_equal(by_spark[name].to_numpy(), by_table[name].to_numpy(), err_msg=name)


def test_the_score_command_equals_the_table_engine(call, four_days, training_run, tmp_path):
    words = ["score", "--bundle", training_run[0] / "bundle", "--calls", four_days, "--layout"]
    Key.generate("c1", "callees").write(tmp_path / "callees.key")
    hidden = ["--callees-key", tmp_path / "callees.key"]
    code, by_table, err = call(*words, "keyed", "--out", tmp_path / "verdicts.parquet", *hidden, "--json")
    assert (code, err) == (0, "")
    assert call(*words, "spark", "--out", tmp_path / "verdicts", *hidden, "--json") == (0, by_table, "")
    by_spark, by_table = (read(tmp_path / name) for name in ("verdicts", "verdicts.parquet"))
    assert ["row", *by_spark.column_names] == by_table.column_names
    assert by_spark.equals(by_table.drop_columns("row"))
    words[4] = write_plain(without(pq.read_table(four_days), (NO_ROUTES,)), tmp_path / "poorer.parquet")
    mark_simulated(tmp_path)
    _, by_table, _ = call(*words, "keyed", "--json")
    assert call(*words, "spark", "--json") == (0, by_table, "")
    assert json.loads(by_table)["feed"] == NO_ROUTES


def test_the_code_of_the_how_to_page_runs(call, four_days, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real_bundle.write_signed(tmp_path)
    for path in four_days.parent.iterdir():
        (tmp_path / path.name).symlink_to(path)
    Key.generate("c1", "callees").write(tmp_path / "callees.key")
    names = ("bundle", "calls.parquet", "verdicts", "callees.key")  # the session has the folder in which it was started
    words = [tmp_path / word if word in names else word for word in how_to.words("spark", "callsieve")]
    code, _, err = call(*words[1:])
    assert (code, err) == (0, "")
    assert read(tmp_path / "verdicts").num_rows == 10_000
    assert set(NAMES) < set(how_to.run_python("spark", tmp_path)["vectors"].columns)


@pytest.mark.parametrize("lacks", [(), *((lack,) for lack in LACKS[:4]), (NO_ROUTES, NO_RING_TIME)], ids=str)
def test_a_frame_is_on_the_feed_of_its_table(session, world, lacks, tmp_path):
    calls = without(world.calls.select(KEYED_COLUMNS), lacks)
    frame = session.read.parquet(str(write_plain(calls, tmp_path / "calls.parquet")))
    assert spark_scoring.feed_of_frame(frame) == feed_of_table(calls) == (", ".join(lacks) or COMPLETE)
    assert spark_scoring.feed_of_frame(frame.limit(0)) == COMPLETE


@pytest.mark.parametrize(("rare_of_100", "feed"), [(9, COMPLETE), (11, SPARSE), (25, UNKNOWN_FEED)])
def test_a_frame_of_rare_callers_is_on_the_feed_of_its_table(session, world, rare_of_100, feed, tmp_path):
    calls = week_of_calls(world.calls.select(KEYED_COLUMNS), rare_of_100)
    frame = session.read.parquet(str(write_plain(calls, tmp_path / "calls.parquet")))
    assert spark_scoring.feed_of_frame(frame) == feed_of_table(calls) == feed


def test_a_frame_of_one_site_and_one_without_calls_to_busy_callers_are_on_the_feeds_of_their_tables(
    session, world, tmp_path, monkeypatch
):
    monkeypatch.setattr(spark_scoring, "SAMPLE_CALLS", 10**6)  # so that no draw decides
    weeks = {ONE_SITE: week_of_a_site(world.calls, 30), NO_ORGANISATIONS: week_of_busy_callers(world.calls, 0)}
    for feed, week in weeks.items():
        calls = week.select(KEYED_COLUMNS)
        frame = session.read.parquet(str(write_plain(calls, tmp_path / f"{feed}.parquet")))
        assert (spark_scoring.feed_of_frame(frame), feed_of_table(calls)) == (feed, feed)


def test_a_frame_has_the_shift_of_its_table(session, world, training_run, tmp_path, monkeypatch):
    monkeypatch.setattr(level, "ABOVE", -4.0)
    run, calls = training_run[0], world.calls.select(KEYED_COLUMNS)
    frame = session.read.parquet(str(write_plain(calls, tmp_path / "calls.parquet")))
    plain = open_scorer(run / "bundle", None)
    scorer = Scorer(structs.replace(plain.bundle, levels={plain.bundle.feed: Level(-3.0, 9.0)}), plain.policy)
    worker = spark_scoring.WorkerInputs(run / "bundle", run / "signer.pub")
    days = spark_scoring.days_with_calls(frame)
    shift = spark_scoring.shift_of_frame(frame, scorer, worker, days, plain.bundle.feed)
    expected = score_calls(scorer, calls, threads=1)[0].shift
    assert shift.amount < -1 and shift.amount == pytest.approx(expected.amount, abs=0.2)
    assert spark_scoring.shift_of_frame(frame, plain, worker, days, plain.bundle.feed) == NO_SHIFT


def test_a_worker_applies_the_bands_of_the_feed(tmp_path):
    bands = real_bundle.card().thresholds
    low, high = (tuple(structs.replace(band, threshold=by) for band in bands) for by in (-1e9, 1e9))
    model = real_bundle.write_signed(tmp_path, thresholds=high, feeds={NO_ROUTES: low})
    calls, days = real_bundle.key_table(real_bundle.calls(50)), frozenset(range(10_000, 30_000))
    apply = partial(spark_scoring.verdicts, WorkerInputs(tmp_path / "bundle"), None, model, days)
    banded = {
        feed: apply(feed, NO_SHIFT, calls, vectors(calls, threads=1))["banded"].to_pylist()
        for feed in (COMPLETE, NO_ROUTES, NO_RING_TIME)
    }
    assert sum(banded[NO_ROUTES]) > 0 == sum(banded[COMPLETE]) == sum(banded[NO_RING_TIME])


def test_a_worker_verifies_the_bundle_once(training_run, monkeypatch):
    bundle, opened = training_run[0] / "bundle", []
    inputs = WorkerInputs(bundle)
    monkeypatch.setattr(spark_scoring, "open_scorer", lambda *paths: opened.append(paths) or open_scorer(*paths))
    spark_scoring._loaded.cache_clear()
    identity = pa.table({"call": [1], "start": [2], "caller": ["a"], "callee": ["b"]})
    rows = np.zeros((1, len(NAMES)))
    model = open_scorer(bundle, None, None).bundle.model_id
    for _ in range(3):
        verdicts = spark_scoring.verdicts(inputs, None, model, frozenset(), "complete", NO_SHIFT, identity, rows)
        assert verdicts.column_names[:6] == ["start", "caller", "callee", "score", "action", "rules"]
    assert len(opened) == 1
    with pytest.raises(ValueError, match="it was replaced during the run"):
        spark_scoring.verdicts(inputs, None, "another", frozenset(), "complete", NO_SHIFT, identity, rows)


@pytest.mark.parametrize("error", [BundleError("MANIFEST.json: Not a directory"), ValueError("no call to score")])
def test_an_error_of_a_worker_is_its_last_line(error):
    """Spark wraps the traceback of a worker; `traceback` writes the class as it is named now."""
    worker = "".join(traceback.format_exception(error))
    with pytest.raises(ValueError, match=f"^{error}$"), spark.one_line_errors():
        raise PythonException(f"An exception was thrown from the Python worker:\nTraceback ...\n{worker}")


def broken_tables(calls, tmp_path):
    """Returns tables that fail a job, with the expected message."""
    at = calls.column_names.index
    with_values = lambda name, values: calls.set_column(at(name), name, pa.array(values))
    rows = calls.num_rows
    tables = {
        "word": (with_values("outcome", ["answered"] * (rows - 1) + ["gone"]), "unknown word 'gone': expected one of"),
        "number": (
            with_values("callee", ["13800138000"] * rows),
            "column 'callee' has an invalid value, expected keyed tokens",
        ),
        "null": (
            with_values("caller", [None, *calls["caller"].to_pylist()[1:]]),
            "column 'caller' has nulls, expected none",
        ),
        "type": (with_values("start", [0.5] * rows), "column 'start' holds double, expected whole numbers"),
        "missing": (calls.drop_columns("trunk"), "'trunk' is missing"),
    }
    paths = {name: write_plain(table, tmp_path / f"{name}.parquet") for name, (table, _) in tables.items()}
    return {name: (paths[name], message) for name, (_, message) in tables.items()}


def test_faults_are_reported_in_one_line(call, world, training_run, tmp_path):
    calls = world.calls.select(KEYED_COLUMNS).slice(0, 50)
    mark_simulated(tmp_path)
    good = write_plain(calls, tmp_path / "good.parquet")
    (tmp_path / "there").mkdir()
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "out")
    empty, bundle = write_plain(calls.slice(0, 0), tmp_path / "no.parquet"), ("--bundle", training_run[0] / "bundle")
    broken = broken_tables(calls, tmp_path).items()
    faults = {
        **{name: (("features", "--calls", path, *out), message) for name, (path, message) in broken},
        "no file": (("features", "--calls", tmp_path / "none", *out), "not found"),
        "an empty folder": (("features", "--calls", tmp_path / "empty", *out), "UNABLE_TO_INFER_SCHEMA"),
        "an existing output": (("features", "--calls", good, "--out", tmp_path / "there"), "exists already"),
        "no call": (("score", *bundle, "--calls", empty), "no call to score"),
    }
    wrong = []
    for name, (words, message) in faults.items():
        code, printed, err = call(*words, "--layout", "spark")
        if code != 1 or printed or message not in err or err.count("\n") != 1 or "13800138000" in err:
            wrong.append((name, code, printed, err))
    assert wrong == []
    score = ("score", *bundle, "--calls", good, "--layout", "spark")
    for more, message in (
        (out, "needs --callees-key"),
        (("--registers", tmp_path), "--registers: not used with --layout spark"),
    ):
        code, _, err = call(*score, *more)
        assert (code, message in err, err.count("\n")) == (2, True, 1), message
    (tmp_path / "world.json").unlink()
    strict = tmp_path / "strict.toml"
    strict.write_text('version = "strict"\nrequire_declaration = true\n[bands]\n')
    code, _, err = call(*score, "--policy", strict)
    assert (code, "no declaration of source and permitted purposes" in err) == (1, True)


def test_batches_are_packed_and_sent_in_bounded_pieces(monkeypatch):
    """Small pieces contain what one large piece contains. The steps of Spark's workers run in this process."""
    calls = as_keyed_table(
        [EXAMPLE_CALL | {"caller": caller, "start": EXAMPLE_CALL["start"] + n} for n, caller in enumerate("abcdefg")]
    )
    calls = without_dictionaries(calls).append_column("call", pa.array(range(7)))
    for name in spark.BUCKETS:
        calls = calls.append_column(name, pa.array(range(7), pa.int32()))
    buckets = lambda printed: {row["bucket"] for batch in printed for row in batch.to_pylist()}
    (whole,) = spark._pack_batches(7, iter(calls.to_batches(max_chunksize=2)))
    monkeypatch.setattr(spark, "CALLS_AT_ONCE", 4)
    monkeypatch.setattr(spark, "BYTES_AT_ONCE", 1)
    parts = list(spark._pack_batches(7, iter(calls.to_batches(max_chunksize=2))))
    assert [batch.num_rows for batch in parts] == [1] * 7
    assert buckets(parts) == buckets([whole]) == set(range(7))
    assert list(spark._pack_batches(7, iter(()))) == []


def test_arguments_are_checked_before_any_work(session, world, tmp_path):
    frame = session.read.parquet(write_plain(world.calls.select(KEYED_COLUMNS).slice(0, 9), tmp_path / "calls.parquet"))
    with pytest.raises(ValueError, match="caller_block missing"):
        spark.vectors(frame.drop("caller_block"))
    with pytest.raises(ValueError, match="expected names of the catalogue"):
        spark.vectors(frame, features=("nothing",))
    for buckets in (0, 70_000):
        with pytest.raises(ValueError, match=f"buckets: expected 1 to 65536, got {buckets}"):
            spark.vectors(frame, buckets=buckets)


def test_missing_pyspark_is_reported(monkeypatch, run_command, world_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    words = ("--calls", world_folder / "calls.parquet", "--layout", "spark", "--out", tmp_path / "out")
    assert run_command("features", *words) == (1, "", f"callsieve: {spark.MISSING}\n")


def test_missing_java_is_reported(tmp_path):
    code = "from callsieve.features.offline import spark\n"
    code += "try:\n    spark.session(1)\nexcept OSError as error:\n    print(error)"
    environment = os.environ | {"HOME": str(tmp_path), "PATH": os.defpath, "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"Spark did not start: {spark.MISSING}\n"


def test_a_configured_spark_keeps_its_settings(tmp_path):
    """On a cluster its administrators decide master, partitions and logging."""
    program("java")
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.master local[1]\nspark.sql.shuffle.partitions 3\nspark.ui.enabled false\nspark.driver.host localhost\n"
    )
    code = (
        "from callsieve.features.offline import spark\nsession = spark.session(2)\n"
        "print(session.sparkContext.master, session.conf.get(spark.PARTITIONS))\nsession.stop()"
    )
    environment = os.environ | {"SPARK_CONF_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "local[1] 3\n"


def test_a_process_of_spark_submit_sets_no_master(session, monkeypatch):
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.delattr(SparkSession.Builder, "master")
    assert spark.session(7) == session


def test_spark_requires_a_callees_key_and_a_model_of_catalogue_features(monkeypatch, tmp_path):
    monkeypatch.setattr(spark_scoring, "open_scorer", lambda *_: SimpleNamespace(features=(*NAMES, "reports_7d")))
    inputs = ScoreInputs(calls=CallFile(path=tmp_path / "calls.parquet", layout="keyed"), bundle=tmp_path / "bundle")
    with pytest.raises(ValueError, match="expected --callees-key"):
        spark_scoring.score(replace(inputs, out=tmp_path / "out"), threads=1, progress=silent)
    with pytest.raises(ValueError, match="expected a model of catalogue features alone"):
        spark_scoring.score(inputs, threads=1, progress=silent)


def test_spark_skips_calls_past_their_retention(tmp_path):
    declare(tmp_path, "switch", "contract", ["scoring"], "2999-12-31")
    keep = spark_scoring.expired_rows_filter(require_purpose(tmp_path, "scoring"))
    conditions = []
    keep(SimpleNamespace(filter=conditions.append))
    days = (time.time() - int(conditions[0].removeprefix("start >= ")) / 1000) / 86_400
    assert days == pytest.approx(60, abs=0.1)  # the days of calls in retention.toml
