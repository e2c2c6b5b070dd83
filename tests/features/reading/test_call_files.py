"""Valid call records are read in every layout. Invalid rows are quarantined, named in errors, and hide numbers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import keyed_calls, read_keyed
from callsieve.features.intake.text_columns import drop_unused_words
from callsieve.features.keys.tokens import Key, is_token
from callsieve.features.reading import call_files, checked_cells, delimited
from callsieve.features.reading.call_files import read_calls, write_table
from callsieve.features.reading.layouts import read_layout
from callsieve.features.records import (
    ATTESTATIONS,
    CALL_COLUMNS,
    KEYED_COLUMNS,
    NUMBER_CLASSES,
    OUTCOMES,
    RELEASED_BY,
    ROUTES,
)
from tests.support.errors import refused
from tests.support.paths import DATA

KEY = Key("e1", bytes(range(32)))
SHANGHAI = ZoneInfo("Asia/Shanghai")
FIRST = datetime(2020, 1, 1, tzinfo=UTC)

moments = st.integers(0, 2 * 10**11).map(lambda ms: FIRST + timedelta(milliseconds=ms))
whole_moments = st.integers(0, 2 * 10**8).map(lambda s: FIRST + timedelta(seconds=s))
seconds = st.integers(0, 10**6).map(lambda ms: ms / 1000)
whole_seconds = st.integers(0, 9999).map(float)
numbers = st.sampled_from(["13800138000", "+86 139-1111-2222", "02887654321", "95588", "１３８", 'a "b", c', "p7"])
texts = st.none() | st.sampled_from(["t1", "成都", "a,b", 'say "x"', " "])
some_files = settings(max_examples=40)


@st.composite
def calls(draw: Callable[..., object]) -> dict[str, object]:
    """A call of the project's own layout."""
    start = draw(moments)
    over = draw(st.booleans())
    talk = draw(st.just(0.0) | seconds) if over else None
    outcomes = OUTCOMES if over else ("answered", "unknown")  # any other one ends a call
    outcome = "answered" if talk else draw(st.sampled_from(outcomes))
    return {
        "start": start,
        "caller": draw(st.just("") | numbers),
        "callee": draw(numbers),
        "ring": draw(seconds) if over else None,
        "talk": talk,
        "outcome": outcome,
        "released_by": draw(st.sampled_from(RELEASED_BY)),
        "recorded": draw(st.none() | st.just(start + timedelta(days=1))),
        "network_caller": draw(st.none() | numbers),
        "attestation": draw(st.sampled_from(ATTESTATIONS)),
        "route": draw(st.sampled_from(ROUTES)),
        **{name: draw(texts) for name in ("trunk", "operator", "device", "place", "cause")},
        **{name: draw(st.sampled_from(NUMBER_CLASSES)) for name in ("caller_class", "callee_class")},
    }


def call(**facts: object) -> dict[str, object]:
    """Returns a call as read by a layout that has columns for `facts` only; the other columns are unknown."""
    unknown = dict.fromkeys(("released_by", "attestation", "route", "caller_class", "callee_class"), "unknown")
    return dict.fromkeys(CALL_COLUMNS) | unknown | facts


@st.composite
def answered_or_missed(draw: Callable[..., object]) -> dict[str, object]:
    talk = draw(st.just(-1.0) | whole_seconds)
    outcome = "no_answer" if talk < 0 else "answered"
    parties = {"caller": draw(st.just("") | numbers), "callee": draw(numbers)}
    return call(**parties, start=draw(whole_moments), ring=0.0, talk=max(talk, 0.0), outcome=outcome)


def histories(calls: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[list[dict[str, object]]]:
    return st.lists(calls, min_size=1, max_size=30, unique_by=lambda c: c["start"])


def text_of(rows: list[list[object]], header: list[str] | None = None) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header] * (header is not None) + rows)
    return file.getvalue()


def stamp(moment: object, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    assert isinstance(moment, datetime)
    return moment.astimezone(SHANGHAI).strftime(form)


def own_text(rows: list[dict[str, object]]) -> str:
    return text_of([["" if row[name] is None else row[name] for name in CALL_COLUMNS] for row in rows], [*CALL_COLUMNS])


@contextmanager
def stored(content: str | bytes, name: str = "calls.csv") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        yield path


def read(content: str | bytes, name: str = "callsieve", **options: object) -> call_files.ReadResult:
    with stored(content) as path:
        return read_calls(path, read_layout(name), **options)


def quarantined(content: str | bytes, name: str = "callsieve") -> tuple[call_files.ReadResult, list[dict[str, object]]]:
    with stored(content) as path:
        away = path.with_suffix(".jsonl")
        result = read_calls(path, read_layout(name), quarantine=away, key=KEY)
        return result, [json.loads(line) for line in away.read_text("utf-8").splitlines()]


# Every layout


@pytest.mark.system
@some_files
@given(histories(calls()), st.sampled_from(["csv", "crlf", "bom", "gzip", "unix"]))
def test_a_text_file_of_the_own_layout_round_trips(rows, form):
    text = own_text(rows)
    if form == "unix":
        counted = [row | {"start": row["start"].timestamp()} for row in rows]
        text = own_text(counted)
    content = text.replace("\n", "\r\n").encode() if form == "crlf" else text.encode()
    content = b"\xef\xbb\xbf" + content if form == "bom" else content
    result = read(gzip.compress(content) if form == "gzip" else content)
    assert result.quarantined == {}
    assert result.table.to_pylist() == rows


@pytest.mark.system
@some_files
@given(histories(calls()))
def test_a_parquet_file_of_the_own_layout_round_trips(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        result = read_calls(path, read_layout("callsieve"))
        assert result.table.to_pylist() == rows
        # A second round trip gives the same table.
        write_table(result.table, path)
        assert read_calls(path, read_layout("callsieve")).table.equals(result.table)
        assert [file.name for file in Path(folder).iterdir()] == ["calls.parquet"]


@some_files
@given(histories(answered_or_missed()), st.sampled_from(["start", "timestamp"]), st.booleans())
def test_the_plain_layout_reads_calls(rows, column, counted):
    def cells(row):
        missed = row["outcome"] == "no_answer"
        start = int(row["start"].timestamp()) if counted else stamp(row["start"])
        return [row["caller"], row["callee"], start, -1 if missed else int(row["talk"])]

    result = read(text_of([cells(row) for row in rows], ["caller", "callee", column, "duration"]), "plain")
    assert result.table.to_pylist() == rows


@some_files
@given(histories(answered_or_missed()), whole_seconds, st.sampled_from([16, 18, 21]))
def test_the_asterisk_layout_reads_calls(rows, ring, width):
    dispositions = {"answered": "ANSWERED", "no_answer": "NO ANSWER"}

    def cells(row):
        end = row["start"] + timedelta(seconds=ring + row["talk"])
        free = [
            "", row["caller"], row["callee"], "in", '"A" <13900001111>', "SIP/a-1-0000002a", "SIP/2", "Dial",
            "SIP/3,30",
        ]  # fmt: skip
        times = [stamp(row["start"]), "", stamp(end), int(ring + row["talk"]), int(row["talk"])]
        return [*free, *times, dispositions[row["outcome"]], "3", "1.5", "", "", "", ""][:width]

    more = {"ring": ring, "trunk": "SIP/a-1"}
    expected = [row | more | {"cause": dispositions[row["outcome"]]} for row in rows]
    assert read(text_of([cells(row) for row in rows]), "asterisk").table.to_pylist() == expected


@some_files
@given(histories(answered_or_missed()), st.lists(st.sampled_from("123"), min_size=30, max_size=30))
def test_the_sichuan_layout_reads_calls(rows, directions):
    rows = [row | {"outcome": "answered"} for row in rows if row["caller"]]
    header = ["phone_no_m", "opposite_no_m", "calltype_id", "start_datetime", "call_dur"]
    header += ["city_name", "county_name", "imei_m", "sample", "label"]
    records, expected = [], []
    for row, direction in zip(rows, directions, strict=False):
        sides = [row["callee"], row["caller"]] if direction == "2" else [row["caller"], row["callee"]]
        tail = [stamp(row["start"]), int(row["talk"]), "c", "k", "d7", "fake_1", 1]
        records.append([*sides, direction, *tail])
        own = {"device": "d7", "place": "c/k", "caller_class": "mobile"} if direction != "2" else {}
        own |= {"callee_class": "mobile"} if direction == "2" else {}
        expected.append(row | own)
    assert read(text_of(records, header), "sichuan").table.to_pylist() == expected


def test_the_two_records_of_a_call_are_read_as_one_call():
    header = ["phone_no_m", "opposite_no_m", "calltype_id", "start_datetime", "call_dur", "imei_m"]
    rows = [["a", "b", 1, "2020-01-01 08:00:00", 5, "d"], ["b", "a", 2, "2020-01-01 08:00:00", 5, "e"]]
    result = read(text_of(rows, header), "sichuan")
    assert (result.accepted, result.quarantined) == (1, {"duplicate": 1})
    assert result.table["start"][0].as_py() == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_layout_file_of_the_user_is_read(tmp_path):
    path = tmp_path / "switch.toml"
    path.write_text(
        'hours_zone = "Europe/Berlin"\ndropped = ["x"]\n[clock]\nzone = "Europe/Berlin"\nunit = "ms"\n'
        '[columns]\nstart = ["t"]\ncaller = ["a"]\ncallee = ["b"]\ntalk = ["d"]\n[constants]\nring = 2\n'
    )
    (tmp_path / "c.csv").write_text("t,a,b,d,x\n1600000000123,1,2,3,y\n2020-07-01T12:00:00,1,2,3,y\n")
    starts = read_calls(tmp_path / "c.csv", read_layout(path)).table["start"].to_pylist()
    assert starts == [datetime(2020, 9, 13, 12, 26, 40, 123000, tzinfo=UTC), datetime(2020, 7, 1, 10, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hours_zone = 'Asia/Nowhere'", "unknown time zone 'Asia/Nowhere'"),
        ("colour = 'red'", "unknown key 'colour'"),
        ("dropped = 'id'", r"dropped: expected a list, such as \['id'\], got a text"),
        ("[clock]\nformats = ['%d/%m %H:%M']", "formats: expected iso, unix, or a date and time such as %d/%m/%Y"),
        ("[clock]\nformats = ['%d/%m/%Y %Q']", "formats: expected iso, unix, or a date and time such as %d/%m/%Y"),
        ("numbers = 'secret'", "numbers must be one of codes, written, got 'secret'"),
        ("optional = ['start']", "a layout must have a column for start"),
        ("[values.outcome]\nx = 'gone'", "value of outcome must be one of"),
        ("[constants]\ncaller_class = 'phone'", "constant caller_class must be one of"),
        ("[constants]\nsubscriber_class = 'mobile'", "class must be one of callee_class, caller_class, got"),
    ],
)
def test_an_invalid_layout_is_refused(tmp_path, change, message):
    path = tmp_path / "l.toml"
    path.write_text(f"{change}\n[columns]\nstart = ['t']\ncaller = ['a']\ncallee = ['b']\n")
    with pytest.raises(ValueError, match=message):
        read_layout(path)


def test_times_are_read_as_the_layout_says_they_are_written(tmp_path):
    layout = tmp_path / "own.toml"
    layout.write_text(
        'optional = ["ring", "talk"]\n[clock]\nformats = ["%Y%m%d%H%M%S", "%d/%m/%Y %H:%M", "iso"]\n'
        '[columns]\nstart = ["t"]\ncaller = ["a"]\ncallee = ["b"]\n'
    )
    times = ("20250301080009", "01/03/2025 08:00", "2025-03-01 08:00:01", "30/02/2025 08:00", "01/03/25 08:00", "x")
    (tmp_path / "c.csv").write_text("t,a,b\n" + "".join(f"{time},1,2\n" for time in times))
    result = read_calls(tmp_path / "c.csv", read_layout(layout))
    seconds = [start.second for start in result.table["start"].to_pylist()]
    assert (seconds, result.quarantined) == ([9, 0, 1], {"bad_time": 3})
    assert result.table["start"][0].as_py() == datetime(2025, 3, 1, 0, 0, 9, tzinfo=UTC)


TIME = st.sampled_from(["2025-03-01 08:00:01", "2025-03-01T08:00:01", "2025-03-01 08:00:0x", "2025-03-01", "", "９"])


@given(TIME | st.none(), st.lists(TIME | st.none(), max_size=3), st.integers(0, 2))
def test_texts_of_one_shape_match_a_pattern_as_each_of_them_does(first, more, cut):
    texts = [first] * 3 + more
    likes = checked_cells._like(pa.array(texts, pa.string())[cut:], checked_cells._LOCAL)
    expected = [text is not None and re.search(checked_cells._LOCAL, text, re.ASCII) is not None for text in texts]
    assert likes.to_pylist() == expected[cut:]


@pytest.mark.parametrize(("unit", "rows"), [(1, 100), (1000, 99)])
def test_durations_in_milliseconds_are_refused_for_a_whole_file(tmp_path, unit, rows):
    def written(unit, rows):
        lines = (f"2020-01-01T00:{row // 60:02}:{row % 60:02}Z,1,2,{8 * unit},{90 * unit}\n" for row in range(rows))
        (tmp_path / "c.csv").write_text("start,caller,callee,ring,talk\n" + "".join(lines))
        return read_calls(tmp_path / "c.csv", read_layout("callsieve"))

    assert written(unit, rows).accepted == rows  # seconds; or too few calls to tell
    with pytest.raises(ValueError, match="half of the calls with a talk time have one of more than 10,800 s: talk is"):
        written(1000, 100)


# Bad rows

GOOD = ["2020-01-01T00:00:00Z", "13800138000", "13900139000", "5", "7", "answered"]
HEADER = ["start", "caller", "callee", "ring", "talk", "outcome"]


def with_cell(place: int, value: str) -> Callable[[list[str]], bytes]:
    return lambda cells: ",".join([*cells[:place], value, *cells[place + 1 :]]).encode()


FAULTS: dict[str, tuple[str, Callable[[list[str]], bytes]]] = {
    "column missing": ("bad_number_of_columns", lambda cells: ",".join(cells[:-1]).encode()),
    "column too many": ("bad_number_of_columns", lambda cells: ",".join([*cells, "x"]).encode()),
    "open quote": ("bad_number_of_columns", with_cell(1, '"13800138000')),
    "quotes that mislead": ("bad_number_of_columns", with_cell(4, 'a"b,"c')),
    "bytes of GBK": ("bad_encoding", lambda cells: ",".join([*cells[:-1], "接听"]).encode("gbk")),
    "a hole of zeros": ("bad_encoding", with_cell(3, "\0\0\0")),
    "stray carriage return": ("bad_encoding", with_cell(3, "5\r6")),
    "no time": ("bad_time", with_cell(0, "")),
    "no such day": ("bad_time", with_cell(0, "2020-02-30T00:00:00Z")),
    "a number as time": ("bad_time", with_cell(0, "138 0013 8000")),
    "too early": ("time_out_of_range", with_cell(0, "1970-01-01T00:00:00Z")),
    "too late": ("time_out_of_range", with_cell(0, "13800138000")),
    "far too late": ("time_out_of_range", with_cell(0, "9" * 400)),
    "no callee": ("missing_callee", with_cell(2, "")),
    "a caller as a decimal": ("bad_value", with_cell(1, "13800138000.0")),
    "a callee with an exponent": ("bad_value", with_cell(2, "1.39E+10")),
    "negative ring": ("negative_duration", with_cell(3, "-5")),
    "negative talk": ("negative_duration", with_cell(4, "-1")),
    "a word as talk": ("bad_value", with_cell(4, "nan")),
    "a number as talk": ("bad_value", with_cell(4, "13800138000")),
    "ring without talk": ("bad_value", with_cell(4, "")),
    "unknown outcome": ("bad_value", with_cell(5, "perhaps")),
    "talk though busy": ("bad_value", with_cell(5, "busy")),
}


def good_rows(count: int) -> list[list[str]]:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return [[(start + timedelta(seconds=i)).isoformat(), *GOOD[1:]] for i in range(count)]


@pytest.mark.system
@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=8)
@given(rows=st.integers(1, 12), at=st.integers(0, 11), data=st.data())
def test_only_the_invalid_row_is_quarantined(fault, rows, at, data):
    reason, spoil = FAULTS[fault]
    at %= rows
    lines = [",".join(row).encode() for row in good_rows(rows)]
    sound = read(b"\n".join([",".join(HEADER).encode(), *lines, b""])).table
    lines[at] = spoil(good_rows(rows)[at])
    blank = data.draw(st.integers(0, rows))  # an empty line is no row, but it is a line
    lines.insert(blank, b"")
    content = b"\n".join([",".join(HEADER).encode(), *lines, b""])
    result, away = quarantined(content)
    assert result.quarantined == {reason: 1}
    without_it = pa.concat_tables([sound[:at], sound[at + 1 :]]).combine_chunks()
    assert drop_unused_words(result.table).equals(drop_unused_words(without_it))
    assert result.rows == rows
    line = at + 2 + (blank <= at)
    assert [(entry["row"], entry["reason"]) for entry in away] == [(line, reason)]
    if "offset" in away[0]:
        offset, length = away[0]["offset"], away[0]["length"]
        assert content[offset : offset + length] == content.split(b"\n")[line - 1]
    report = json.dumps(away, ensure_ascii=False)
    assert "13800138000" not in report.replace(" ", "") and "13900139000" not in report
    with refused(rf"^calls.csv, row {line}(, column \w+)?: {reason}, expected .+$") as caught:
        read(content, strict=True)
    assert "138" not in str(caught.value)


@some_files
@given(st.lists(st.sampled_from([None, *FAULTS]), min_size=1, max_size=60), st.sampled_from([200, 4 << 20]))
def test_every_row_is_accounted_for(faults, block):
    rows = good_rows(len(faults))
    lines = [
        ",".join(row).encode() if fault is None else FAULTS[fault][1](row)
        for row, fault in zip(rows, faults, strict=True)
    ]
    content = b"\n".join([",".join(HEADER).encode(), *lines, b""])
    with pytest.MonkeyPatch.context() as patch:  # small blocks: rows must not be lost where they meet
        patch.setattr(delimited, "BLOCK", max(block, 500))
        result, away = quarantined(content)
    wrong = [(i + 2, FAULTS[fault][0]) for i, fault in enumerate(faults) if fault is not None]
    assert [(entry["row"], entry["reason"]) for entry in away] == wrong
    assert result.rows == len(faults)
    sound = [row for row, fault in zip(rows, faults, strict=True) if fault is None]
    assert [start.isoformat() for start in result.table["start"].to_pylist()] == [row[0] for row in sound]


@pytest.mark.parametrize(
    ("ring", "talk", "outcome", "read_as"),
    [
        ("5", "", "busy", (5.0, 0.0)),
        ("", "0", "no_answer", (20.0, 0.0)),
        ("", "", "rejected", (20.0, 0.0)),
        ("", "", "unknown", (None, None)),  # not over
        ("", "", "answered", (None, None)),
    ],
)
def test_an_unanswered_call_may_have_empty_ring_and_talk(ring, talk, outcome, read_as):
    result = read(text_of([[*GOOD[:3], ring, talk, outcome]], HEADER))
    assert [(row["ring"], row["talk"]) for row in result.table.to_pylist()] == [read_as]
    missing = read(text_of([[*GOOD[:3], talk, outcome]], [name for name in HEADER if name != "ring"]))
    assert missing.quarantined == ({"bad_value": 1} if read_as[1] is not None else {})


def test_a_quarantined_row_has_tokens_in_place_of_numbers():
    row = ["2020-01-01T00:00:00Z", "13800138000", "", "5", "13800138000", "busy"]
    _, away = quarantined(text_of([row], HEADER))
    assert (away[0]["column"], away[0]["expected"]) == ("callee", "a callee")
    cells = away[0]["cells"]
    assert (cells["start"], cells["callee"], cells["ring"], cells["outcome"]) == (row[0], None, "5", "busy")
    assert cells["caller"] == {"token": KEY.token("number", "13800138000")}
    assert cells["talk"] == {"token": KEY.token("number", "13800138000"), "shape": "9" * 11}


@pytest.mark.parametrize(("talk", "reason"), [("7", "duplicate"), ("8", "conflicting_duplicate")])
def test_a_repeated_call_is_quarantined(talk, reason):
    again = [*GOOD[:4], talk, *GOOD[5:]]
    other = ["2020-01-01T00:00:01Z", *GOOD[1:]]
    content = text_of([GOOD, other, again, again], HEADER)
    result, away = quarantined(content)
    assert result.quarantined == {reason: 2}
    assert result.table["talk"].to_pylist() == [7.0, 7.0]
    assert [(entry["row"], entry["first"], entry["reason"]) for entry in away] == [(4, 2, reason), (5, 2, reason)]
    assert "13800138000" not in json.dumps(away)
    with pytest.raises(ValueError, match=rf"^calls.csv, row 4(, column \w+)?: {reason}, expected"):
        read(content, strict=True)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_row_of_the_end_stays_of_a_call_with_a_row_for_its_start(backwards):
    start, end, busy = [*GOOD[:3], "", "", "unknown"], GOOD, [*GOOD[:4], "0", "busy"]
    rows = [end, start] if backwards else [start, end]
    result, away = quarantined(text_of([*rows, busy], HEADER))
    assert (result.table["talk"].to_pylist(), result.table["outcome"].to_pylist()) == ([7.0], ["answered"])
    stays = 2 if backwards else 3
    reasons = [(5 - stays, "duplicate"), (4, "conflicting_duplicate")]
    assert [(entry["row"], entry["reason"], entry["first"]) for entry in away] == [(*row, stays) for row in reasons]


@pytest.mark.system
@some_files
@given(histories(calls()), st.lists(st.integers(0, 29), max_size=20))
def test_repeating_rows_changes_nothing(rows, again):
    repeats = [rows[i % len(rows)] for i in again]
    result = read(own_text(rows + repeats))
    assert result.table.to_pylist() == rows
    assert result.quarantined == ({"duplicate": len(again)} if again else {})


def test_an_end_before_the_start_is_quarantined():
    cells = ["2020-01-01T00:00:00Z", "1", "2", "2019-12-31T00:00:00Z"]
    assert read(text_of([cells], ["start", "caller", "callee", "recorded"])).quarantined == {"end_before_start": 1}
    row = ["", "1", "2", *[""] * 6, "2020-01-01 08:00:00", "", "2020-01-01 07:00:00", "9", "9", "ANSWERED", "3"]
    assert read(text_of([row]), "asterisk").quarantined == {"end_before_start": 1}


# Bad files


@pytest.mark.source("L30", "P7", by="features/reading/call_files.py")
def test_unknown_columns_are_refused_and_named():
    with pytest.raises(ValueError, match=r"^calls.csv: unknown column 'transcript', layout 'plain' has callee"):
        read("caller,callee,start,duration,transcript\n", "plain")
    with pytest.raises(ValueError, match=r"^calls.csv: no column for talk, expected duration; layout callsieve fits$"):
        read("caller,callee,start\n", "plain")
    with pytest.raises(ValueError, match=r"columns start, timestamp all mean start"):
        read("caller,callee,start,timestamp,duration\n", "plain")
    with pytest.raises(ValueError, match=r"column 1 .*is the header line missing") as caught:
        read("13800138000,13900139000,2020-01-01 00:00:00,5\n", "plain")
    assert "138" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", "start,caller\n".encode("utf-16"), "start,\xe9".encode("latin-1"), b"\n1,2\n"]
)
def test_a_file_without_a_text_table_is_refused(content):
    with pytest.raises(ValueError, match=r"^calls.csv: .*expected a header line|UTF-8"):
        read(content)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 500)
    with pytest.raises(ValueError, match=r"no line end in [0-9]+ bytes, expected lines of text"):
        read(b"x" * 2000)


def test_the_message_of_arrow_about_a_line_is_not_shown(monkeypatch):
    number, attempts = "13800138000", []

    def refuse(*_args, **_options):
        attempts.append(1)
        raise pa.ArrowInvalid(f"CSV parse error: {number}\nwas not expected")

    monkeypatch.setattr("pyarrow.csv.read_csv", refuse)
    with pytest.raises(
        ValueError, match=r"^calls.csv: the lines cannot be separated, expected quotes to close within a line$"
    ):
        read(f"caller,callee,start\n{number},{number},2020-01-02\n")
    assert len(attempts) == 2  # the second without the lines that have an odd number of quotes


def test_a_truncated_text_file_loses_only_its_last_row():
    result, away = quarantined(text_of([*good_rows(3), GOOD], HEADER)[:-20])
    assert (result.accepted, result.quarantined, away[0]["row"]) == (3, {"truncated_file": 1}, 5)
    # A last line that is whole may lack its line end.
    assert read(text_of(good_rows(3), HEADER)[:-1]).accepted == 3


TRUNCATED = "the gzip file is truncated in its first line, expected a header line"


@pytest.mark.parametrize("lost", [1, 8, 9, 400])
def test_a_truncated_gzip_file_gives_the_rows_before_the_cut(lost):
    rows = good_rows(3000)
    packed = gzip.compress(text_of(rows, HEADER).encode())
    result, away = quarantined(packed[:-lost])
    assert result.quarantined == {"truncated_file": 1}
    assert [start.isoformat() for start in result.table["start"].to_pylist()] == [
        row[0] for row in rows[: result.accepted]
    ]
    assert away[0]["row"] == result.accepted + 2
    assert result.accepted == 3000 or lost > 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caller," + b"x" * 100_000 + b"\n", "the first line has 100,008 bytes, expected at most 100,000"),
        (b"PK\x03\x04\x14\0\0\0\x08\0\xc3\x28", "the file is a zip archive or a spreadsheet, expected UTF-8 text"),
        ("caller,callee,start\n".encode("utf-32"), "the file is UTF-32, expected UTF-8 text"),
        ("\ufeffcaller,callee,start\n".encode("utf-32-be"), "the file is UTF-32, expected UTF-8 text"),
        ("caller,callee,start\n".encode("utf-16"), "the file is UTF-16, expected UTF-8 text"),
        (b"caller,callee,start\r1,2,3\r", "the first line contains a carriage return, expected lines that end"),
        (gzip.compress(b"caller,callee\n", mtime=0)[:2], TRUNCATED),
        (gzip.compress(b"caller,callee\n", mtime=0)[:12], TRUNCATED),
        (b"caller,\xff\n", "the first line is not UTF-8 text, expected a header line; save the file as UTF-8"),
        (b'{"caller": 1, "callee": 2}\n', "the file looks like JSON, expected CSV with a header line, or Parquet"),
        (b" ,\n", "the first line has no column names, expected a header line"),
    ],
)
def test_the_error_about_a_first_line_without_column_names_names_its_cause(content, message):
    with pytest.raises(ValueError) as caught:
        read(content)
    assert str(caught.value).startswith(f"calls.csv: {message}")


def test_a_broken_parquet_file_is_refused(tmp_path):
    path = tmp_path / "calls.parquet"
    pq.write_table(pa.table({"start": [1.6e9], "caller": ["a"], "callee": ["b"]}), path)
    assert read_calls(path, read_layout("callsieve")).accepted == 1
    path.write_bytes(path.read_bytes()[:-30])
    for read_path, what in ((lambda path: read_calls(path, read_layout("callsieve")), ""), (read_keyed, "keyed calls")):
        with pytest.raises(ValueError, match=rf"^calls.parquet: broken Parquet file, expected .*{what}$"):
            read_path(path)


def test_invalid_parquet_rows_are_quarantined(tmp_path):
    path = tmp_path / "c.parquet"
    columns = {"start": [1.6e9, None, 1.6e9], "caller": ["a", "b", None], "callee": ["x", "y", ""]}
    pq.write_table(pa.table(columns | {"talk": [1.0, 1.0, 1.0], "ring": [float("nan"), 1.0, 1.0]}), path)
    away = tmp_path / "q.jsonl"
    result = read_calls(path, read_layout("callsieve"), quarantine=away, key=KEY)
    assert result.quarantined == {"bad_time": 1, "bad_value": 1, "missing_callee": 1}
    assert [json.loads(line)["row"] for line in away.read_text().splitlines()] == [1, 2, 3]
    pq.write_table(pa.table({"start": [1.6e9], "caller": [1.5], "callee": ["b"]}), path)
    with pytest.raises(ValueError, match=r"^c.parquet: column 'caller' holds double, expected text or whole"):
        read_calls(path, read_layout("callsieve"))


def test_the_row_labels_of_a_pandas_file_are_no_column_of_calls(tmp_path):
    frame = pd.DataFrame({"timestamp": "2020-01-01 08:00:00", "caller": "2", "callee": "3", "duration": 5}, index=[7])
    frame.to_parquet(tmp_path / "c.parquet")
    assert pq.read_schema(tmp_path / "c.parquet").names[-1] == "__index_level_0__"
    assert read_calls(tmp_path / "c.parquet", read_layout("plain")).table["caller"].to_pylist() == ["2"]


def test_a_quarantine_file_needs_a_key_and_is_whole_or_absent(tmp_path):
    path, away = tmp_path / "calls.csv", tmp_path / "away.jsonl"
    path.write_text(text_of([GOOD, [*GOOD[:5], "perhaps"]], HEADER))
    with pytest.raises(ValueError, match=r"^quarantine file away.jsonl: expected a key, "):
        read_calls(path, read_layout("callsieve"), quarantine=away)
    with pytest.raises(ValueError, match="row 3, column outcome: bad_value"):
        read_calls(path, read_layout("callsieve"), quarantine=away, key=KEY, strict=True)
    assert list(tmp_path.iterdir()) == [path]


def test_the_second_concurrent_writer_of_a_file_is_refused(tmp_path):
    path = tmp_path / "calls.txt"
    (tmp_path / "calls.txt.part").write_text("of a process that was killed")
    with call_files.atomic_path(path) as part:
        with (
            pytest.raises(ValueError, match=r"^calls.txt.part: is written by another process now"),
            call_files.atomic_path(path) as other,
        ):
            other.write_text("the second")
        part.write_text("the first")
    assert {file: file.read_text() for file in tmp_path.iterdir()} == {path: "the first"}
    with call_files.atomic_path(path) as part:
        part.write_text("the next")
    assert path.read_text() == "the next"


def test_the_name_of_a_layout_is_refused_in_place_of_a_layout(tmp_path):
    (tmp_path / "calls.csv").write_text(text_of(good_rows(1), HEADER))
    with pytest.raises(TypeError, match=r"^layout must be a Layout, see read_layout\(name\), got str$"):
        read_calls(tmp_path / "calls.csv", "callsieve")


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    reports: list[tuple[int, int]] = []
    path = tmp_path / "calls.csv"
    path.write_text(text_of(good_rows(5), HEADER))
    read_calls(path, read_layout("callsieve"), progress=lambda done, size: reports.append((done, size)))
    assert reports == [(path.stat().st_size, path.stat().st_size)]


# Keyed calls


def keyed() -> pa.Table:
    return Intake(KEY).table(read(text_of(good_rows(4), HEADER)).table)


def test_keyed_calls_round_trip(tmp_path):
    table = keyed()
    path = tmp_path / "keyed.parquet"
    write_table(table.append_column("call", pa.array(["c1", "c2", "c3", "c4"])), path)
    back = read_keyed(path)
    assert back.column_names == [*KEYED_COLUMNS, "call"]
    assert back.drop_columns("call").to_pylist() == table.to_pylist()
    assert all(is_token(token) for token in back["caller"].to_pylist())
    assert back.schema.field("caller").type == pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("caller", ["13800138000"] * 4, "column 'caller' has an invalid value, expected keyed tokens only"),
        ("outcome", ["perhaps"] * 4, "column 'outcome' has an invalid value, expected one of answered"),
        ("caller", [1] * 4, "column 'caller' holds int64, expected text"),
        ("hour", ["5"] * 4, "column 'hour' holds string, expected whole numbers"),
        ("start", [None] * 4, "column 'start' has 4 nulls, expected none"),
        ("note", ["x"] * 4, "column 'note' is unknown, expected the columns of keyed calls"),
    ],
)
def test_tables_that_are_not_keyed_calls_are_refused(tmp_path, name, values, message):
    table = keyed()
    column = pa.array(values, pa.string() if isinstance(values[0], str) else pa.int64())
    names = table.column_names
    table = table.set_column(names.index(name), name, column) if name in names else table.append_column(name, column)
    write_table(table, tmp_path / "k.parquet")
    with pytest.raises(ValueError, match=f"^k.parquet: {message}") as caught:
        read_keyed(tmp_path / "k.parquet")
    assert "138" not in str(caught.value)


def test_keyed_calls_with_an_unknown_word_are_refused():
    table = keyed()
    table = table.set_column(table.column_names.index("outcome"), "outcome", pa.array(["perhaps"] * 4))
    with pytest.raises(ValueError, match=r"column 'outcome': expected one of answered, .*, got 'perhaps'"):
        list(keyed_calls(table))


# Real files


@pytest.mark.parametrize(
    ("name", "layout", "accepted", "counts", "answered"),
    [
        ("sichuan_raw_calls_4_subscribers.csv", "sichuan", 4914, {}, 4914),
        ("copenhagen_calls.csv", "copenhagen", 3600, {}, None),
        ("copenhagen_calls.csv", "plain", 3600, {}, None),
        ("reality_calls.csv", "reality", 25448, {"conflicting_duplicate": 7, "duplicate": 3}, 25448),
        ("reality_calls.csv", "plain", 25448, {"conflicting_duplicate": 7, "duplicate": 3}, 25448),
    ],
)
def test_real_files_have_the_expected_counts(name, layout, accepted, counts, answered):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/data")
    result = read_calls(path, read_layout(layout))
    assert (result.accepted, result.quarantined) == (accepted, counts)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert result.rows == len(rows)
    missed = sum(row.get("duration") == "-1" for row in rows)
    assert result.table["outcome"].to_pylist().count("no_answer") == missed
    assert answered is None or accepted - missed == answered


def test_the_error_about_a_file_of_another_layout_names_that_layout(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("caller,callee,start,duration\n1,2,2026-03-01 10:00:00,5\n")
    with pytest.raises(ValueError, match=r"unknown column 'duration', .*; layout plain or reality fits$"):
        read_calls(path, read_layout("callsieve"))
    path.write_text("caller,callee,start,nothing\n1,2,2026-03-01 10:00:00,5\n")
    with pytest.raises(
        ValueError, match=r"unknown column 'nothing', layout 'callsieve' has [a-z_, ]*; write a layout whose [^;]*$"
    ):
        read_calls(path, read_layout("callsieve"))


@pytest.mark.parametrize("name", ["callsieve", "plain"])
@pytest.mark.parametrize("with_ids", [False, True])
def test_keyed_calls_are_refused_as_call_records(tmp_path, name, with_ids):
    table = keyed()
    table = table.append_column("call", pa.array(range(table.num_rows))) if with_ids else table
    call_files.write_table(table, tmp_path / "calls.parquet")
    with pytest.raises(ValueError, match=r"^calls.parquet: looks like keyed calls; expected --layout keyed$"):
        read_calls(tmp_path / "calls.parquet", read_layout(name))
