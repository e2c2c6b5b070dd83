"""Registers as of a moment: online look-up, offline join and a scan of every row give equal answers."""

import hashlib
import json
import re
from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.intake.intake import Intake
from callsieve.features.intake.numbers import parse
from callsieve.features.keys.tokens import KEY_VARIABLE, Key, to_letters
from callsieve.serving.batch.file_scoring import open_registers
from callsieve.serving.batch.register_files import read_registers, split_range, write_registers
from callsieve.serving.batch.table_rules import compute_rule_columns, rules_met
from callsieve.serving.custody.purposes import declare, require_purpose
from callsieve.serving.rules.policy import read_policy
from callsieve.serving.rules.register_join import RegisterJoin
from callsieve.serving.rules.register_lookup import Terms, look_up
from callsieve.serving.rules.registers import (
    NEVER,
    NO_ROW,
    OPTIONAL,
    SCHEMA,
    Registers,
    Span,
    as_of,
    columns_of,
    step_function,
)
from callsieve.training.cli.command_table import main
from tests.support.calls import strategies
from tests.support.errors import refused
from tests.support.real_bundle import make_registers

moments = st.integers(0, 30)
spans = st.builds(Span, moments, moments | st.just(NEVER), moments).filter(
    lambda span: span.valid_from <= span.valid_to
)


def scan(rows, at):
    """Returns the place of the row in effect, or ~place of the last ended row, from (place, span) pairs."""
    usable = sorted((span.known_at, place, span) for place, span in rows if span.known_at < at)
    # Of rows with the same start, the one known last applies.
    latest = {span.valid_from: (place, span) for _, place, span in usable}
    started = [row for start, row in sorted(latest.items()) if start <= at]
    in_effect = [place for place, span in started if at < span.valid_to]
    if in_effect:
        return in_effect[-1]
    return ~started[-1][0] if started else NO_ROW


@pytest.mark.system
@settings(max_examples=400)
@given(st.lists(spans, max_size=7), st.integers(-1, 32))
def test_the_step_function_equals_a_scan_of_every_row(drawn, at):
    rows = list(enumerate(drawn))
    assert as_of(step_function(rows), at) == scan(rows, at)


def test_a_row_counts_after_known_at_and_before_valid_to_and_an_end_counts_from_when_it_is_known():
    steps = step_function([(0, Span(10, 20, 15))])
    assert [as_of(steps, at) for at in (14, 15, 16, 19, 20, 99)] == [NO_ROW, NO_ROW, 0, 0, ~0, ~0]
    steps = step_function([(0, Span(10, NEVER, 11)), (1, Span(10, 20, 50))])
    assert [as_of(steps, at) for at in (12, 30, 50, 51)] == [0, 0, 0, ~1]


# Files

KEY = Key("e1", b"k" * 32)
NUMBER, OTHER = "13800138000", "(028) 8765-4321"


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_register_file_is_read_and_keyed_like_calls(tmp_path):
    write(tmp_path, "campaigns.csv", (
        "number,business,principal,hour_from,hour_to,valid_from,valid_to,known_at\n"
        f"{NUMBER},insurance,平安 Ltd,9,18,2025-03-03,,2025-03-04T09:30:00Z\n"
        f'"{OTHER}",courier,Fast & Sons,,,2025-03-03 08:00:00,2025-04-01,2025-03-05\n'
    ))  # fmt: skip
    read = read_registers(tmp_path, KEY)
    columns = read.registers.columns["campaigns"]
    intake = Intake(KEY)
    assert columns["number"] == [intake.token("number", "+86 138 0013 8000"), intake.token("number", "02887654321")]
    assert columns["principal"] == ["平安 Ltd", "Fast & Sons"]
    assert columns["hour_to"] == [18, None]
    local = lambda text: int(pd.Timestamp(text, tz="Asia/Shanghai").timestamp() * 1000)
    assert columns["valid_from"] == [local("2025-03-03"), local("2025-03-03 08:00")]
    assert columns["valid_to"] == [None, local("2025-04-01")]
    assert columns["known_at"][0] == int(pd.Timestamp("2025-03-04T09:30:00Z").timestamp() * 1000)
    assert (read.accepted, read.quarantined) == ({"campaigns": 2}, {"campaigns": {}})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("no number,person,50,2025-03-03,,2025-03-03", "bad_number"),
        (",person,50,2025-03-03,,2025-03-03", "missing_value"),
        (f"{NUMBER},person {NUMBER},50,2025-03-03,,2025-03-03", "bad_value"),
        (f"{NUMBER},person 138-0013 8000,50,2025-03-03,,2025-03-03", "bad_value"),
        (f"{NUMBER},,50,2025-03-03,,2025-03-03", "missing_value"),
        (f"{NUMBER},person,many,2025-03-03,,2025-03-03", "bad_value"),
        (f"{NUMBER},person,-5,2025-03-03,,2025-03-03", "bad_value"),
        (f"{NUMBER},person,50,,,2025-03-03", "missing_value"),
        (f"{NUMBER},person,50,2025-03-33,,2025-03-03", "bad_time"),
        (f"{NUMBER},person,50,2025-03-03,2025-03-02,2025-03-03", "end_before_start"),
        (f"{NUMBER},person,50,2025-03-03,,", "missing_value"),
    ],
)
def test_an_invalid_row_is_quarantined_with_its_reason_and_shows_no_number(tmp_path, row, reason):
    good = f"{OTHER},firm,1500,2025-03-03,,2025-03-03"
    write(tmp_path, "subscribers.csv", f"number,kind,calls_per_day,valid_from,valid_to,known_at\n{good}\n{row}\n")
    read = read_registers(tmp_path, KEY, quarantine=tmp_path / "apart")
    assert read.quarantined == {"subscribers": {reason: 1}}
    assert read.accepted == {"subscribers": 1}
    entry = (tmp_path / "apart" / "subscribers.jsonl").read_text(encoding="utf-8")
    assert json.loads(entry)["row"] == 3  # the line of the file
    assert json.loads(entry)["reason"] == reason
    assert not re.search(r"\d{7}", entry)
    with refused(rf"subscribers\.csv, row 3(, column \w+)?: {reason}, expected "):
        read_registers(tmp_path, KEY, strict=True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("protected.csv", "number,reason,name,valid_from,known_at\n", r"protected\.csv: column 3 is not known"),
        ("protected.csv", "number,valid_from,known_at\n", r"protected\.csv: no column reason, expected"),
        ("protected.parquet", "no parquet", r"protected\.parquet: broken Parquet file"),
        pytest.param("protected.jsonl", "[" * 100_000, r"protected\.jsonl: expected a whole jsonl file", id="deep"),
        ("unheard.csv", "number\n", "holds no register"),
    ],
)
def test_an_invalid_register_is_refused_in_one_line(tmp_path, name, text, message):
    with refused(message):
        read_registers(write(tmp_path, name, text), KEY)


def test_registers_of_a_simulated_world_survive_a_round_trip(world_folder, tmp_path):
    read = read_registers(world_folder, KEY)
    assert set(read.accepted) == set(SCHEMA) - {"discredited", "licences", "operators", "trusted"}
    assert all(read.accepted.values())
    assert not any(read.quarantined.values())
    write_registers(read.registers, tmp_path)
    again = Registers.read(tmp_path)
    assert again.columns == read.registers.columns
    for path in tmp_path.iterdir():
        assert not re.search(r"\d{7}", path.read_text(encoding="utf-8"))
    assert read_registers(tmp_path, KEY).registers.columns == again.columns


def test_keyed_files_are_checked_line_by_line(world_folder, tmp_path):
    write_registers(read_registers(world_folder, KEY).registers, tmp_path)
    first, second, *_ = (tmp_path / "protected.jsonl").read_text().splitlines()
    row = lambda **wrong: json.dumps(json.loads(second) | wrong).encode()
    digits = (NUMBER.encode(), b'{"number":' + NUMBER.encode() + b"e999}")
    local = "2026-03-01T00:00:00"  # without a time zone
    for line, expected in (
        (row(number=NUMBER), "number to be a token"),
        (row(reason=7), "reason to be a text"),
        *((row(valid_from=odd), "valid_from to be a moment") for odd in (None, NUMBER, int(NUMBER), local)),
        *((odd, "a JSON object with the keys number, reason") for odd in (row(more=1), b"[]", b"\xff", *digits)),
    ):
        (tmp_path / "protected.jsonl").write_bytes(first.encode() + b"\n" + line + b"\n")
        with refused(rf"protected\.jsonl line 2: expected {expected}"):
            Registers.read(tmp_path)
    with pytest.raises(ValueError, match="has no register"):
        Registers.read(tmp_path.parent)


mobiles = st.integers(13_800_130_000, 13_800_175_000)


@pytest.mark.source("L15", by="serving/batch/register_files.py")
@given(mobiles, mobiles)
def test_a_range_covers_each_of_its_numbers_once(start, end):
    low, high = sorted((start, end))
    numbers, blocks = split_range(str(low), f"+86{high}")
    covered = {int(number.removeprefix("+86")) for number in numbers}
    assert len(covered) == len(numbers) < 20_000
    for block in blocks:
        first = int(block.removeprefix("+86"))
        whole = set(range(first, first + 10_000))
        ends = [parse(str(number), pd.Timestamp("2026-01-01").date()) for number in (first, first + 9_999)]
        assert {number.block for number in ends} == {block.removeprefix("+86")[:7]}
        assert not covered & whole
        covered |= whole
    assert covered == set(range(low, high + 1))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("95588", "95590"), (["95588", "95589", "95590"], [])),  # no whole block
        *((pair, None) for pair in (("13800138002", "13800138001"), ("13800138000", "0288765"), ("x", "y"))),
        *((pair, None) for pair in (("", ""), ("13800138000", "18900138000"))),
    ],
)
def test_a_range_without_whole_blocks_becomes_single_numbers_and_an_invalid_one_nothing(pair, expected):
    assert split_range(*pair) == expected


def test_a_range_in_a_file_becomes_blocks_and_numbers(tmp_path):
    write(tmp_path, "trunks.csv", (
        "trunk,number,number_to,declared_use,valid_from,known_at\n"
        "t-1,13800139999,13800150000,own use,2025-03-03,2025-03-03\n"
        "t-1,13800150000,13800139999,own use,2025-03-03,2025-03-03\n"
        "t-2,02887654321,,own use,2025-03-03,2025-03-03\n"
    ))  # fmt: skip
    read = read_registers(tmp_path, KEY)
    columns, intake = read.registers.columns["trunks"], Intake(KEY)
    assert read.quarantined == {"trunks": {"bad_range": 1}}
    assert columns["block"] == [None, None, intake.token("block", "13800145678"), None]
    assert [number is None for number in columns["number"]] == [False, False, True, False]
    assert columns["trunk"] == [intake.token("trunk", name) for name in ("t-1", "t-1", "t-1", "t-2")]


def test_the_command_writes_keyed_files_and_reports_the_quarantine(tmp_path, monkeypatch, capsys):
    KEY.write(tmp_path / "key")
    folder = tmp_path / "offices"
    folder.mkdir()
    rows = f"{NUMBER},hospital,2025-03-03,2025-03-03\nx,y,z,\n"
    write(folder, "protected.csv", f"number,reason,valid_from,known_at\n{rows}")
    with pytest.raises(ValueError, match="unknown time zone 'Mars/Olympus'"):
        read_registers(folder, KEY, zone="Mars/Olympus")
    words = ["ingest", "registers", folder, "--out", tmp_path / "keyed", "--key", tmp_path / "key", "--json"]
    monkeypatch.setattr("sys.argv", ["callsieve", *map(str, words)])
    declaration = declare(folder, "offices of the test", "law", ["scoring"], "2999-12-31")
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(capsys.readouterr().out) == {"protected": {"rows": 1, "quarantined": {"bad_number": 1}}}
    assert Registers.read(tmp_path / "keyed").columns["protected"]["number"] == [KEY.token("number", "+86" + NUMBER)]
    assert require_purpose(tmp_path / "keyed", "scoring") == declaration
    written = [tmp_path / "keyed", tmp_path / "keyed" / "protected.jsonl"]
    assert [path.stat().st_mode & 0o777 for path in written] == [0o700, 0o600]
    monkeypatch.setattr("sys.argv", ["callsieve", *map(str, words[:4]), str(tmp_path / "again"), *map(str, words[5:7])])
    with pytest.raises(SystemExit, match="0"):
        main()
    cells = [cell.strip() for cell in capsys.readouterr().out.replace("\n", "│").split("│")]
    assert cells[cells.index("protected") :][:3] == ["protected", "1", "bad_number 1"]
    with pytest.raises(ValueError, match="declared for scoring, not for evaluation"):
        open_registers(tmp_path / "keyed", tmp_path / "key", "evaluation")


@pytest.mark.source("L6", "L7", "L12", by="serving/rules/registers.py")
def test_a_ledger_names_subject_access_point_licence_and_agent(tmp_path):
    span = "2025-03-03,2025-03-03"
    write(tmp_path, "trunks.csv", (
        "trunk,number,declared_use,subject,access_point,valid_from,known_at\n"
        f"t-1,{OTHER},own use,示例公司,成都机房,{span}\nt-1,{OTHER},own use,{NUMBER},成都机房,{span}\n"
    ))  # fmt: skip
    write(tmp_path, "campaigns.csv", (
        "number,business,principal,outsourced,agent,business_name,qualification,valid_from,known_at\n"
        f"{NUMBER},loans,某银行,true,某外呼公司,信用卡推广,B2-20090059,{span}\n{NUMBER},loans,某银行,,,,=cmd|calc,{span}\n"
    ))  # fmt: skip
    write(tmp_path, "number_resources.csv", (
        f"number,number_to,holder,licence,area,valid_from,known_at\n13800140000,13800149999,持有人,A2.B1-20090001,四川,{span}\n"
    ))  # fmt: skip
    read = read_registers(tmp_path, KEY)
    assert read.quarantined["trunks"] == read.quarantined["campaigns"] == {"bad_value": 1}
    (tmp_path / "keyed").mkdir()
    write_registers(read.registers, tmp_path / "keyed")
    columns = Registers.read(tmp_path / "keyed").columns
    names = ("subject", "access_point", "agent", "business_name", "qualification", "licence", "area")
    ledger = {name: column[0] for table in columns.values() for name, column in table.items() if name in names}
    assert ledger == dict(zip(names, (
        "示例公司", "成都机房", "某外呼公司", "信用卡推广", "B2-2009 0059", "A2.B1-2009 0001", "四川"
    ), strict=True))  # fmt: skip


@pytest.mark.source("L22", "L13", by="serving/batch/register_words.toml")
def test_registers_are_read_as_chinese_offices_write_them(tmp_path):
    """A do-not-call file states no wish and may state no category: then it rejects calls of any kind."""
    write(tmp_path, "谢绝来电.csv", (
        f"用户号码,业务类别,生效时间,失效时间,入库时间\n{NUMBER},贷款理财,2025-03-03,,2025-03-04\n"
        "13900139000,全部,2025-03-03,2025-04-01,2025-03-04\n"
    ))  # fmt: skip
    write(tmp_path, "中继台账.csv", (
        "中继,起始号码,终止号码,资源用途,使用主体,接入位置,生效时间,入库时间\n"
        "t-1,13800140000,13800149999,自用,示例公司,成都机房,2025-03-03,2025-03-03\n"
    ))  # fmt: skip
    read = read_registers(tmp_path, KEY)
    preferences, trunks = (read.registers.columns[name] for name in ("preferences", "trunks"))
    assert (preferences["category"], preferences["accepts"]) == (["loans", "any"], [False, False])
    assert preferences["callee"][0] == KEY.token("number", "+86" + NUMBER)
    assert (trunks["declared_use"], trunks["access_point"]) == (["own use"], ["成都机房"])
    terms = read_policy("plan-2018").terms
    call = strategies.EXAMPLE_CALL | {"caller": NUMBERS[0], "callee": preferences["callee"][0]}
    campaign = {"number": NUMBERS[0], "business": "loans", "principal": "bank"}
    registers = make_registers(campaigns=[campaign])
    registers = Registers(dict(registers.columns) | {"preferences": preferences})
    at = int(pd.Timestamp("2025-03-10", tz="UTC").timestamp() * 1000)
    assert look_up(registers, strategies.as_keyed_call(call | {"start": at}), terms).rejects == 1
    write(tmp_path, "谢绝来电.csv", "用户号码,callee,生效时间,入库时间\n")
    with pytest.raises(ValueError, match="two columns have the same meaning"):
        read_registers(tmp_path, KEY)


def test_files_without_optional_columns_are_read_and_a_row_is_named_by_its_values(tmp_path):
    """Cases name the row behind a fact."""
    token = KEY.token("trunk", "t-1")
    row = {"trunk": token, "number": None, "block": KEY.token("block", "1"), "declared_use": "own use"}
    row |= {
        "valid_from": "2025-03-03T00:00:00.000+00:00",
        "valid_to": None,
        "known_at": "2025-03-03T00:00:00.000+00:00",
    }
    write(tmp_path, "trunks.jsonl", json.dumps(row))
    old = Registers.read(tmp_path)
    moments = {name: old.columns["trunks"][name][0] for name in ("valid_from", "valid_to", "known_at")}
    whole = row | moments | {"subject": None, "access_point": None}
    digest = hashlib.sha256(json.dumps(["trunks", whole], sort_keys=True).encode()).digest()
    assert old.entry("trunks", 0)[0] == to_letters(digest[:8])
    named = make_registers(trunks=[{name: old.columns["trunks"][name][0] for name in row} | {"subject": "示例公司"}])
    assert named.entry("trunks", 0)[0] != old.entry("trunks", 0)[0]


# Joins

# Few values of each kind, so that rows and calls share them.
NUMBERS = [KEY.token("number", str(n)) for n in range(2)]
BLOCKS = [KEY.token("block", str(n)) for n in range(2)]
TRUNKS = [KEY.token("trunk", str(n)) for n in range(2)]
WORDS = {"number": NUMBERS, "block": BLOCKS, "trunk": TRUNKS, "operator": TRUNKS, "text": ["loans", "own use", "any"],
         "licence": ["B2-2009 0059"],
         "flag": [True, False], "hour": [0, 18], "count": [3, 200]}  # fmt: skip
TERMS = Terms(marketing=("loans",), uses={"own use": ("mobile", "fixed"), "any": ()})


soon = st.integers(0, 6)
near = st.builds(Span, soon, soon | st.just(NEVER), soon).filter(lambda span: span.valid_from <= span.valid_to)


@st.composite
def rows_of(draw, table):
    row = {name: draw(st.sampled_from(WORDS[kind])) for name, kind in SCHEMA[table].items()}
    if "role" in row:
        row["role"] = draw(st.sampled_from(["principal", "agent"]))
    for name in sorted(OPTIONAL & row.keys()):
        row[name] = draw(st.sampled_from([None, row[name]]))
    if "block" in row:
        row["number"] = None if row["block"] else row["number"]
    span = draw(near)
    return row | span._asdict() | {"valid_to": None if span.valid_to == NEVER else span.valid_to}


@st.composite
def tables(draw):
    absent = draw(st.sets(st.sampled_from(sorted(SCHEMA)), max_size=3))
    names = sorted(SCHEMA.keys() - absent)
    return {name: draw(st.lists(rows_of(name), min_size=1, max_size=5)) for name in names}


@st.composite
def ringing(draw):
    pick = lambda words: draw(st.sampled_from(words))
    return strategies.EXAMPLE_CALL | {
        "start": draw(st.integers(0, 8)), "caller": pick(NUMBERS), "callee": pick(NUMBERS),
        "caller_block": pick(BLOCKS), "trunk": pick([None, *TRUNKS]), "caller_class": pick(["mobile", "fixed", "400"]),
    }  # fmt: skip


def oracle(tables, call):
    """Returns the known register facts of a call and the rows behind them, from a scan of every row."""
    at, facts, rows = call["start"], {}, {}
    rows_now = lambda table, fits: [
        row for row in started(table, fits) if row["valid_to"] is None or at < row["valid_to"]
    ]

    def started(table, fits):
        usable = [row for row in tables[table] if fits(row) and row["known_at"] < at]
        latest = {row["valid_from"]: row for row in sorted(usable, key=lambda row: row["known_at"])}
        return [row for start, row in sorted(latest.items()) if start <= at]

    def in_effect(table, *ways, name=None):
        """Returns the row in effect of the first condition that has one, and whether any row has started."""
        for fits in ways:
            if current := rows_now(table, fits):
                rows.setdefault(name or table, current[-1])  # of a trunk, the row of its use comes first
                return current[-1], True
        return None, any(started(table, fits) for fits in ways)

    by_number = lambda row: row["number"] == call["caller"]
    by_block = lambda row: row["number"] is None and row["block"] == call["caller_block"]
    if "campaigns" in tables:
        campaign, _ = in_effect("campaigns", by_number, by_block)
        facts["campaign"] = campaign is not None
        if campaign:
            facts |= {name: campaign[name] for name in ("hour_from", "hour_to")}
            facts["marketing"] = campaign["business"] == "loans"
            firm = lambda role: lambda row: row["role"] == role and row["party"] == campaign[role] is not None
            if "discredited" in tables:
                ways = [firm(role) for role in ("principal", "agent")]
                facts["discredited"] = in_effect("discredited", *ways)[0] is not None
            about = lambda name, word: lambda row: row["callee"] == call["callee"] and row[name] == word
            if "consents" in tables:
                way = about("principal", campaign["principal"])
                facts["consent"] = in_effect("consents", way)[0] is not None
            if "refusals" in tables:
                ways = [about("industry", word) for word in (campaign["business"], "any")]
                facts["refused"] = in_effect("refusals", *ways)[0] is not None
            if "preferences" in tables:
                ways = [about("category", word) for word in (campaign["business"], "any")]
                preference, _ = in_effect("preferences", *ways)
                facts["accepts"] = preference is not None and preference["accepts"]
                facts["rejects"] = preference is not None and not preference["accepts"]
    if "trunks" in tables and call["trunk"]:
        of_trunk = lambda row: row["trunk"] == call["trunk"]
        listed, _ = in_effect("trunks", of_trunk)
        facts["trunk_listed"] = listed is not None
        if listed:
            ways = [lambda row, way=way: of_trunk(row) and way(row) for way in (by_number, by_block)]
            facts["on_trunk"] = in_effect("trunks", *ways)[0] is not None
            if listed["declared_use"] != "loans":
                facts["use_allows"] = listed["declared_use"] == "own use" and call["caller_class"] != "400"
    if "number_resources" in tables:
        row, has_started = in_effect("number_resources", by_number, by_block)
        if has_started:
            facts["lapsed"] = row is None
            before = [way for way in (by_number, by_block) if started("number_resources", way)]
            rows.setdefault("number_resources", started("number_resources", before[0])[-1])
    if "subscribers" in tables and (row := in_effect("subscribers", by_number)[0]):
        facts["calls_per_day"] = row["calls_per_day"]
    if "protected" in tables:
        facts["caller_protected"] = in_effect("protected", by_number)[0] is not None
        facts["callee_protected"] = (
            in_effect("protected", lambda row: row["number"] == call["callee"], name="callee")[0] is not None
        )
    if "trusted" in tables:
        facts["caller_trusted"] = in_effect("trusted", by_number)[0] is not None
    if "risk_regions" in tables:
        facts["risk_region"] = in_effect("risk_regions", by_number, by_block)[0] is not None
    return {name: float(value) for name, value in facts.items() if value is not None}, rows


def known_facts(registered, row=None):
    values = {field.name: getattr(registered, field.name) for field in fields(registered) if field.name != "rows"}
    values = {name: float(value if np.ndim(value) == 0 else value[row]) for name, value in values.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


@pytest.mark.system
@pytest.mark.source("L6", "L7", by="serving/rules/register_join.py")
@pytest.mark.source("L7", by="serving/rules/register_lookup.py")
@settings(max_examples=50)
@given(tables(), st.lists(ringing(), min_size=4, max_size=8))
def test_online_look_up_equals_the_join_and_a_scan_of_every_row(drawn_tables, calls):
    registers = make_registers(**drawn_tables)
    joined = RegisterJoin(registers, TERMS).registered(strategies.as_keyed_table(calls))
    for row, call in enumerate(calls):
        facts = look_up(registers, strategies.as_keyed_call(call), TERMS)
        expected, rows = oracle(drawn_tables, call)
        assert known_facts(facts) == known_facts(joined, row) == expected
        behind = {table: drawn_tables["protected" if table == "callee" else table] for table in facts.rows}
        assert {table: behind[table][place] for table, place in facts.rows.items()} == rows


@pytest.mark.system
@pytest.mark.source("L7", by="serving/rules/register_join.py")
def test_joining_parts_equals_joining_the_whole_table(world, world_folder, monkeypatch):
    registers, calls = read_registers(world_folder, KEY).registers, world.calls.slice(0, 30_000)
    joins = RegisterJoin(registers, TERMS)
    whole, parts = (
        joins.registered(calls),
        [joins.registered(calls.slice(at, 12_001)) for at in range(0, 30_000, 12_001)],
    )
    for field in fields(whole):
        if np.ndim(getattr(whole, field.name)):
            joined = np.concatenate([getattr(part, field.name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, field.name))
    columns = compute_rule_columns(calls, 1)
    bits = rules_met(calls, columns, registers, TERMS)
    monkeypatch.setattr("callsieve.serving.batch.table_rules.PART_ROWS", 12_001)
    np.testing.assert_array_equal(rules_met(calls, columns, registers, TERMS), bits)
    assert len(np.unique(bits)) > 3
    assert np.nansum(whole.campaign) > 100
    assert np.nansum(whole.consent) > 100


@pytest.mark.source("L7", "L13", by="serving/rules/registers.py")
def test_later_knowledge_does_not_change_earlier_facts(world, world_folder):
    """Rows that become known after the last call change no fact."""
    registers = read_registers(world_folder, KEY).registers
    last = int(world.calls["start"].to_numpy().max())
    earlier = {}
    for name, columns in registers.columns.items():
        rows = [row for row, known_at in enumerate(columns["known_at"]) if known_at < last]
        earlier[name] = {column: [values[row] for row in rows] for column, values in columns.items()}
    assert sum(len(table["known_at"]) for table in earlier.values()) < registers.rows
    before, after = (RegisterJoin(table, TERMS).registered(world.calls) for table in (Registers(earlier), registers))
    for field in fields(before):
        # The world has no discredited firms and no trusted numbers.
        if field.name not in ("rows", "discredited", "caller_trusted"):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


@pytest.mark.parametrize(
    "metadata",
    [
        *(b"[]", b"{}", b'{"index_columns": ["known_at"], "columns": []}'),
        b'{"index_columns": [{"kind": "range", "start": 0, "stop": "x", "step": 1, "name": null}], "columns": []}',
    ],
)
def test_pandas_metadata_of_a_parquet_file_do_not_matter(tmp_path, metadata):
    rows = {name: pa.array(["2025-03-03"]) for name in columns_of("protected")} | {"reason": pa.array(["hospital"])}
    rows["__index_level_0__"] = pa.array([7])  # pandas writes the index of a filtered frame
    pq.write_table(pa.table(rows).replace_schema_metadata({b"pandas": metadata}), tmp_path / "protected.parquet")
    assert read_registers(tmp_path, KEY).accepted == {"protected": 1}


def test_a_moment_outside_the_calendar_and_a_range_end_without_a_number_are_invalid(tmp_path):
    rows = {name: pa.array(["2025-03-03", "2025-03-03"]) for name in columns_of("protected")}
    rows["reason"] = pa.array([1 << 55, 0], pa.timestamp("ms"))
    pq.write_table(pa.table(rows), tmp_path / "protected.parquet")
    write(tmp_path, "trunks.csv", (
        "trunk,block,number_to,declared_use,valid_from,known_at\n"
        "t-1,13800139999,13800150000,own use,2025-03-03,2025-03-03\n"
    ))  # fmt: skip
    expected = {"protected": {"bad_value": 1}, "trunks": {"bad_range": 1}}
    assert read_registers(tmp_path, KEY).quarantined == expected


def test_a_register_of_blocks_needs_no_numbers_and_a_plain_number_needs_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    declare(tmp_path, "made for a test", "none needed", ["scoring"], "2999-12-31")
    block = Intake(KEY).token("block", NUMBER)
    rows = [f"{number},listed area,2025-03-03,,2025-03-03" for number in (NUMBER, block, "no number")]
    write(tmp_path, "risk_regions.csv", "\n".join(["block,region,valid_from,valid_to,known_at", *rows]) + "\n")
    read = read_registers(tmp_path, KEY)
    assert read.registers.columns["risk_regions"]["block"] == [block, block]
    assert read.quarantined == {"risk_regions": {"bad_number": 1}}
    with pytest.raises(ValueError, match="numbers as written need the key of the calls"):
        open_registers(tmp_path, None, "scoring")
