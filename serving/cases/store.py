"""The case store: a case id leads to the record of a verdict, its appeals, decisions, and the caller's clearance.

    store = CaseStore("sqlite:///cases.db")  # or postgresql+psycopg://...
    import_verdicts(store, folder)  # the verdicts that a running scorer has logged
    store.appeal("06f1c0aa54e7b012", "delivery", "", now)
    store.decide("06f1c0aa54e7b012", "overturned", "reviewer-2", "the caller delivers parcels", now)
    publish_cleared(store, folder, now)  # the running scorer passes the caller

Processes and threads can share a database. A decision is one transaction, so a process that is killed has either
decided or not. `publish_cleared` writes only what the store contains, so a repeated call repairs what a crash left
undone.

The review queue orders open appeals by harm. An appeal alone clears no caller; only a reviewer's decision does. A ring
that appeals for all its numbers therefore gains only reviewers' attention, which the order limits. Appeals that share a
block, trunk or device and follow each other closely form a group. A group is ranked by its most harmful member alone.
In a large group, several reviewers must agree before an appeal is overturned.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
except ImportError as error:
    raise ImportError("the store of cases needs SQLAlchemy: pip install 'callsieve[cases]'") from error

from callsieve.features.files.dates import DAY
from callsieve.features.keys.tokens import to_letters
from callsieve.serving.live.verdict_log import VerdictRecord

from .case_rules import CaseRules, read_case_rules
from .tables import (
    FORMAT,
    OPEN,
    OUTCOMES,
    OVERTURNED,
    UPHELD,
    Appeal,
    Clearance,
    Decision,
    appeals,
    cases,
    clearances,
    decisions,
    metadata,
    store,
)

MAX_WORDS, MAX_WHY = 500, 1000  # characters
DatabaseError = SQLAlchemyError
"""The error of a database that fails."""
_CASE = re.compile(r"[0-9a-f]{16}")
_PERSON = re.compile(r"(?!.*[0-9]{7})[a-z][a-z0-9_.-]{1,63}")
_SEPARATORS = re.compile(r"(?<=\d)[\s.()/\-]+(?=\d)")
_PREPARE_LOCK = 7_216_403  # advisory lock under which the tables of a PostgreSQL database are created


class CaseError(ValueError):
    """An action on a case is not possible. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """The record of a verdict, and the appeals of its caller (oldest first), each with its decisions."""

    record: VerdictRecord
    appeals: tuple[Appeal, ...]


class CaseStore:
    """Cases in a database."""

    def __init__(self, url: str, rules: CaseRules | None = None, *, keep: int | None = None) -> None:
        """Opens the store; the first process creates its tables.

        `keep`: milliseconds after which a case is treated as missing; None keeps cases for ever.
        """
        self.rules, self.keep = rules or read_case_rules(), keep
        try:
            address = sa.make_url(url)
            if address.get_backend_name() == "sqlite" and address.database:
                _create_file(Path(address.database))
            self._engine = sa.create_engine(address, hide_parameters=True)
            if address.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _configure_sqlite)
                sa.event.listen(self._engine, "begin", _begin)
            self._prepare()
        except (SQLAlchemyError, ImportError) as error:
            raise CaseError(
                f"store of cases: cannot be opened: {type(error).__name__}; check the URL, the driver and the database"
            ) from None

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Opens a transaction that may change rows. Writers wait for each other."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def erasing(self) -> Iterator[sa.Connection]:
        """Opens a transaction that erases rows. Afterwards SQLite's files no longer contain them."""
        with self.writing() as connection:
            yield connection
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as raw:
                busy, *_ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise CaseError("store of cases: rows are erased, but its log is in use and still has them; try again")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Opens a transaction that only reads."""
        with self._engine.connect() as connection:
            yield connection

    def find(self, case: str, now: int) -> Case:
        """Returns a case. `now` is in Unix ms."""
        with self.reading() as connection:
            record = self._record(connection, case, now)
            query = sa.select(appeals).where(appeals.c.caller == record.caller).order_by(appeals.c.appeal)
            of_caller = [Appeal(**row) for row in connection.execute(query).mappings()]
            chosen = decisions.c.appeal.in_([appeal.appeal for appeal in of_caller])
            ordered = sa.select(decisions).where(chosen).order_by(decisions.c.decision)
            votes = [Decision(**row) for row in connection.execute(ordered).mappings()]
        of_appeal = {a.appeal: tuple(vote for vote in votes if vote.appeal == a.appeal) for a in of_caller}
        return Case(record, tuple(replace(appeal, decisions=of_appeal[appeal.appeal]) for appeal in of_caller))

    def appeal(self, case: str, ground: str, words: str, now: int) -> Appeal:
        """Stores an appeal. The desk has checked that the appellant owns the number of the case. `now`: Unix ms.

        Returns: the appeal; `due` is the moment by which a reviewer must have decided.
        """
        if ground not in self.rules.grounds:
            raise CaseError(f"ground must be one of {', '.join(self.rules.grounds)}")
        check_text("words", words, MAX_WORDS, least=0)
        with self.writing() as connection:
            caller = self._record(connection, case, now).caller
            if caller in _cleared_callers(connection, now):
                raise CaseError(f"case {case}: the caller is cleared already")
            recent = sa.select(sa.func.count()).where(
                appeals.c.caller == caller, appeals.c.at > now - self.rules.appeal_window
            )
            if connection.execute(recent).scalar_one() >= self.rules.limits.per_number:
                limits = self.rules.limits
                raise CaseError(f"case {case}: at most {limits.per_number} appeals of a number in {limits.days:g} days")
            row = {
                "case": case,
                "caller": caller,
                "at": now,
                "due": now + self.rules.answer_time,
                "ground": ground,
                "words": words,
                "rules": self.rules.version,
                "state": OPEN,
                "needs": 1,
            }
            try:
                inserted = connection.execute(appeals.insert().values(row).returning(appeals))
            except IntegrityError:
                raise CaseError(f"case {case}: an appeal of this caller is open already") from None
            return Appeal(**inserted.mappings().one())

    def decide(self, case: str, outcome: str, person: str, why: str, now: int) -> Appeal:
        """Stores a reviewer's decision on the open appeal of a case. `now`: Unix ms.

        Returns: the appeal. Its `state` stays "open" while more reviewers must agree.
        """
        if outcome not in OUTCOMES:
            raise CaseError(f"outcome must be one of {', '.join(OUTCOMES)}")
        _check_reviewer(person, why)
        with self.writing() as connection:
            # The update waits for a decision in another process, and then matches only an appeal that is still open.
            is_open = sa.and_(appeals.c.case == case, appeals.c.state == OPEN)
            if not connection.execute(appeals.update().where(is_open).values(needs=appeals.c.needs)).rowcount:
                raise CaseError(f"case {case}: no open appeal{self._last_decision(connection, case)}")
            appeal = Appeal(**connection.execute(sa.select(appeals).where(is_open)).mappings().one())
            vote = {"appeal": appeal.appeal, "person": person, "at": now, "outcome": outcome, "why": why}
            try:
                connection.execute(decisions.insert().values(vote))
            except IntegrityError:
                raise CaseError(f"case {case}: {person} has decided already; another person must agree") from None
            needs = votes_needed(group_size(connection, appeal.appeal, appeal.at, self.rules), self.rules)
            decided = outcome == UPHELD or votes_to_overturn(connection).get(appeal.appeal, 0) >= needs
            appeal = replace(appeal, needs=needs, state=outcome if decided else OPEN)
            changed = appeals.update().where(appeals.c.appeal == appeal.appeal)
            connection.execute(changed.values(state=appeal.state, needs=appeal.needs))
            if appeal.state == OVERTURNED:
                until = now + self.rules.clearance
                row = {"caller": appeal.caller, "appeal": appeal.appeal, "since": now, "until": until}
                connection.execute(clearances.insert().values(row))
                connection.execute(store.update().values(generation=store.c.generation + 1))
            return appeal

    def end_clearance(self, case: str, person: str, why: str, now: int) -> None:
        """Ends the clearance of a case's caller, by a reviewer who gives a reason. `now` is in Unix ms."""
        _check_reviewer(person, why)
        with self.writing() as connection:
            caller = self._record(connection, case, now).caller
            current = clearances.update().where(clearances.c.caller == caller, *_in_force(now))
            ended = connection.execute(current.values(ended_at=now, ended_by=person, ended_why=why))
            if not ended.rowcount:
                raise CaseError(f"case {case}: its caller is not cleared")
            connection.execute(store.update().values(generation=store.c.generation + 1))

    def open_appeals(self, now: int) -> list[QueuedAppeal]:
        """Returns the open appeals in the order of review. `now` is in Unix ms."""
        with self.reading() as connection:
            return open_appeals(connection, self.rules, now)

    def cleared_callers(self, now: int) -> tuple[int, dict[str, int]]:
        """Returns the store's generation, and until when (Unix ms) each cleared caller passes."""
        with self.reading() as connection:
            # Read in this order: after a clearance in between, the next call returns a new generation.
            generation = connection.execute(sa.select(store.c.generation)).scalar_one()
            return generation, _cleared_callers(connection, now)

    def clearances(self) -> list[Clearance]:
        """Returns every clearance, oldest first. A training must not learn from the calls of these callers."""
        with self.reading() as connection:
            return [Clearance(**row) for row in connection.execute(sa.select(clearances).order_by("since")).mappings()]

    def _prepare(self) -> None:
        with self.writing() as connection:
            # Two processes that open a new store at once would both create its tables.
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PREPARE_LOCK)))
            metadata.create_all(connection)
            version = connection.execute(sa.select(store.c.format)).scalar_one_or_none()
            if version is None:
                connection.execute(store.insert().values(format=FORMAT, generation=0))
        if version not in (None, FORMAT):
            raise CaseError(f"store of cases: expected format {FORMAT}, got {version}; use the version that made it")

    def _record(self, connection: sa.Connection, case: str, now: int) -> VerdictRecord:
        if not _CASE.fullmatch(case):
            raise CaseError("case must be 16 digits of 0-9 a-f, as a verdict has them")
        condition = cases.c.case == case
        if self.keep is not None:
            condition = sa.and_(condition, cases.c.at > now - self.keep)
        row = connection.execute(sa.select(cases).where(condition)).mappings().one_or_none()
        if row is None:
            raise CaseError(f"case {case}: not known; either the verdict was pass, or it is past its retention time")
        plain: dict[str, Any] = {name: row[name] for name in VerdictRecord.__slots__}
        return VerdictRecord(**plain | {name: to_letters(row[name]) for name in ("raw", "vector")})

    def _last_decision(self, connection: sa.Connection, case: str) -> str:
        votes = sa.select(decisions.c.person, decisions.c.outcome).select_from(decisions.join(appeals))
        newest_first = votes.where(appeals.c.case == case).order_by(decisions.c.decision.desc())
        last = connection.execute(newest_first.limit(1)).one_or_none()
        return f"; {last.person} decided: {last.outcome}" if last else ""


def _check_reviewer(person: str, why: str) -> None:
    if not _PERSON.fullmatch(person):
        raise CaseError(
            "person must be 2 to 64 of a-z 0-9 _ . - that begin with a letter, without seven digits in a row"
        )
    check_text("why", why, MAX_WHY, least=3)


def check_text(name: str, text: str, most: int, least: int) -> None:
    """Checks that a text has `least` to `most` printable characters and cannot contain a phone number."""
    plain = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text))
    if not least <= len(text) <= most or not text.isprintable():
        raise CaseError(f"{name}: expected {least} to {most} printable characters")
    if re.search(r"\d{7}", plain):
        raise CaseError(f"{name}: expected no telephone number: seven digits in a row may be one")


def _in_force(now: int) -> tuple[Any, ...]:
    return clearances.c.ended_at.is_(None), clearances.c.until > now


def _cleared_callers(connection: sa.Connection, now: int) -> dict[str, int]:
    until = sa.select(clearances.c.caller, sa.func.max(clearances.c.until)).where(*_in_force(now))
    return {row[0]: row[1] for row in connection.execute(until.group_by(clearances.c.caller))}


def _create_file(path: Path) -> None:
    """Creates an empty SQLite file that only its owner can read, whole, unless the file exists.

    If two processes open a new file at once, both would switch it to a write-ahead log, and SQLite refuses one of them
    without waiting. So the file is prepared under a temporary name and linked. The final name is never opened and
    closed here: that would drop the locks that this process holds on the file.
    """
    if path.exists():
        return
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # only its owner can read it
    except OSError as error:
        raise CaseError(f"{path}: cannot be created: {error.strerror}") from None
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with suppress(FileExistsError):  # another process was quicker
            os.link(name, path)
    finally:
        Path(name).unlink()


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A writer locks at the start: after a read it could not wait for another writer.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


@dataclass(frozen=True, slots=True)
class LinkedAppeal:
    """An appeal, and what links it to others: the block, trunk and device of its case."""

    appeal: int
    case: str
    caller: str
    at: int
    due: int
    state: str
    block: str
    trunk: str | None
    device: str | None


@dataclass(frozen=True, slots=True)
class QueuedAppeal:
    """An open appeal in the review queue.

    Attributes:
        appeal: id of the appeal.
        case: id of the case.
        at, due: when it was made, and by when it must be decided (Unix ms).
        overdue: whether `due` has passed.
        harm: the caller's recent cases, weighted by action and by the model's uncertainty.
        group: id of the group, equal for all its members.
        members: number of appeals in the group, decided ones included.
        needs: number of reviewers who must agree before it is overturned.
        voices: number of reviewers who decided to overturn it.
    """

    appeal: int
    case: str
    at: int
    due: int
    overdue: bool
    harm: float
    group: int
    members: int
    needs: int
    voices: int


def open_appeals(connection: sa.Connection, rules: CaseRules, now: int) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review. `now` is in Unix ms."""
    first = connection.execute(sa.select(sa.func.min(appeals.c.at)).where(appeals.c.state == OPEN)).scalar()
    if first is None:
        return []
    recent = _appeals_since(connection, first - rules.group_gap)
    return order_appeals(recent, _harm(connection, rules, now), votes_to_overturn(connection), rules, now)


def group_size(connection: sa.Connection, appeal: int, at: int, rules: CaseRules) -> int:
    """Returns the number of appeals in the group of an appeal that was made at a moment (Unix ms)."""
    groups = group_appeals(_appeals_since(connection, at - 2 * rules.group_gap), rules)
    return list(groups.values()).count(groups[appeal])


def _appeals_since(connection: sa.Connection, moment: int) -> list[LinkedAppeal]:
    of_appeal = (appeals.c[name] for name in ("appeal", "case", "caller", "at", "due", "state"))
    query = sa.select(*of_appeal, cases.c.block, cases.c.trunk, cases.c.device).select_from(appeals.join(cases))
    return [LinkedAppeal(**row) for row in connection.execute(query.where(appeals.c.at >= moment)).mappings()]


def votes_to_overturn(connection: sa.Connection) -> dict[int, int]:
    """Returns the number of reviewers who decided to overturn, by appeal."""
    votes = sa.select(decisions.c.appeal, sa.func.count()).where(decisions.c.outcome == OVERTURNED)
    return {row[0]: row[1] for row in connection.execute(votes.group_by(decisions.c.appeal))}


def _harm(connection: sa.Connection, rules: CaseRules, now: int) -> dict[str, float]:
    """Returns the harm of each caller with an open appeal: its recent cases, weighted by action and by the model's
    uncertainty.
    """
    uncertainty = sa.func.sum(1.0 - sa.func.coalesce(cases.c.score, 0.5))
    appealing = sa.select(appeals.c.caller).where(appeals.c.state == OPEN)
    recent = sa.and_(cases.c.at > now - round(DAY * rules.harm.days), cases.c.caller.in_(appealing))
    query = sa.select(cases.c.caller, cases.c.action, uncertainty).where(recent)
    harm: dict[str, float] = {}
    for caller, action, amount in connection.execute(query.group_by(cases.c.caller, cases.c.action)):
        harm[caller] = harm.get(caller, 0.0) + getattr(rules.harm, action, 0.0) * float(amount)
    return harm


def order_appeals(
    appeals: Sequence[LinkedAppeal], harm: Mapping[str, float], votes: Mapping[int, int], rules: CaseRules, now: int
) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review.

    Groups with an overdue member come first, then groups whose most harmful member does more harm.

    `now`: Unix ms.
    """
    groups = group_appeals(appeals, rules)
    sizes = Counter(groups.values())
    queued = [
        QueuedAppeal(
            appeal=row.appeal,
            case=row.case,
            at=row.at,
            due=row.due,
            overdue=now > row.due,
            harm=harm.get(row.caller, 0.0),
            group=groups[row.appeal],
            members=sizes[groups[row.appeal]],
            needs=votes_needed(sizes[groups[row.appeal]], rules),
            voices=votes.get(row.appeal, 0),
        )
        for row in appeals
        if row.state == OPEN
    ]
    overdue = {appeal.group for appeal in queued if appeal.overdue}
    most_harm: dict[int, float] = {}
    for appeal in queued:
        most_harm[appeal.group] = max(most_harm.get(appeal.group, 0.0), appeal.harm)

    def rank(appeal: QueuedAppeal) -> tuple[bool, float, int, float, int]:
        return (appeal.group not in overdue, -most_harm[appeal.group], appeal.group, -appeal.harm, appeal.appeal)

    return sorted(queued, key=rank)


def votes_needed(members: int, rules: CaseRules) -> int:
    """Returns the number of reviewers who must agree before an appeal of a group of this size is overturned."""
    return rules.together.persons if members >= rules.together.crowd else 1


def group_appeals(appeals: Iterable[LinkedAppeal], rules: CaseRules) -> dict[int, int]:
    """Returns the group of each appeal, named by its first member.

    Two appeals belong to one group if they share a link and follow each other within `rules.group_gap`, directly or
    through other appeals.
    """
    ordered = sorted(appeals, key=lambda row: (row.at, row.appeal))
    parent = {row.appeal: row.appeal for row in ordered}
    latest: dict[tuple[str, str], LinkedAppeal] = {}
    for row in ordered:
        for link in rules.together.links:
            token = getattr(row, link)
            if token is None:
                continue
            before = latest.get((link, token))
            if before is not None and row.at - before.at <= rules.group_gap:
                first, second = sorted((_root(parent, before.appeal), _root(parent, row.appeal)))
                parent[second] = first
            latest[link, token] = row
    return {appeal: _root(parent, appeal) for appeal in parent}


def _root(parent: dict[int, int], appeal: int) -> int:
    while parent[appeal] != appeal:
        parent[appeal] = parent[parent[appeal]]
        appeal = parent[appeal]
    return appeal
