"""Each mistake of a user: exit code 1 for a fault, 2 for wrong usage, and one line that says what to do."""

import shlex
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.serving.bundle.signing import write_public_key
from tests.support import small_bundle
from tests.support.calls import foreign_files
from tests.support.errors import raising
from tests.support.simulated import mark_simulated

STORE = "--store sqlite:///{out}.db"
SCORE = "score --bundle {run}/bundle --calls {world}/calls.parquet"
FEATURES = "features --calls {world}/calls.parquet --layout keyed --out"
ONE_SOURCE = "callsieve: train: expected one of --calls FILE and --data FOLDER\n"
ONE_NETWORK = "callsieve: adapt: expected one of --calls FILE and --data FOLDER\n"
DAYS = "callsieve: --valid-days: expected a whole number from 1 to 36,500, got "
NOT_FOUND = "{none}: not found"
OWN_CALLS = "--calls {own}/cdr.csv --layout {own}/op.toml"
# Missing inputs are reported before these functions are called.
WORK = (
    "callsieve.serving.batch.file_scoring.open_scorer",
    "callsieve.training.data.dataset.read_keyed",
    "callsieve.training.run.signer",
)
FAULTS = [
    ("simulate --out {full}", "expected a new or empty folder"),
    ("simulate --out {out} --size huge", "size must be one of tiny"),
    ("simulate --out {out} --scenario {none}", "{none}"),
    ("train --data {world} --out {full}", "expected a new or empty folder"),
    ("train --data {none} --out {out}", NOT_FOUND),
    ("train --data {world} --certify {none} --out {out}", NOT_FOUND),
    ("train --data {world} {none} --out {out}", NOT_FOUND),
    ("train --data {empty} --out {out}", "calls.parquet"),
    ("train --data {partial} --out {out}", "complaints.parquet"),
    ("train --data {world} --out {out} --label-policy {none}", "{none}"),
    ("train --data {world} --out {out} --parameters {wrong}", "expected parameters among num_leaves"),
    ("train --data {world} --out {out} --valid-days 0", f"{DAYS}0\n"),
    ("train --data {world} --out {out} --valid-days 1.5", f"{DAYS}1.5\n"),
    ("train --data {world} --out {out} --valid-days 36501", f"{DAYS}36501\n"),
    ("train --data {world} --out {out} --valid-days nan", f"{DAYS}nan\n"),
    ("train --data {world} --out {out} --target none", "--target: expected a share such as 1/10000, got 'none'"),
    ("adapt --data {world} --out {out} --target 1/0", "--target: expected a share such as 1/10000, got '1/0'"),
    ("adapt --data {world} --out {out} --target 1/2", "target must be from 1/1000000 to 1/100, got 0.5"),
    ("adapt --data {world} --out {out} --answers {none}", "{none}"),
    (
        "adapt --data {world} --out {out} --answers {sheets}/column.csv",
        "column.csv: expected the columns of to_check.csv",
    ),
    (
        "adapt --data {world} --out {out} --answers {sheets}/verdict.csv",
        "verdict.csv: row 2: verdict: expected nuisance or",
    ),
    ("adapt --data {world} --out {out} --answers {sheets}/number.csv", "number.csv: row 2: number: expected the token"),
    (
        "adapt --data {world} --out {out} --answers {sheets}/chance.csv",
        "row 2: probability: expected the value that was",
    ),
    ("adapt --data {world} --out {out} --bundle {none}", "none: MANIFEST.json is missing; expected a signed bundle"),
    ("adapt --data {world} --out {out} --trust {sheets}/other.pub", "which is not trusted"),
    ("adapt --data {short} --out {out}", "calls: expected at least 9 days, of which 7 fill the windows, got "),
    ("score --bundle {run}/bundle --calls {none} --layout keyed", "none: not found"),
    ("score --bundle {run}/bundle --calls {none}", "{none}"),
    ("score --bundle {own} --calls {none}", NOT_FOUND),
    (f"score --bundle {{own}} {OWN_CALLS} --registers {{none}}", NOT_FOUND),
    (f"score --bundle {{own}} {OWN_CALLS} --out {{out}}.parquet --keep CDR_ID --history {{none}}", NOT_FOUND),
    (f"score --bundle {{own}} {OWN_CALLS} --out v.csv", "v.csv: expected a name such as verdicts.parquet"),
    (
        f"score --bundle {{run}}/bundle {OWN_CALLS} --out {{out}}.parquet --keep ID",
        "cdr.csv: --keep: no column 'ID'; the file has CDR_ID, ANI",
    ),
    (f"{SCORE} --layout martian", "martian"),
    (f"{SCORE} --layout sichuan", "calls.parquet"),
    ("score --bundle {none} --calls {world}/calls.parquet --layout keyed", "none: not found"),
    ("score --bundle {lonely} --calls {world}/calls.parquet", "expected --trust FILE"),
    ("score --bundle {lonely} --trust {run}/signer.pub --calls {world}/calls.parquet", "MANIFEST"),
    (f"{SCORE} --trust {{none}}", "{none}"),
    (f"{SCORE} --trust {{text}}", "text.txt"),
    (f"{SCORE} --key {{none}}", "{none}"),
    (f"{SCORE} --key {{text}}", "text.txt"),
    (f"{SCORE} --layout keyed --policy {{none}}", "{none}"),
    (f"{FEATURES} {{world}}/complaints.parquet", "new or empty folder"),
    ("features --calls {none} --out {out}", NOT_FOUND),
    (f"features {OWN_CALLS} --out {{out}} --keep ID", "cdr.csv: --keep: no column 'ID'; the file has CDR_ID, ANI"),
    (f"{FEATURES} {{none}} --features x", "x"),
    ("evaluate --bundle {run}/bundle --data {none}", "none: not found"),
    ("evaluate --bundle {own} --data {none}", NOT_FOUND),
    ("model monitor --bundle {own} --data {none}", NOT_FOUND),
    ("ingest complaints {none}", NOT_FOUND),
    ("ingest calls --calls {none} --out {out}", NOT_FOUND),
    ("ingest checks --checks {none}", NOT_FOUND),
    ("ingest trusted {none}", NOT_FOUND),
    (f"privacy key new {{out}}.key --epoch {EPHEMERAL} --purpose callees", "use another name"),
    ("study decay --data {world} --out {out}", "expected 2 periods or more and 91 days of calls"),
    ("audit verify --in {none}", "expected an audit log"),
    ("audit show --in {none}", "expected an audit log"),
    ("audit prove 0 --in {none}", "expected an audit log"),
    (f"model replay {'0' * 32}", ""),
    (f"cases show ffffffffffffffff {STORE}", "not known"),
    (f"cases show 13800138000 {STORE}", "16 digits"),
    (f"cases appeal ffffffffffffffff --ground because {STORE}", "ground must be one of delivery"),
    (f"cases decide ffffffffffffffff so --person a --why b {STORE}", "outcome must be"),
    (f"cases decide ffffffffffffffff upheld --person 13800138000 --why b {STORE}", "person must be"),
    (f"cases notice ffffffffffffffff --lang fr {STORE}", "not known"),
    (f"cases list --rules {{none}} {STORE}", "{none}"),
]
USAGE = [
    ("train", ONE_SOURCE),
    ("ingest calls --out {out}", "callsieve: ingest calls: expected --calls FILE\n"),
    ("train --calls {text} --data {world}", ONE_SOURCE),
    ("train --calls {text}", "train: --calls: expected --complaints FILE or --checks FILE"),
    ("train --calls {text} --trusted t", "train: --calls: expected --complaints FILE or --checks FILE"),
    ("train --data {world} --trusted t", "--trusted: not used with no --calls"),
    ("train --data {world} --layout plain", "--layout: not used with no --calls"),
    ("adapt", ONE_NETWORK),
    ("adapt --calls {text} --data {world}", ONE_NETWORK),
    ("adapt --data {world} --complaints c", "--complaints: not used with no --calls"),
    # A user could otherwise believe that rows were checked and quarantined.
    ("features --calls {none} --layout keyed --out o --quarantine q --strict --key k",
     ": --key, --quarantine, --strict: not used with "),
    ("features --calls {none} --layout spark --out o --features lite --keep a",
     ": --features, --keep: not used with "),
    ("score --calls {none} --layout keyed --bundle b --quarantine q --key k", ": --key, --quarantine: not used with "),
    ("score --calls {none} --layout keyed --bundle b --registers r --strict --key k", ": --strict: not used with "),
    ("score --calls {none} --layout spark --bundle b --columns r", ": --columns: not used with "),
    ("score --calls {none} --layout keyed --bundle b --lists l", ": --lists: not used with --layout keyed"),
    ("score --calls {none} --bundle b --callees-key k", ": --callees-key: not used with "),
    (f"score --bundle {{own}} {OWN_CALLS} --keep CDR_ID", "--keep: not used with counts alone, without --out"),
    ("live fill --calls {none} --layout keyed --key k --state s --strict", ": --strict: not used with "),
    ("live tap --bundle {none} --key k --state s --switch carrier", "'carrier' does not appear to be an IPv4 or IPv6"),
    ("study policies old.toml new.toml --calls {none} --layout keyed --bundle b --key k", ": --key: not used with "),
    ("govern report --data {none} --bundle b --out {out}", "govern report: --bundle: expected --verdicts, too"),
    ("study rules --data w --trust signer.pub --audit log", ": --trust, --audit: not used with "),
]  # fmt: skip
SLOW = ("{run}", "audit", "cases", "model replay", "study")  # rows that need a training, or import for seconds


def row(words, code, message):
    """Returns a row of the table of one test; slow rows are left out of the quick loop."""
    slow = code == 1 and any(word in words for word in SLOW)
    return pytest.param(words, code, message, id=words, marks=[pytest.mark.system] if slow else [])


ROWS = [row(words, code, message) for code, table in ((1, FAULTS), (2, USAGE)) for words, message in table]


@pytest.fixture(scope="module")
def places(world_folder, written_world, tmp_path_factory):
    """Folders and files with a fault, by name."""
    folder = tmp_path_factory.mktemp("mistakes")
    named = {name: folder / name for name in ("full", "empty", "partial", "none")} | {"world": world_folder}
    named |= {"lonely": folder / "alone" / "bundle", "text": folder / "text.txt", "wrong": folder / "wrong.toml"}
    named["own"] = folder / "own"
    for name in ("full", "empty", "lonely", "own"):
        named[name].mkdir(parents=True)
    foreign_files.write_files(written_world, named["own"])
    (named["full"] / "file").touch()
    named["text"].write_text("not a key")
    named["wrong"].write_text("leaves = 3\n")
    named |= {"sheets": folder / "sheets", "short": folder / "short"}
    write_sheets(named["sheets"])
    shutil.copytree(world_folder, named["short"])
    calls = pq.read_table(world_folder / "calls.parquet")
    pq.write_table(calls.slice(0, calls.num_rows // 8), named["short"] / "calls.parquet")
    (named["short"] / "truth.parquet").unlink()
    mark_simulated(named["short"])
    shutil.copytree(world_folder, named["partial"])
    complaints = named["partial"] / "complaints.parquet"
    pq.write_table(pq.read_table(complaints).drop_columns("category"), complaints)
    return named


def write_sheets(folder):
    """Writes filled-in sheets of an adaptation, each with one fault, and the public key of somebody else."""
    folder.mkdir()
    row = {
        "number": f"e1.{'a' * 32}",
        "probability": "0.5",
        "look": "1",
        "verdict": "nuisance",
        "checked_at": "2025-04-01",
    }
    faults = {"verdict": {"verdict": "spam"}, "number": {"number": "13800138000"}, "chance": {"probability": "0"}}
    for name, change in faults.items():
        pd.DataFrame([row | change]).to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame([row]).drop(columns="look").to_csv(folder / "column.csv", index=False)
    write_public_key(small_bundle.OTHER_KEY.public_key(), folder / "other.pub")


@pytest.mark.parametrize(("words", "code", "message"), ROWS)
def test_a_mistake_is_one_line_with_the_next_step(
    run_command, places, request, tmp_path, monkeypatch, words, code, message
):
    monkeypatch.chdir(tmp_path)
    if "{run}" in words:
        places = places | {"run": request.getfixturevalue("training_run")[0]}
    for function in WORK if message == NOT_FOUND else ():
        monkeypatch.setattr(function, raising(AssertionError("the inputs were not checked first")))
    names = places | {"out": tmp_path / "out"}
    result = run_command(*(word.format(**names) for word in shlex.split(words)))
    assert result[:2] == (code, "")
    error, expected = result[2], message.format(**names)
    assert error.startswith("callsieve: ") and error.count("\n") == 1 and expected in error
    assert error == expected or not expected.endswith("\n")
    assert "13800138000" not in error
    assert code == 1 or not any(tmp_path.iterdir())
    assert not list(tmp_path.rglob("*.parquet")) and (places["full"] / "file").exists()
