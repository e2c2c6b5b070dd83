"""The shipped HAProxy configuration in front of real processes, for tests and benches."""

import contextlib
import re
import socket
import subprocess
from pathlib import Path

from tests.support.debian import program
from tests.support.http_service import ServiceClient, free_port
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

CONFIGURATION = ROOT / "serving" / "http" / "haproxy.cfg"
BINDS = ("bind 127.0.0.1:8080", "bind 127.0.0.1:8081")  # for calls, and for health checks
SERVERS = re.compile("    server one 127.0.0.1:8101\n    server two 127.0.0.1:8102\n")


class Proxy(ServiceClient):
    """HAProxy by its shipped configuration, with the ports of services by name; leaving the block stops it.

    `health` asks the port for health checks.
    """

    def __init__(self, folder, ports):
        haproxy, self.port = program("haproxy"), free_port()
        self.health = ServiceClient()
        self.health.port = free_port()
        servers = "".join(f"    server {name} 127.0.0.1:{port}\n" for name, port in ports.items())
        text, replaced = SERVERS.subn(servers, CONFIGURATION.read_text())
        assert replaced == text.count("\nbackend ")
        for bind, port in zip(BINDS, (self.port, self.health.port), strict=True):
            assert text.count(bind) == 1
            text = text.replace(bind, f"bind 127.0.0.1:{port}")
        path = Path(folder) / "haproxy.cfg"
        path.write_text(text)
        self.log = Path(folder) / "haproxy.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([haproxy, "-db", "-f", path], stdout=log, stderr=log)

    def __enter__(self):
        wait_until(self._is_up)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def _is_up(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
