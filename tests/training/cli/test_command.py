"""The commands of training and scoring: JSON output, and one line and an exit code for every fault."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.catalogue import FEATURES, NAMES, catalogue_hash
from callsieve.features.kernel.windows import DAY_MS
from callsieve.features.keys.tokens import Key
from callsieve.features.reading import layouts
from callsieve.serving.bundle.shipped import SHIPPED_IN_WORDS
from callsieve.serving.cli import command_tree, console
from callsieve.serving.custody.purposes import declare
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training import read_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.data.labels import label_numbers
from callsieve.training.judging.evaluate import BY_FOLDS
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.studies import demo, simulated
from tests.support.errors import raising
from tests.support.trainings import label_files, short_trainings

ACTIONS = {"pass", "label", "screen", "block"}


interrupt = raising(KeyboardInterrupt)


def test_the_feature_list_is_the_catalogue(command_json, command_text):
    value = command_json("features", "--list")
    assert value["hash"] == catalogue_hash()
    assert [feature["name"] for feature in value["features"]] == [*NAMES]
    assert len(NAMES) >= 60
    assert all(len(feature) > 3 for feature in value["features"])
    assert f"{len(FEATURES)} features" in command_text("features", "--list")


def test_simulate_writes_a_keyed_world_and_its_key(command_json, tmp_path):
    facts = command_json("simulate", "--out", tmp_path / "world", "--size", "tiny", "--seed", "2")
    calls = pq.read_table(tmp_path / "world" / "calls.parquet")
    assert facts["calls"] == calls.num_rows
    assert (facts["size"], facts["seed"]) == ("tiny", "2")
    assert (tmp_path / "world.key").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "world").iterdir()} >= {"truth.parquet", "complaints.parquet"}


@pytest.mark.system
def test_several_worlds_have_one_key_and_an_interrupted_command_goes_on(command_json, run_command, tmp_path):
    words = ("simulate", "--size", "tiny", "--out", tmp_path / "worlds")
    first = command_json(*words, "--vary", "--worlds", 2)["worlds"]
    assert [world["seed"] for world in first] == ["1", "2"] and first[0]["scenario"] != first[1]["scenario"]
    assert "drawn" not in first[0], "world.json has the draws"
    finished, killed = (Path(world["folder"]) for world in first)
    (killed / "world.json").unlink()
    (killed / ".calls.parquet.1").touch()
    written = (finished / "calls.parquet").stat().st_mtime_ns
    again = command_json(*words, "--vary", "--worlds", 3)["worlds"]
    assert again[:2] == first and len(again) == 3
    assert (finished / "calls.parquet").stat().st_mtime_ns == written and not (killed / ".calls.parquet.1").exists()
    assert [path.name for path in tmp_path.glob("*.key")] == ["worlds.key"]
    code, out, err = run_command(*words, "--worlds", 2)
    assert (code, out) == (1, "") and "world-1: expected a world of the same scenario; choose another --out" in err


@pytest.mark.system
def test_features_of_keyed_calls_are_written_in_one_shard(command_json, world_folder, world, tmp_path):
    out = tmp_path / "vectors"
    facts = command_json("features", "--calls", world_folder / "calls.parquet", "--layout", "keyed", "--out", out)
    expected = {"calls": world.calls.num_rows, "features": len(NAMES), "shards": 1, "quarantined": 0}
    assert facts == expected | {"catalogue": catalogue_hash(), "purpose": "training", "out": str(out)}
    assert pq.read_schema(out / "part-00000.parquet").names == ["row", "start", "caller", "callee", *NAMES]


@pytest.mark.system
def test_evaluate_counts_trusted_numbers_as_innocent(run_command, world_folder, training_run, run_key, tmp_path):
    folder = tmp_path / "blind"
    folder.mkdir()
    for name in ("calls", "complaints"):  # without the truth of the calls
        shutil.copyfile(world_folder / f"{name}.parquet", folder / f"{name}.parquet")
    dataset = read_dataset(folder)
    callers = dataset.calls["caller"].cast(pa.string()).to_pandas()
    end = pd.Timestamp(dataset.calls["start"].to_numpy().max(), unit="ms", tz="UTC")
    labels = label_numbers(dataset, end, read_label_policy())
    reported = set(labels["number"][labels["nuisance"]]) & set(callers)
    accused = max(reported)
    (tmp_path / "trusted.csv").write_text(f"number,kind,trusted_from\n{accused},survey,2025-03-01\n")
    label_files.KEY.write(tmp_path / "number.key")
    words = (tmp_path / "trusted.csv", "--key", tmp_path / "number.key", "--out", folder)
    assert run_command("ingest", "trusted", *words)[0] == 0
    words = ("--data", folder, "--audit", tmp_path / "audit", "--signing-key", run_key, "--json")
    code, out, _ = run_command("evaluate", "--bundle", training_run[0] / "bundle", *words)
    data = json.loads(out)["data"]
    assert code == 0 and data["judged_by"] == "labels"
    assert data["nuisance_share"] == callers.isin(reported - {accused}).mean() < callers.isin(reported).mean()


def test_train_writes_report_record_and_figures(training_run):
    """`test_train.py` checks the values."""
    folder, figures = training_run
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "mlflow.db").exists()
    head = figures["headline"]["model"]
    assert {"bound", "certified", "catch", "detection", "bootstrap", "false_calls"} <= set(head)
    assert set(head["catch"]["call"]) == {"rate", "low", "high"}


def test_evaluate_writes_all_figures(command_json, command_text, world_folder, training_run, run_key, tmp_path):
    words = ("--audit", tmp_path / "audit", "--signing-key", run_key)
    figures = command_json("evaluate", "--bundle", training_run[0] / "bundle", "--data", world_folder, *words)
    assert [payload["by"] for _, payload in payloads(tmp_path / "audit", "touch")] == ["evaluate"]
    for name in ("buckets", "attacks", "reliability_by", "precision_at_prior", "slices"):
        assert figures[name], name
    assert figures["model"]["id"] == training_run[1]["model"]["id"]
    assert figures["headline"]["model"]["benign_calls"] > training_run[1]["headline"]["model"]["benign_calls"]
    # These are the calls of its training. The groups of the other folds are unseen in training.
    assert figures["seen_basis"] == BY_FOLDS
    assert figures["unseen"]["calls"] > training_run[1]["rows"]["certify"]
    benign_calls = figures["headline"]["model"]["benign_calls"]
    assert figures["seen"]["benign_calls"] + figures["unseen"]["benign_calls"] == benign_calls
    numbers = {attack["attack"]: attack["known_group"]["numbers"] for attack in training_run[1]["attacks"]}
    # Here, groups whose members all called after the training set also count as known.
    assert all(attack["known_group"]["numbers"] >= numbers.get(attack["attack"], 0) for attack in figures["attacks"])
    assert sum(numbers.values()) > 0
    files = ("--bundle", training_run[0] / "bundle", "--data", world_folder, "--out", tmp_path / "report")
    out = command_text("evaluate", *files, *words, "--lang", "zh")
    assert "骚扰通话召回率" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report" / "figures.json").read_text())["model"] == figures["model"]
    assert any((tmp_path / "report" / "plots").iterdir())
    assert "numbers that first called after the training, of groups seen in training" in out
    assert "caller's group seen in training" in out
    assert "no, at 1 in 10,000" in out
    assert "evasions: calls before detection" in out
    assert "by the number of earlier calls" in out


def test_score_counts_calls_and_callers(command_json, command_text, world_folder, world, training_run, tmp_path):
    words = ["--bundle", training_run[0] / "bundle", "--layout", "keyed", "--calls", world_folder / "calls.parquet"]
    value = command_json("score", *words, "--out", tmp_path / "verdicts.parquet")
    assert set(value["actions"]) == set(value["callers"]) == ACTIONS
    assert sum(value["actions"].values()) == value["calls"] == world.calls.num_rows
    assert sum(value["callers"].values()) == len(set(world.calls["caller"].to_pylist()))
    assert value["actions"]["block"] == value["callers"]["block"] == 0  # nothing is certified
    assert 0 < value["callers"]["label"] <= value["actions"]["label"]
    assert value["quarantined"] == {}
    assert value["unscored"] == 0
    day = world.calls["start"].to_numpy() // DAY_MS
    assert value["filling"] == (day < day[0] + 7).sum()  # callers have too little history before that
    verdicts = pq.read_table(tmp_path / "verdicts.parquet")
    counted = {row["values"]: row["counts"] for row in verdicts["action"].value_counts().to_pylist()}
    assert counted == {word: n for word, n in value["actions"].items() if n}
    assert "verdicts of model" in command_text("score", *words)


SOUND = [f"13800138000,1390013900{i},2025-03-03 10:00:00,30" for i in range(9)]
BAD_ROW = "13800138000,139,3/3/2025 10:00,1"


@pytest.mark.parametrize(
    ("rows", "options"),
    [([*SOUND, BAD_ROW], ()), ([*SOUND, BAD_ROW, BAD_ROW], ["--allow-quarantine"]), ([*SOUND, *SOUND], ())],
    ids=["a tenth", "allowed", "repeats"],
)
def test_score_counts_quarantined_rows(command_json, training_run, tmp_path, rows, options):
    (tmp_path / "calls.csv").write_text("\n".join(["caller,callee,start,duration", *rows]) + "\n")
    declare(tmp_path, "switch of the test", "contract", ["scoring"], "2999-12-31")
    words = ["--bundle", training_run[0] / "bundle", "--layout", "plain", "--calls", tmp_path / "calls.csv", *options]
    value = command_json("score", *words, "--quarantine", tmp_path / "quarantine.jsonl")
    assert value["calls"] == 9
    assert sum(value["quarantined"].values()) == len(rows) - 9
    assert "13800138000" not in json.dumps(value)


COMMANDS = (
    "score --out {out}", "features --out {out}", "adapt --out {out}", "train --out {out} --checks {checks}",
    "ingest calls --out {out}", "live fill --state {out} --key {key}", "score --history {calls}",
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_of_which_much_is_invalid_is_refused(run_command, tmp_path, words):
    rows = [row.replace(":00,", f":{second:02d},") for second, row in enumerate(SOUND)]
    names = {name: tmp_path / name for name in ("out", "checks", "key", "calls")}
    names["calls"].write_text("\n".join(["caller,callee,start,duration", *rows, BAD_ROW, BAD_ROW]) + "\n")
    names["checks"].write_text("number,verdict,checked_at\n13800138000,nuisance,2025-03-03\n")
    Key.generate("e1").write(names["key"])
    (tmp_path / "sound").write_text("\n".join(["caller,callee,start,duration", *SOUND]) + "\n")
    calls = "sound" if "--history" in words else "calls"
    typed = (word.format(**names) for word in words.split())
    code, out, err = run_command(*typed, "--calls", tmp_path / calls, "--layout", "plain")
    assert (code, out) == (1, "") and "calls: 2 of 11 rows were quarantined: 2 bad_time (column 'start', " in err
    assert "got '9/9/9999 99:99': name how the file writes times" in err and "--allow-quarantine" in err
    assert "13800138000" not in err


OVERWRITES = {
    "the verdicts over the calls": ("score", "calls.csv", ("--out", "calls.csv")),
    "invalid rows over the calls": ("score", "calls.csv", ("--quarantine", "./calls.csv")),
    "both in one file": ("score", "calls.csv", ("--out", "new", "--quarantine", "new")),
    "invalid rows of vectors over the calls": ("features", "calls.csv", ("--out", "new", "--quarantine", "calls.csv")),
    "invalid rows over live calls": ("live fill", "calls.csv", ("--state", "new", "--quarantine", "calls.csv")),
    "complaints over the complaints": ("ingest complaints", "complaints.csv", ("--out", "complaints.csv")),
    "invalid rows over the complaints": ("ingest complaints", "complaints.csv", ("--quarantine", "complaints.csv")),
    "findings over the checks": ("ingest checks --checks", "complaints.csv", ("--out", "complaints.csv")),
    "invalid checks over the checks": ("ingest checks --checks", "complaints.csv", ("--quarantine", "complaints.csv")),
    "registers over the trusted numbers": ("ingest trusted", "complaints.csv", ("--registers", "complaints.csv")),
    "invalid rows over the registers": ("ingest registers", ".", ("--out", "new", "--quarantine", ".")),
}


@pytest.mark.parametrize(("command", "source", "options"), OVERWRITES.values(), ids=OVERWRITES)
def test_no_output_overwrites_an_input(command_error, training_run, tmp_path, monkeypatch, command, source, options):
    (tmp_path / "calls.csv").write_text("caller,callee,start,duration\na,b,2025-03-03 10:00:00,30\na,,x,1\n")
    (tmp_path / "complaints.csv").write_text("number,category,at,known_at\na,harassment,x,x\n")
    (tmp_path / "protected.jsonl").write_text("{}\n")
    declare(tmp_path, "switch of the test", "contract", ["scoring", "training", "statistics"], "2999-12-31")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    words = [source] if command.startswith("ingest") else ["--calls", source, "--layout", "plain"]
    words += ["--bundle", training_run[0] / "bundle"] if command == "score" else []
    words += ["--key", Path("some.key")] if command == "live fill" else []
    assert "expected a different path for each" in command_error(*command.split(), *words, *options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_score_counts_calls_of_number_classes_without_a_threshold(command_json, run_command, training_run, tmp_path):
    """A code has the number class `unknown`, unless the record states its class."""
    rows = ["caller,callee,start,caller_class", "c1,c2,2025-03-03T10:00:00Z,", "c1,c2,2025-03-03T11:00:00Z,mobile"]
    (tmp_path / "calls.csv").write_text("\n".join(rows) + "\n")
    declare(tmp_path, "switch of the test", "contract", ["scoring"], "2999-12-31")
    layout = (Path(layouts.__file__).parent / "callsieve.toml").read_text().replace('"written"', '"codes"')
    (tmp_path / "own.toml").write_text(layout)
    words = ["--bundle", training_run[0] / "bundle", "--layout", tmp_path / "own.toml"]
    words += ["--calls", tmp_path / "calls.csv"]
    value = command_json("score", *words)
    assert (value["calls"], value["unscored"], value["no_threshold"]) == (2, 0, {"unknown": 1})
    code, out, _ = run_command("score", *words)
    assert code == 0
    assert "1 calls were not scored: the model has no threshold for the number class 'unknown'" in out


def test_a_repeated_features_command_keeps_its_shards(command_json, command_error, tmp_path):
    rows = [f"1380013800{i % 3},1390013900{i % 5},2025-03-03 10:{i:02d}:00,{i}" for i in range(30)]
    source, out = tmp_path / "calls.csv", tmp_path / "out"
    source.write_text("\n".join(["caller,callee,start,duration", *rows, "13800138000,,x,1"]) + "\n")
    words = ("features", "--calls", source, "--layout", "plain", "--out", out)
    declare(tmp_path, "switch of the test", "contract", ["training", "scoring"], "2999-12-31")
    value = command_json(*words)
    assert (value["calls"], value["quarantined"]) == (30, 1)
    calls, vectors = pq.read_table(out / "_calls.parquet"), pq.read_table(out / "part-00000.parquet")
    assert sorted(vectors["row"].to_pylist()) == list(range(2, 32))  # lines of the file
    token_of_line = dict(zip(calls["call"].to_pylist(), calls["caller"].to_pylist(), strict=True))
    assert vectors["caller"].to_pylist() == [token_of_line[line] for line in vectors["row"].to_pylist()]
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert command_json(*words) == value
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    source.write_text(source.read_text() + rows[0] + "\n")
    assert "its run differs in size; expected the same input, or a new folder" in command_error(*words)


def write_inputs(folder):
    """Writes 1,200 calls and returns the words of the command that computes their vectors."""
    rows = [f"1380013800{i % 3},1390013900{i % 5},2025-03-03 {i // 60:02d}:{i % 60:02d}:00,5" for i in range(1200)]
    lines = ["caller,callee,start,duration", *rows, *[f"a,,x,{' ' * 1000}"] * 1100]
    (folder / "calls.csv").write_text("\n".join(lines) + "\n")
    (folder / "own.toml").write_text((Path(layouts.__file__).parent / "plain.toml").read_text())
    for name in ("one", "other"):
        Key.generate("e1").write(folder / f"{name}.key")
    declare(folder, "switch of the test", "contract", ["training"], "2999-12-31")
    return ("features", "--calls", folder / "calls.csv", "--layout", folder / "own.toml", "--out", folder / "out",
            "--features", "call_hour", "--key", folder / "one.key", "--allow-quarantine")  # fmt: skip


def replace_text(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


CHANGES = {
    "text": lambda folder: replace_text(folder / "calls.csv", "13800138000,", "13800138009,"),
    "layout": lambda folder: replace_text(folder / "own.toml", "Asia/Shanghai", "UTC"),
    "key": lambda folder: (folder / "other.key").replace(folder / "one.key"),
}


@pytest.mark.system
@pytest.mark.parametrize(("what", "change"), CHANGES.items(), ids=CHANGES)
def test_a_changed_input_is_refused_in_an_unfinished_folder(command_json, command_error, tmp_path, what, change):
    words = write_inputs(tmp_path)
    assert command_json(*words)["calls"] == command_json(*words)["calls"] == 1200
    change(tmp_path)
    assert f"its run differs in {what}; expected the same input, or a new folder" in command_error(*words)


def test_a_resumed_command_refuses_another_quarantine(command_json, command_error, tmp_path):
    words = write_inputs(tmp_path)
    command_json(*words)
    for option, what in ((("--strict",), "strict"), (("--quarantine", tmp_path / "rows"), "quarantine")):
        assert f"its run differs in {what}" in command_error(*words, *option)


def test_wrong_usage_exits_with_2(run_command):
    for words in (
        ["simulate"],
        ["score", "--bundle"],
        ["nothing"],
        ["features", "--list", "--nothing"],
        ["features", "--list", "--calls", "calls.csv"],
        ["features", "--list", "--keep", "id"],
        ["demo", "--seed", "x"],
        ["demo", "--seed", "-1"],
        ["features", "--calls", "calls.csv", "--out", "vectors", "--threads", "-1"],
    ):
        code, _, err = run_command(*words)
        assert code == 2, words
        assert "Traceback" not in err


@pytest.mark.parametrize("place", [(console, "emit_json"), (command_tree, "configuration")], ids=["end", "start"])
def test_an_interruption_exits_with_130(run_command, monkeypatch, place):
    monkeypatch.setattr(*place, interrupt)
    assert run_command("features", "--list", "--json") == (130, "", "callsieve: interrupted\n")


@pytest.mark.system
@pytest.mark.parametrize("with_key", [False, True])
def test_an_interrupted_simulation_leaves_no_key(with_key, run_command, monkeypatch, tmp_path):
    Key.generate("e1").write(tmp_path / "own.key")
    words = ("simulate", "--size", "tiny", "--out", tmp_path / "world", *(("--key", tmp_path / "own.key") * with_key))
    with monkeypatch.context() as patched:
        patched.setattr(simulated, "plan_world", interrupt)
        assert run_command(*words)[0] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.key", "world"]
    assert run_command(*words)[0] == 0
    assert (tmp_path / "world.key").exists() != with_key


@pytest.mark.system
def test_the_installed_command_prints_json_and_errors_of_one_line():
    command = Path(sys.executable).with_name("callsieve")
    done = subprocess.run([command, "features", "--list", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["hash"] == catalogue_hash()
    words = [command, "score", "--bundle", "nowhere", "--calls", "nothing.csv"]
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("callsieve: ")
    assert failed.stderr.count("\n") == 1


def test_an_environment_variable_without_effect_is_accepted(command_error, tmp_path, monkeypatch):
    """A variable holds for all trainings; on the command line, the same option is refused."""
    monkeypatch.setenv("CALLSIEVE_AUDIT", "log")
    assert "not found" in command_error("train", "--data", tmp_path / "nothing")


def test_score_without_a_bundle_uses_the_shipped_model_and_says_so(run_command, world_folder):
    words = ["--layout", "keyed", "--calls", world_folder / "calls.parquet", "--json"]
    code, out, err = run_command("score", *words)
    assert (code, err) == (0, f"{SHIPPED_IN_WORDS}\n")
    result = json.loads(out)
    assert result["model"] == Scorer.load().bundle.model_id and not result["stale"]


@pytest.mark.system
def test_a_demonstration_fits_one_screen_and_shows_the_shipped_model(run_command, monkeypatch, tmp_path):
    short_trainings.shorten(monkeypatch)
    code, out, err = run_command("demo", "--size", "tiny", "--seed", 11, "--out", tmp_path / "d")
    assert code == 0 and len(out.splitlines()) <= 24
    assert err.startswith("the shipped model on 72,527 simulated calls: flags ") and "refused  by its gates" in out
    page = (tmp_path / "d/report.html").read_text()
    assert "the shipped model" in out and "the shipped model" in page


@pytest.mark.parametrize(
    ("words", "size"), [((), "village"), (("--full",), "small"), (("--full", "--size", "tiny"), "tiny")]
)
def test_demo_passes_its_options_on(command_json, monkeypatch, tmp_path, words, size):
    def demo_options(folder, *, size, seed, threads, full, progress, **_):
        progress("world", 0.5)
        return {"folder": str(folder), "size": size, "seed": seed, "threads": threads, "full": full}

    monkeypatch.setattr(demo, "run_demo", demo_options)
    payload = command_json("demo", "--out", tmp_path / "d", "--seed", 3, *words)
    assert payload == {"folder": str(tmp_path / "d"), "size": size, "seed": 3, "threads": 0, "full": bool(words)}
