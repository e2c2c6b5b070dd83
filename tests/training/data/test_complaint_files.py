"""Files of complaints: layouts, every fault of the official daily file, keys, and quarantine of invalid rows."""

import csv
import json
import re
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.reading.layouts import read_layout
from callsieve.features.records import Call
from callsieve.serving.custody.purposes import declare
from callsieve.training.data.complaint_files import layout_named, layouts, read_complaint_file
from callsieve.training.data.ingest import arrow_table, ingest
from callsieve.training.data.label_policy import read_label_policy
from tests.support.calls import foreign_files
from tests.support.paths import DATA

KEY = Key("e1", b"k" * 32)
DAILY, COUNTS = DATA / "ftc_daily_2021-07-08.csv", DATA / "ftc_complaints_2020H2.parquet"
FTC_HEAD = (
    "Company_Phone_Number,Created_Date,Violation_Date,Consumer_City,Consumer_State,Consumer_Area_Code,Subject,"
    "Recorded_Message_Or_Robocall"
)
GOOD = "2025550143,2021-07-07 00:01:15,2021-07-06 11:48:00,Clinton,Illinois,217,Warranties  & protection plans,Y"
RUN_OF_DIGITS = re.compile(r"[0-9]{7}")


def write_file(folder, text):
    path = folder / "complaints.csv"
    path.write_text(text, encoding="utf-8")
    return path


def ftc(folder, *lines, **options):
    return read_complaint_file(write_file(folder, "\n".join([FTC_HEAD, *lines]) + "\n"), "ftc", KEY, **options)


def test_a_row_of_the_daily_file_becomes_a_keyed_complaint(tmp_path):
    row = ftc(tmp_path, GOOD).table.iloc[0]
    call = Intake(KEY)(Call(start=1e9, caller="+12025550143", callee="+8613800138000"))
    assert row["number"] == call.caller  # the same token as in call records
    assert row["at"] == pd.Timestamp("2021-07-06 15:48", tz="UTC")
    assert row["known_at"] == pd.Timestamp("2021-07-07 04:01:15", tz="UTC")
    assert (row["category"], row["mode"], row["channel"]) == ("other", "recording", "complaint")


@pytest.mark.system
@pytest.mark.parametrize(
    "change, reason",
    [
        (("2025550143", ""), "missing_number"),
        (("2025550143", "saidpress1"), "bad_number"),
        (("2025550143", "202555xxxx"), "bad_number"),
        (("2025550143", "2025550143;222"), "bad_number"),
        (("2025550143", "0"), "bad_number"),
        (("2025550143", "20255501434567"), "bad_number"),
        (("2025550143", "1025550143"), "bad_number"),
        (("2021-07-06 11:48:00", "2007-07-06 11:48:00"), "time_out_of_range"),
        (("2021-07-06 11:48:00", "2021-07-16 11:48:00"), "time_out_of_range"),
        (("2021-07-06 11:48:00", "yesterday"), "bad_time"),
        (("2021-07-07 00:01:15", ""), "bad_time"),
        (("Warranties  & protection plans", "Ghosts"), "unknown_word"),
        (("Warranties  & protection plans", ""), "unknown_word"),
        ((",Y", ",Perhaps"), "unknown_word"),
        ((",Y", ",Y,Y"), "bad_number_of_columns"),
    ],
)
def test_every_invalid_row_has_its_reason_and_no_number_is_shown(tmp_path, change, reason):
    bad = GOOD.replace(*change)
    quarantine = tmp_path / "quarantine.jsonl"
    read = ftc(tmp_path, GOOD, bad, quarantine=quarantine)
    assert dict(read.quarantined) == {reason: 1}
    assert len(read.table) == 1
    (entry,) = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert (entry["row"], entry["reason"]) == (3, reason)
    assert not RUN_OF_DIGITS.search(quarantine.read_text())
    with pytest.raises(ValueError, match=rf"row 3(, column .*)?: {reason}, expected ") as caught:
        ftc(tmp_path, GOOD, bad, strict=True)
    assert not RUN_OF_DIGITS.search(str(caught.value))
    assert "\n" not in str(caught.value)


def test_unusual_rows_are_valid(tmp_path):
    no_flag, no_town = GOOD.replace(",Y", ","), GOOD.replace("Clinton", "")
    midnight = GOOD.replace("2021-07-06 11:48:00", "2021-07-06 00:00:00")
    after = GOOD.replace("2021-07-06 11:48:00", "2021-07-07 03:00:00")  # by the clock of another time zone
    again = GOOD.replace("2021-07-07 00:01:15", "2021-07-07 00:09:15")
    read = ftc(tmp_path, GOOD, no_flag, no_town, midnight, after, again, GOOD)
    assert dict(read.quarantined) == {"duplicate": 1}
    assert (read.day_only, read.resubmitted) == (1, 2)
    assert read.table["mode"].isna().tolist() == [False, True, False, False, False, False]
    assert (read.table["at"] <= read.table["known_at"]).all()
    # A repeated complaint counts as one reporter; another town makes another reporter.
    assert read.table["reporter"].nunique() == 4


def test_rows_are_not_known_before_their_file_is_published(tmp_path):
    publication = pd.Timestamp("2021-07-08 04:00", tz="UTC")
    assert ftc(tmp_path, GOOD, published=publication).table["known_at"].tolist() == [publication]
    earlier = pd.Timestamp("2021-07-01", tz="UTC")
    assert ftc(tmp_path, GOOD, published=earlier).table["known_at"][0] > earlier
    declare(tmp_path, "sample of the test", "published", ["statistics"], "2999-12-31")
    path = write_file(tmp_path, f"{FTC_HEAD}\n{GOOD}\n")
    facts = ingest(path, "ftc", published="2021-07-08", out=tmp_path / "r.parquet")
    assert facts["rows"] == 1
    assert pd.read_parquet(tmp_path / "r.parquet")["known_at"].tolist() == [publication]
    with pytest.raises(ValueError, match="--published: expected a day such as"):
        ingest(tmp_path / "complaints.csv", "ftc", published="tomorrow")


@pytest.mark.source("L2", "L27", "L44", by="training/data/complaint_files.py")
def test_complaints_of_the_12321_layout_are_read(tmp_path):
    text = (
        "编号,举报人号码,被举报号码,来电时间,举报时间,内容,形式,地区,运营商\n"
        "202503040000017,13800138000,95013123456,2025-03-04 10:00,2025-03-04 12:30:00,贷款理财,录音,四川,中国移动\n"
        "2,13800138001,0086 138-0013-8002,2025/03/04 10:00,2025/03/05 00:00,房产,,,\n"
        "3,13800138001,13800138002,2025/03/04 10:00,2025/03/05 00:00,天气,人工,,\n"
        "4,13800138001,95013123456,2025/03/04 10:00,2025/03/05 00:00,诈骗,,,\n"
        "5,13800138003,95013123456,2025/03/04 10:00,2025/03/05 00:00,疑似诈骗,,,\n"
        "6 13800138009,13800138003,95013123456,2025/03/05 10:00,2025/03/06 00:00,疑似诈骗,,,\n"
        "7,13800138003,95013123456,2025/03/04 10:00,2025/03/05 00:00,疑似诈骗,,,\n"
    )
    read = read_complaint_file(write_file(tmp_path, text), "12321", KEY)
    assert read.table["category"].tolist() == ["loans", "property", "fraud", "fraud"]
    assert [word if isinstance(word, str) else None for word in read.table["mode"]] == ["recording", *[None] * 3]
    assert read.table["at"].tolist() == [pd.Timestamp("2025-03-04 02:00", tz="UTC")] * 4
    assert dict(read.quarantined) == {"bad_value": 1, "duplicate": 1, "unknown_word": 1}
    assert read.table["work_order"].tolist() == ["202503040000017", "2", "4", "5"]
    assert read.table[["area", "carrier"]].iloc[0].tolist() == ["四川", "中国移动"]
    assert "work_order" in arrow_table(read.table).column_names
    call = Intake(KEY)(Call(start=1e9, caller="13800138002", callee="13800138001"))
    assert read.table["number"][1] == call.caller
    assert read.table["reporter"][1] == call.callee  # the same token as in call records


def test_a_csv_and_a_parquet_file_of_the_own_layout_give_equal_tables(tmp_path):
    frame = pd.DataFrame(
        {
            "reporter": ["13800138000", "13800138001"],
            "number": ["13900139000", KEY.token("number", "+8613900139001")],
            "at": pd.to_datetime(["2025-03-04T10:00:00Z", "2025-03-04T11:00:00Z"]),
            "known_at": pd.to_datetime(["2025-03-05T10:00:00Z", "2025-03-04T12:00:00Z"]),
            "category": ["loans", "not_nuisance"],
            "mode": ["human", None],
            "channel": ["mark", "complaint"],
        }
    )
    frame.to_parquet(tmp_path / "own.parquet")
    frame.to_csv(tmp_path / "own.csv", index=False)
    read, of_text = (read_complaint_file(tmp_path / name, "callsieve", KEY) for name in ("own.parquet", "own.csv"))
    pd.testing.assert_frame_equal(read.table, of_text.table, check_dtype=False, check_categorical=False)
    assert not read.quarantined
    assert read.table["number"][1] == frame["number"][1]  # a token stays as it is
    assert read.table["at"].tolist() == frame["at"].tolist()
    assert not RUN_OF_DIGITS.search("".join(read.table[["reporter", "number"]].astype(str).to_numpy().ravel()))


def test_a_file_of_keyed_complaints_can_be_read(world_folder):
    """Their text columns are dictionaries, and no cell holds an empty text."""
    before = pq.read_table(world_folder / "complaints.parquet")
    read = read_complaint_file(world_folder / "complaints.parquet", "callsieve", KEY)
    assert len(read.table) + sum(read.quarantined.values()) == before.num_rows
    assert set(read.quarantined) <= {"duplicate"}
    assert set(read.table["number"]) <= set(before["number"].to_pylist())


def test_errors_of_whole_files_are_one_line(tmp_path):
    cases = [
        (f"{FTC_HEAD},Secret\n{GOOD},1\n", "ftc", "column 9 is not known"),
        ("a,b\n1,2\n", "ftc", "column 1 is not known"),
        ("Company_Phone_Number\n2025550143\n", "ftc", "no column for"),
        ("", "ftc", "empty"),
        (GOOD, "elsewhere", "expected one of callsieve, 12321, ftc, ftc-counts"),
    ]
    for text, layout, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            read_complaint_file(write_file(tmp_path, text), layout, KEY)
        assert "\n" not in str(caught.value)
        assert not RUN_OF_DIGITS.search(str(caught.value))
    with pytest.raises(ValueError, match="not found"):
        read_complaint_file(tmp_path / "none.csv", "ftc", KEY)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="broken Parquet file"):
        read_complaint_file(tmp_path / "cut.parquet", "ftc-counts", KEY)


@pytest.mark.source("L2", by="training/data/complaint_files.py")
def test_categories_of_the_layouts_are_those_of_the_label_policy():
    against = set(read_label_policy().complaints.against)
    for name, layout in layouts().items():
        assert set((layout.category or {}).values()) <= against, name


@pytest.mark.system
@pytest.mark.skipif(not DAILY.exists(), reason="the FTC's daily file is missing")
def test_the_official_file_has_the_expected_invalid_rows(tmp_path):
    """The expected counts come from the csv module and plain conditions."""
    with DAILY.open(newline="") as file:
        rows = list(csv.DictReader(file))
    eastern = ZoneInfo("America/New_York")
    read_time = lambda text: datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=eastern)
    expected, seen, good = Counter(), set(), 0
    for row in rows:
        number, whole = row["Company_Phone_Number"], tuple(row.values())
        digits = number[1:] if len(number) == 11 and number[0] == "1" else number
        created, violated = read_time(row["Created_Date"]), read_time(row["Violation_Date"])
        if not number:
            expected["missing_number"] += 1
        elif not re.fullmatch(r"[2-9][0-9]{9}", digits):
            expected["bad_number"] += 1
        elif (created - violated).days >= 400 or (violated - created).total_seconds() > 86_400:
            expected["time_out_of_range"] += 1
        elif whole in seen:
            expected["duplicate"] += 1
        else:
            good += 1
        seen.add(whole)
    quarantine = tmp_path / "quarantine.jsonl"
    read = read_complaint_file(DAILY, "ftc", KEY, quarantine=quarantine)
    assert dict(read.quarantined) == expected
    assert len(read.table) == good == len(rows) - sum(expected.values())
    assert len(quarantine.read_text().splitlines()) == sum(expected.values())
    assert not RUN_OF_DIGITS.search(quarantine.read_text())


@pytest.mark.system
@pytest.mark.skipif(not COUNTS.exists(), reason="the FTC's counts are missing")
def test_the_official_counts_of_half_a_year_are_read_whole(tmp_path):
    declare(tmp_path, "sample of the test", "published", ["statistics"], "2999-12-31")
    (tmp_path / COUNTS.name).symlink_to(COUNTS.resolve())
    facts = ingest(tmp_path / COUNTS.name, "ftc-counts")
    assert facts["rows"] == pq.read_metadata(COUNTS).num_rows
    assert not facts["quarantined"]
    assert 11_000 < facts["a_day"]["weekday"] < 13_000
    assert 2_500 < facts["a_day"]["weekend_day"] < 4_700


def test_counts_can_repeat_but_not_be_zero(tmp_path):
    day = pa.array([pd.Timestamp("2020-06-01")] * 3, pa.timestamp("us"))
    pq.write_table(pa.table({"day": day, "number": [7, 7, 8], "complaints": [2, 2, 0]}), tmp_path / "c.parquet")
    read = read_complaint_file(tmp_path / "c.parquet", "ftc-counts", KEY)
    assert read.table["count"].tolist() == [2, 2]
    assert dict(read.quarantined) == {"bad_value": 1}
    assert read.table["number"].nunique() == 1
    assert read.table["number"][0] == Intake(KEY, numbers="codes").keyed("number", pa.array(["7"])).to_pylist()[0]


def test_counts_are_written_as_numbers():
    table = arrow_table(pd.DataFrame({"count": [2, 3], "kind": ["loans", None]}))
    assert table["count"].type == pa.int64() and table["count"].to_pylist() == [2, 3]
    assert table["kind"].to_pylist() == ["loans", None]


def test_a_layout_of_calls_can_name_a_shipped_layout_of_complaints(tmp_path):
    text = foreign_files.LAYOUT[: foreign_files.LAYOUT.index("[complaints]")]
    (tmp_path / "op.toml").write_text(f'complaints = "12321"\n{text}', encoding="utf-8")
    read_layout(str(tmp_path / "op.toml"))
    assert layout_named(str(tmp_path / "op.toml")) is layouts()["12321"]
