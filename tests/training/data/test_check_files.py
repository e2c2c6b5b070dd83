"""Checked numbers as a plain file: `ingest checks`, the labels of a folder, and every fault of a row."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key
from callsieve.serving.custody.retention import read_retention
from callsieve.training.data.dataset import FINDINGS
from callsieve.training.oversight.privacy import tables
from tests.support.erasures import carried_out
from tests.support.trainings.label_files import KEY, assert_quarantined, labelled, moment, token

HEAD = "number,verdict,checked_at"
NUISANCE, INNOCENT = "95013123456", "13900139000"
GOOD = f"{NUISANCE},nuisance,2025-03-04T10:00:00Z"


@pytest.fixture
def ingest(run_command, tmp_path):
    """Runs `ingest checks` on lines of text; returns its figures and the findings."""
    KEY.write(tmp_path / "number.key")

    def run(*lines, head=HEAD, layout="callsieve", options=()):
        (tmp_path / "checks.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        words = ("--checks", tmp_path / "checks.csv", "--layout", layout, "--key", tmp_path / "number.key")
        code, out, err = run_command(
            "ingest", "checks", *words, "--out", tmp_path / "findings.parquet", "--json", *options
        )
        assert code == 0, err
        return json.loads(out), pq.read_table(tmp_path / "findings.parquet")

    return run


def test_a_check_labels_its_number_from_its_moment_on(ingest, world_folder, tmp_path):
    (tmp_path / "calls.parquet").write_bytes((world_folder / "calls.parquet").read_bytes())
    rows = (f"{NUISANCE},nuisance,2025-03-04T10:00:00Z", "139 0013 9000,innocent,2025-03-04T10:00:00Z")
    figures, table = ingest(*rows, f"+86{INNOCENT},nuisance,2025-03-09T10:00:00Z")
    assert table.schema.equals(FINDINGS)
    assert (figures["nuisance numbers"], figures["innocent numbers"], figures["added"]) == (2, 0, 3)
    at = moment("2025-03-04T10:00")
    before = at - pd.Timedelta(1, "ms")
    assert [labelled(tmp_path, token(number), before) for number in (NUISANCE, INNOCENT)] == [None, None]
    assert labelled(tmp_path, token(NUISANCE), at) == (True, "finding")
    assert labelled(tmp_path, token(INNOCENT), at) == (False, "finding")
    # The last check counts, once it is known.
    assert labelled(tmp_path, token(INNOCENT), moment("2025-03-09T09:59:59.999")) == (False, "finding")
    assert labelled(tmp_path, token(INNOCENT), moment("2025-03-09T10:00")) == (True, "finding")


@pytest.mark.parametrize(
    ("written", "known_at"),
    [
        ("2025-03-04T10:00:00Z", "2025-03-04T10:00"),
        ("2025-03-04 10:00:00+08:00", "2025-03-04T02:00"),
        ("2025-03-04 10:00", "2025-03-04T02:00"),  # by the layout's zone
        ("2025-03-04", "2025-03-04T16:00"),  # a day alone: known when the next day of the zone begins
        ("2025-03-04 00:00:00", "2025-03-04T16:00"),
        ("2025-03-03T16:00:00Z", "2025-03-04T16:00"),  # the same moment
    ],
)
def test_when_a_check_is_known(ingest, written, known_at):
    _, table = ingest(f"{NUISANCE},nuisance,{written}")
    assert table["known_at"].to_pylist() == [moment(known_at)]


@pytest.mark.parametrize(
    ("row", "reason", "refused"),
    [
        (",nuisance,2025-03-04T10:00:00Z", "missing_number", 1),
        ("anonymous,nuisance,2025-03-04T10:00:00Z", "bad_number", 1),
        ("匿名,innocent,2025-03-04T10:00:00Z", "bad_number", 1),
        ("+86 139 xxxx 9000,nuisance,2025-03-04T10:00:00Z", "bad_number", 1),
        ("13900139000.0,nuisance,2025-03-04T10:00:00Z", "bad_number", 1),
        ("12,nuisance,2025-03-04T10:00:00Z", "bad_number", 1),
        ("13900139000,spam,2025-03-04T10:00:00Z", "unknown_word", 1),
        ("13900139000,13900139000,2025-03-04T10:00:00Z", "unknown_word", 1),
        ("13900139000,,2025-03-04T10:00:00Z", "unknown_word", 1),
        ("13900139000,innocent,", "bad_time", 1),
        ("13900139000,innocent,13900139000", "bad_time", 1),
        ("13900139000,innocent,04.03.2025 10:00", "bad_time", 1),
        ("13900139000,innocent", "bad_number_of_columns", 1),
        (GOOD.replace(NUISANCE, f"+86{NUISANCE}"), "duplicate", 1),
        (GOOD.replace("nuisance", "innocent") + "\n13900139001,innocent,2025-03-04", "bad_value", 2),
    ],
)
def test_every_invalid_row_has_its_reason_and_no_number_is_shown(ingest, run_command, tmp_path, row, reason, refused):
    quarantine = tmp_path / "quarantine.jsonl"
    figures, table = ingest(GOOD, row, options=("--quarantine", quarantine))
    assert table.num_rows == 1
    command = ("ingest", "checks", "--checks", tmp_path / "checks.csv", "--key", tmp_path / "number.key")
    assert_quarantined(run_command, command, figures, quarantine, reason, refused)


@pytest.mark.parametrize(
    ("text", "head", "line"),
    [
        ("", HEAD, GOOD),
        ('[clock]\nzone = "UTC"\n[columns]\ncaller = ["a"]\n', HEAD, f"{NUISANCE},nuisance,2025-03-04T10:00:00"),
        (
            '[clock]\nzone = "UTC"\n[columns]\ncaller = ["a"]\n'
            '[checks]\nformats = ["%d.%m.%Y %H:%M"]\ndropped = ["by"]\n'
            'columns = { number = ["msisdn"], verdict = ["result"], checked_at = ["closed"] }\n'
            'verdict = { spam = "nuisance" }\n',
            "by,closed,msisdn,result",
            f"me,04.03.2025 10:00,{NUISANCE},spam",
        ),
        (
            'zone = "UTC"\ncolumns = { number = ["msisdn"], verdict = ["result"] }\nformats = ["%Y%m%d%H%M"]\n',
            "msisdn,result,checked_at",
            f"{NUISANCE},nuisance,202503041000",
        ),
    ],
    ids=["an empty file", "calls alone", "a table of calls", "checks alone"],
)
def test_a_layout_names_columns_and_words(ingest, tmp_path, text, head, line):
    (tmp_path / "op.toml").write_text(text)
    _, table = ingest(line, head=head, layout=tmp_path / "op.toml")
    assert table.to_pylist() == [{"number": token(NUISANCE), "nuisance": True, "known_at": moment("2025-03-04T10:00")}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[checks]\nverdict = { spam = "bad" }\n', "checks: verdict[...]: invalid enum value 'bad'"),
        ("[checks]\ncolumns = { reporter = ['a'] }\n", "unknown field `reporter`"),
        ('[checks]\nzone = "Mars"\n', "unknown time zone 'Mars'"),
        (None, "layout '12321': expected callsieve, or a .toml file"),
    ],
)
def test_an_invalid_layout_is_one_line(run_command, tmp_path, text, says):
    (tmp_path / "op.toml").write_text(text or "")
    (tmp_path / "checks.csv").write_text(f"{HEAD}\n{GOOD}\n")
    layout = "12321" if text is None else tmp_path / "op.toml"
    code, _, err = run_command("ingest", "checks", "--checks", tmp_path / "checks.csv", "--layout", layout)
    assert code == 1 and says in err.splitlines()[-1] and NUISANCE not in err


def test_checks_are_added_to_the_findings_of_a_folder(ingest):
    assert ingest(GOOD)[0]["added"] == 1
    figures, table = ingest(GOOD, f"{INNOCENT},innocent,2025-03-04T10:00:00Z")
    assert figures["added"] == 1 and table["number"].to_pylist() == [token(NUISANCE), token(INNOCENT)]
    # A corrected verdict on the same check counts, because it is the later row.
    _, table = ingest(GOOD.replace("nuisance", "innocent"))
    assert table["nuisance"].to_pylist() == [True, False, False]


def test_no_findings_are_added_under_a_key_that_is_not_kept(run_command, tmp_path, monkeypatch):
    monkeypatch.delenv("CALLSIEVE_KEY", raising=False)
    (tmp_path / "checks.csv").write_text(f"{HEAD}\n{GOOD}\n")
    out = tmp_path / "findings.parquet"
    code, _, err = run_command("ingest", "checks", "--checks", tmp_path / "checks.csv", "--out", out)
    assert code == 1 and "--out: expected --key FILE" in err and not out.exists()


def test_checks_are_rekeyed_deleted_and_expire_like_other_tables(ingest, tmp_path):
    ingest(GOOD, f"{INNOCENT},innocent,2025-03-24T10:00:00Z")
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "findings.parquet").rename(folder / "findings.parquet")

    def left():
        return pq.read_table(folder / "findings.parquet")["number"].to_pylist()

    later = Key("e2", KEY.secret, b"c" * 32)
    assert tables.rekey(folder, Rekeying(KEY, later)) == {"findings.parquet": 2}
    assert left() == [token(number, later) for number in (NUISANCE, INNOCENT)]
    rules, now = read_retention(), int(moment("2025-03-14").timestamp() * 1000)
    days = 400 * 86_400_000
    [erasure] = tables.plan_expiry(folder, rules, now + days)
    assert (erasure.name, pq.read_table(erasure.new).num_rows) == ("findings.parquet", 1)
    report = carried_out(tables.plan_deletion(folder, left()[1], rules, now))
    assert report["findings.parquet"]["deleted"] == 1 and left() == [token(NUISANCE, later)]
