"""The real HTTP service in a process of its own, for tests and benches, and its clients."""

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

from callsieve.serving import Fact, Policy, Reason, Verdict
from callsieve.serving.http import app, server
from callsieve.serving.http.api_keys import add_key, read_keys
from callsieve.serving.live.memory import Limits
from tests.support import real_bundle
from tests.support.waiting import wait_until

NUMBER = "+8613800138000"
STRICT_POLICY = Policy("test", {"certified": "block", "watch": "screen"}, appeal="appeals office", history_days=0)
LONG_DEADLINE = 60.0  # seconds; a deadline that no machine misses
# Capacity of a history. Address space is reserved at once, and a process that reserves more than memory cannot fork.
CAPACITY = {"limits": Limits(100_000, 10_000)}
SCOPES = ("score", "report", "explain", "admin", "audit")
READY_WITHIN = 60  # seconds


def free_port():
    """Returns a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_service_files(folder, policy='certified = "block"\nwatch = "screen"\n', **card):
    """Writes bundle, keys and policy of a service; returns the API key of each scope, and "all" with every scope."""
    folder.mkdir(exist_ok=True)
    real_bundle.write_signed(folder, **{"valid_until": "2100-01-01T00:00:00Z"} | card)
    real_bundle.NUMBER_KEY.write(folder / "number.key")
    (folder / "policy.toml").write_text(f'version = "test"\nappeal = "office"\nhistory_days = 0\n[bands]\n{policy}')
    keys = {scope: add_key(folder / "api.keys", scope, [scope]) for scope in SCOPES}
    return keys | {"all": add_key(folder / "api.keys", "all", SCOPES, rate=1_000_000)}


def call_json(**fields):
    """Returns the JSON body of a call; `fields` override the defaults."""
    return json.dumps({"start": real_bundle.START, "caller": NUMBER, "callee": "13900139000"} | fields).encode()


def call_to_json(call):
    """Returns a call as the body of a request, without the values None and "unknown"."""
    return json.dumps({name: value for name, value in asdict(call).items() if value not in (None, "unknown")}).encode()


def verdict_from_json(body):
    """Returns the verdict in a response; null becomes NaN where a number is declared."""

    def build(kind, values):
        declared = {field.name: str(field.type) for field in fields(kind)}
        return kind(**{
            name: math.nan if value is None and declared[name] == "float" else value for name, value in values.items()
        })  # fmt: skip

    values = json.loads(body)
    reasons = tuple(build(Reason, reason) for reason in values.pop("reasons"))
    return build(Verdict, values | {"reasons": reasons, "rules": tuple(build(Fact, fact) for fact in values["rules"])})


class ServiceClient:
    """Sends requests to a service on `port`."""

    port = 0

    def connect(self, timeout=30):
        """Returns a keep-alive connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    @property
    def url(self):
        """The base URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path, key=""):
        """Returns status and body of the response to a GET."""
        return request_once(self, "GET", path, key)

    def post(self, path, body=b"", key=""):
        """Returns status and body of the response to a POST."""
        return request_once(self, "POST", path, key, body)

    def status(self, key):
        """Returns the content of the status endpoint."""
        code, body = self.get("/v1/status", key)
        assert code == 200, body
        return json.loads(body)


class ServiceProcess(ServiceClient):
    """`callsieve serve` on the files of a folder; leaving the block stops it.

    `before` runs in the child process before it starts, for example to set limits. `wrapped` is a command prefix.
    """

    def __init__(self, folder, *options, before=None, wrapped=(), ready=True):
        self.folder, self.port, self.ready = folder, free_port(), ready
        self.log = folder / "service.log"
        command = [*wrapped, sys.executable, "-m", "callsieve.training", "serve"]
        named = {"bundle": "bundle", "key": "number.key", "keys": "api.keys", "state": "state", "policy": "policy.toml"}
        command += [part for name, path in named.items() for part in (f"--{name}", folder / path)]
        # A deadline for busy machines, unless `options` override it.
        command += ["--port", self.port, "--deadline", 5000]
        command += ["--max-calls", 50_000, "--max-numbers", 5_000]
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
                path = "/health/ready" if self.ready else "/health/live"
                if json.loads(self.get(path)[1]).get("status", "") not in ("starting", "no_model"):
                    return self
            assert self.process.poll() is None, self.log_text()
            assert time.monotonic() < deadline, self.log_text()
            time.sleep(0.02)

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Stops the process by SIGTERM; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """Stops the process by SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_text(self):
        """Returns the log of the process."""
        return self.log.read_text(errors="replace")


def request_once(service, method, path, key, body=None):
    """Sends a request on a connection of its own; returns status and body."""
    with contextlib.closing(service.connect()) as connection:
        return send_request(connection, method, path, key, body)


def send_request(connection, method, path, key, body=None):
    """Sends a request on an open connection; returns status and body."""
    connection.request(method, path, body, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


class ServiceThread(ServiceClient):
    """The service in a thread of this process; leaving the block stops it. `begin` creates its live state."""

    def __init__(self, folder, begin, judge):
        self.service = app.Service(begin, judge, folder / "bundle", read_keys(folder / "api.keys"))
        endpoints = app.call_endpoints(self.service)
        self.server = server.configured(app.application(self.service), "127.0.0.1", 0, endpoints=endpoints)
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
