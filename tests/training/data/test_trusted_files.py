"""Trusted numbers as a plain file: `ingest trusted`, the labels of a folder and registers."""

import json
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callsieve.features import Call, Intake
from callsieve.features.files.atomic import sha256
from callsieve.serving import Registers, read_policy
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.register_lookup import look_up
from callsieve.training.data.dataset import LISTS
from callsieve.training.data.trusted_files import KINDS
from callsieve.training.oversight.log.audit_log import payloads, user
from callsieve.training.oversight.privacy import register_folders, tables
from tests.support.erasures import carried_out
from tests.support.trainings import label_files
from tests.support.trainings.label_files import INNOCENT as SHOP
from tests.support.trainings.label_files import KEY, ingester, labelled, moment, token
from tests.support.trainings.label_files import NUISANCE as SURVEY

HEAD, GOOD = label_files.HEADS["trusted"], label_files.GOOD["trusted"]
MOMENT = pd.Timedelta(1, "ms")


@pytest.fixture
def ingest(run_command, tmp_path):
    return ingester(run_command, tmp_path, "trusted")


def spans(table):
    """Returns list, start, end and moment of knowledge of each row, as texts in UTC."""
    return [
        (row["list"], *(row[name] and f"{row[name]:%m-%d %H:%M}" for name in ("valid_from", "valid_to", "known_at")))
        for row in table.to_pylist()
    ]


def test_a_number_is_innocent_while_it_is_trusted_and_that_is_known(ingest, world_folder, tmp_path):
    for name in ("calls", "complaints"):
        (tmp_path / f"{name}.parquet").write_bytes((world_folder / f"{name}.parquet").read_bytes())
    rows = (f"{GOOD}2025-03-09T10:00:00Z,", "139 0013 9000,customer,2025-03-04T10:00:00Z,,2025-03-06T10:00:00Z")
    figures, table = ingest(*rows, head=f"{HEAD},known_at")
    assert table.schema.equals(LISTS)
    assert (figures["numbers"], figures["customer rows"], figures["survey rows"]) == (2, 1, 1)
    assert (figures["with an end"], figures["added to lists"], figures["added to register"]) == (1, 2, 0)
    survey, customer = (False, "list trusted survey"), (False, "list trusted customer")
    for number, at, before, after in (
        (SURVEY, "2025-03-04T10:00", None, survey),
        (SURVEY, "2025-03-09T10:00", survey, None),
        (SHOP, "2025-03-06T10:00", None, customer),
    ):
        assert labelled(tmp_path, token(number), moment(at) - MOMENT) == before
        assert labelled(tmp_path, token(number), moment(at)) == after


@pytest.mark.parametrize(
    ("written", "begin"),
    [
        ("2025-03-04T10:00:00Z", "03-04 10:00"),
        ("2025-03-04 10:00:00+08:00", "03-04 02:00"),
        ("2025-03-04 10:00", "03-04 02:00"),  # by the layout's zone
        ("2025-03-04", "03-03 16:00"),  # a day alone: its first moment
    ],
)
def test_a_number_is_known_to_be_trusted_from_its_start_on(ingest, written, begin):
    _, table = ingest(f"{SURVEY},survey,{written},")
    assert spans(table) == [("trusted survey", begin, None, begin)]


@pytest.mark.parametrize(
    ("text", "head", "line"),
    [
        ('[clock]\nzone = "UTC"\n[columns]\ncaller = ["a"]\n', HEAD, f"{SURVEY},survey,2025-03-04T10:00:00,"),
        (
            '[clock]\nzone = "UTC"\n[columns]\ncaller = ["a"]\n'
            '[trusted]\nformats = ["%d.%m.%Y %H:%M"]\ndropped = ["by"]\n'
            'columns = { number = ["msisdn"], kind = ["group"], trusted_from = ["since"] }\n'
            'kind = { poll = "survey" }\n',
            "by,since,msisdn,group",
            f"me,04.03.2025 10:00,{SURVEY},poll",
        ),
        (
            'zone = "UTC"\ncolumns = { number = ["msisdn"], kind = ["group"] }\nformats = ["%Y%m%d%H%M"]\n',
            "msisdn,group,trusted_from",
            f"{SURVEY},survey,202503041000",
        ),
    ],
    ids=["calls alone", "a table of calls", "trusted numbers alone"],
)
def test_a_layout_names_columns_and_words(ingest, tmp_path, text, head, line):
    (tmp_path / "op.toml").write_text(text)
    _, table = ingest(line, head=head, layout=tmp_path / "op.toml")
    assert spans(table) == [("trusted survey", "03-04 10:00", None, "03-04 10:00")]
    assert table["number"].to_pylist() == [token(SURVEY)]


def test_a_row_replaces_the_one_of_its_number_and_start_in_lists_and_register(ingest, tmp_path):
    other = pd.DataFrame([{"number": token(SURVEY), "list": "blocked", "valid_to": None}])
    for name in ("valid_from", "known_at"):
        other[name] = moment("2025-03-04T10:00")
    other.astype({"valid_to": "datetime64[ms, UTC]"}).to_parquet(tmp_path / "lists.parquet")
    blocked = ("blocked", "03-04 10:00", None, "03-04 10:00")
    registers = tmp_path / "registers"

    def add(*lines):
        figures, table = ingest(*lines, options=("--registers", registers))
        (first, *others) = spans(table)
        assert first == blocked
        rows = [json.loads(line) for line in (registers / "trusted.jsonl").read_text().splitlines()]
        # Both places have the same rows.
        assert [(f"trusted {row['kind']}", row["valid_to"] and row["valid_to"][5:10]) for row in rows] == [
            (name, end and end[:5]) for name, _, end, _ in others
        ]
        return figures["added to lists"], figures["added to register"], [(name, end) for name, _, end, _ in others]

    shop = f"{SHOP},customer,2025-03-04,"
    assert add(GOOD, shop) == (2, 2, [("trusted survey", None), ("trusted customer", None)])
    files = [tmp_path / "lists.parquet", registers / "trusted.jsonl"]
    before = [path.read_bytes() for path in files]
    assert add(GOOD)[:2] == add(GOOD, shop)[:2] == (0, 0)
    assert [path.read_bytes() for path in files] == before
    assert add(f"{GOOD}2025-04-01T00:00:00Z", shop) == (
        1,
        1,
        [("trusted customer", None), ("trusted survey", "04-01 00:00")],
    )
    assert add(GOOD.replace("survey", "announcement"))[2][-1] == ("trusted announcement", None)
    later = GOOD.replace("03-04", "05-04")
    assert add(later)[2][-2:] == [("trusted announcement", None), ("trusted survey", None)]


def test_each_kind_has_a_list_in_the_label_policy(ingest):
    _, table = ingest(*(f"1390013900{place},{kind},2025-03-04," for place, kind in enumerate(KINDS)))
    assert {name.removeprefix("trusted ") for name in table["list"].to_pylist()} == set(KINDS)


def test_the_register_has_the_tokens_of_calls_and_counts_from_the_start_of_the_trust(ingest, tmp_path):
    ingest(f"{GOOD}2025-03-09T10:00:00Z", options=("--registers", tmp_path / "registers"))
    registers, intake = Registers.read(tmp_path / "registers"), Intake(KEY)
    written = [tmp_path / "registers", *(tmp_path / "registers").glob("*.jsonl")]
    assert [path.stat().st_mode & 0o777 for path in written] == [0o700, 0o600]
    ((_, entry),) = payloads(tmp_path / "registers" / "audit", "import")
    assert entry == {"person": user(), "sha256": {"trusted.jsonl": sha256(written[1])}}

    def trusted(text):
        start = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        call = intake(Call(start, f"+86{SURVEY}", SHOP))
        return look_up(registers, call, read_policy().terms).caller_trusted

    days = ("2025-03-04T10:00:00", "2025-03-04T10:00:00.001", "2025-03-09T09:59:59.999", "2025-03-09T10:00:00")
    assert [trusted(text) for text in days] == [0.0, 1.0, 1.0, 0.0]


def test_trusted_numbers_are_deleted_and_expire_after_their_end(ingest, tmp_path):
    folders = tmp_path / "data", tmp_path / "registers"
    folders[0].mkdir()
    ended = f"{SHOP},customer,2025-03-04,2025-03-14T00:00:00Z"
    ingest(GOOD, ended, options=("--registers", folders[1]))
    (tmp_path / "lists.parquet").rename(folders[0] / "lists.parquet")
    rules, end = read_retention(), int(moment("2025-03-14").timestamp() * 1000)
    for now, left in ((end + 60 * 86_400_000, 2), (end + 60 * 86_400_000 + 1, 1)):
        [of_table] = tables.plan_expiry(folders[0], rules, now)
        [of_register] = register_folders.plan_expiry(folders[1], rules, now)
        assert pq.read_table(of_table.new or of_table.path).num_rows == left
        assert len((of_register.new or of_register.path).read_text().splitlines()) == left
    assert carried_out(tables.plan_deletion(folders[0], token(SURVEY), rules, end))["lists.parquet"]["deleted"] == 1
    [deletion] = carried_out(register_folders.plan_deletion(folders[1], token(SURVEY), rules, end)).values()
    assert deletion["deleted"] == 1
