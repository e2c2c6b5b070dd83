"""The tables of the case store in SQLAlchemy Core, one form for SQLite and PostgreSQL.

Moments are in Unix ms. Callers, blocks, trunks and devices are tokens; called numbers are not stored. The tables
themselves enforce two rules, so that no race can break them: one open appeal per caller, and one decision per reviewer
and appeal.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

FORMAT = 5
OPEN, UPHELD, OVERTURNED = "open", "upheld", "overturned"
OUTCOMES = (UPHELD, OVERTURNED)

metadata = MetaData()

store = Table(
    "callsieve_store",
    metadata,
    Column("format", Integer, primary_key=True),
    Column("generation", BigInteger, nullable=False),  # grows with every change of the cleared callers
)

cases = Table(
    "callsieve_cases",
    metadata,
    Column("case", String(16), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("caller", String(64), nullable=False),
    Column("block", String(64), nullable=False),
    Column("trunk", String(64)),
    Column("device", String(64)),
    Column("model", String(64), nullable=False),
    Column("catalogue", String(64), nullable=False),
    Column("policy", String(256), nullable=False),
    Column("action", String(16), nullable=False),
    Column("band", String(64), nullable=False),
    Column("status", String(256), nullable=False),
    Column("score", Float),
    Column("raw", LargeBinary, nullable=False),  # float64, little-endian
    Column("content", String(64)),
    Column("mode", String(64)),
    Column("reasons", JSON, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("feed", String(64), nullable=False),
    Column("shift", Float, nullable=False),
    Index("callsieve_cases_caller", "caller", "at"),
    Index("callsieve_cases_at", "at"),
)

appeals = Table(
    "callsieve_appeals",
    metadata,
    Column("appeal", Integer, primary_key=True, autoincrement=True),
    Column("case", String(16), ForeignKey("callsieve_cases.case"), nullable=False),
    Column("caller", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("ground", String(32), nullable=False),
    Column("words", String(500), nullable=False),
    Column("rules", String(256), nullable=False),  # version of `cases.toml`
    Column("state", String(16), nullable=False),
    Column("needs", Integer, nullable=False),  # reviewers who must agree before it is overturned, as last counted
    CheckConstraint("state in ('open', 'upheld', 'overturned')"),
    Index("callsieve_appeals_case", "case"),
    Index("callsieve_appeals_at", "at"),
    Index(
        "callsieve_one_open_appeal",
        "caller",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

decisions = Table(
    "callsieve_decisions",
    metadata,
    Column("decision", Integer, primary_key=True, autoincrement=True),
    Column("appeal", Integer, ForeignKey("callsieve_appeals.appeal", ondelete="CASCADE"), nullable=False),
    Column("person", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("why", String(1000), nullable=False),
    UniqueConstraint("appeal", "person"),
    CheckConstraint("outcome in ('upheld', 'overturned')"),
)

clearances = Table(
    "callsieve_clearances",
    metadata,
    Column("clearance", Integer, primary_key=True, autoincrement=True),
    Column("caller", String(64), nullable=False, index=True),
    Column("appeal", Integer, nullable=False, unique=True),  # the row stays when the appeal is erased
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("ended_by", String(64)),
    Column("ended_why", String(1000)),
)

log_positions = Table(
    "callsieve_followed",
    metadata,
    Column("source", String(64), primary_key=True),  # name of a scorer's folder
    Column("number", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A reviewer's decision: a row of `decisions`."""

    decision: int
    appeal: int
    person: str
    at: int
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class Appeal:
    """A row of `appeals`, and the decisions on it, oldest first."""

    appeal: int
    case: str
    caller: str
    at: int
    due: int
    ground: str
    words: str
    rules: str
    state: str
    needs: int
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Clearance:
    """A row of `clearances`; `ended_at` is None unless a reviewer ended it."""

    clearance: int
    caller: str
    appeal: int
    since: int
    until: int
    ended_at: int | None
    ended_by: str | None
    ended_why: str | None
