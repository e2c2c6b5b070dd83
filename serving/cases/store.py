"""The store of cases: a verdict's case id leads to its evidence, an appeal, a person's decision, and the unlisting.

    store = CaseStore("sqlite:///cases.db")  # or postgresql+psycopg://...
    take_in(store, folder)  # what a running scorer wrote down
    store.appeal("06f1c0aa54e7b012", "delivery", "", now)
    store.decide("06f1c0aa54e7b012", "overturned", "reviewer-2", "he brings parcels", now)
    publish(store, folder, now)  # the running scorer passes the caller

Safe between processes and threads, whichever database holds it. What a person decided is one transaction: a process
that is killed has decided or has not. `publish_cleared` writes nothing but what the store says, so doing it again
mends what a crash left undone.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
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

from . import queue
from .case_rules import CaseRules, read_case_rules
from .review_order import QueuedAppeal, votes_needed
from .tables import FORMAT, OPEN, OUTCOMES, OVERTURNED, UPHELD, appeals, cases, clearances, decisions, metadata, store

WORDS, WHY = 500, 1000  # characters
DatabaseError = SQLAlchemyError
"""What the database says when it fails."""
_CASE = re.compile(r"[0-9a-f]{16}")
_PERSON = re.compile(r"(?!.*[0-9]{7})[a-z][a-z0-9_.-]{1,63}")
_SEPARATED = re.compile(r"(?<=\d)[\s.()/\-]+(?=\d)")
_PREPARING = 7_216_403  # names the lock under which a PostgreSQL database gets its tables


class CaseError(ValueError):
    """Something that cannot be done to a case; one line that says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """A verdict with its evidence, the appeals against it (oldest first) and what persons said of each."""

    evidence: VerdictRecord
    appeals: tuple[dict[str, Any], ...]


class CaseStore:
    """Cases in a database."""

    def __init__(self, url: str, rules: CaseRules | None = None, *, keep: int | None = None) -> None:
        """Open the store; the first one who does makes its tables.

        Args:
            url: as SQLAlchemy writes it: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.
            keep: milliseconds after which a case is as if it were not there; None is for ever.
        Raises:
            CaseError: if the database is none of ours or cannot be reached; the address is not shown.
        """
        self.rules, self.keep = rules or read_case_rules(), keep
        try:
            address = sa.make_url(url)
            if address.get_backend_name() == "sqlite" and address.database:
                _made(Path(address.database))
            self._engine = sa.create_engine(address, hide_parameters=True)
            if address.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _connected)
                sa.event.listen(self._engine, "begin", _begun)
            self._prepare()
        except (SQLAlchemyError, ImportError) as error:
            raise CaseError(f"store of cases: cannot be opened: {type(error).__name__}") from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that may change rows; writers wait for each other."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def erasing(self) -> Iterator[sa.Connection]:
        """A transaction that erases rows, after which they stand nowhere in SQLite's files.

        Raises:
            CaseError: if somebody reads so long that SQLite's log, in which they stand, cannot be emptied.
        """
        with self.writing() as connection:
            yield connection
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as raw:
                busy, *_ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise CaseError("store of cases: rows are erased, but its log is in use and still has them; try again")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that changes nothing."""
        with self._engine.connect() as connection:
            yield connection

    def find(self, case: str, now: int) -> Case:
        """A case with all that became of it.

        Raises:
            CaseError: if there is none, or it is older than cases are kept.
        """
        with self.reading() as connection:
            found = self._row(connection, case, now)
            told = connection.execute(
                sa.select(appeals).where(appeals.c.caller == found["caller"]).order_by(appeals.c.appeal)
            ).mappings()
            known = [dict(one) for one in told]
            for one in known:
                said = sa.select(decisions).where(decisions.c.appeal == one["appeal"]).order_by(decisions.c.decision)
                one["decisions"] = [dict(voice) for voice in connection.execute(said).mappings()]
        return Case(_evidence(found), tuple(known))

    def appeal(self, case: str, ground: str, words: str, now: int) -> dict[str, Any]:
        """Take an appeal by whom the number of the case belongs to; whoever takes it has made sure of that.

        Returns: the appeal, with the moment by which a person must have decided (`due`).
        Raises:
            CaseError: for a number whose appeal is open, that was unlisted already, or that appeals too often.
        """
        if ground not in self.rules.grounds:
            raise CaseError(f"ground must be one of {', '.join(self.rules.grounds)}")
        without_numbers("words", words, WORDS, least=0)
        with self.writing() as connection:
            found = self._row(connection, case, now)
            caller = found["caller"]
            if caller in _cleared_now(connection, now):
                raise CaseError(f"case {case}: the caller is unlisted already")
            recent = sa.select(sa.func.count()).where(
                appeals.c.caller == caller, appeals.c.at > now - self.rules.limited
            )
            if connection.execute(recent).scalar_one() >= self.rules.per_number:
                days = self.rules.limited / DAY
                raise CaseError(f"case {case}: at most {self.rules.per_number} appeals of a number in {days:g} days")
            told = {
                "case": case, "caller": caller, "at": now, "due": now + self.rules.answer, "ground": ground,
                "words": words, "rules": self.rules.version, "state": OPEN, "needs": 1,
            }  # fmt: skip
            try:
                made = connection.execute(appeals.insert().values(told).returning(appeals.c.appeal))
            except IntegrityError:
                raise CaseError(f"case {case}: an appeal of this caller is open already") from None
            return told | {"appeal": made.scalar_one()}

    def decide(self, case: str, outcome: str, person: str, why: str, now: int) -> dict[str, Any]:
        """Enter what a person decided on the open appeal of a case: the verdict is "upheld" or "overturned".

        Returns: the appeal; its `state` stays "open" while further persons must agree.
        Raises:
            CaseError: if there is no open appeal (another one was quicker), or the person has spoken already.
        """
        if outcome not in OUTCOMES:
            raise CaseError(f"outcome must be one of {', '.join(OUTCOMES)}")
        _check_said(person, why)
        with self.writing() as connection:
            # The update waits for whoever decides at the same moment, and then finds what is left to decide.
            mine = sa.and_(appeals.c.case == case, appeals.c.state == OPEN)
            if not connection.execute(appeals.update().where(mine).values(needs=appeals.c.needs)).rowcount:
                raise CaseError(f"case {case}: no open appeal{self._closed(connection, case)}")
            told = dict(connection.execute(sa.select(appeals).where(mine)).mappings().one())
            spoken = {"appeal": told["appeal"], "person": person, "at": now, "outcome": outcome, "why": why}
            try:
                connection.execute(decisions.insert().values(spoken))
            except IntegrityError:
                raise CaseError(f"case {case}: {person} has decided already; another person must agree") from None
            told["needs"] = votes_needed(queue.group_size(connection, told, self.rules), self.rules)
            if outcome == UPHELD or queue.votes_to_overturn(connection, told["appeal"]) >= told["needs"]:
                told["state"] = outcome
            connection.execute(
                appeals.update().where(appeals.c.appeal == told["appeal"]).values(
                    state=told["state"], needs=told["needs"])
            )  # fmt: skip
            if told["state"] == OVERTURNED:
                self._unlist(connection, told, now)
            return told

    def relist(self, case: str, person: str, why: str, now: int) -> None:
        """End the unlisting of a case's caller, by a person who says why.

        Raises:
            CaseError: if the caller is not unlisted.
        """
        _check_said(person, why)
        with self.writing() as connection:
            caller = self._row(connection, case, now)["caller"]
            ended = connection.execute(
                clearances.update().where(clearances.c.caller == caller, *_in_force(now)).values(
                    ended_at=now, ended_by=person, ended_why=why)
            )  # fmt: skip
            if not ended.rowcount:
                raise CaseError(f"case {case}: its caller is not unlisted")
            connection.execute(store.update().values(generation=store.c.generation + 1))

    def waiting(self, now: int) -> list[QueuedAppeal]:
        """The open appeals, in the order in which a person should look at them (`appeals.order_appeals`)."""
        with self.reading() as connection:
            return queue.open_appeals(connection, self.rules, now)

    def unlisted(self, now: int) -> tuple[int, dict[str, int]]:
        """The store's generation, and until when each caller passes that persons have cleared."""
        with self.reading() as connection:
            # In this order: should another one be cleared in between, the next look finds a new generation.
            generation = connection.execute(sa.select(store.c.generation)).scalar_one()
            return generation, _cleared_now(connection, now)

    def cleared(self) -> list[dict[str, Any]]:
        """Every unlisting there was, oldest first: who must not be learnt from, and since when that is known."""
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(sa.select(clearances).order_by("since")).mappings()]

    def _prepare(self) -> None:
        with self.writing() as connection:
            # Two that open a new store at once would make its tables twice.
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PREPARING)))
            metadata.create_all(connection)
            found = connection.execute(sa.select(store.c.format)).scalar_one_or_none()
            if found is None:
                connection.execute(store.insert().values(format=FORMAT, generation=0))
        if found not in (None, FORMAT):
            raise CaseError(f"store of cases: expected format {FORMAT}, got {found}")

    def _row(self, connection: sa.Connection, case: str, now: int) -> Mapping[str, Any]:
        if not _CASE.fullmatch(case):
            raise CaseError("case must be 16 digits of 0-9 a-f, as a verdict has them")
        wanted = cases.c.case == case
        if self.keep is not None:
            wanted = sa.and_(wanted, cases.c.at > now - self.keep)
        found = connection.execute(sa.select(cases).where(wanted)).mappings().one_or_none()
        if found is None:
            raise CaseError(f"case {case}: not known; either the verdict was pass, or it is older than cases are kept")
        return dict(found)

    def _closed(self, connection: sa.Connection, case: str) -> str:
        last = sa.select(decisions.c.person, decisions.c.outcome).select_from(decisions.join(appeals)).where(
            appeals.c.case == case).order_by(decisions.c.decision.desc()).limit(1)  # fmt: skip
        found = connection.execute(last).one_or_none()
        return f"; {found.person} decided: {found.outcome}" if found else ""

    def _unlist(self, connection: sa.Connection, told: Mapping[str, Any], now: int) -> None:
        row = {"caller": told["caller"], "appeal": told["appeal"], "since": now, "until": now + self.rules.unlisted}
        connection.execute(clearances.insert().values(row))
        connection.execute(store.update().values(generation=store.c.generation + 1))


def _check_said(person: str, why: str) -> None:
    if not _PERSON.fullmatch(person):
        raise CaseError(
            "person must be 2 to 64 of a-z 0-9 _ . - that begin with a letter, without seven digits in a row"
        )
    without_numbers("why", why, WHY, least=3)


def without_numbers(name: str, words: str, most: int, least: int) -> None:
    """Refuse a text that could hold a telephone number, or is too long or too short.

    Raises:
        CaseError: in one line that does not show it.
    """
    plain = _SEPARATED.sub("", unicodedata.normalize("NFKC", words))
    if not least <= len(words) <= most or not words.isprintable():
        raise CaseError(f"{name}: expected {least} to {most} printable characters")
    if re.search(r"\d{7}", plain):
        raise CaseError(f"{name}: expected no telephone number: seven digits in a row may be one")


def _in_force(now: int) -> tuple[Any, ...]:
    return clearances.c.ended_at.is_(None), clearances.c.until > now


def _cleared_now(connection: sa.Connection, now: int) -> dict[str, int]:
    asked = sa.select(clearances.c.caller, sa.func.max(clearances.c.until)).where(*_in_force(now)).group_by(
        clearances.c.caller)  # fmt: skip
    return {row[0]: row[1] for row in connection.execute(asked)}


def _evidence(row: Mapping[str, Any]) -> VerdictRecord:
    plain = {name: row[name] for name in VerdictRecord.__slots__}
    return VerdictRecord(**plain | {name: to_letters(row[name]) for name in ("raw", "vector")})


def _made(path: Path) -> None:
    """An empty SQLite file that only its owner reads, put in its place whole unless there is one.

    Two that open a new file at once must not both switch it to a log of its own: SQLite refuses one of them without
    waiting. Nor may anybody open and close the file by its name: that drops the locks this process holds on it.
    """
    if path.exists():
        return
    try:
        opened, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # only its owner reads it
    except OSError as error:
        raise CaseError(f"{path}: cannot be made: {error.strerror}") from None
    os.close(opened)
    try:
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with suppress(FileExistsError):  # another one was quicker
            os.link(name, path)
    finally:
        Path(name).unlink()


def _connected(connection: Any, _record: object) -> None:
    """SQLite as a store: the driver begins no transaction of its own, a commit is on the disk, erased rows are gone."""
    connection.isolation_level = None
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: sa.Connection) -> None:
    # One that will write asks for it at once: having read first, it could not wait for another writer.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
