"""AGI dialogues as Asterisk's source writes them: every connection is closed, and other calls are still served."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsieve.features.intake.intake import Intake
from callsieve.features.reading.call_files import read_calls, read_layout
from callsieve.serving.live.live import Live
from callsieve.serving.live.memory import Limits
from callsieve.serving.telephony import agi as module
from callsieve.serving.telephony.agi import LINE, OPEN, Agi, call_from_request, ended_call, serve
from tests.support import live_states, real_bundle

# The request that res_agi.c writes for AGI(agi://127.0.0.1:4573/ring): `agi_network` and the script come first.
RING = """\
agi_network: yes
agi_network_script: ring
agi_request: agi://127.0.0.1:4573/ring
agi_channel: PJSIP/carrier-0000002a
agi_language: en
agi_type: PJSIP
agi_uniqueid: {moment}.42
agi_version: 22.6.0
agi_callerid: {caller}
agi_calleridname: unknown
agi_callingpres: {presentation}
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: {callee}
agi_rdnis: unknown
agi_context: from-carrier
agi_extension: 13900139000
agi_priority: 2
agi_enhanced: 0.0
agi_accountcode:\x20
agi_threadid: 140039486498560

"""
COMMAND = re.compile(r'SET VARIABLE CALLSIEVE(_CASE|_CONFIDENCE|_STATUS|_RULES)? "([a-z0-9._,]*)"\n')


def head(script="ring", *arguments, caller="13800138000", callee="13900139000", presentation=0, moment=None):
    moment = int(time.time()) if moment is None else moment
    text = RING.format(caller=caller, callee=callee, presentation=presentation, moment=moment)
    text = text.replace("/ring", f"/{script}").replace("script: ring", f"script: {script}")[:-1]
    text += "".join(f"agi_arg_{i}: {argument}\n" for i, argument in enumerate(arguments, 1)) + "\n"
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture
def live(tmp_path):
    real_bundle.write_bundle(tmp_path / "bundle", valid_until="2036-04-01T00:00:00Z")
    judge = live_states.loaded(tmp_path / "bundle")
    live_state = Live(
        judge, Intake(real_bundle.NUMBER_KEY), tmp_path / "state", deadline=5.0, limits=Limits(10_000, 1_000)
    )
    yield live_state
    live_state.close()


@contextlib.asynccontextmanager
async def asterisk(agi):
    """Yields the port of a running server."""
    server = await asyncio.start_server(agi, "127.0.0.1", 0, limit=LINE)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def dialogue(port, request, answers=b"200 result=1\n"):
    """Sends a request and answers each command; returns the commands until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    commands = []
    with contextlib.suppress(ConnectionError):
        writer.write(request)
        while line := await asyncio.wait_for(reader.readline(), 10):
            commands.append(line.decode())
            writer.write(answers)
    writer.close()
    return commands


def talk(live, *dialogues, **more):
    """Runs dialogues one after another with one server; returns its `Agi` and the commands of each dialogue."""

    async def run():
        agi = Agi(live)
        async with asterisk(agi) as port:
            return agi, [await dialogue(port, request, **more) for request in dialogues]

    return asyncio.run(run())


def test_a_call_is_scored_and_enters_the_history_at_its_end(live):
    began = int(time.time()) - 40
    agi, (ring, end) = talk(live, head(moment=began), head("end", "31", "12", "ANSWER", "16", moment=began))
    assert [COMMAND.fullmatch(line)[1] for line in ring] == [None, "_CASE", "_CONFIDENCE", "_STATUS", "_RULES"]
    action, case, confidence, status, rules = (COMMAND.fullmatch(line)[2] for line in ring)
    verdict = live.explain(case)
    assert rules == ",".join(fact.rule for fact in verdict.rules)
    assert (verdict.action, "", verdict.status) == (action, confidence, status) == ("pass", "", "filling")
    assert end == []
    assert agi.counts == {"ring": 1, "end": 1, "unknown": 0, "full": 0, "broken": 0}
    assert live.counts["attempts"] == live.counts["ends"] == 1
    assert live.memory.history.calls == 1  # attempt and end are one call


def test_a_request_becomes_a_call_and_its_end():
    fields = dict(
        line.removeprefix("agi_").split(": ", 1) for line in head(moment=1772500000).decode().split("\n")[:-2]
    )
    call = call_from_request(fields)
    assert (call.start, call.caller, call.callee, call.trunk) == (
        1772500000.0, "13800138000", "13900139000", "PJSIP/carrier",
    )  # fmt: skip
    assert call_from_request(fields | {"dnid": "unknown", "extension": "95588"}).callee == "95588"
    assert call_from_request(fields | {"uniqueid": "pbx-1-1772500001.7"}).start == 1772500001.0
    assert abs(call_from_request(fields | {"uniqueid": "odd"}).start - time.time()) < 2
    for presentation in ("35", "67", "32", "64"):
        assert call_from_request(fields | {"callingpres": presentation}).caller == ""
    done = ended_call(call, "31", "12", "ANSWER", "16")
    assert (done.ring, done.talk, done.outcome) == (19.0, 12.0, "answered")
    assert ended_call(call, "30", "", "NOANSWER", "").outcome == "no_answer"
    assert ended_call(call, "2", "0", "CHANUNAVAIL", "1").outcome == "invalid_number"
    assert ended_call(call, "5", "0", "BUSY", "21").outcome == "rejected"
    odd = ended_call(call, "-1", "9" * 99, "½", "x")
    assert (odd.ring, odd.talk, odd.outcome) == (0.0, 0.0, "unknown")


@pytest.mark.parametrize(
    ("result", "level", "attestation"),
    [
        ("success", "A", "A"), ("success", "C", "C"), ("success", "D", "unknown"), ("success", "", "unknown"),
        ("Verification passed", "B", "B"), ("signature_validation", "A", "failed"), ("Signature failed", "A", "failed"),
        ("cid_orig_tn_mismatch", "A", "failed"), ("missing_identity_hdr", "", "none"),
        ("Verification not present", "", "none"), ("cert_retrieval_failure", "A", "unknown"), ("", "A", "unknown"),
    ],
)  # fmt: skip
def test_the_result_of_stir_shaken_becomes_an_attestation(result, level, attestation):
    assert module.attestation_of(result, level) == attestation


def test_a_failed_verification_labels_the_call(live):
    arguments = (("signature_validation", "A"), ("success", "A"), ("",), ())
    rings = (head("ring", *words, moment=int(time.time()) - age) for age, words in enumerate(arguments))
    _, dialogues = talk(live, *rings)
    actions = [COMMAND.fullmatch(commands[0])[2] for commands in dialogues]
    assert actions == ["label", "pass", "pass", "pass"]  # the rule `authentication_failed`
    assert COMMAND.fullmatch(dialogues[0][2])[2] == ""  # the shipped policy has no figure for the rule


@pytest.mark.parametrize(
    ("answers", "commands"),
    [
        (b"HANGUP\n200 result=1\n", 5),  # this line may come before an answer
        (b"510 Invalid or unknown command\n", 1),
        (b"511 Command Not Permitted on a dead channel\n", 1),
        (b"HANGUP\n" * 99, 1),
    ],
)
def test_a_refused_command_ends_the_dialogue(live, answers, commands):
    agi, (ring,) = talk(live, head(), answers=answers)
    assert len(ring) == commands
    assert agi.counts["broken"] == (commands == 1)


def test_the_end_of_an_unknown_call_and_a_request_with_too_many_lines_are_counted_and_ignored(live):
    agi, (_, ring) = talk(live, head("end", "3", "0", "CANCEL", ""), head("ring", *["x"] * module.LINES))
    assert (ring, agi.counts["unknown"], agi.counts["broken"]) == ([], 1, 1)
    assert live.counts["ends"] == 0


def test_the_oldest_pending_call_is_dropped_first(live, monkeypatch):
    monkeypatch.setattr(module, "PENDING", 1)
    began = int(time.time())
    rings = [head(moment=began - age) for age in (1, 0)]
    ends = [head("end", "3", "0", "CANCEL", "", moment=began - age) for age in (1, 0)]
    agi, _ = talk(live, *rings, *ends)
    assert (agi.counts["ring"], agi.counts["unknown"], agi.counts["end"]) == (2, 1, 1)


def test_the_server_stops_on_sigterm(live):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async def run():
        serving = asyncio.create_task(serve(live, port=port))
        commands = []
        while not commands:
            await asyncio.sleep(0.01)
            with contextlib.suppress(ConnectionError):
                commands = await dialogue(port, head())
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)
        return commands

    assert len(asyncio.run(run())) == 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_an_incomplete_dialogue_is_closed_and_others_are_answered(live):
    async def run():
        agi = Agi(live)
        async with asterisk(agi) as port:
            stuck = [dialogue(port, head()[:size]) for size in (0, 1, 300, len(head()) - 1)]
            mute = dialogue(port, head(), answers=b"")
            whole = [dialogue(port, head(caller=f"1380013800{i}")) for i in range(5)]
            return agi, await asyncio.gather(*stuck, mute, *whole)  # ends when the server has closed all of them

    agi, dialogues = asyncio.run(run())
    assert [len(commands) for commands in dialogues] == [0, 0, 0, 0, 1, 5, 5, 5, 5, 5]
    assert agi.counts["broken"] == 5


def test_connections_above_the_limit_are_refused(live, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 5.0)

    async def run():
        agi = Agi(live)
        async with asterisk(agi) as port:
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(OPEN)]
            while agi._open < OPEN:
                await asyncio.sleep(0.01)
            refused = await dialogue(port, head())
            for _, writer in connections:
                writer.close()
            while agi._open:
                await asyncio.sleep(0.01)
            return agi, refused, await dialogue(port, head())

    agi, refused, after = asyncio.run(run())
    assert (refused, len(after)) == ([], 5)
    assert agi.counts["full"] == 1


HOSTILE = st.text(st.characters(exclude_categories=[]), max_size=300) | st.sampled_from(
    ['"', '"; SET VARIABLE X "', "\\", "138\r\nagi_network_script: end", "\0", "😀" * 60, "x" * 5000, "%s%n", "-1"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caller=HOSTILE, callee=HOSTILE)
def test_hostile_numbers_reach_no_command(live, capfd, caller, callee):
    agi, (ring, after) = talk(live, head(caller=caller, callee=callee), head())
    assert all(COMMAND.fullmatch(line) for line in ring)
    assert len(after) == 5
    assert sum(agi.counts.values()) == 2
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2000))
def test_any_bytes_end_the_dialogue(live, capfd, data):
    agi, (commands, after) = talk(live, data + b"\n\n", head())
    assert (commands, len(after)) == ([], 5)
    assert agi.counts["broken"] == 1
    assert capfd.readouterr() == ("", "")


CHANNELS = (
    "PJSIP/carrier-0000002a", "PJSIP/a-b-0000002b", "Local/x@in-00000001;2", "DAHDI/1", "-0000002c", "SIP/线路-1",
)  # fmt: skip


def test_a_call_of_the_dialogue_and_its_record_in_a_file_have_the_same_trunk(tmp_path):
    """Otherwise the records that fill a history and the calls at ring time are two feeds."""
    end = ",,Dial,,2026-03-02 09:00:00,,2026-03-02 09:00:25,25,0,NO ANSWER,3"
    rows = [f'"",1380013800{at},13900139000,in,"","{name}"{end}' for at, name in enumerate(CHANNELS)]
    (tmp_path / "Master.csv").write_text("\n".join(rows) + "\n")
    of_file = read_calls(tmp_path / "Master.csv", read_layout("asterisk")).table["trunk"].to_pylist()
    lines = {"uniqueid": "1.1", "callerid": "13800138000", "extension": "13900139000"}
    assert of_file == [call_from_request(lines | {"channel": channel}).trunk for channel in CHANNELS]
    assert of_file == ["PJSIP/carrier", "PJSIP/a-b", "Local/x@in", None, None, "SIP/线路"]
