"""An office's work: operators by name, CSV, comparisons with earlier reports, orders of rectification."""

import csv
import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.intake import Intake
from callsieve.serving.batch.register_files import read_registers, write_registers
from callsieve.training.language import language
from callsieve.training.oversight.audit.verify import verify
from callsieve.training.oversight.governance import rectification
from callsieve.training.oversight.governance.rectification import rectifications
from callsieve.training.oversight.governance.report import write_report
from callsieve.training.oversight.governance.report_page import flat_tables
from callsieve.training.oversight.log.audit_log import payloads
from tests.support import real_bundle
from tests.support.simulated import mark_simulated

INTAKE = Intake(real_bundle.NUMBER_KEY)
MORNING = datetime(2026, 3, 10, 2, tzinfo=UTC)
COUNTS = {"period": pa.string(), "table": pa.string(), "row": pa.string(), "records": pa.int64()}
EARLIER = [
    ("2026-02-01/2026-03-01", "operator", "示例电信", 20),
    ("2025-03-01/2025-04-01", "operator", "示例电信", 80),
    ("2025-03-01/2025-04-01", "all", "all", 60),
]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """Forty calls on each of three operators, of which the register names two; counts of two earlier reports."""
    folder = tmp_path_factory.mktemp("office")
    data, offices = folder / "data", folder / "offices"
    for place in (data, offices, folder / "report"):
        place.mkdir()
    table = {
        "start": pa.array([MORNING + timedelta(minutes=n) for n in range(120)], pa.timestamp("ms", "UTC")),
        "caller": [f"1380000{n % 30:04}" for n in range(120)],
        "callee": [f"1390000{n:04}" for n in range(120)],
        "operator": [("CM", "CT", "other")[n % 3] for n in range(120)],
    }
    pq.write_table(INTAKE.table(pa.table(table)), data / "calls.parquet")
    mark_simulated(data)
    rows = [f"{code},{name},2026-01-01,,2026-01-01" for code, name in (("CM", "=示例移动"), ("CT", "示例电信"))]
    text = "\n".join(["运营商,名称,生效时间,失效时间,入库时间", *rows])
    (offices / "运营商台账.csv").write_text(text, encoding="utf-8")
    write_registers(read_registers(offices, real_bundle.NUMBER_KEY).registers, data)
    past = folder / "past.parquet"
    columns = dict(zip(COUNTS, zip(*EARLIER, strict=True), strict=True))
    pq.write_table(pa.table(columns, schema=pa.schema(COUNTS.items())), past)
    with language("zh"):
        figures = write_report(
            data, folder / "report", until="2026-04-01", days=31, least={"callee": 1, "caller": 1}, past=past,
            progress=lambda *_: None,
        )  # fmt: skip
    return folder, figures


@pytest.mark.source("L5", by="training/oversight/governance/parties.py")
def test_every_operator_of_the_register_has_its_name(office):
    folder, figures = office
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    token = {code: INTAKE.token("operator", code) for code in ("CM", "CT", "other")}
    assert figures["names"] == {token["CM"]: "=示例移动", token["CT"]: "示例电信"}
    assert page.count(f"示例电信 {token['CT'][:7]}…") >= 2 and f"{token['other'][:11]}…" in page
    assert "这些通话是模拟的" in page
    assert "1380000" not in page and "1390000" not in str(figures)


def test_csv_has_the_tables_of_the_report_and_no_formula(office):
    folder, figures = office
    tables = {}
    for path in (folder / "report" / "tables").iterdir():
        assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "a spreadsheet takes it for another encoding"
        with path.open(encoding="utf-8-sig", newline="") as file:
            tables[path.stem] = list(csv.reader(file))
    assert {*figures["tables"], *(f"league_{name}" for name in figures["leagues"])} == tables.keys()
    assert not any(cell[:1] in "=+-@" for lines in tables.values() for line in lines for cell in line if cell)
    assert [line[0] for line in tables["operator"][1:]] == [row["row"] for row in figures["tables"]["operator"]]
    names = [line[1] for line in tables["operator"]]
    assert {"'=示例移动 " + INTAKE.token("operator", "CM")[:7] + "…"} < set(names)


def test_a_regulator_has_its_name_in_the_tables():
    row = {"row": "health", "calls": 20, "before": None, "year_before": None, "people": {}, "splits": {}}
    with language("zh"):
        tables = flat_tables({"names": {}, "leagues": {}, "tables": {"regulator": [row], "industry": [row]}})
    assert [tables[name][0]["name"] for name in ("regulator", "industry")] == ["国家卫生健康委员会", "医疗保健"]


@pytest.mark.source("P10", by="training/oversight/governance/report.py")
def test_a_month_is_compared_with_the_month_and_the_year_before(office):
    folder, figures = office
    assert (figures["now"], figures["before"]) == ("2026-03-01/2026-04-01", "2026-02-01/2026-03-01")
    rows = {figures["names"].get(row["row"]): row for row in figures["tables"]["operator"]}
    assert [rows["示例电信"][name] for name in ("calls", "before", "year_before")] == [40, 20, 80]
    assert [figures["tables"]["all"][0][name] for name in ("calls", "before", "year_before")] == [120, None, 60]
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "同比" in page and "2.0倍" in page and "-50%" in page
    past = pq.read_table(folder / "past.parquet").to_pylist()
    assert [row for row in past if row["period"] != figures["now"]] == sorted(
        (dict(zip(COUNTS, row, strict=True)) for row in EARLIER), key=lambda row: tuple(row.values())
    )
    own = {(row["table"], row["row"]): row["records"] for row in past if row["period"] == figures["now"]}
    assert {name: own["operator", name] for name in ("=示例移动", "示例电信")} == {"=示例移动": 40, "示例电信": 40}
    assert not any("." in row for _, row in own), "a token outlives the calls"


def test_a_file_of_other_counts_is_refused(office, tmp_path):
    pq.write_table(pa.table({"period": ["x"]}), tmp_path / "past.parquet")
    with pytest.raises(ValueError, match=r"^past\.parquet: expected the counts of earlier reports"):
        write_report(office[0] / "data", tmp_path, days=1, until="2026-03-11", least={"callee": 1, "caller": 1},
                     past=tmp_path / "past.parquet", progress=lambda *_: None)  # fmt: skip


def test_an_order_of_rectification_is_open_until_a_recheck_closes_it(
    tmp_path, run_command, command_json, command_error, monkeypatch
):
    monkeypatch.setattr(rectification, "_today", lambda: date(2026, 3, 6))
    person = ("--data", tmp_path, "--person", "p1")
    order = ("govern", "rectification", "order", "示例电信", "--why", "举报率居首", *person)
    assert "--why: expected at most 500" in command_error(*order[:5], "致电 13800138000", *person)
    row = command_json(*order, "--days", "1")
    assert (row["due"], row["state"]) == ("2026-03-09", "open"), "the Monday after"
    assert "has an open order" in command_error(*order)
    days = [date(2026, 3, day) for day in (9, 10)]
    late = lambda: [rectifications(tmp_path / "audit", day)[0]["overdue"] for day in days]
    assert late() == [False, True]
    recheck = ("govern", "rectification", "recheck", "示例电信")
    assert command_json(*recheck, "not-remedied", *person, "--note", "未整改")["state"] == "open"
    assert command_json(*recheck, "remedied", *person)["state"] == "remedied"
    assert "has no open order" in command_error(*recheck, "remedied", *person)
    code, out, _ = run_command("govern", "rectification", "list", "--data", tmp_path, "--json")
    [row] = json.loads(out)["orders"]
    assert code == 0 and [outcome for _, outcome, _ in row["rechecks"]] == ["not-remedied", "remedied"]
    assert late() == [False, False]
    entries = [payload["person"] for _, payload in payloads(tmp_path / "audit", "rectification")]
    assert entries == ["p1"] * 3 and not verify(tmp_path / "audit").faults
