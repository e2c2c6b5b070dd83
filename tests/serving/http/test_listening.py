"""The service on a Unix socket and with TLS, as a real process, and refusals of certificates that cannot serve."""

import datetime
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from callsieve.serving.cli.command_tree import commands
from callsieve.serving.http import connections, server
from callsieve.training.cli.command_table import ROOT as COMMAND
from tests.support import http_service
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

NAME = "scorer.example"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def certificate(tmp_path):
    """Paths of a self-signed certificate and of its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    chain = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "tls.crt").write_bytes(chain)
    (tmp_path / "tls.key").write_bytes(key.private_bytes(*pem, serialization.NoEncryption()))
    (tmp_path / "locked.key").write_bytes(key.private_bytes(*pem, serialization.BestAvailableEncryption(b"word")))
    return tmp_path / "tls.crt", tmp_path / "tls.key"


def serve_words(folder, *more):
    named = {"bundle": "bundle", "key": "number.key", "keys": "api.keys", "state": "state"}
    return ["serve", *(word for name, path in named.items() for word in (f"--{name}", folder / path)), *more]


@pytest.mark.system
def test_a_service_answers_with_tls_on_a_unix_socket(certificate, service_folder, keys, tmp_path):
    assert keys
    path, (chain, key) = tmp_path / "scorer.sock", certificate
    words = serve_words(service_folder, "--uds", path, "--ssl-certfile", chain, "--ssl-keyfile", key)
    words[words.index("--state") + 1] = tmp_path / "state"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "callsieve.training", *map(str, words)], stderr=log)
    try:
        wait_until(path.exists, http_service.READY_WITHIN)
        context = ssl.create_default_context(cafile=chain)
        with socket.socket(socket.AF_UNIX) as plain:
            wait_until(lambda: plain.connect_ex(str(path)) == 0)
            with context.wrap_socket(plain, server_hostname=NAME) as connection:
                connection.sendall(HEALTH)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
    finally:
        process.terminate()
        process.wait(20)
    assert answer.startswith(b"HTTP/1.1 200") and b'{"ok":true' in answer
    log = (tmp_path / "log").read_text()
    assert process.returncode == 0 and " ERROR " not in log
    assert "start: callsieve" in log and str(path) in log and log.endswith(" INFO stop: all events are on disk\n")


async def answer_ok(scope, receive, send):
    """An ASGI application that answers 200 to everything."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"11")]})
        await send({"type": "http.response.body", "body": b'{"ok":true}'})
        return
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.source("L37", by="serving/http/connections.py")
@pytest.mark.parametrize("seconds", [60.0, 1.0])
def test_clients_that_never_finish_their_tls_handshake_keep_nobody_out(certificate, monkeypatch, seconds):
    chain, key = certificate
    most, silent = 8, []
    monkeypatch.setattr(connections, "HEAD_SECONDS", seconds)
    monkeypatch.setattr(server, "connection_limit", lambda: most)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    running = server.configured(answer_ok, "127.0.0.1", 0, tls=context)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: running.started)
        address = running.servers[0].sockets[0].getsockname()
        for start in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"):
            for _ in range(most):
                silent.append(socket.create_connection(address))
                silent[-1].sendall(start)
        trust = ssl.create_default_context(cafile=chain)
        with trust.wrap_socket(socket.create_connection(address), server_hostname=NAME) as connection:
            connection.settimeout(20)
            connection.sendall(HEALTH)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"ok":true}')
        wait_until(lambda: sum(not is_closed(client) for client in silent) <= (most if seconds > 30 else 0), 20)
    finally:
        running.should_exit = True
        thread.join(20)
        for client in silent:
            client.close()
    assert not thread.is_alive()


def is_closed(client):
    """Returns whether the service has closed a connection."""
    client.setblocking(False)
    try:
        return client.recv(1 << 10) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


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


def test_a_certificate_that_cannot_serve_is_refused_by_name(certificate, service_folder, keys, tmp_path, command_error):
    assert keys
    chain, locked = certificate[0], tmp_path / "locked.key"
    for words, reason in (
        (("--ssl-certfile", tmp_path / "none.crt"), "none.crt: not found"),
        (("--ssl-certfile", chain, "--ssl-keyfile", tmp_path / "none.key"), "none.key: not found"),
        (("--ssl-certfile", chain), "tls.crt: expected a chain of certificates in PEM with its key"),
        (("--ssl-certfile", chain, "--ssl-keyfile", locked), "tls.crt: expected .* not encrypted"),
    ):
        assert re.search(reason, " ".join(command_error(*serve_words(service_folder, *words)).split()))
    for words in (("--uds", tmp_path / "socket", "--port", "8080"), ("--ssl-keyfile", locked)):
        assert "not used with" in command_error(*serve_words(service_folder, *words), code=2)
