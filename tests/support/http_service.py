"""A real service in a process of its own, for tests and benches, and clients that speak to it."""

import contextlib
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, fields

from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.http import app, server
from callsieve.serving.http.api_keys import add_key, read_keys
from callsieve.serving.rules.policy import Policy
from callsieve.serving.rules.rules import Fact
from callsieve.serving.scorer.reasons import Reason
from callsieve.serving.scorer.verdict import Verdict
from tests.support import real_bundle
from tests.support import small_bundle as small
from tests.support.waiting import wait_until

NUMBER = "+8613800138000"
STRICT_POLICY = Policy("test", {"certified": "block", "watch": "screen"}, appeal="appeals office", history_days=0)
LONG_DEADLINE = 60.0  # seconds of a deadline that no machine misses
# Of a history: room for it is set aside at once, and a process with more of that than memory cannot begin another.
CAPACITY = {"calls": 100_000, "numbers": 10_000}
SCOPES = ("score", "report", "explain", "admin", "audit")
READY_WITHIN = 60  # seconds


def free_port():
    """A TCP port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_service_files(folder, policy='certified = "block"\nwatch = "screen"\n', **card):
    """Bundle, keys and policy of a service; gives the key of each scope, and one that has them all."""
    folder.mkdir(exist_ok=True)
    real_bundle.write_bundle(folder / "bundle", **card)
    write_public_key(small.KEY.public_key(), folder / "signer.pub")
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    (folder / "policy.toml").write_text(f'version = "test"\nappeal = "office"\nhistory_days = 0\n[bands]\n{policy}')
    keys = {scope: add_key(folder / "api.keys", scope, [scope]) for scope in SCOPES}
    return keys | {"all": add_key(folder / "api.keys", "all", SCOPES, rate=1_000_000)}


def call_json(**fields):
    """A call as a client asks for it."""
    return json.dumps({"start": real_bundle.START, "caller": NUMBER, "callee": "13900139000"} | fields).encode()


def call_to_json(call):
    """A call as the body of a request; what is None or "unknown" is left out."""
    return json.dumps({name: value for name, value in asdict(call).items() if value not in (None, "unknown")}).encode()


def verdict_from_json(body):
    """The verdict in an answer; null is NaN where a number is declared."""

    def build(kind, values):
        declared = {field.name: str(field.type) for field in fields(kind)}
        return kind(**{
            name: math.nan if value is None and declared[name] == "float" else value for name, value in values.items()
        })  # fmt: skip

    values = json.loads(body)
    reasons = tuple(build(Reason, reason) for reason in values.pop("reasons"))
    return build(Verdict, values | {"reasons": reasons, "rules": tuple(build(Fact, fact) for fact in values["rules"])})


class ServiceClient:
    """Questions to a service that listens at `port`."""

    port = 0

    def connect(self, timeout=30):
        """A connection that stays open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    @property
    def url(self):
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path, key=""):
        """Status and body of an answer."""
        return request_once(self, "GET", path, key)

    def post(self, path, body=b"", key=""):
        """Status and body of an answer."""
        return request_once(self, "POST", path, key, body)

    def status(self, key):
        """What the page shows."""
        code, body = self.get("/v1/status", key)
        assert code == 200, body
        return json.loads(body)


class ServiceProcess(ServiceClient):
    """`callsieve serve` on the files of a folder; leaving the block stops it.

    `before` runs in the child before it starts: limits, for example. `wrapped` is put before the command.
    """

    def __init__(self, folder, *options, before=None, wrapped=(), ready=True):
        self.folder, self.port, self.ready = folder, free_port(), ready
        self.log = folder / "service.log"
        command = [*wrapped, sys.executable, "-m", "callsieve.training", "serve"]
        named = {"bundle": "bundle", "key": "number.key", "keys": "api.keys", "state": "state", "policy": "policy.toml"}
        command += [part for name, path in named.items() for part in (f"--{name}", folder / path)]
        # A deadline that a busy machine keeps, and no wait for a compiler, unless the test says otherwise.
        command += [
            "--port",
            self.port,
            "--deadline",
            5000,
            "--no-compiled",
            "--max-calls",
            50_000,
            "--max-numbers",
            5_000,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *map(str, options)],
                stdout=log,
                stderr=log,
                preexec_fn=before,  # noqa: PLW1509 - tests start it from one thread
            )

    def __enter__(self):
        deadline = time.monotonic() + READY_WITHIN
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/health/ready" if self.ready else "/health/live")[0] == 200:
                    return self
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stop it by SIGTERM; gives its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """Stop it by SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self):
        """What it wrote to its log."""
        return self.log.read_text(errors="replace")


def request_once(service, method, path, key, body=None):
    with contextlib.closing(service.connect()) as connection:
        return send_request(connection, method, path, key, body)


def send_request(connection, method, path, key, body=None):
    """Ask on an open connection."""
    connection.request(method, path, body, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


class ServiceThread(ServiceClient):
    """The service in a thread of this process; leaving the block stops it. `begin` makes its live state."""

    def __init__(self, folder, begin, judge):
        self.service = app.Service(begin, judge, folder / "bundle", read_keys(folder / "api.keys"))
        self.server = server.configured(app.application(self.service), "127.0.0.1", 0)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.server.started and self.service.live, READY_WITHIN)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
