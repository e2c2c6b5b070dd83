"""The service on a Unix socket and with TLS, as a real process, and refusals of certificates that cannot serve."""

import datetime
import re
import socket
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import http_service
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


def test_a_certificate_that_cannot_serve_is_refused_by_name(certificate, service_folder, keys, tmp_path, command_error):
    assert keys
    chain, locked = certificate[0], tmp_path / "locked.key"
    for words, reason in (
        (("--ssl-certfile", tmp_path / "none.crt"), "No such file or directory: '.*none.crt'"),
        (("--ssl-certfile", chain, "--ssl-keyfile", tmp_path / "none.key"), "No such file or directory: '.*none.key'"),
        (("--ssl-certfile", chain), "tls.crt: expected a chain of certificates in PEM with its key"),
        (("--ssl-certfile", chain, "--ssl-keyfile", locked), "tls.crt: expected .* not encrypted"),
    ):
        assert re.search(reason, " ".join(command_error(*serve_words(service_folder, *words)).split()))
    for words in (("--uds", tmp_path / "socket", "--port", "8080"), ("--ssl-keyfile", locked)):
        assert "not used with" in command_error(*serve_words(service_folder, *words), code=2)
