"""The script that Kamailio loads, tested without Kamailio: SIP events become calls and verdicts."""

import dataclasses
import importlib.util
import sys
import tempfile
import time
import tomllib

import pytest
from msgspec import structs

from callsieve.features import Call, History, Intake
from callsieve.features.catalogue import NAMES
from callsieve.serving import Scorer
from callsieve.serving.batch.register_files import write_registers
from callsieve.serving.cases.rescore import rescore
from callsieve.serving.custody.purposes import declare
from callsieve.serving.live.cleared_callers import FILE, write_cleared
from callsieve.serving.live.forgetting import request_forgetting
from callsieve.serving.live.snapshots import snapshot_path
from callsieve.serving.live.verdict_log import Position, read_after
from tests.support import live_states, real_bundle
from tests.support.servers import kamailio as kamailio_files
from tests.support.waiting import wait_until

START = 1_772_500_000
CALLERS, CALLEE = ("+8613800138000", "+8613800138001", "02887654321"), "+8613900139000"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("embedded", kamailio_files.SCRIPTS / "embedded.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["embedded"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["embedded"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    return kamailio_files.write_proxy_files(folder, folder, 'certified = "block"\n').parent


@pytest.fixture
def kamailio(monkeypatch):
    """The stand-in for Kamailio in which the script runs."""
    kamailio = Kamailio()
    monkeypatch.setitem(sys.modules, "KSR", kamailio)
    return kamailio


@pytest.fixture
def engine(script, folder):
    return make(script, folder)


def make(script, folder, **more):
    """Returns an engine with a new state folder, unless `more` names one."""
    settings = tomllib.loads((folder / "settings.toml").read_text())
    return script.Engine(settings | {"state": tempfile.mkdtemp(dir=folder)} | more)


def place(engine, call_id, caller, start):
    sender = f"<sip:{caller}@127.0.0.1>;tag=from-{call_id}"
    return engine.score(call_id, f"from-{call_id}", start=start, target=f"sip:{CALLEE}@127.0.0.1", sender=sender)


def test_sip_events_become_calls(engine):
    intake, history = Intake(real_bundle.NUMBER_KEY), History()
    ends = [
        (["reply {0} 486 Busy Here"], 0.0, "busy", "callee"),
        (["reply {0} 607 Unwanted"], 0.0, "unwanted", "callee"),
        (["reply {0} 200 OK", "reply {1} 200 OK", "bye {1} from-c2", "bye {2} x"], 20.0, "answered", "caller"),
        (["bye {0} x", "reply {0} 200 OK", "bye {1} other"], 20.0, "answered", "callee"),
        (["reply {0} 603 Network Blocked"], 0.0, "blocked", "network"),
    ]
    for number, (events, talk, outcome, side) in enumerate(ends):
        start = START + 60 * number
        end = {"ring": 3.0, "talk": talk, "outcome": outcome, "released_by": side}
        call = Call(start=start, caller=CALLERS[number % 3], callee=CALLEE)
        keyed = intake(call)
        place(engine, f"c{number}", call.caller, start)
        history.observe(keyed)
        moments = [1000 * start + 3_000, 1000 * start + 23_000, 1000 * start + 24_000]
        for event in events:
            engine.note(f"c{number}", event.format(*moments))
        assert f"c{number}" not in engine.pending
        over = Intake(real_bundle.NUMBER_KEY)(Call(start=start, caller=call.caller, callee=CALLEE, **end))
        fields = {name: getattr(over, name) for name in end}
        history.observe(dataclasses.replace(keyed, **fields))
    assert engine.counts["ended"] == 5
    assert engine.counts["reports"] == 1
    for caller in CALLERS:
        probe = Intake(real_bundle.NUMBER_KEY)(Call(start=START + 1000, caller=caller, callee=CALLEE))
        assert repr(engine.live.memory.history.vector(probe)) == repr(history.vector(probe))


def test_calls_in_progress_and_the_history_are_bounded(script, folder, monkeypatch):
    monkeypatch.setattr(script, "PENDING", 3)
    engine = make(script, folder, calls=2, numbers=50)
    for number in range(10):
        place(engine, f"c{number}", CALLERS[0], START + number)
    assert list(engine.pending) == ["c7", "c8", "c9"]
    assert engine.live.memory.history.calls <= 2
    engine.note("c0", f"reply {1000 * START} 486 Busy")
    assert engine.counts["ended"] == 0


def test_unreadable_messages_are_counted_and_logged_rarely(script, engine, kamailio, monkeypatch):
    monkeypatch.setattr(script, "_STATE", {})
    for number in range(50):
        assert script._score(engine, f"{1000 * START} <null> 0 {b'13800138000'.hex()} {number}") == script._NO_VERDICT
        script._learn(engine, "13800138000")
    assert engine.counts["faults"] == 100
    assert len(kamailio.lines) == 2 and "1380013" not in str(kamailio.lines)
    now = time.monotonic() + script.REPEAT
    monkeypatch.setattr(script.time, "monotonic", lambda: now)
    script._learn(engine, "")
    assert len(kamailio.lines) == 3


@pytest.mark.usefixtures("kamailio")
def test_a_bundle_of_an_older_epoch_is_refused(script, tmp_path, monkeypatch):
    kamailio_files.write_proxy_files(tmp_path, tmp_path, card={"epoch": 2})
    engine = make(script, tmp_path)
    monkeypatch.setattr(script, "CHECK_EVERY", 0.0)
    serving = engine.swap.scorer
    for epoch, settled in ((1, lambda: engine.counts["refused"] == 1), (3, lambda: engine.swap.scorer is not serving)):
        (tmp_path / "bundle").rename(tmp_path / f"before-{epoch}")
        real_bundle.write_bundle(tmp_path / "bundle", epoch=epoch)
        engine.check()
        wait_until(settled)
    assert engine.swap.scorer.bundle.epoch == 3
    assert engine.counts["refused"] == 1


def test_the_shipped_settings_load_as_they_are(script, folder, tmp_path):
    """On a machine that has the four files which they name, and nothing else."""
    text = (kamailio_files.SCRIPTS / "settings.toml").read_text()
    places = {"/var/lib/callsieve": tmp_path / "lib", "/etc/callsieve": tmp_path / "etc"}
    for place, ours in places.items():
        ours.mkdir()
        text = text.replace(place, str(ours))
    for name, place in (("bundle", "lib"), ("signer.pub", "etc"), ("key", "etc")):
        (tmp_path / place / name).symlink_to(folder / name)
    engine = script.Engine(tomllib.loads(text) | {"calls": 1_000, "numbers": 100})
    assert engine.swap.ready and engine.cleared.faults == 0
    assert (tmp_path / "lib" / "state").is_dir()
    engine.live.close()


def test_invalid_settings_are_refused(script, folder):
    with pytest.raises(ValueError, match=r"answer must be 603\+ or 608"):
        make(script, folder, answer="404")
    with pytest.raises(ValueError, match="608 needs the address of a signed jCard"):
        make(script, folder, answer="608")
    with pytest.raises(ValueError, match="redress needs"):
        make(script, folder, redress={})
    engine = make(script, folder, answer="608", redress={"url": "https://a.example", "card": "https://a.example/card"})
    assert engine.block_reply("0" * 16).status == engine.block_reply("1" * 16).status == 608


class Kamailio:
    """A stand-in for Kamailio with its log, its queues, and the variables that a fetch sets."""

    def __init__(self):
        self.lines, self.queues, self.values = [], {}, {}
        self.mqueue = self.pv = self

    def log(self, level, text):
        self.lines.append((level, text))

    def mq_add(self, name, key, value):
        self.queues.setdefault(name, []).append((key, value))

    def mq_fetch(self, name):
        if not self.queues.get(name):
            return -1
        self.values[f"$mqk({name})"], self.values[f"$mqv({name})"] = self.queues[name].pop(0)
        return 1

    def getw(self, name):
        return self.values[name]

    def sets(self, name, value):
        self.values[name] = value


def waiting(start, *fields):
    """Returns a call in the form in which a SIP worker puts it into the queue."""
    coded = ("<null>" if field is None else field.encode().hex() for field in fields)
    return " ".join([str(start), "192.0.2.1", "0", *coded])


def test_waiting_calls_get_verdicts(script, kamailio, folder, monkeypatch):
    strict = make(script, folder)
    monkeypatch.setattr(script, "_STATE", {"engine": strict})
    sender = '"A b|c" <sip:02887654321@a.example>'
    fields = ("id 1", "tag", "sip:13900139000@b.example", sender, None, "", None, None)
    kamailio.mq_add("calls", "7 9", waiting(1000 * START, *fields))
    kamailio.mq_add("events", "id 1", f"reply {1000 * START + 5000} 607 Unwanted")
    handler = script.mod_init()
    assert handler.child_init(0) == 0
    assert handler.score(None) == 1
    assert handler.score(None) == 1
    assert kamailio.queues == {"calls": [], "events": [], "verdicts": [("7 9", "pass|||")]}
    # The event was in its queue before the call was scored, so it belonged to no call.
    assert strict.counts["attempts"] == 1
    assert strict.counts["ended"] == 0
    kamailio.mq_add("events", "id 1", f"reply {1000 * START + 5000} 607 Unwanted")
    handler.score(None)
    assert strict.counts["reports"] == 1


def test_a_call_that_waited_too_long_passes_and_enters_the_history(script, kamailio, folder, monkeypatch):
    engine, in_progress = make(script, folder), []
    monkeypatch.setattr(script, "_STATE", {"engine": engine})
    monkeypatch.setattr(script, "_score", lambda *_: in_progress.append(kamailio.values["$shv(held)"]) or "pass|||")
    now = time.time_ns() // 1_000_000
    for number, start in enumerate((now - 60_000, now + 60_000, now - 50_000)):
        fields = ("tag", "sip:13900139000@b.example", "sip:13800138000@a.example", *[None] * 4)
        kamailio.mq_add("calls", f"7 {number}", waiting(start, f"id {number}", *fields))
    script.mod_init().score(None, "15")
    assert kamailio.queues["verdicts"] == [(f"7 {number}", "pass|||") for number in range(3)]
    assert in_progress == ["7 1"]  # the only scored call; no call is in progress afterwards
    assert kamailio.values["$shv(held)"] == ""
    assert now <= int(kamailio.values["$shv(beat)"]) <= time.time_ns() // 1_000_000
    assert (engine.counts["missed"], engine.counts["attempts"], list(engine.pending)) == (2, 0, ["id 0", "id 2"])
    assert engine.live.memory.history.calls == 2


def test_a_restarted_process_restores_the_state(script, folder, tmp_path):
    whole, first = make(script, folder), make(script, folder, state=str(tmp_path))
    verdicts = [place(engine, "a", CALLERS[0], START) for engine in (whole, first)]
    assert [verdict.score for verdict in verdicts] == [verdicts[0].score] * 2
    for engine in (whole, first):
        engine.note("a", f"reply {1000 * START + 3000} 200 OK")
        engine.note("a", f"bye {1000 * START + 9000} from-a")
        place(engine, "b", CALLERS[1], START + 20)
    first.live.memory.journal.flush()  # a killed process closes no file
    second = make(script, folder, state=str(tmp_path))
    assert second.live.memory.history.calls == 2 and second.live.memory.restored.lines == 3
    for number, caller in enumerate(CALLERS):
        probe = Intake(real_bundle.NUMBER_KEY)(Call(start=START + 600 + number, caller=caller, callee=CALLEE))
        assert repr(second.live.memory.history.vector(probe)) == repr(whole.live.memory.history.vector(probe))


def test_two_processes_do_not_share_a_state(script, folder, tmp_path):
    with (
        live_states.held_by_another_process(tmp_path),
        pytest.raises(ValueError, match="another process serves from this folder"),
    ):
        make(script, folder, state=str(tmp_path))
    assert make(script, folder, state=str(tmp_path)).live.memory.history.calls == 0


def test_a_number_is_forgotten_in_memory_and_on_disk(script, folder, tmp_path):
    engine = make(script, folder, state=str(tmp_path))
    for number, caller in enumerate(CALLERS):
        place(engine, f"c{number}", caller, START + number)
    calls = [engine.live._intake(Call(start=START + 60, caller=caller, callee=CALLEE)) for caller in CALLERS]
    token = engine.live._intake.token("number", CALLERS[0])
    request = request_forgetting(tmp_path, token)
    wait_until(lambda: not request.where.exists())
    counts = [engine.live.memory.history.row(call)[NAMES.index("out_calls_count_7d")] for call in calls]
    assert counts == [0, 1, 1] and list(engine.pending) == ["c1", "c2"]
    assert not [where for where in tmp_path.rglob("*") if where.is_file() and token.encode() in where.read_bytes()]


@pytest.mark.system
def test_an_engine_starts_with_a_filled_history_and_empty_if_the_snapshot_is_broken(
    script, kamailio, folder, tmp_path, monkeypatch
):
    intake, history = Intake(real_bundle.NUMBER_KEY), History()
    for call in real_bundle.calls(200):
        history.observe(intake(call))
    history.save(snapshot_path(tmp_path, 1))
    last = real_bundle.calls(200)[-1].start
    filled, fresh = make(script, folder, state=str(tmp_path)), make(script, folder)
    assert (filled.live.memory.history.calls, fresh.live.memory.history.calls) == (200, 0)
    covers = [engine.live.memory.history.covers(int(1000 * last), 2) for engine in (filled, fresh)]
    assert covers == [True, False]
    place(filled, "a", CALLERS[0], last + 60)
    assert filled.live.memory.history.calls == 201
    broken = tmp_path / "broken"
    broken.mkdir()
    snapshot_path(broken, 1).write_bytes(b"not a snapshot")
    settings = tomllib.loads((folder / "settings.toml").read_text())
    lines = [f'{name} = "{value}"' for name, value in (settings | {"state": broken}).items() if name != "redress"]
    (tmp_path / "settings.toml").write_text("\n".join([*lines, "[redress]", 'url = "https://redress.example"']))
    monkeypatch.setenv("CALLSIEVE_KAMAILIO", str(tmp_path / "settings.toml"))
    monkeypatch.setattr(script, "_STATE", {})
    assert script._open_engine().live.memory.history.calls == 0
    assert any("the state of earlier processes cannot be read" in str(line) for line in kamailio.lines)
    assert any("0 calls restored" in str(line) for line in kamailio.lines)


NUMBER = "+8613800138000"


@pytest.mark.parametrize(
    "call",
    ["", " ", NUMBER, f"x 192.0.2.1 {NUMBER}", waiting(1, *[NUMBER] * 8), waiting(1, *[None] * 8), waiting(1, NUMBER),
     waiting("9" * 400, "i", "t", "tel:1", "tel:1", "", "", "", "")],
)  # fmt: skip
def test_an_invalid_call_passes_and_its_fault_shows_no_number(script, kamailio, folder, monkeypatch, call):
    for engine in ({}, {"engine": make(script, folder)}):
        monkeypatch.setattr(script, "_STATE", engine)
        kamailio.queues = {"calls": [("1 2", call)], "events": [("i", NUMBER), ("i", "reply x y")]}
        assert script.mod_init().score(None) == 1
        assert kamailio.queues["verdicts"] == [("1 2", "pass|||")]
    assert any("not scored, the call passes" in text for _, text in kamailio.lines)
    assert not [text for _, text in kamailio.lines if NUMBER[1:] in text]


def test_block_and_label_verdicts_have_the_form_that_the_routes_read(script, kamailio, folder, monkeypatch):
    engine = make(script, folder)
    low = structs.replace(engine.swap.scorer.bundle.thresholds[0], threshold=-1e9)
    bundle = structs.replace(engine.swap.scorer.bundle, thresholds=(low,))
    monkeypatch.setattr(script, "_STATE", {"engine": engine})
    fields = ("id", "tag", "sip:13900139000@b.example", "<sip:13800138000@a.example>", None, None, None, None)
    for number, action in enumerate(("block", "label")):
        policy = dataclasses.replace(engine.swap.scorer.policy, bands={"certified": action})
        engine.swap._scorer = Scorer(bundle, policy)
        kamailio.mq_add("calls", str(number), waiting(1000 * (START + number), *fields))
        script.mod_init().score(None)
    (_, block), (_, label) = kamailio.queues["verdicts"]
    assert block.startswith("block|603|Network Blocked|") and block.endswith("\r\n")
    assert label.startswith("label|||Call-Info: ") and label.endswith("\r\n")


def test_a_turn_handles_one_batch_and_faults_of_missed_calls_are_logged(script, kamailio, folder, monkeypatch):
    monkeypatch.setattr(script, "BATCH", 2)
    for state in ({"engine": make(script, folder)}, {"failed": time.monotonic()}):
        monkeypatch.setattr(script, "_STATE", state)
        kamailio.lines, kamailio.queues = [], {"missed": [(str(n), NUMBER) for n in range(3)]}
        script.mod_init().score(None)
        assert len(kamailio.queues["missed"]) == 1
        expected = [("err", "callsieve: a call is not learnt: ValueError\n")]
        assert kamailio.lines == (expected if "engine" in state else [])
        assert "engine" not in state or state["engine"].counts["faults"] == 2
        kamailio.queues = {"calls": [(str(n), "") for n in range(3)], "events": [("i", "reply 1 200")] * 100}
        script.mod_init().score(None)
        lengths = [len(kamailio.queues[name]) for name in ("calls", "verdicts", "events")]
        assert lengths == [1, 2, 100 - 2 * script.BETWEEN]


def test_counts_are_logged_and_a_missing_bundle_changes_nothing(script, kamailio, tmp_path):
    kamailio_files.write_proxy_files(tmp_path, tmp_path)
    engine = make(script, tmp_path, report_every=0.0)
    serving = engine.swap.scorer
    (tmp_path / "bundle" / "MANIFEST.sig").unlink()
    engine.check()
    wait_until(lambda: engine.counts["refused"])
    assert engine.swap.scorer is serving
    assert ("notice", "callsieve: " + " ".join(f"{name}=0" for name in engine.counts) + "\n") in kamailio.lines


def test_a_bundle_that_cannot_be_loaded_is_tried_again_later(script, folder, kamailio, monkeypatch):
    monkeypatch.setattr(script, "_STATE", {})
    monkeypatch.setenv("CALLSIEVE_KAMAILIO", str(folder / "nothing.toml"))
    handler = script.mod_init()
    for _ in range(3):
        assert handler.score(None) == 1
    assert [level for level, _ in kamailio.lines] == ["err"]
    monkeypatch.setattr(script, "RETRY", 0.0)
    monkeypatch.setenv("CALLSIEVE_KAMAILIO", str(folder / "settings.toml"))
    handler.score(None)
    assert any("serving model" in text for _, text in kamailio.lines)


def test_a_cleared_caller_passes_from_the_next_call(script, folder, tmp_path):
    where = tmp_path / FILE
    engine = make(script, folder, cleared=str(where))
    raw = engine.swap.scorer.bundle.thresholds
    low = structs.replace(raw[0], threshold=-1e9)
    bundle = structs.replace(engine.swap.scorer.bundle, thresholds=(low,))
    engine.swap._scorer = Scorer(bundle, engine.swap.scorer.policy)
    assert place(engine, "1", CALLERS[0], START).action == "block"
    token = engine.live._intake.token("number", CALLERS[0])
    write_cleared(where, {token: (START + 100) * 1000}, 1)
    assert place(engine, "2", CALLERS[0], START + 1).status == "cleared"
    assert place(engine, "3", CALLERS[1], START + 1).action == "block"
    assert place(engine, "4", CALLERS[0], START + 100).action == "block"  # the clearance has ended


def test_embedded_verdicts_and_their_records_equal_those_of_live(script, folder, tmp_path):
    """The oracle is `Live`, the state of the HTTP service, with the same calls, policy and registers."""
    number = Intake(real_bundle.NUMBER_KEY).token("number", CALLERS[1])
    lapsed = real_bundle.make_registers(number_resources=[{"number": number, "valid_to": (START - 86_400) * 1000}])
    (tmp_path / "registers").mkdir()
    write_registers(lapsed, tmp_path / "registers")
    declare(tmp_path / "registers", "offices of the test", "law", ["scoring"], "2999-12-31")
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "r"\nappeal = "office"\n[bands]\n[rules]\nlapsed_number = "block"\n')
    engine = make(script, folder, registers=str(tmp_path / "registers"), state=str(tmp_path / "in"), policy=str(policy))
    swap = live_states.loaded(folder / "bundle", policy=engine.swap.scorer.policy, registers=tmp_path / "registers")
    live = live_states.begin(swap, tmp_path / "beside")
    for n in range(6):
        verdict = place(engine, str(n), CALLERS[n % 3], START + 60 * n)
        call = Call(start=START + 60 * n, caller=CALLERS[n % 3], callee=CALLEE, trunk="")
        other = live.attempt(call)
        assert verdict.action == other.action == ("block" if n % 3 == 1 else "pass")
        assert [fact.rule for fact in verdict.rules] == [fact.rule for fact in other.rules]
    engine.live.close()
    live.close()
    embedded, served = (read_after(tmp_path / name, Position(), 100)[0] for name in ("in", "beside"))
    assert len(embedded) == len(served) == 2
    assert [record.rules for record in embedded] == [record.rules for record in served]
    assert embedded[0].case == served[0].case
    assert embedded[0].rules[0]["register"] == "number_resources"
    assert all(rescore(record, engine.swap.scorer).differences == () for record in embedded)
