"""A temporary PostgreSQL cluster on loopback, and an MLflow server on it; both end with the test."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.debian import program
from tests.support.http_service import free_port

PATIENCE = 90.0  # seconds


def plain_user():
    """Returns the user of the cluster, which refuses root: the package's own user, or the current one."""
    if os.getuid():
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid}


@contextmanager
def postgres_cluster():
    """Yields the SQLAlchemy URL of a new database."""
    initdb, folder = Path(program("initdb")).resolve(), Path(tempfile.mkdtemp(prefix="callsieve-pg-"))
    user, port, data = plain_user(), free_port(), folder / "data"
    if user:
        os.chown(folder, user["user"], user["group"])
    run = {"cwd": "/", "stdout": subprocess.DEVNULL, **user}
    try:
        subprocess.run(
            [initdb, "-D", data, "-U", "callsieve", "--auth=trust", "--no-sync", "-E", "UTF8"], check=True, **run
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        control = [initdb.with_name("pg_ctl"), "-D", data, "-w"]
        subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **run)
        try:
            yield f"postgresql+psycopg://callsieve@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, **run)
    finally:
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(store, artifacts):
    """Yields the URL of a server with its runs in `store` and its artifacts in a folder."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
             str(artifacts), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    with (artifacts.parent / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
    try:
        wait_for(f"{uri}/health", server)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for(url, server):
    """Returns when the URL answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, "the MLflow server ended"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"{url}: no answer in {PATIENCE} s")
