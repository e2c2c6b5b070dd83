"""The code of the how-to pages runs, and each command in the documents exists."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features.reading.layouts import read_layout
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.cli.command_tree import commands
from callsieve.training import Settings
from callsieve.training.adapt import asking, choice
from callsieve.training.cli.command_table import ROOT as COMMAND
from callsieve.training.data.check_files import read_check_file
from callsieve.training.data.complaint_files import read_complaint_file
from callsieve.training.data.trusted_files import read_trusted_file
from callsieve.training.model import fit
from callsieve.training.oversight.log.gates import parse_gates, shipped_gates
from tests.conftest import SEED, command
from tests.support import how_to, real_bundle
from tests.support import small_bundle as small
from tests.support.calls import foreign_files
from tests.support.debian import program
from tests.support.http_service import free_port
from tests.support.keys import write_key
from tests.support.lite_bundle import LITE
from tests.support.paths import ROOT
from tests.support.trainings import label_files, recorded_run, short_trainings

WRITTEN = ("README*.md", "docs/how-to/*.md", "docs/explanation/*.md", "docs/reference/bundle.md")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in WRITTEN for path in ROOT.glob(pattern))
# What follows the code of a page.
MORE = {
    "http": "echo\n" + how_to.code("watch"),  # of the same service
    "asterisk": r"""
request='agi_network_script: ring\nagi_channel: PJSIP/carrier-0000002a\nagi_uniqueid: 1.1\nagi_callerid: 13800138000
agi_extension: 13900139000\nagi_arg_1: signature_validation\nagi_arg_2: A\n\n'
for _ in $(seq 100); do { exec 3<>/dev/tcp/127.0.0.1/4573; } 2>/dev/null && break || sleep 0.1; done
printf "$request" >&3
read -r -t 5 answer <&3
echo "$answer"
""",
    "lists": r"""
request='agi_network_script: ring\nagi_channel: PJSIP/carrier-0000002a\nagi_uniqueid: 1.1\nagi_callerid: +8613800138000
agi_extension: 13900139000\n\n'
sleep 1  # calls start in whole seconds, and a list acts on calls after its publication
for _ in $(seq 20); do  # a busy machine may miss the deadline
  for _ in $(seq 100); do { exec 3<>/dev/tcp/127.0.0.1/4573; } 2>/dev/null && break || sleep 0.1; done
  printf "$request" >&3
  answer=$(while read -r -t 5 line <&3; do echo "$line"; printf '200 result=1\n' >&3; done)
  [[ $answer == *deadline* ]] || break
done
echo "$answer"
""",
}
OUTPUT = {
    "embed": r"^pass filling nan \[\]$",
    "http": r'"status":"filling".*"action":"pass".*\{\}$.*"filling".*^callsieve_status_share',
    "kamailio": "config file ok",
    "asterisk": 'SET VARIABLE CALLSIEVE "(label|pass)"',  # a busy machine may miss the deadline
    "lists": r'VARIABLE CALLSIEVE "label".*VARIABLE CALLSIEVE_RULES "listed"',
}
PROGRAM = {"http": "curl", "kamailio": "kamailio"}


@pytest.mark.parametrize("page", OUTPUT)
def test_the_code_of_a_page_runs(page, tmp_path):
    if page in PROGRAM:
        program(PROGRAM[page])
    script = how_to.script(page) + MORE.get(page, "")
    for port in ("8080", "4573"):
        script = script.replace(port, str(free_port()))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CALLSIEVE_")}
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env=variables | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(OUTPUT[page], done.stdout + done.stderr, re.MULTILINE | re.DOTALL), done.stdout


@pytest.mark.parametrize(("page", "body"), [("README.md", "now = time.time()"), ("docs/how-to/embed.md", "ringing = ")])
def test_a_call_from_the_future_does_not_blind_the_loop_of_a_page(page, body, tmp_path, monkeypatch):
    """The loop as printed, for a first call, for one with a clock six hours ahead, and for one after it."""
    real_bundle.write_signed(tmp_path, valid_until="2100-01-01T00:00:00Z")
    real_bundle.NUMBER_KEY.write(tmp_path / "number.key")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if body in block)
    loop = code[code.index(body) :]
    ahead, shifts = re.subn(r"start=(now|time\.time\(\))", r"start=\1 + 21600", loop)
    names = {}
    exec(code, names)  # noqa: S102 - a page of this repository
    for lines in (ahead, loop):
        exec(lines, names)  # noqa: S102
        assert names["verdict"].status == "filling" and names["history"].lag(time.time_ns() // 1_000_000) < 60_000
    assert shifts == 1


OFFICES = {
    "offices/外呼登记.csv": "号码,业务类型,业务名称,委托主体,生效时间,失效时间,入库时间\n"
    "02888880000,贷款,某贷,某公司,2025-01-01 00:00:00,,2025-01-01 00:00:00\n",
    "12321.csv": "举报人号码,被举报号码,来电时间,举报时间,内容,形式\n"
    "13800138000,95013123456,2025-03-04 10:00:00,2025-03-04 12:30:00,贷款,录音\n",
}


def test_the_commands_of_the_page_on_governance_run(world_folder, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world_folder, "data")
    pq.write_table(pq.read_table("data/calls.parquet").slice(0, 3000), "data/calls.parquet")
    Path("calls.parquet").symlink_to("data/calls.parquet")
    for folder in ("offices", "run"):
        Path(folder).mkdir()
    for name, text in OFFICES.items():
        Path(name).write_text(text, encoding="utf-8")
    real_bundle.write_signed(tmp_path / "run")
    for name in ("risk", "owner"):
        assert run_command("model", "approver-key", f"{name}.key")[0] == 0
    write_gates("risk")
    assert run_command("model", "sign-gates", "gates.toml", "--signing-key", "owner.key")[0] == 0
    this_year = datetime.now(tz=UTC).year  # deadlines begin today, and may reach a year without a notice
    notice = '[[notice]]\nyear = {0}\nsource = "a test"\noff = [[{0}-01-01, {0}-01-01]]\n'
    Path("calendar.toml").write_text("".join(notice.format(year) for year in (this_year, this_year + 1)))
    for line in how_to.code("governance").splitlines():
        words = shlex.split(line)[1:]
        if words[1:3] in (["complaints", "enter"], ["rectification", "order"]):
            words += ["--calendar", "calendar.toml"]
        if "abcdefghijklmnop" in words:
            listed = json.loads(run_command("govern", "complaints", "list", "--data", "data", "--json")[1])
            words[words.index("abcdefghijklmnop")] = listed["complaints"][0]["complaint"]
        done, out, error = run_command(*words, stdin="13800138000\n")
        assert done == ("overdue" in out), (line, error)


def write_gates(*approvers):
    """Writes gates.toml as its owner does, from the public keys of the approvers and of the owner in this folder."""
    key = {name: read_public_key(f"{name}.pub").public_bytes_raw().hex() for name in (*approvers, "owner")}
    keys = ", ".join(f'{name} = "{key[name]}"' for name in approvers)
    gates = shipped_gates().data.decode().replace("keys = {}", f"keys = {{ {keys} }}")
    Path("gates.toml").write_text(f'{gates}\n[owner]\nname = "board"\nkey = "{key["owner"]}"\n')


def blocks_of(page, start):
    """Returns the blocks of a page that are not code and begin with `start`, such as ```toml."""
    return re.findall(rf"{start}\n(.*?)```", (how_to.FOLDER / f"{page}.md").read_text(), re.DOTALL)


def write_layout(path, *, labels=False):
    """Writes the layout of the page on training, by default without the tables of the page on labels."""
    path.write_text("".join([*blocks_of("train", "```toml"), *(blocks_of("labels", "```toml") if labels else ())]))


def write_label_files(folder):
    """Writes the files of the page on labels."""
    names = ("complaints.csv", "checks.csv", "trusted.csv")
    for name, text in zip(names, blocks_of("labels", "```text"), strict=True):
        (folder / name).write_text(text)


def test_the_layout_of_the_page_on_training_is_valid(tmp_path):
    write_layout(tmp_path / "op.toml")
    names = ["CDR_ID", "ANI", "DNIS", "SETUP_TIME", "RING_SECS", "DURATION"]
    assert read_layout(tmp_path / "op.toml").match(names, "cdr.csv")["talk"] == ("DURATION",)
    accused = "complainant,accused,called,received\n13800138000,95013123456,04.03.2025 10:00,04.03.2025 12:30\n"
    (tmp_path / "complaints.csv").write_text(accused)
    read = read_complaint_file(tmp_path / "complaints.csv", str(tmp_path / "op.toml"), real_bundle.NUMBER_KEY)
    assert len(read.table) == 1


def test_the_files_and_the_layout_of_the_page_on_labels_are_valid(tmp_path):
    key = real_bundle.NUMBER_KEY
    write_label_files(tmp_path)
    write_layout(tmp_path / "op.toml")
    read = read_complaint_file(tmp_path / "complaints.csv", "callsieve", key)
    assert len(read.table) == 2 and not read.quarantined
    for layout in ("callsieve", str(tmp_path / "op.toml")):
        read = read_check_file(tmp_path / "checks.csv", layout, key)
        assert read.table["nuisance"].tolist() == [True, False] and not read.quarantined
        read = read_trusted_file(tmp_path / "trusted.csv", layout, key)
        assert read.table["kind"].tolist() == ["survey", "own_line"] and not read.quarantined
    write_layout(tmp_path / "op.toml", labels=True)
    (tmp_path / "checks.csv").write_text("msisdn,result,closed\n95013123456,ok,04.03.2025 12:30\n")
    (tmp_path / "trusted.csv").write_text("msisdn,group,since\n95013123456,poll,04.03.2025\n")
    assert read_check_file(tmp_path / "checks.csv", str(tmp_path / "op.toml"), key).table["nuisance"].tolist() == [
        False
    ]
    assert read_trusted_file(tmp_path / "trusted.csv", str(tmp_path / "op.toml"), key).table["kind"].tolist() == [
        "survey"
    ]


def test_the_commands_of_the_page_on_labels_make_the_model_pass_a_trusted_number(world_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world_folder, "data")
    write_label_files(tmp_path)
    label_files.KEY.write(tmp_path / "number.key")
    calls = ["95013123456,13700137000,2025-03-04 10:00:00+08:00", "95013123456,13700137000,2025-07-04 10:00:00+08:00"]
    Path("calls.csv").write_text("\n".join(["caller,callee,start", *calls]) + "\n")
    assert "enough to train" in follow("labels")
    lists = pq.read_table("data/lists.parquet")["number"].to_pylist()
    assert lists == [label_files.token(number) for number in ("95013123456", "13800138000")]
    assert ["trusted_caller" in rules for rules in pq.read_table("verdicts.parquet")["rules"].to_pylist()] == [
        True,
        False,
    ]


# Trainings, with the same steps as any other: small worlds, few features and rounds.
SMALL = {"CALLSIEVE_SIMULATE_SIZE": "tiny", "CALLSIEVE_SIMULATE_SEED": str(SEED), "CALLSIEVE_THREADS": "1"}


def follow(page, place_of=None):
    """Runs the code of a page in the working folder, as a reader does. Returns the output.

    Args:
        place_of: for the start of a line, a function that prepares files for it, or that does its work.
    """
    done, stand_ins = [], dict(place_of or {})
    for block in how_to.blocks(page):
        if block.skip:
            continue
        if block.language == "python":
            exec(compile(block.code, f"{page}.md", "exec"), {})  # noqa: S102
            continue
        for line in block.code.splitlines():
            stand_in = next((stand_ins.pop(start) for start in list(stand_ins) if line.startswith(start)), None)
            if stand_in is None or stand_in() is not DONE:
                done.append(run_line(line))
    assert not stand_ins
    return "".join(done)


DONE = object()  # what a function returns that has done the work of a line


def run_line(line):
    """Runs a line of a shell; returns what it prints."""
    first, *words = shlex.split(line)
    if first != "callsieve":
        return subprocess.run([first, *words], check=True, capture_output=True, text=True).stdout
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as out:
        if words[0] == "train":
            patched.setenv("CALLSIEVE_TRAIN_FEATURES", "lite")
        if "MODEL" in words:
            folder = words[words.index("--in") + 1]
            words[words.index("MODEL")] = [row["model"] for row in attempts_in(folder) if row["model"]][-1]
        assert command(patched, *words) == 0, line
    return out.getvalue()


def attempts_in(folder):
    """Returns the trainings in the log of a run, as the command prints them."""
    return json.loads(run_line(f"callsieve audit attempts --in {folder} --json"))["attempts"]


@pytest.fixture(scope="module")
def trained_folder(written_world, empty_store, tmp_path_factory):
    """A folder in which a reader has followed the page on training; the working folder of tests that use it."""
    folder = tmp_path_factory.mktemp("reader")
    calls, complaints = foreign_files.call_frame(written_world), foreign_files.complaint_frame(written_world)
    calls[["CDR_ID", "ANI", "DNIS", "SETUP_TIME", "RING_SECS", "DURATION"]].to_csv(folder / "cdr.csv", index=False)
    for name in ("called", "received"):
        complaints[name] = complaints[name].str.slice(stop=-3)  # minutes
    complaints.drop(columns="topic").to_csv(folder / "complaints.csv", index=False)
    write_layout(folder / "op.toml")
    shutil.copyfile(empty_store, folder / "mlruns.db")
    rng = np.random.default_rng(5)
    table = {"caller": np.tile(np.arange(80), 80), "start": pd.date_range("2026-01-01", periods=6400, freq="5min")}
    shape = rng.normal(size=6400)
    table |= {"shape": shape, "y": (shape + rng.normal(size=6400) > 0).astype(int)}
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlruns.db'}")
        patched.setitem(fit.PARAMETERS, "rounds", 5)
        patched.setattr("callsieve.training.Settings", partial(Settings, features=LITE, threads=1))
        short_trainings.shorten(patched)
        for name, value in SMALL.items():
            patched.setenv(name, value)
        follow("train")
        yield folder


def test_the_page_on_training_leaves_runs(trained_folder):
    for name in ("run", "second", "third", "fourth"):
        assert (trained_folder / name / "report.html").exists()
        assert (trained_folder / name / "bundle" / "MANIFEST.sig").exists()


@pytest.mark.usefixtures("trained_folder")
def test_the_page_on_files_scores_them():
    row = '"","{0}","{1}","in","","c","d","Dial","","{2:%F %T}","","{3:%F %T}","25","5","ANSWERED","3","u",""\n'
    start = pd.date_range("2026-03-02", periods=300, freq="h")
    numbers = ("13800138000", "02888880000", "13900139000")
    parties = [(numbers[i % 3], numbers[(i + 1) % 3]) for i in range(len(start))]
    rows = [row.format(*pair, at, at + pd.Timedelta("25s")) for pair, at in zip(parties, start, strict=True)]
    Path("Master.csv").write_text("".join(rows))
    Path("offices").mkdir()
    name = "offices/外呼登记.csv"
    Path(name).write_text(OFFICES[name], encoding="utf-8")
    assert "policy" in follow("score-files")
    assert pq.read_metadata("verdicts.parquet").num_rows == len(rows)


def test_the_page_on_audits_verifies_replays_and_promotes(trained_folder, empty_store):
    def record_candidate():
        """Records a run that passes the gates. No model of a tiny world passes them."""
        candidate = trained_folder / "candidate"
        candidate.mkdir()
        shutil.copyfile(empty_store, candidate / "mlflow.db")
        gates, signature = (trained_folder / name for name in ("gates.toml", "gates.toml.sig"))
        judged_by = parse_gates(gates.read_bytes(), "gates", signature.read_text().strip())
        recorded_run.record_run(recorded_run.run_paths_in(candidate), candidate, judged_by=judged_by)
        write_key(small.KEY, candidate / "signing.key")
        return DONE

    out = follow(
        "audit",
        {"callsieve model sign-gates": lambda: write_gates("risk", "legal"), "callsieve train": record_candidate},
    )
    assert "reproduced byte for byte" in out and "version 1: champion" in out
    assert out.count(" 0 faults") == 3


def fill_in(sheet, world):
    """Fills in a sheet of numbers to check, by the truth of the call that each row names."""
    table = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    nuisance = world.truth["nuisance"].to_numpy(zero_copy_only=False)[table["row"].astype(int) - 2]
    table["verdict"] = np.where(nuisance, "nuisance", "innocent")
    table["checked_at"] = str(world.calls["start"].to_pandas().max().date())
    table.to_csv(sheet, index=False)


def test_the_page_on_adapting_moves_the_threshold_by_the_answers(written_world, trained_folder, monkeypatch):
    folder = trained_folder / "adapting"
    folder.mkdir()
    for name in ("cdr.csv", "complaints.csv", "op.toml"):
        shutil.copyfile(trained_folder / name, folder / name)
    monkeypatch.chdir(folder)
    for name in ("ADAPT", "MODEL_REPLAY"):  # smaller than the shipped model
        monkeypatch.setenv(f"CALLSIEVE_{name}_BUNDLE", str(trained_folder / "run" / "bundle"))
    monkeypatch.setattr(choice, "SURPRISED", 2.0)  # so small a base says little about the answers
    adapt = "callsieve adapt --data first/data --answers first/to_check.csv"
    out = follow(
        "adapt",
        {
            f"{adapt} --out second": lambda: fill_in(Path("first/to_check.csv"), written_world),
            f"{adapt} --answers": lambda: fill_in(Path("second/to_check.csv"), written_world),
        },
    )
    assert "reproduced byte for byte" in out
    metadata = [json.loads(Path(name, "bundle", "bundle.json").read_text()) for name in ("first", "second", "third")]
    learnt = [part["training"]["base"]["learnt"] for part in metadata]
    assert learnt[0] == "nothing" and "nothing" not in learnt[1:]
    looks = [pd.read_csv(Path(name, "to_check.csv"))["look"].tolist() for name in ("first", "second")]
    assert set(looks[0]) == {1} and set(looks[1]) == {2} and len(looks[1]) <= asking.SECOND_LOOKS
    assert pq.read_metadata("verdicts.parquet").num_rows == len(pd.read_csv("cdr.csv"))


# Where the commands of the other pages run.
RUN_IN = {
    "docs/how-to/container.md": "tests/system/test_container.py",
    "docs/how-to/handset.md": "tests/training/tracking/test_onnx_export.py",
    "docs/how-to/mlflow.md": "tests/training/tracking/test_mlflow_model.py",
    "docs/how-to/spark.md": "tests/system/test_spark.py",
    "docs/reference/bundle.md": "tests/serving/bundle/test_attestation.py",
}


def test_the_code_of_each_page_runs_somewhere():
    here = {*OUTPUT, "watch", "governance", "train", "adapt", "labels", "score-files", "audit"}
    run_here = {f"docs/how-to/{page}.md" for page in here}
    for name in {page for page in PAGES if page.startswith("docs/")} - run_here:
        text = (ROOT / name).read_text(encoding="utf-8")
        if any(not block.skip for block in how_to.blocks_in(text)):
            assert Path(name).stem in (ROOT / RUN_IN[name]).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_page_exists(page):
    known = dict(commands(COMMAND))
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "\n".join(block.code for block in how_to.blocks_in(text) if block.language == "sh").replace("\\\n", " ")
    lines = re.findall(r"callsieve ([^`\n&]*)", code) + re.findall(r"`callsieve\s([^`]*)`", text)
    for line in lines:
        words = shlex.split(line.rstrip(")"), comments=True)
        path = max((name for name in known if words[: len(name.split())] == name.split()), key=len, default="")
        assert path or len(words) == 1, line
        options = {option for parameter in known[path].params for option in parameter.opts} if path else set()
        options |= set(re.findall("--[a-z-]+", known[path].epilog or "")) if path else set()
        assert {word for word in words if word.startswith("--")} <= options, line
        following = words[len(path.split()) :]
        arguments = path and any(parameter.param_type_name == "argument" for parameter in known[path].params)
        assert not path or arguments or not following or following[0].startswith("--"), line
