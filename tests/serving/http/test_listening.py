"""The service on a Unix socket, under systemd, and by its unit."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

from callsieve.serving.cli.command_tree import commands
from callsieve.training.cli.command_table import ROOT as COMMAND
from tests.support import http_service
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def serve_words(folder, *more):
    named = {"bundle": "bundle", "key": "number.key", "keys": "api.keys", "state": "state"}
    return ["serve", *(word for name, path in named.items() for word in (f"--{name}", folder / path)), *more]


@pytest.mark.system
def test_a_service_answers_on_a_unix_socket(service_folder, keys, tmp_path):
    assert keys
    path = tmp_path / "scorer.sock"
    words = serve_words(service_folder, "--uds", path)
    words[words.index("--state") + 1] = tmp_path / "state"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "callsieve.training", *map(str, words)], stderr=log)
    try:
        wait_until(path.exists, http_service.READY_WITHIN)
        with socket.socket(socket.AF_UNIX) as connection:
            wait_until(lambda: connection.connect_ex(str(path)) == 0)
            connection.sendall(HEALTH)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    finally:
        process.terminate()
        process.wait(20)
    assert answer.startswith(b"HTTP/1.1 200") and b'{"ok":true' in answer
    log = (tmp_path / "log").read_text()
    assert process.returncode == 0 and " ERROR " not in log
    assert "start: callsieve" in log and str(path) in log and log.endswith(" INFO stop: all events are on disk\n")


@pytest.mark.system
@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_when_the_state_is_read(service_folder, keys, tmp_path, is_abstract):
    assert keys
    name = f"@callsieve-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0", 1))
        systemd.settimeout(http_service.READY_WITHIN)
        wrapped = ("env", f"NOTIFY_SOCKET={name}")
        with http_service.ServiceProcess(service_folder, "--state", tmp_path / "state", wrapped=wrapped) as service:
            assert systemd.recv(100) == b"READY=1"
            assert service.get("/health/live")[0] == 200


UNIT = ROOT / "serving" / "http" / "callsieve.service"


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path):
    text = UNIT.read_text()
    assert "\nType=notify\n" in text and "\nExecReload=/bin/kill -HUP $MAINPID\n" in text
    path = tmp_path / UNIT.name
    path.write_text(text.replace("/opt/callsieve/bin/callsieve", sys.executable))
    for words in (["verify"], ["security", "--offline=true", "--threshold=20"]):  # an exposure of at most 2.0 of 10
        done = subprocess.run([ANALYZE, *words, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown key" not in done.stderr


def test_the_command_of_the_unit_parses():
    (command,) = re.findall(r"^ExecStart=/opt/callsieve/bin/callsieve (.*)$", UNIT.read_text(), re.MULTILINE)
    name, *words = command.split()
    with dict(commands(COMMAND))[name].make_context(name, words) as context:
        assert context.args == []


def test_a_socket_has_no_port(service_folder, keys, tmp_path, command_error):
    assert keys
    words = serve_words(service_folder, "--uds", tmp_path / "socket", "--port", "8080")
    assert "not used with" in command_error(*words, code=2)
