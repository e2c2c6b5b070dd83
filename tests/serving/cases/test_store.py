"""The case store on SQLite and PostgreSQL: round trips, concurrent decisions, and a process that is killed."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.files.dates import DAY, HOUR
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.cases.erasure import erase_before, erase_subject
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.notice import LANGUAGES, notice
from callsieve.serving.cases.store import (
    CaseError,
    CaseStore,
    DatabaseError,
    LinkedAppeal,
    group_appeals,
    order_appeals,
    votes_needed,
)
from callsieve.serving.live.cleared_callers import FILE, read_cleared
from callsieve.serving.live.journal import Journal, file_path, seal
from callsieve.serving.live.verdict_log import (
    VERDICTS,
    Position,
    VerdictRecord,
    floats_to_letters,
    letters_to_floats,
    read_after,
    record_from_line,
    record_to_line,
)
from tests.support.errors import refused
from tests.support.servers.postgres import postgres_cluster

RULES = read_case_rules()
NOW = 1_772_500_000_000
WHY = "she brings parcels"


def example_record(n=1, caller=None, **more):
    """Returns a made-up verdict record; case and caller differ for each n."""
    reason = {"feature": "out_calls_count_1h", "value": 41.0, "contribution": 0.1 + 0.2}
    reason |= {"en": "calls: 41", "zh": "呼叫：41"}
    whole = {
        "case": f"{n:016x}", "at": NOW - HOUR, "caller": caller or f"e1.caller{n}",
        "block": f"e1.block{n}", "trunk": None, "device": None, "model": "m" * 12, "catalogue": "c" * 64, "policy": "1",
        "action": "label", "band": "certified", "status": "scored", "score": 0.9, "raw": floats_to_letters([0.1 + 0.2]),
        "content": None, "mode": "robot", "reasons": [reason], "rules": [],
        "vector": floats_to_letters([0.1, float("nan"), -0.0, float("inf")]),
    }  # fmt: skip
    return VerdictRecord(**whole | more)


def fill(store, folder, *records):
    """Writes records as a scorer does and imports them into the store; returns the number of imported records."""
    folder.mkdir(exist_ok=True)
    journal = Journal(folder, VERDICTS).start()
    for record in records:
        journal.add(record_to_line(record))
    journal.close()
    return import_verdicts(store, folder)


BOTH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def database():
    with postgres_cluster() as url:
        yield url


@pytest.fixture
def url(request, tmp_path):
    """The URL of a new store: SQLite, unless the test is parametrized."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/cases.db"
    import psycopg

    base = request.getfixturevalue("database")
    name = f"cases_{os.urandom(4).hex()}"
    with psycopg.connect(base.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return base.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def store(url):
    case_store = CaseStore(url, RULES)
    yield case_store
    case_store.close()


@pytest.mark.system
@pytest.mark.source("L17", "L32", by="serving/cases/store.py")
@BOTH
def test_records_survive_a_round_trip_bit_for_bit(store, tmp_path):
    record = example_record(trunk="e1.trunk", device="e1.device", score=None, content="loans")
    assert fill(store, tmp_path / "state", record) == 1
    copy = store.find(record.case, NOW).record
    assert copy == record
    assert floats_to_letters(letters_to_floats(copy.vector)) == record.vector
    with pytest.raises(CaseError, match="not known"):
        store.find("f" * 16, NOW)
    with pytest.raises(CaseError, match="16 digits"):
        store.find("13800138000", NOW)


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"1", b"{}", record_to_line(example_record(vector=floats_to_letters([0.0] * 3)[:-4]))]
)
def test_an_invalid_line_is_no_record(line):
    assert record_from_line(record_to_line(example_record())) == example_record()
    assert record_from_line(line) is None


@BOTH
def test_each_line_is_imported_once_and_torn_lines_wait(store, tmp_path):
    folder = tmp_path / "state"
    assert fill(store, folder, *(example_record(n) for n in range(1, 1200))) == 1199
    assert import_verdicts(store, folder) == 0
    assert fill(store, folder, example_record(1), example_record(2000)) == 2  # a new process, a new file
    assert [path.name for path in folder.glob("cases-*")] == ["cases-00000002.log"]
    whole = file_path(folder, VERDICTS, 2)
    line = whole.read_bytes()
    with whole.open("ab") as file:
        file.write(line[:100])
    assert import_verdicts(store, folder) == 0
    with whole.open("ab") as file:
        file.write(line[100:].partition(b"\n")[0] + b"\n" + b"damaged 00000000\n")
    assert import_verdicts(store, folder) == 1
    assert store.find(f"{1199:016x}", NOW).record.caller == "e1.caller1199"


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=8), st.integers(1, 3))
def test_the_importer_sees_every_line_in_order(sizes, most):
    with tempfile.TemporaryDirectory() as name:
        folder, number = Path(name), 0
        for place, size in enumerate(sizes):
            lines = []
            for _ in range(size):
                number += 1
                lines.append(seal(record_to_line(example_record(number))))
            file_path(folder, VERDICTS, place + 1).write_bytes(b"".join(lines) + b"torn")
        cases, position = [], Position()
        for _ in range(2 * number + len(sizes) + 2):
            records, position = read_after(folder, position, most)
            cases += [int(record.case, 16) for record in records]
        assert cases == list(range(1, number + 1))


@BOTH
def test_an_overturned_appeal_clears_the_caller_until_the_clearance_ends(store, tmp_path):
    folder = tmp_path / "state"
    fill(store, folder, example_record(1), example_record(2, caller="e1.caller1"), example_record(3))
    case = f"{1:016x}"
    appeal = store.appeal(case, "delivery", "I bring parcels", NOW)
    assert appeal.due == NOW + RULES.answer_time
    with pytest.raises(CaseError, match="open already"):
        store.appeal(f"{2:016x}", "delivery", "", NOW)  # another case of the same caller
    assert store.cleared_callers(NOW) == (0, {})
    decided = store.decide(case, "overturned", "reviewer-1", WHY, NOW + 5)
    assert decided.state == "overturned"
    until = {"e1.caller1": NOW + 5 + RULES.clearance}
    assert store.cleared_callers(NOW + 6) == (1, until)
    assert store.cleared_callers(NOW + 6 + RULES.clearance) == (1, {})
    assert publish_cleared(store, folder, NOW + 6) and not publish_cleared(store, folder, NOW + 6)
    assert read_cleared(folder / FILE) == until
    with pytest.raises(CaseError, match="cleared already"):
        store.appeal(case, "other", "", NOW + 10)
    with pytest.raises(CaseError, match="no open appeal; reviewer-1 decided: overturned"):
        store.decide(case, "upheld", "reviewer-2", WHY, NOW + 10)
    (decision,) = store.find(case, NOW).appeals[0].decisions
    assert (decision.person, decision.outcome, decision.why) == ("reviewer-1", "overturned", WHY)
    assert decision.at == NOW + 5
    assert [(row.caller, row.since) for row in store.clearances()] == [("e1.caller1", NOW + 5)]
    store.end_clearance(case, "reviewer-2", "the number was sold", NOW + 20)
    assert store.cleared_callers(NOW + 21) == (2, {})
    assert publish_cleared(store, folder, NOW + 21)
    assert read_cleared(folder / FILE) == {}
    with pytest.raises(CaseError, match="not cleared"):
        store.end_clearance(case, "reviewer-2", "again", NOW + 22)


def test_an_upheld_verdict_clears_no_caller_and_appeals_are_limited(store, tmp_path):
    fill(store, tmp_path / "state", example_record(1))
    case = f"{1:016x}"
    for n in range(RULES.limits.per_number):
        store.appeal(case, "other", "", NOW + n)
        store.decide(case, "upheld", "reviewer-1", "calls of one minute, all day", NOW + n)
    assert store.cleared_callers(NOW) == (0, {})
    with pytest.raises(CaseError, match=f"at most {RULES.limits.per_number} appeals of a number in 30 days"):
        store.appeal(case, "other", "", NOW + 9)
    store.appeal(case, "other", "", NOW + RULES.appeal_window + 9)


WORDS = ("call me: 13800138000", "138 0013 8000", "１３８００１３８０００", "138-0013-8000", "line\nbreak", "x" * 501)


def test_texts_with_a_phone_number_are_refused(store, tmp_path):
    fill(store, tmp_path / "state", example_record(1))
    for words in WORDS:
        with pytest.raises(CaseError) as error:
            store.appeal(f"{1:016x}", "other", words, NOW)
        assert words not in str(error.value)
    store.appeal(f"{1:016x}", "other", "", NOW)
    for words in WORDS:
        with pytest.raises(CaseError):
            store.decide(f"{1:016x}", "upheld", "reviewer-1", words * 2, NOW)
    assert store.find(f"{1:016x}", NOW).appeals[0].state == "open"


def test_expired_cases_are_treated_as_missing(store, url, tmp_path):
    fill(store, tmp_path / "state", example_record(1))
    later = CaseStore(url, RULES, keep=30 * DAY)
    assert later.find(f"{1:016x}", NOW + 29 * DAY)
    with pytest.raises(CaseError, match="past its retention time"):
        later.find(f"{1:016x}", NOW + 31 * DAY)
    later.close()


@BOTH
def test_one_of_many_concurrent_decisions_wins(store, tmp_path):
    """Twenty threads with a connection each try to decide one appeal with opposite outcomes."""
    fill(store, tmp_path / "state", example_record(1))
    case = f"{1:016x}"
    store.appeal(case, "other", "", NOW)
    won, lost = [], []
    gate = threading.Barrier(20)

    def decide(n):
        gate.wait()
        try:
            won.append(store.decide(case, ("upheld", "overturned")[n % 2], f"reviewer-{n}", WHY, NOW).state)
        except CaseError as error:
            lost.append(str(error))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(decide, range(20)))
    assert len(won) == 1 and len(lost) == 19
    assert all("no open appeal" in line for line in lost)
    appeal = store.find(case, NOW).appeals[0]
    assert appeal.state == won[0]
    assert len(appeal.decisions) == 1
    assert len(store.cleared_callers(NOW)[1]) == (won[0] == "overturned")


def test_the_tables_refuse_other_states(store, tmp_path):
    fill(store, tmp_path / "state", example_record(1))
    store.appeal(f"{1:016x}", "other", "", NOW)
    with pytest.raises(DatabaseError), store.writing() as connection:
        connection.exec_driver_sql("UPDATE callsieve_appeals SET state = 'forgotten'")
    assert store.find(f"{1:016x}", NOW).appeals[0].state == "open"


@BOTH
def test_concurrent_appeals_of_one_number_become_one(store, tmp_path):
    fill(store, tmp_path / "state", *(example_record(n, caller="e1.same") for n in range(1, 9)))
    appeals, gate = [], threading.Barrier(8)

    def appeal(n):
        gate.wait()
        try:
            appeals.append(store.appeal(f"{n:016x}", "other", "", NOW))
        except CaseError as error:
            assert "open already" in str(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(appeal, range(1, 9)))
    assert len(appeals) == 1


DECIDER = """
import sys, time
from callsieve.serving.cases.store import CaseStore
store = CaseStore(sys.argv[1])
print("ready", flush=True)
for n in range(1, 10_000):
    store.decide(f"{n:016x}", "overturned", "reviewer-1", "kill me while I decide", 1_772_500_000_000)
    print(n, flush=True)
"""


@pytest.mark.system
@BOTH
def test_a_killed_process_leaves_whole_decisions(store, url, tmp_path):
    fill(store, tmp_path / "state", *(example_record(n) for n in range(1, 60)))
    for n in range(1, 60):
        store.appeal(f"{n:016x}", "other", "", NOW)
    process = subprocess.Popen([sys.executable, "-c", DECIDER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(8):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    printed = 8 + len(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()
    assert printed < 59
    again = CaseStore(url)
    appeals = [again.find(f"{n:016x}", NOW).appeals[0] for n in range(1, 60)]
    overturned = [appeal.caller for appeal in appeals if appeal.state == "overturned"]
    assert printed <= len(overturned) <= printed + 1  # it may be killed between a decision and its print
    assert all(bool(appeal.decisions) == (appeal.state == "overturned") for appeal in appeals)
    generation, until = again.cleared_callers(NOW)
    assert sorted(until) == sorted(overturned)
    assert generation == len(overturned)
    # The killed process published nothing; the next publication has all clearances.
    assert publish_cleared(again, tmp_path / "state", NOW)
    assert read_cleared(tmp_path / "state" / FILE) == until
    again.close()


@BOTH
def test_a_store_can_be_opened_concurrently(url):
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: CaseStore(url), range(4)))
    assert [store.cleared_callers(NOW) for store in stores] == [(0, {})] * 4
    for store in stores:
        store.close()


@pytest.mark.system
def test_a_new_file_can_be_opened_concurrently(tmp_path):
    """Two hundred attempts, because the race failed about once in a hundred."""
    with ThreadPoolExecutor(4) as threads:
        for place in range(200):
            folder = tmp_path / str(place)
            folder.mkdir()
            for store in threads.map(CaseStore, [f"sqlite:///{folder}/cases.db"] * 4):
                store.close()
            assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("cases.db", 0o600)]


def test_opening_a_store_again_drops_no_lock_of_its_file(tmp_path):
    """Without these locks another process may treat the store as closed and delete its write-ahead log."""
    file = tmp_path / "cases.db"
    first, second = CaseStore(f"sqlite:///{file}"), CaseStore(f"sqlite:///{file}")
    lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    run = subprocess.run([sys.executable, "-c", lock, file], check=False, capture_output=True, text=True)
    assert "BlockingIOError" in run.stderr
    first.close()
    second.close()
    subprocess.run([sys.executable, "-c", lock, file], check=True)


@pytest.mark.system
@BOTH
def test_a_ring_that_appeals_in_bulk_gains_nothing(store, tmp_path):
    """Fifty numbers of one device form one group, which needs two reviewers and does not delay a courier's appeal."""
    folder = tmp_path / "state"
    ring = [example_record(n, device="e1.farm", score=0.99) for n in range(1, 51)]
    busy = [example_record(1000 + n, caller=f"e1.caller{n}", device="e1.farm", score=0.99) for n in range(1, 51)]
    courier = [example_record(5000 + n, caller="e1.courier", score=0.9) for n in range(12)]
    fill(store, folder, *ring, *busy, *courier)
    for place, record in enumerate(ring):
        store.appeal(record.case, "business", "we are honest", NOW + place)
    store.appeal(courier[0].case, "delivery", "", NOW + 300)
    assert store.cleared_callers(NOW + 400) == (0, {})  # an appeal alone clears no caller
    waiting = store.open_appeals(NOW + 400)
    assert waiting[0].case == courier[0].case  # 12 calls at 0.9 do more harm than 2 at 0.99
    assert (waiting[0].members, waiting[0].needs) == (1, 1)
    grouped = {(appeal.group, appeal.members, appeal.needs) for appeal in waiting[1:]}
    assert grouped == {(waiting[1].group, 50, RULES.together.persons)}
    # One tired person overturns all of them: nothing happens.
    for record in ring:
        assert store.decide(record.case, "overturned", "tired", "looks fine", NOW + 400).state == "open"
        with pytest.raises(CaseError, match="tired has decided already; another person must agree"):
            store.decide(record.case, "overturned", "tired", "looks fine", NOW + 400)
    assert store.cleared_callers(NOW + 400) == (0, {})
    assert {appeal.voices for appeal in store.open_appeals(NOW + 400)} == {0, 1}
    # A second person looks closer. If two persons differ, the verdict is upheld.
    assert store.decide(ring[0].case, "upheld", "awake", "one device, fifty numbers", NOW + 401).state == "upheld"
    for case, person, why in ((ring[1].case, "awake", "his own number, misused"), (courier[0].case, "tired", WHY)):
        assert store.decide(case, "overturned", person, why, NOW + 402).state == "overturned"
    assert set(store.cleared_callers(NOW + 404)[1]) == {"e1.caller2", "e1.courier"}


def appeal_row(n, at, **links):
    whole = {"case": f"c{n}", "caller": f"n{n}", "due": at, "block": f"b{n}", "trunk": None, "device": None}
    return LinkedAppeal(appeal=n, at=at, state="open", **whole | links)


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from("abc"), st.sampled_from([None, "t"])), max_size=12))
def test_groups_are_the_transitive_closure_of_linked_pairs(drawn):
    """The oracle joins pairs that share a link within the permitted gap, until nothing changes."""
    rows = [appeal_row(n, at * HOUR, block=block, trunk=trunk) for n, (at, block, trunk) in enumerate(drawn)]
    group = {row.appeal: row.appeal for row in rows}
    changed = True
    while changed:
        changed = False
        for row in rows:
            for other in rows:
                linked = any(
                    getattr(row, link) is not None and getattr(row, link) == getattr(other, link)
                    for link in RULES.together.links
                )
                if linked and abs(row.at - other.at) <= RULES.group_gap:
                    least = min(group[row.appeal], group[other.appeal])
                    changed |= {group[row.appeal], group[other.appeal]} != {least}
                    group[row.appeal] = group[other.appeal] = least
    groups = group_appeals(rows, RULES)
    assert {frozenset(n for n in group if group[n] == root) for root in group.values()} == {
        frozenset(n for n in groups if groups[n] == root) for root in groups.values()
    }


def test_overdue_appeals_come_first():
    rows = [appeal_row(n, NOW + n, due=NOW + 100 * (3 - n)) for n in range(3)]
    ordered = order_appeals(rows, {"n0": 1.0, "n1": 5.0, "n2": 3.0}, {}, RULES, NOW + 150)
    assert [appeal.appeal for appeal in ordered] == [2, 1, 0]  # overdue; then by harm
    assert [votes_needed(n, RULES) for n in (1, RULES.together.crowd - 1, RULES.together.crowd)] == [
        1,
        1,
        RULES.together.persons,
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_notices_have_no_technical_terms_and_short_sentences(language, tmp_path):
    store = CaseStore(f"sqlite:///{tmp_path}/cases.db", RULES)
    fill(store, tmp_path / "state", example_record(1, action="block"))
    case = f"{1:016x}"
    texts = [notice(store.find(case, NOW), RULES, language)]
    store.appeal(case, "delivery", "", NOW)
    texts.append(notice(store.find(case, NOW), RULES, language))
    store.decide(case, "overturned", "reviewer-1", WHY, NOW + HOUR)
    texts.append(notice(store.find(case, NOW), RULES, language))
    moments = {"en": ("3 March 2026 at 08:06", "4 March 2026 at 09:06", "3 March 2026 at 10:06"),
               "zh": ("2026年3月3日08:06", "2026年3月4日09:06", "2026年3月3日10:06")}[language]  # fmt: skip
    reason = {"en": "calls: 41", "zh": "呼叫：41"}[language]
    for text, moment in zip(texts, moments, strict=True):
        assert case in text and reason in text and moment in text
        # No technical word, token, score or name of a reviewer.
        for word in ("e1.", "score", "raw", "model", "band", "out_calls", "None", "0.9", "reviewer", "{", "nan"):
            assert word not in text
        for sentence in text.replace("\n", ". ").split(". "):
            assert len(sentence.split()) <= 22, sentence
    assert WHY in texts[2] and WHY not in texts[1]
    store.close()
    with pytest.raises(ValueError, match=r"language must be one of .*, got 'fr'"):
        notice(None, RULES, "fr")


def test_erased_rows_leave_no_trace_in_the_files_of_an_open_store(tmp_path):
    """SQLite overwrites erased rows in its file and in its log."""
    where = tmp_path / "cases.db"
    served, store = CaseStore(f"sqlite:///{where}"), CaseStore(f"sqlite:///{where}")
    for n, erase in enumerate((lambda: erase_before(store, NOW + 1), lambda: erase_subject(store, "e1.pppppppp", NOW))):
        fill(served, tmp_path / "state", example_record(1 + n, caller="e1.pppppppp"))
        assert b"pppppppp" in stored_bytes(where)
        assert erase()["cases"] == 1
        assert b"pppppppp" not in stored_bytes(where)
    assert oct(where.stat().st_mode & 0o777) == "0o600"
    served.close()
    store.close()


def test_erased_rows_in_a_log_in_use_raise_an_error(tmp_path):
    where = tmp_path / "cases.db"
    store = CaseStore(f"sqlite:///{where}")
    fill(store, tmp_path / "state", example_record(1, caller="e1.pppppppp"))
    store.close()  # its next connections do not wait for locks
    sa.event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
    with contextlib.closing(sqlite3.connect(where, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM callsieve_cases").fetchall()
        with pytest.raises(CaseError, match="its log is in use and still has them; try again"):
            erase_before(store, NOW + 1)
    assert erase_before(store, NOW + 1)["cases"] == 0
    assert b"pppppppp" not in stored_bytes(where)
    store.close()


def stored_bytes(where):
    return b"".join(path.read_bytes() for path in where.parent.glob(f"{where.name}*"))


def test_a_store_of_another_format_is_refused(tmp_path):
    CaseStore(f"sqlite:///{tmp_path}/cases.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "cases.db")) as plain, plain:
        plain.execute("UPDATE callsieve_store SET format = format + 1")
    with pytest.raises(CaseError, match="expected format"):
        CaseStore(f"sqlite:///{tmp_path}/cases.db")


@pytest.mark.parametrize(
    "url",
    ["sqlite:////nowhere/at/all/cases.db", "postgresql+psycopg://secret@127.0.0.1:9/x", "mysql://x/y", "cases.db"],
)
def test_a_store_that_cannot_be_opened_raises_a_one_line_error(url):
    with pytest.raises(CaseError) as error:
        CaseStore(url)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_rules_are_read_and_invalid_rules_are_refused(tmp_path):
    text = tmp_path / "rules.toml"
    shipped = read_case_rules()
    whole = files("callsieve.serving.cases").joinpath("cases.toml").read_text(encoding="utf-8")
    text.write_text(whole.replace("answer_hours = 24 ", "answer_hours = 48 "))
    assert read_case_rules(text) == msgspec.structs.replace(shipped, answer_hours=48.0)
    for old, new in (("crowd = 5", "crowd = 1"), ('"block"', '"caller"'), ("per_number = 3", "per_number = 0"),
                     ("label = 1.0", "label = -1.0"), ("[redress]", "[other]"), ("days = 30", "")):  # fmt: skip
        text.write_text(whole.replace(old, new, 1))
        with refused(r"rules\.toml: "):
            read_case_rules(text)
