"""Files of checked and of trusted numbers: every fault of a row, of a layout and of a header, and the missing key."""

import json

import pytest

from tests.support.trainings.label_files import GOOD, INNOCENT, NUISANCE, RUN_OF_DIGITS, command, ingester

DAY = "2025-03-04"
# Number, word and time of a row; the reason of its quarantine, and how many rows it refuses.
BOTH = [
    ("", "{word}", DAY, "missing_number"),
    ("anonymous", "{word}", DAY, "bad_number"),
    ("匿名", "{word}", DAY, "bad_number"),
    ("+86 139 xxxx 9000", "{word}", DAY, "bad_number"),
    ("13900139000.0", "{word}", DAY, "bad_number"),
    ("12", "{word}", DAY, "bad_number"),
    (INNOCENT, "spam", DAY, "unknown_word"),
    (INNOCENT, INNOCENT, DAY, "unknown_word"),
    (INNOCENT, "", DAY, "unknown_word"),
    (INNOCENT, "{word}", "", "bad_time"),
    (INNOCENT, "{word}", INNOCENT, "bad_time"),
    (INNOCENT, "{word}", "04.03.2025 10:00", "bad_time"),
]
WORDS, ENDS = {"checks": "innocent", "trusted": "survey"}, {"checks": "", "trusted": ","}
ROWS = [
    (kind, f"{number},{word.format(word=WORDS[kind])},{time}{ENDS[kind]}", reason, 1)
    for kind in WORDS
    for number, word, time, reason in BOTH
] + [
    ("checks", f"{INNOCENT},innocent", "bad_number_of_columns", 1),
    ("trusted", f"{INNOCENT},survey,{DAY}", "bad_number_of_columns", 1),
    *((kind, f"+86{good}", "duplicate", 1) for kind, good in GOOD.items()),
    ("trusted", f"{INNOCENT},survey,{DAY},{INNOCENT}", "bad_time", 1),
    ("trusted", f"{INNOCENT},survey,{DAY},{DAY}", "end_before_start", 1),
    ("checks", GOOD["checks"].replace("nuisance", "innocent") + f"\n13900139001,innocent,{DAY}", "bad_value", 2),
    ("trusted", f"{GOOD['trusted']}2025-04-01\n{INNOCENT},survey,{DAY},", "bad_value", 2),
    ("trusted", GOOD["trusted"].replace("survey", "customer") + f"\n{INNOCENT},survey,{DAY},", "bad_value", 2),
]


@pytest.mark.parametrize(("kind", "row", "reason", "refused"), ROWS)
def test_every_invalid_row_has_its_reason_and_no_number_is_shown(run_command, tmp_path, kind, row, reason, refused):
    quarantine, ingest = tmp_path / "quarantine.jsonl", ingester(run_command, tmp_path, kind)
    figures, table = ingest(GOOD[kind], row, options=("--quarantine", quarantine))
    assert table.num_rows == 1
    assert figures["quarantined"] == {reason: refused}
    entries = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert {entry["reason"] for entry in entries} == {reason}
    words = command(kind, tmp_path, GOOD[kind], row)
    code, out, err = run_command(*words, "--key", tmp_path / "number.key", "--strict")
    assert code == 1 and err.count("\n") == 1 and f": {reason}, expected " in err
    for text in (quarantine.read_text(), json.dumps(figures), out, err):
        assert not RUN_OF_DIGITS.search(text)


@pytest.mark.parametrize(
    ("kind", "text", "head", "says"),
    [
        ("checks", '[checks]\nverdict = { spam = "bad" }\n', None, "checks: verdict[...]: invalid enum value 'bad'"),
        ("checks", "[checks]\ncolumns = { reporter = ['a'] }\n", None, "unknown field `reporter`"),
        ("checks", '[checks]\nzone = "Mars"\n', None, "unknown time zone 'Mars'"),
        ("checks", None, None, "layout '12321': expected callsieve, or a .toml file"),
        ("trusted", '[trusted]\nkind = { poll = "survey?" }\n', None, "kind[...]: invalid enum value 'survey?'"),
        ("trusted", "[trusted]\ncolumns = { verdict = ['a'] }\n", None, "unknown field `verdict`"),
        ("trusted", None, None, "layout '12321': expected callsieve, or a .toml file"),
        ("trusted", "", "number,kind,since", "trusted.csv: column 3 is not known, expected kind, known_at, number, "),
        ("trusted", "", "number,trusted_from,trusted_to", "trusted.csv: no column for kind, expected kind"),
    ],
)
def test_an_invalid_layout_or_header_is_one_line(command_error, tmp_path, kind, text, head, says):
    (tmp_path / "op.toml").write_text(text or "")
    layout = "12321" if text is None else tmp_path / "op.toml"
    error = command_error(*command(kind, tmp_path, GOOD[kind], head=head), "--layout", layout)
    assert says in error.splitlines()[-1] and NUISANCE not in error


@pytest.mark.parametrize(("kind", "option"), [("checks", "--out"), ("trusted", "--out"), ("trusted", "--registers")])
def test_no_rows_are_added_under_a_key_that_is_not_kept(command_error, tmp_path, monkeypatch, kind, option):
    monkeypatch.delenv("CALLSIEVE_KEY", raising=False)
    error = command_error(*command(kind, tmp_path, GOOD[kind]), option, tmp_path / "new")
    assert f"{option}: expected --key FILE" in error and not (tmp_path / "new").exists()
