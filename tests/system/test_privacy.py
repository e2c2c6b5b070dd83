"""No output contains a number of the input: no file, log, message or traceback."""

import csv
import gzip
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from callsieve.features import Call, Intake, Key
from callsieve.features.files.dates import DAY
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.serving import read_policy
from callsieve.serving.batch.call_files import CallFile, read_keyed_file
from callsieve.serving.batch.file_scoring import ScoreInputs, score_file
from callsieve.serving.batch.output_keys import callee_keys_or_temporary
from callsieve.serving.bundle.signing import generate_signing_key, write_public_key
from callsieve.serving.cases.feed import import_verdicts, publish_cleared
from callsieve.serving.cases.notice import notice
from callsieve.serving.cases.store import CaseError, CaseStore
from callsieve.serving.http.access_log import AccessLog
from callsieve.serving.lists.exchange import publish
from callsieve.serving.lists.following import open_lists
from callsieve.serving.live.events import Complaint
from callsieve.serving.live.live import Live
from callsieve.training.data.exclusions import write_cleared
from callsieve.training.oversight.governance import disclosure
from callsieve.training.oversight.governance.canaries import Canaries, add_to_state, search
from callsieve.training.oversight.governance.incident import drill
from callsieve.training.oversight.governance.report import write_report
from callsieve.training.oversight.governance.sharing import Chosen, Flagged, candidates_among, read_excluded
from callsieve.training.oversight.log.audit_log import SignedLog
from callsieve.training.oversight.log.tickets import AccessControl
from callsieve.training.oversight.privacy.exports import calls_between, export_act, export_calls
from callsieve.training.studies import demo
from callsieve.training.world import load_scenario, simulate
from tests.support import lists, live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.paths import ROOT
from tests.support.simulated import mark_simulated
from tests.support.trainings import recorded_run

# National digits, as people would search for them, and the ways in which switches and people write them.
SPELLINGS = {
    "13812345679": ("13812345679", "+8613812345679", "008613812345679", "138 1234 5679", "138-1234-5679",
                    "１３８１２３４５６７９"),
    "15987654326": ("１５９８７６５４３２６", "+86 159 8765 4326", "tel:+8615987654326", "15987654326#",
                    "(86)15987654326"),
    "2887651234": ("02887651234", "028-8765-1234", "+86(28)87651234", "+862887651234", "0086 28 8765 1234"),
    "17098761235": ("17098761235", " 17098761235 ", "'17098761235", "１７０-９８７６-１２３５",
                    "sip:17098761235@example.net"),
    "4155550142": ("+14155550142", "0014155550142", "+1 (415) 555-0142", "+1.415.555.0142", "1-415-555-0142"),
}  # fmt: skip
FORMS = [form for forms in SPELLINGS.values() for form in forms]
PLANTED = frozenset(SPELLINGS)
FIRST = datetime(2026, 3, 3, 1, 0, tzinfo=UTC)
COLUMNS = ("start", "caller", "callee", "ring", "talk", "outcome", "network_caller", "trunk", "device", "cause")
SEPARATORS = re.compile(r"(?<=\d)[\s.()\-]+(?=\d)")


def sound_rows():
    """Yields valid calls: every form as caller, callee and network caller, and in the free-text columns."""
    for i, form in enumerate(FORMS):
        other = FORMS[(i + 7) % len(FORMS)]
        moment = FIRST + timedelta(minutes=i)
        yield dict(zip(COLUMNS, (moment, form, other, 5.0, 30.0, "answered", other, form, other, form), strict=True))


def faulty_rows():
    """Yields invalid calls: a number in the wrong column, or a row with numbers that breaks a rule."""
    sound = list(sound_rows())
    for i, form in enumerate(FORMS):
        row = sound[i]
        yield row | {"outcome": form}
        yield row | {"start": None}
        yield row | {"talk": -5.0}
        yield row | {"callee": None}
        yield row | {"start": FIRST + timedelta(days=30_000 + i)}
        yield row  # a repeat
        yield row | {"talk": 31.0}  # a contradicting repeat


def write_csv(path, rows, *, broken=True):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"start": row["start"] and row["start"].isoformat()} for row in rows)
        if broken:
            for form in FORMS:
                row = [FIRST.isoformat(), form, form]
                file.write(",".join([*row, *([form] * 12)]) + "\n")  # too many cells
                file.write(",".join(row[:2]) + "\n")  # too few
                file.write(",".join([form, *row[1:], "5", "30", "answered", "", "", "", ""]) + "\n")
                file.write(",".join([*row, form, form, "answered", "", "", "", ""]) + "\n")
    if broken:
        with path.open("ab") as file:
            for number in SPELLINGS:
                file.write(f"{FIRST.isoformat()},{number},".encode() + b"\xff\xfe" + f"{number},5\n".encode())
    return path


def write_parquet(path, rows):
    rows = list(rows)
    types = {"start": pa.timestamp("ms", "UTC"), "ring": pa.float64(), "talk": pa.float64()}
    columns = {name: pa.array([row[name] for row in rows], types.get(name, pa.string())) for name in COLUMNS}
    pq.write_table(pa.table(columns), path, write_page_checksum=True)
    return path


def texts_of(table):
    """Yields each column as text, a value per line; nested values as Python shows them."""
    for column in table.columns:
        yield "\n".join(map(str, column.to_pylist()))


def texts_in(path):
    """Yields the texts of a file: its name, its bytes, and the unpacked content."""
    data = path.read_bytes()
    yield str(path)
    yield data.decode("latin-1")
    if any(byte in data for byte in (b"\xef\xbc", b"\xef\xbd")):  # full-width characters
        yield data.decode("utf-8", "ignore")
    if data[:4] == b"PAR1":
        yield from texts_of(pq.read_table(path))
        yield str(pq.read_schema(path).metadata)
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data).decode("utf-8", "ignore")


def numbers_in(text, numbers, length):
    """Returns the numbers of `length` digits that a text contains."""
    runs = re.findall(rf"\d{{{length},}}", text)
    return {run[i : i + length] for run in runs for i in range(len(run) - length + 1)} & numbers


def planted_in(text):
    """Returns the planted numbers that a text contains, also with separators or in full-width digits."""
    plain = unicodedata.normalize("NFKC", text)
    joined = SEPARATORS.sub("", plain)
    return {n for length in {len(n) for n in PLANTED} for t in (plain, joined) for n in numbers_in(t, PLANTED, length)}


def assert_clean(paths, texts):
    """Checks that no planted number is in a file, its name, or a text."""
    paths = [path for path in paths if path.is_file()]
    for path in paths:
        for text in texts_in(path):
            assert not planted_in(text), path.name
    for text in texts:
        assert not planted_in(text), text[:2000]
    return paths


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory):
    """A folder with a bundle and its public key."""
    folder = tmp_path_factory.mktemp("given")
    real_bundle.write_bundle(folder / "bundle")
    write_public_key(small.KEY.public_key(), folder / "signer.pub")
    Key("e1", bytes(range(32))).write(folder / "number.key")
    return folder


@pytest.fixture
def captured(capfd, caplog):
    """Returns a function that gives all output of the test: both streams, and all logs with their tracebacks."""
    caplog.set_level(logging.DEBUG)

    def texts():
        logs = [record.getMessage() + str(record.args) + str(record.exc_text) for record in caplog.records]
        return [*capfd.readouterr(), caplog.text, *logs]

    return texts


def score(bundle_folder, path, out, **options):
    mark_simulated(path.parent)
    key, quarantine = bundle_folder / "number.key", out / "quarantine.jsonl"
    calls = CallFile(path=path, layout="callsieve", key=key, quarantine=quarantine, **options)
    return score_file(
        ScoreInputs(calls=calls, bundle=bundle_folder / "bundle", out=out / "verdicts.parquet"),
        threads=1,
        progress=lambda step, part: logging.getLogger("progress").debug("%s %s", step, part),
    )


def failure(bundle_folder, path, out, **options):
    """Returns the whole text of the exception of a failed scoring, with causes and contexts."""
    with pytest.raises(ValueError, match=r"^\S.*\Z") as caught:  # one line
        score(bundle_folder, path, out, **options)
    lines = traceback.format_exception(caught.value)
    chain, error = [], caught.value
    while error is not None:  # also causes that `from None` hides: a reporter of errors may read them
        chain += [str(error), repr(error), str(getattr(error, "__notes__", ""))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join([*lines, *chain])


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_planted_numbers(form):
    (number,) = [number for number, forms in SPELLINGS.items() if form in forms]
    assert planted_in(f"caller {form} called") == {number}
    assert planted_in(f"x={form}") == {number}


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_scored_files_hide_numbers(bundle_folder, tmp_path, captured, kind):
    source, out = tmp_path / f"calls.{kind}", tmp_path / "out"
    out.mkdir()
    rows = [*sound_rows(), *faulty_rows()]
    if kind == "parquet":
        write_parquet(source, rows)
    else:
        write_csv(source, rows)
        if kind == "csv.gz":
            source.write_bytes(gzip.compress(source.read_bytes()))
    assert any(planted_in(text) for text in texts_in(source))  # the search would find them
    assert not planted_in(failure(bundle_folder, source, out))
    result = score(bundle_folder, source, out, allow_quarantine=True)
    assert result["calls"] >= len(FORMS)
    assert sum(result["quarantined"].values()) >= 5 * len(FORMS)
    paths = assert_clean(out.rglob("*"), [*captured(), str(result)])
    assert {path.name for path in paths} == {"verdicts.parquet", "quarantine.jsonl"}
    statuses = pq.read_table(out / "verdicts.parquet")["status"].to_pylist()
    assert sum(status != "wrong_input" for status in statuses) == result["calls"]


FAULTS = {
    "outcome": lambda row, form: row | {"outcome": form},
    "no start": lambda row, _: row | {"start": None},
    "negative": lambda row, _: row | {"talk": -5.0},
    "no callee": lambda row, _: row | {"callee": None},
    "far future": lambda row, _: row | {"start": FIRST + timedelta(days=30_000)},
    "conflict": lambda row, _: row | {"talk": 31.0},
}


@pytest.mark.source("P8", by="features/reading/quarantine.py")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_strict_failures_hide_numbers(bundle_folder, tmp_path, captured, kind, fault):
    rows = list(sound_rows())
    rows += [FAULTS[fault](row, form) for row, form in zip(rows, FORMS, strict=True)]
    source, out = tmp_path / f"calls.{kind}", tmp_path / "out"
    out.mkdir()
    if kind == "csv":
        write_csv(source, rows, broken=False)
    else:
        write_parquet(source, rows)
    message = failure(bundle_folder, source, out, strict=True)
    assert re.search(r"row \d+(, column \w+)?: ", message)
    assert_clean(out.rglob("*"), [message, *captured()])
    assert list(out.iterdir()) == []


def broken_line(path):
    write_csv(path, sound_rows())


def no_header(path):
    write_csv(path, sound_rows(), broken=False)
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")


def number_as_column(path):
    columns = {name: pa.array(["x"]) for name in (*COLUMNS, "13812345679", "１５９８７６５４３２６")}
    pq.write_table(pa.table(columns), path)


def wrong_type(path):
    columns = {name: pa.array([[form] for form in FORMS]) for name in COLUMNS}
    pq.write_table(pa.table(columns), path)


def flipped_page(path):
    write_parquet(path, sound_rows())
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False, write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(b"138-1234-5679", b"138-1234-5670"))


def cut_off(path):
    write_parquet(path, sound_rows())
    path.write_bytes(path.read_bytes()[:-40])


def not_utf8(path):
    write_parquet(path, sound_rows())
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False)
    data = path.read_bytes().replace(b"138-1234-5679", b"138-1234-567\xff")
    path.write_bytes(data)


def cut_gzip(path):
    data = gzip.compress(write_csv(path, sound_rows()).read_bytes())
    path.write_bytes(data[: len(data) // 2])


BROKEN = (broken_line, no_header, number_as_column, wrong_type, flipped_page, cut_off, not_utf8, cut_gzip)


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda function: function.__name__)
def test_failures_on_broken_files_hide_numbers(bundle_folder, tmp_path, captured, breaking):
    source, out = tmp_path / "calls", tmp_path / "out"
    out.mkdir()
    breaking(source)
    message = failure(bundle_folder, source, out, strict=True)
    assert_clean(out.rglob("*"), [message, *captured()])
    assert list(out.iterdir()) == []


def test_an_unkeyed_table_is_refused_without_showing_its_numbers(tmp_path, captured):
    """A user writes the columns of keyed calls himself, with numbers in place of tokens."""
    world = simulate(load_scenario(None), 1, "tiny").calls.slice(0, 50)
    table = Intake(Key("e1", bytes(32))).table(world)
    for name in ("caller", "caller_block", "trunk", "outcome"):
        column = pa.array([FORMS[i % len(FORMS)] for i in range(table.num_rows)])
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table.set_column(table.column_names.index(name), name, column), path)
        with pytest.raises(ValueError, match=f"column {name!r} has an invalid value") as caught:
            read_keyed(path)
        assert_clean([], ["".join(traceback.format_exception(caught.value)), *captured()])


@pytest.mark.source("L40", "P8", by="features/intake/intake.py")
def test_a_whole_run_hides_all_numbers(written_world, training_run, monkeypatch, tmp_path, captured):
    """All files of a demonstration and of a training, whose calls are known unkeyed."""
    numbers = {
        number for number in written_world.numbers["number"].to_pylist() if re.fullmatch(r"\d{11}", number or "")
    }
    for name in ("caller", "callee", "network_caller"):
        texts = written_world.calls[name].unique().to_pylist()
        numbers |= {text for text in texts if re.fullmatch(r"1\d{10}", text or "")}
    assert len(numbers) > 500
    monkeypatch.setattr(demo, "record_training", lambda dataset, *_, **__: dataset.calls.num_rows)
    seed = int(written_world.facts["seed"])
    calls = demo.run_demo(
        tmp_path, size="tiny", seed=seed, threads=2, full=True, first=lambda _: None, progress=lambda *_: None
    )
    assert calls == written_world.calls.num_rows
    outputs = [*captured(), json.dumps(training_run[1])]
    paths = [path for folder in (tmp_path, training_run[0]) for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in paths}
    assert {"mlflow.db", "report.html", "model.txt", "bundle.json", "figures.json", "calls.parquet"} <= names
    for path in paths:
        for text in texts_in(path):
            assert not numbers_in(text, numbers, 11), path
    for text in outputs:
        assert not numbers_in(text, numbers, 11)


def keyed_folder(folder):
    """Writes keyed calls between the planted numbers, and registers of them, as a report reads them."""
    folder.mkdir()
    source = write_csv(folder / "raw.csv", sound_rows(), broken=False)
    key = folder.parent / "number.key"
    intake = Intake(Key("e1", bytes(range(32))))
    Key("e1", bytes(range(32))).write(key)
    pq.write_table(
        read_keyed_file(CallFile(path=source, layout="callsieve", key=key), "scoring").calls, folder / "calls.parquet"
    )
    mark_simulated(folder)  # calls of any age, for any purpose
    source.unlink()
    always = pa.array([FIRST - timedelta(days=9)] * len(FORMS), pa.timestamp("ms", "UTC"))
    time = {"valid_from": always, "valid_to": pa.nulls(len(FORMS), always.type), "known_at": always}
    number = intake.keyed("number", pa.array(FORMS))
    trade = pa.array(["loans"] * len(FORMS))
    tables = {
        "campaigns": {"number": number, "business": trade},
        "trunks": {"trunk": intake.keyed("trunk", pa.array(FORMS)), "number": number},
        "preferences": {"callee": number, "category": trade, "accepts": pa.array([True] * len(FORMS))},
        "refusals": {"callee": number, "industry": trade},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns | time), folder / f"register_{name}.parquet")
    return folder, intake


def report_of(data, out):
    out.mkdir()
    return write_report(
        data, out, until="2026-03-04", days=1, least={"callee": 1, "caller": 1},
        progress=lambda step, part: logging.getLogger("progress").debug("%s %s", step, part),
    )  # fmt: skip


@pytest.mark.source("P8", by="training/oversight/governance/parties.py")
def test_a_report_hides_numbers_also_of_unkeyed_registers(tmp_path, captured, monkeypatch):
    monkeypatch.setattr(disclosure, "BASE", 1)  # without rounding, so that rows of few calls are shown, too
    data, _ = keyed_folder(tmp_path / "data")
    facts = report_of(data, tmp_path / "out")
    assert {"all", "trunk", "industry", "preferences"} <= set(facts["tables"])
    names = {path.name for path in assert_clean((tmp_path / "out").rglob("*"), [*captured(), str(facts)])}
    assert {"report.html", "trunk.csv", "cells.parquet"} <= names
    spoilt = {"campaigns": ("number", "business"), "trunks": ("trunk",), "preferences": ("callee", "category")}
    for register, columns in spoilt.items():
        path = data / f"register_{register}.parquet"
        sound = pq.read_table(path)
        for column in columns:
            place = sound.column_names.index(column)
            pq.write_table(sound.set_column(place, column, pa.array(FORMS)), path)
            with pytest.raises(ValueError, match=f"column '{column}' has an invalid value") as caught:
                report_of(data, tmp_path / f"{register}-{column}")
            assert_clean(tmp_path.glob("*-*/*"), ["".join(traceback.format_exception(caught.value)), *captured()])
        pq.write_table(sound, path)


@pytest.mark.source("P8", by="training/oversight/governance/sharing.py")
def test_lists_hide_numbers(tmp_path, captured):
    store, now = Key("e1", bytes(range(32))), 20_000 * DAY
    chosen = Chosen({Intake(store).token("number", form): Flagged("illegal", now, now) for form in FORMS})
    candidates = candidates_among(FORMS, chosen, store, lists.SHARED, tmp_path / "issued", now)
    heads = publish(tmp_path / "lists", lists.ISSUER, candidates.entries, now=now, valid_days=2)
    assert heads[0].groups[0].tokens == len(chosen.listed) >= len(SPELLINGS)
    opened = open_lists(lists.write_toml(tmp_path, "carrier-a", **{"carrier-a": "lists"}))
    (tmp_path / "off").write_text("\n".join(FORMS), encoding="utf-8")
    with pytest.raises(ValueError, match="expected a token") as caught:
        read_excluded(tmp_path / "off")
    (tmp_path / "off").unlink()
    texts = [*captured(), str(heads), str(caught.value), *opened.statuses(), repr(opened.sources)]
    paths = assert_clean(tmp_path.rglob("*"), texts)
    assert {path.name for path in paths} >= {"issued", "000001.list", "whole.list", "lists.toml"}


@pytest.mark.source("P8", by="training/oversight/governance/incident.py")
def test_a_drill_and_a_search_hide_numbers(tmp_path, captured):
    data, _ = keyed_folder(tmp_path / "data")
    shutil.copy(data / "calls.parquet", data / f"{FORMS[0]}.parquet")  # a name is a text, too
    (data / "raw.txt").write_text("\n".join(FORMS), encoding="utf-8")
    record = (ROOT / "training" / "oversight" / "governance" / "incident.toml").read_text(encoding="utf-8")
    (tmp_path / "record.toml").write_text(record.replace('["."]', '["data"]'), encoding="utf-8")
    for name in ("out", "search"):
        (tmp_path / name).mkdir()
    facts = drill(tmp_path / "record.toml", tmp_path / "out")
    assert len(facts["datasets"]) == 6 and facts["people_at_most"] >= len(SPELLINGS)
    state = tmp_path / "search" / "canaries.json"
    add_to_state(state, Canaries("partner", 5))
    matches = search(data / "raw.txt", Key("c1", bytes(32), purpose="canaries"), state)
    assert matches["lines"] == len(FORMS)
    files = [*(tmp_path / "out").iterdir(), *(tmp_path / "search").iterdir()]
    assert len(assert_clean(files, [*captured(), str(facts), str(matches)])) == 10


@pytest.mark.source("P8", by="serving/cases/store.py")
@pytest.mark.source("P8", by="training/oversight/privacy/exports.py")
def test_an_appeal_and_an_export_hide_numbers(tmp_path, captured):
    """Live state, accesses, store of cases, notice, exclusions, export and log of calls between the planted numbers."""
    real_bundle.write_bundle(tmp_path / "bundle")
    (tmp_path / "policy.toml").write_text('version = "1"\n[bands]\n[rules]\nauthentication_failed = "label"\n')
    swap = live_states.loaded(tmp_path / "bundle", policy=read_policy(tmp_path / "policy.toml"))
    data, _ = keyed_folder(tmp_path / "data")
    live = Live(swap, Intake(Key("e1", bytes(range(32)))), tmp_path / "state", deadline=60.0)
    now = time.time() - 60
    for n, (caller, callee) in enumerate(pairwise(FORMS)):
        verdict = live.attempt(Call(now + n / 10, caller, callee, attestation="failed"))
        live.add_complaint(Complaint(callee, caller, now, "loans"))
        assert verdict.action == "label"
    live.close()
    accesses = AccessLog(tmp_path / "state")
    accesses.note("desk", "/v1/explain", 403)
    accesses.close()
    store, moment = CaseStore(f"sqlite:///{tmp_path}/cases.db"), round(time.time() * 1000)
    import_verdicts(store, tmp_path / "state")
    with pytest.raises(CaseError) as caught:
        store.appeal(verdict.case, "delivery", f"call me: {FORMS[0]}", moment)
    store.appeal(verdict.case, "delivery", "I deliver parcels", moment)
    store.decide(verdict.case, "overturned", "anna", "a courier", moment)
    publish_cleared(store, tmp_path / "state", moment)
    case = store.find(verdict.case, moment)
    texts = [notice(case, store.rules, language) for language in ("en", "zh")]
    write_cleared(store.clearances(), data)
    store.close()
    calls = calls_between(data, "2020-01-01", "2099-01-01")
    with pytest.raises(ValueError, match="--last: expected a day such as"):
        calls_between(data, "2020-01-01", FORMS[0])
    control = AccessControl(SignedLog(tmp_path / "audit", small.KEY), recorded_run.gates())
    for purpose in ("a sample", "too many"):
        act = export_act(calls, purpose, "operations")
        export_calls(calls, act, data, tmp_path / f"{purpose}.parquet", callee_keys_or_temporary(None), control)
    (tmp_path / "number.key").unlink()
    paths = assert_clean(tmp_path.rglob("*"), [*captured(), *texts, str(caught.value), str(case)])
    names = {path.name for path in paths}
    assert {"cases.db", "cleared", "exclusions.parquet", "a sample.parquet", "log.jsonl"} <= names
    assert any(name.startswith("accesses-") for name in names) and any(name.startswith("cases-") for name in names)


def test_the_files_of_a_killed_process_hide_numbers(tmp_path):
    """The numbers come through a pipe that stays open: they are read, and then the process is killed."""
    Key("e1", bytes(range(32))).write(tmp_path / "store.key")
    Key("share1", bytes(range(1, 33)), None, "sharing").write(tmp_path / "sharing.key")
    generate_signing_key(tmp_path / "list.key", tmp_path / "list.pub")
    os.mkfifo(tmp_path / "numbers")
    arguments = ["govern", "token-list", "publish", "numbers", "--out", "out/list", "--store-key", "store.key",
             "--key", "sharing.key", "--signing-key", "list.key", "--issuer", "own", "--issued", "issued"]  # fmt: skip
    (tmp_path / "out").mkdir()
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "callsieve.training", *arguments]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            with (tmp_path / "numbers").open("w", encoding="utf-8") as pipe:
                pipe.write("\n".join(FORMS * 500))
                pipe.flush()
                process.kill()
                assert process.wait(20) == -signal.SIGKILL
        except BrokenPipeError:
            pass
        finally:
            process.kill()
            process.wait()
    (tmp_path / "numbers").unlink()
    assert_clean(tmp_path.rglob("*"), [])
    assert list((tmp_path / "out").iterdir()) == []
