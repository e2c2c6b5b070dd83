"""Checked numbers as a plain file: `ingest checks`, the labels of a folder; faults are in `test_number_files`."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key
from callsieve.serving.custody.retention import read_retention
from callsieve.training.data.dataset import FINDINGS
from callsieve.training.oversight.privacy import tables
from tests.support.erasures import carried_out
from tests.support.trainings import label_files
from tests.support.trainings.label_files import INNOCENT, KEY, NUISANCE, ingester, labelled, moment, token

HEAD, GOOD = label_files.HEADS["checks"], label_files.GOOD["checks"]


@pytest.fixture
def ingest(run_command, tmp_path):
    return ingester(run_command, tmp_path, "checks")


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


def test_checks_are_added_to_the_findings_of_a_folder(ingest):
    assert ingest(GOOD)[0]["added"] == 1
    figures, table = ingest(GOOD, f"{INNOCENT},innocent,2025-03-04T10:00:00Z")
    assert figures["added"] == 1 and table["number"].to_pylist() == [token(NUISANCE), token(INNOCENT)]
    # A corrected verdict on the same check counts, because it is the later row.
    _, table = ingest(GOOD.replace("nuisance", "innocent"))
    assert table["nuisance"].to_pylist() == [True, False, False]


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
