"""The internal audit of operators and trunks: exact counts, behind a ticket; tokens of parties become names."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.intake import Intake
from callsieve.serving.batch.register_files import write_registers
from callsieve.training.oversight.governance.party_audit import open_audit, party_rows
from callsieve.training.oversight.log.audit_log import payloads
from callsieve.training.oversight.log.tickets import PARTY_AUDIT
from tests.support import real_bundle
from tests.support.simulated import mark_simulated
from tests.training.oversight.privacy.test_deletion import agreed, gates_file, key, keys_of, log  # noqa: F401 - fixtures

INTAKE = Intake(real_bundle.NUMBER_KEY)
DAY = datetime(2026, 3, 10, 2, tzinfo=UTC)
# trunk, operator, caller, day, answered, attestation
CALLS = [
    ("t-small", "carrier-a", "13800000001", 0, True, "failed"),
    ("t-big", "carrier-a", "13800000002", 0, True, "A"),
    ("t-big", "carrier-a", "13800000002", -1, False, "A"),
    ("t-big", "carrier-b", "13800000003", -8, False, "A"),
    (None, "carrier-b", "13800000004", -7, False, "A"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five calls on two trunks of two operators; one trunk carries one call, and one call is complained about."""
    folder = tmp_path_factory.mktemp("parties")
    mark_simulated(folder)
    rows = sorted(CALLS, key=lambda call: call[3])
    table = {
        "start": pa.array([DAY + timedelta(days=day) for *_, day, _, _ in rows], pa.timestamp("ms", "UTC")),
        "caller": [caller for _, _, caller, *_ in rows],
        "callee": [f"1390000000{i}" for i in range(len(rows))],
        "outcome": ["answered" if answered else "busy" for *_, answered, _ in rows],
        "attestation": [word for *_, word in rows],
        "trunk": [trunk for trunk, *_ in rows],
        "operator": [operator for _, operator, *_ in rows],
    }
    pq.write_table(INTAKE.table(pa.table(table)), folder / "calls.parquet")
    moment = pa.array([DAY + timedelta(hours=1)], pa.timestamp("ms", "UTC"))
    complaint = {"number": [INTAKE.token("number", "13800000001")], "reporter": [INTAKE.token("number", "13900000004")]}
    pq.write_table(pa.table(complaint | {"at": moment, "known_at": moment}), folder / "complaints.parquet")
    entry = {"trunk": INTAKE.token("trunk", "t-small"), "block": INTAKE.token("block", "13800000001")}
    entry |= {"declared_use": "own use", "subject": "示例公司", "access_point": "成都机房"}
    # A later range of the trunk that has ended does not end its entry in the ledger.
    ended = entry | {"block": INTAKE.token("block", "13900000001"), "valid_from": 1000, "valid_to": 2000}
    write_registers(real_bundle.make_registers(trunks=[entry, ended]), folder)
    return folder


@pytest.mark.source("L5", "L7", "L8", "L9", by="training/oversight/governance/party_audit.py")
def test_no_party_is_hidden_and_every_count_is_exact(folder):
    rows = party_rows(open_audit(folder, None, "2026-03-11", 7)).set_index(["kind", "party"])
    party = lambda kind, name: rows.loc[(kind, INTAKE.token(kind, name))]
    assert len(rows) == 3, "carrier-b has no call in the period"
    small, big, carrier = party("trunk", "t-small"), party("trunk", "t-big"), party("operator", "carrier-a")
    assert [small[name] for name in ("subject", "access_point", "declared_use")] == ["示例公司", "成都机房", "own use"]
    names = ["calls", "before", "callers", "callees", "answered_yes", "false_number_yes", "complaints"]
    assert [small[name] for name in names] == [1, 0, 1, 1, 1, 1, 1]
    assert [big[name] for name in names] == [2, 1, 1, 2, 1, 0, 0]
    assert [carrier[name] for name in names] == [3, 0, 2, 3, 2, 1, 1]
    assert big["subject"] is None or big["subject"] != big["subject"]


@pytest.mark.source("L5", "P9", by="training/oversight/log/tickets.py")
@pytest.mark.source("L5", "P9", by="training/oversight/privacy/exports.py")
def test_the_audit_needs_a_ticket_and_its_tokens_become_names(folder, log, key, command_error, run_command, tmp_path):  # noqa: F811
    gates, out = gates_file(log), tmp_path / "parties.parquet"
    request = ("--data", folder, "--purpose", "audit of lines", "--person", "risk", "--until", "2026-03-11")
    words = ("govern", "parties", *request, "--out", out, *keys_of(log), "--gates", gates)
    assert "expected 1 tickets" in command_error(*words) and not out.exists()
    own, other, _ = agreed(run_command, log, "parties", *request)
    assert "cannot agree to it as well" in command_error(*words, *own)
    assert run_command(*words, *other)[0] == 0
    assert pq.read_metadata(out).num_rows == 3
    granted = [entry for _, entry in payloads(log, "access") if "refused" not in entry]
    assert [(entry["act"], entry["count"], len(entry["tickets"])) for entry in granted] == [(PARTY_AUDIT, 5, 1)]

    tokens = [
        INTAKE.token("operator", "carrier-a"),
        INTAKE.token("trunk", "t-small"),
        INTAKE.token("block", "13800000009"),
    ]
    order = (*tokens, "--purpose", "audit of lines", "--person", "risk")
    _, first, second = agreed(run_command, log, "reidentify", *order)
    words = ("privacy", "reidentify", *order, "--key", key, *keys_of(log), "--gates", gates)
    stdin = "carrier-a\ncarrier-b\nt-small\n13800001234\n"
    assert run_command(*words, *first, stdin=stdin)[0] == 1
    code, out_text, _ = run_command(*words, *first, *second, stdin=stdin)
    assert code == 0
    names = ("carrier-a", "t-small", "13800001234")
    assert out_text.splitlines() == [f"{token}\t{name}" for token, name in zip(tokens, names, strict=True)]
