"""The first steps with an operator's own files: what each mistake answers, and with which exit code."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features.keys.tokens import read_key
from callsieve.serving.custody import purposes
from callsieve.serving.custody.purposes import PURPOSES, declare, require_purpose
from callsieve.training import read_dataset
from callsieve.training.oversight.governance.compliance import AuditScope, report
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.world import write_world
from tests.support.calls import foreign_files
from tests.support.trainings import short_trainings

RING = 'ring = ["RING_SECS"]\n'


@pytest.fixture(autouse=True)
def no_reported_folders(monkeypatch):
    """Lets each test see the line about data without declared purposes."""
    monkeypatch.setattr(purposes, "_reported", set())


@pytest.fixture(scope="module")
def own(written_world, tmp_path_factory):
    """A folder with the files of an operator."""
    return foreign_files.write_files(written_world, tmp_path_factory.mktemp("own"))


@pytest.fixture
def layout(tmp_path):
    """Writes the operator's layout with some text replaced."""

    def write(old, new):
        assert old in foreign_files.LAYOUT
        (tmp_path / "changed.toml").write_text(foreign_files.LAYOUT.replace(old, new), encoding="utf-8")
        return tmp_path / "changed.toml"

    return write


@pytest.mark.parametrize(
    ("old", "new", "reason", "advice"),
    [
        (RING, "", "bad_value (column 'DURATION', ", "no `ring` column is mapped; add `ring = 0` under [constants]"),
        ('["iso"]', '["unix"]', "bad_time (column 'SETUP_TIME', ", "name how the file writes times under `formats`"),
        ('ANS = "answered"\n', "", "bad_value (column 'RESULT', ", "under [values.outcome], such as ANS"),
        ("[clock]", "[clock]\nearliest = 2026-01-01", "time_out_of_range (column 'SETUP_TIME', ", "unit, epoch"),
    ],
)
def test_a_file_whose_rows_are_all_invalid_fails_with_the_missing_mapping(
    run_command, own, layout, tmp_path, old, new, reason, advice
):
    head, *lines = (own / "cdr.csv").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if ",ANS," in line][:40]  # answered calls alone
    (tmp_path / "cdr.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    dropped = foreign_files.LAYOUT.replace('"TARIFF"]', '"TARIFF", "RING_SECS"]') if old == RING else ""
    changed = layout(old, new)
    if dropped:
        changed.write_text(dropped.replace(old, new), encoding="utf-8")
    words = ("--calls", tmp_path / "cdr.csv", "--layout", changed)
    for command in (("features", *words, "--out", tmp_path / "vectors"), ("score", *words)):
        code, _, err = run_command(*command)
        assert code == 1 and f"cdr.csv: all {len(rows)} rows were quarantined: {len(rows)} {reason}" in err
        assert advice in err and not any(number in err for row in rows for number in row.split(",")[1:3])


HEADER = "caller,callee,start,duration"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([HEADER, "13800138000,,x,1"], ["cdr.csv: all 1 rows were quarantined: 1 bad_time"]),
        (
            ["caller;callee;start;duration", "1;2;3;4"],
            ["cdr.csv: the header line is separated by ';', expected commas"],
        ),
        (
            [
                HEADER,
                *["13800138000,,2025-03-03 10:00:00,1"] * 4,
                *["13800138000,139,soon,1"] * 3,
                *["13800138000,139,2025-03-03 10:00:00,13800138000"] * 2,
                "13800138000",
            ],
            ["all 10 rows were quarantined: 4 missing_callee (column 'callee', ", "; 3 bad_time", "; 2 bad_value"],
        ),
    ],
    ids=["one row", "separator", "the three commonest reasons"],
)
def test_a_file_without_a_valid_call_is_refused_and_no_number_is_named(run_command, tmp_path, lines, says):
    (tmp_path / "cdr.csv").write_text("\n".join(lines) + "\n")
    code, out, err = run_command("score", "--calls", tmp_path / "cdr.csv", "--layout", "plain")
    assert (code, out) == (1, "") and all(part in err for part in says)
    assert "bad_number_of_columns" not in err and "13800138000" not in err


def test_undeclared_data_are_used_and_recorded_so(run_command, own, tmp_path):
    words = ("--calls", own / "cdr.csv", "--layout", own / "op.toml", "--json")
    code, out, err = run_command("features", *words, "--out", tmp_path / "vectors")
    assert code == 0 and json.loads(out)["purpose"] == "undeclared"
    assert err.count("\n") == 1 and f"{own}: training without declared purposes" in err
    files = [tmp_path / "vectors", *(tmp_path / "vectors").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in files} <= {0o600, 0o700}
    code, out, err = run_command("features", *words, "--out", tmp_path / "again")
    assert (code, err) == (0, "")  # the line is written once


def test_a_policy_can_require_a_declaration(command_error, run_command, own, tmp_path, monkeypatch):
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "strict"\nrequire_declaration = true\n[bands]\n')
    calls = ("--calls", own / "cdr.csv", "--layout", own / "op.toml")
    says = f"{own}: no declaration of source and permitted purposes, and the policy requires one; write it with"
    assert says in command_error("score", *calls, "--policy", policy)
    monkeypatch.setenv("CALLSIEVE_POLICY", str(policy))
    assert says in command_error("features", *calls, "--out", tmp_path / "vectors")
    policy.write_text('version = "odd"\nrequire_declaration = "yes"\n[bands]\n')
    code, _, err = run_command("features", *calls, "--out", tmp_path / "vectors")
    assert code == 1 and "require_declaration: expected true or false, got 'yes'" in err


def test_a_declaration_is_shown_changed_and_removed(command_error, run_command, command_json, tmp_path):
    shown = lambda: command_json("privacy", "declaration", tmp_path)
    assert shown() == {"purposes": "undeclared"}
    person = ("--person", "p1")
    code, _, err = run_command("privacy", "declare", tmp_path, "--purpose", "training", *person)
    assert code == 2 and "expected --source, --basis, --purpose and --until" in err
    assert "no declaration" in command_error(
        "privacy", "declare", tmp_path, "--change", "--purpose", "training", *person
    )
    facts = ("--source", "switch", "--basis", "contract", "--purpose", "scoring", "--until", "2999-12-31", *person)
    command_json("privacy", "declare", tmp_path, *facts)
    assert "declared already; change it with --change" in command_error("privacy", "declare", tmp_path, *facts)
    with pytest.raises(ValueError, match=r"not for training; .* --change --purpose scoring --purpose training$"):
        require_purpose(tmp_path, "training")
    command_json("privacy", "declare", tmp_path, "--change", "--purpose", "training", "--person", "p2")
    assert (shown()["source"], shown()["purposes"], shown()["until"]) == ("switch", ["training"], "2999-12-31")
    code, out, _ = run_command("privacy", "declaration", tmp_path)
    assert code == 0 and "training" in out and "switch" in out
    command_json("privacy", "undeclare", tmp_path, *person)
    assert shown() == {"purposes": "undeclared"}
    assert "no declaration" in command_error("privacy", "undeclare", tmp_path, *person)
    entries = [payload for _, payload in payloads(tmp_path / "audit", "declaration")]
    assert [(entry["person"], entry["act"]) for entry in entries] == [
        ("p1", "declare"), ("p2", "change"), ("p1", "undeclare"),
    ]  # fmt: skip
    assert [entry["declaration"] and entry["declaration"]["purposes"] for entry in entries] == [
        ["scoring"], ["training"], None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "covered"),
    [
        ("training", {"training", "evaluation", "monitoring"}),
        ("scoring", {"scoring", "monitoring"}),
        ("export", {"export"}),
    ],
)
def test_a_purpose_covers_what_its_job_needs(tmp_path, declared, covered):
    declare(tmp_path, "switch", "contract", [declared], "2999-12-31")
    for purpose in PURPOSES:
        if purpose in covered:
            assert require_purpose(tmp_path, purpose).purposes == (declared,)
        else:
            with pytest.raises(ValueError, match=f"declared for {declared}, not for {purpose}"):
                require_purpose(tmp_path, purpose)


def test_only_declared_data_expire(world, tmp_path):
    write_world(world, tmp_path)
    (tmp_path / "world.json").unlink()
    assert read_dataset(tmp_path).calls.num_rows == world.calls.num_rows  # calls of 2025, without a declaration
    assert read_dataset(tmp_path).purpose == "undeclared"
    declare(tmp_path, "switch", "contract", ["training"], "2999-12-31")
    says = r"calls\.parquet: all .* are older than 60 days, the period of \[calls\] in retention\.toml"
    with pytest.raises(ValueError, match=says):
        read_dataset(tmp_path)


@pytest.mark.source("L42", "P4", by="serving/custody/purposes.py")
def test_a_statement_of_other_calls_does_not_make_real_calls_simulated(world, tmp_path):
    """An empty world.json, that of another world and that of the same world before a change lift no declaration."""
    write_world(world, tmp_path)
    statement = (tmp_path / "world.json").read_bytes()
    assert require_purpose(tmp_path, "export").simulated
    calls = pq.read_table(tmp_path / "calls.parquet")
    pq.write_table(calls.slice(1), tmp_path / "calls.parquet")
    declare(tmp_path, "switch", "contract", ["scoring"], "2999-12-31")
    for text in (
        b"",
        b"{}",
        statement,
        json.dumps({"seed": "1", "size": "tiny", "scenario": "a", "calls": "b"}).encode(),
    ):
        (tmp_path / "world.json").write_bytes(text)
        with pytest.raises(ValueError, match="declared for scoring, not for export"):
            require_purpose(tmp_path, "export")
    [result] = [
        d["result"] for d in report(AuditScope((tmp_path,), None, (), None))["duties"] if d["name"] == "in time"
    ]
    assert "simulated" not in result and "calls.parquet" in result, "retention was lifted"
    (tmp_path / "dataset.json").unlink()
    [duty] = [d for d in report(AuditScope((tmp_path,), None, (), None))["duties"] if d["name"] == "declared"]
    assert not duty["holds"] and duty["result"].endswith("world.json is not of these calls")
    write_world(world, tmp_path)
    assert require_purpose(tmp_path, "export").simulated


def test_own_files_become_a_model_in_one_command(run_command, own, monkeypatch, tmp_path):
    short_trainings.shorten(monkeypatch)
    (tmp_path / "few.toml").write_text("rounds = 10\n")
    words = ("--calls", own / "cdr.csv", "--layout", own / "op.toml", "--complaints", own / "complaints.csv")
    options = ("--parameters", tmp_path / "few.toml", "--threads", 1, "--out", tmp_path / "run", "--json")
    code, out, err = run_command("train", *words, *options)
    assert code == 0 and [line for line in err.splitlines() if "privacy declare" in line] == [
        f"{own}: training without declared purposes; declare them with callsieve privacy declare"
    ]
    assert json.loads(out)["data"]["calls"] == len(pq.read_table(tmp_path / "run" / "data" / "calls.parquet"))
    recorded = json.loads((tmp_path / "run" / "record" / "datasets.json").read_text())
    assert recorded["calls"]["purpose"] == recorded["complaints"]["purpose"] == "undeclared"
    # A number has one token, with its country code and without, in calls and in complaints.
    key = read_key(tmp_path / "run" / "number.key")
    complaints = pq.read_table(tmp_path / "run" / "data" / "complaints.parquet")
    written = pd.read_csv(own / "complaints.csv", dtype=str)
    national = written["accused"].str.removeprefix("+86")
    tokens = {f"+86{number}": key.token("number", f"+86{number}") for number in national[national.str.startswith("1")]}
    assert written["accused"].str.startswith("+86").any() and len(complaints) == len(written.drop_duplicates())
    assert set(tokens.values()) <= set(complaints["number"].to_pylist())
    # A judged call is named by its line: the lines of a caller have one number.
    judged = pq.read_table(tmp_path / "run" / "record" / "judged.parquet").to_pandas()
    callers = pd.read_csv(own / "cdr.csv", dtype=str)["ANI"].str.removeprefix("+86").fillna("")
    pairs = judged.assign(number=callers[judged["row"] - 2].to_numpy())[["caller", "number"]].drop_duplicates()
    pairs = pairs[pairs["number"].str.fullmatch(r"1\d{10}")]
    assert len(pairs) > 20 and pairs["caller"].is_unique and pairs["number"].is_unique


def test_own_files_become_a_folder_that_other_commands_read(run_command, command_error, own, tmp_path):
    words = ("ingest", "calls", "--calls", own / "cdr.csv", "--layout", own / "op.toml")
    words += ("--complaints", own / "complaints.csv", "--checks", own / "checks.csv", "--out", tmp_path / "month")
    code, out, err = run_command(*words, "--json")
    made = json.loads(out)
    assert code == 0 and made["tables"] == ["calls.parquet", "complaints.parquet", "findings.parquet"], err
    assert (tmp_path / "month").stat().st_mode & 0o777 == 0o700
    assert made["quarantined"][str(own / "checks.csv")] == {"bad_number": 1}
    calls, written = pq.read_table(tmp_path / "month" / "calls.parquet").to_pandas(), pd.read_csv(own / "cdr.csv")
    talked = written["DURATION"].iloc[calls["call"] - 2]
    assert calls["talk"].fillna(0).tolist() == (1000 * talked).tolist() and calls["call"].is_unique
    assert len(calls) > 0.99 * len(written)  # the others are repeated records
    _, out, err = run_command("train", "--data", tmp_path / "month", "--dry-run", "--json")
    assert json.loads(out)["folds"]["train"]["nuisance"]["groups"], err
    assert "expected a new or empty folder" in command_error(*words)


def test_ingested_calls_may_be_used_as_they_are_declared(command_json, command_error, tmp_path):
    for name, rows in (
        ("calls", "caller,callee,start\n13800138000,95588,1772500000\n"),
        ("complaints", "number,at\n13800138000,2026-03-03\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.csv").write_text(rows)
    terms = ("switch", "contract", ["scoring"], "2999-12-31")
    declare(tmp_path / "calls", *terms)
    words = ("ingest", "calls", "--calls", tmp_path / "calls" / "file.csv")
    command_json(*words, "--out", tmp_path / "keyed")
    assert require_purpose(tmp_path / "keyed", "monitoring").purposes == ("scoring",)  # the declaration came along
    # A file beside the calls must permit what the folder will permit.
    declare(tmp_path / "complaints", "desk", "law", ["training"], "2999-12-31")
    words += ("--complaints", tmp_path / "complaints" / "file.csv", "--out", tmp_path / "both")
    assert "complaints: declared for training, not for scoring" in command_error(*words)


def test_checked_and_trusted_numbers_become_a_model_without_a_complaint(run_command, own, monkeypatch, tmp_path):
    short_trainings.shorten(monkeypatch)
    (tmp_path / "few.toml").write_text("rounds = 10\n")
    words = ("--calls", own / "cdr.csv", "--layout", own / "op.toml", "--checks", own / "checks.csv")
    words += ("--trusted", own / "trusted.csv")
    options = ("--parameters", tmp_path / "few.toml", "--threads", 1, "--out", tmp_path / "run", "--json")
    code, _, err = run_command("train", *words, *options)
    assert code == 0, err
    assert "checks.csv: quarantined: 1 rows, bad_number" in err
    assert "trusted.csv: quarantined: 1 rows, unknown_word" in err
    assert not (tmp_path / "run" / "data" / "complaints.parquet").exists()
    recorded = json.loads((tmp_path / "run" / "record" / "datasets.json").read_text())
    written = pd.read_csv(own / "checks.csv", dtype=str)
    assert recorded["findings"]["rows"] == len(written) - 1 and recorded["complaints"]["rows"] == 0
    key = read_key(tmp_path / "run" / "number.key")
    findings = pq.read_table(tmp_path / "run" / "data" / "findings.parquet").to_pandas().set_index("number")
    mobile = written[written["number"].str.fullmatch("1[0-9]{10}")].drop_duplicates("number", keep=False)
    verdicts = findings["nuisance"].loc[[key.token("number", f"+86{number}") for number in mobile["number"]]]
    assert verdicts.tolist() == (mobile["verdict"] == "nuisance").tolist() and set(verdicts) == {True, False}
    # Trusted numbers have the tokens of the calls.
    trusted = read_dataset(tmp_path / "run" / "data").lists
    assert recorded["lists"]["rows"] == len(trusted) == len(pd.read_csv(own / "trusted.csv")) - 1
    assert set(trusted["list"]) == {"trusted customer"}
    callers = set(pq.read_table(tmp_path / "run" / "data" / "calls.parquet")["caller"].to_pylist())
    assert len(callers & set(trusted["number"])) > 10


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("complaints.csv", ",SCAM", ",SWINDLE", "(column 'topic', expected a word of the layout: add the "
         "words of the file under [category], such as SWINDLE)"),
        ("complaints.csv", "complainant,accused", "complainant,about", "complaints.csv: column 2 is not known"),
        ("op.toml", 'accused"]', 'accused"]\ncall = ["called"]', "columns: object contains unknown field `call`"),
        ("op.toml", 'at = ["called"]\n', "", "columns: object missing required field `at`"),
        ("op.toml", "[complaints]", "[complaints]\nzones = 1", "unknown field `zones`"),
        ("op.toml", "[complaints]", '[complaints]\nzone = "Mars"', "unknown time zone 'Mars'"),
        ("op.toml", "[complaints]", "[complaint]", "unknown key 'complaint'"),
    ],
)  # fmt: skip
def test_a_fault_of_own_files_leaves_no_run(command_error, own, tmp_path, name, old, new, says):
    for path in own.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    text = (tmp_path / name).read_text()
    if new.endswith("SWINDLE"):
        text = "\n".join(line for line in text.splitlines() if line.endswith((",topic", old))) + "\n"
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    words = ("--calls", tmp_path / "cdr.csv", "--layout", tmp_path / "op.toml")
    words += ("--complaints", tmp_path / "complaints.csv", "--out", tmp_path / "run")
    assert says in command_error("train", *words)
    assert not any((tmp_path / "run").iterdir())
