"""Programs of Debian packages that tests run: a test skips itself where one is missing.

As a command, it installs the missing packages where it is root and there is apt-get: python3 -m tests.support.debian
"""

import os
import shutil
import subprocess
from pathlib import Path

# A program of each group of packages.
PACKAGES = {
    "chromium": "chromium", "curl": "curl", "haproxy": "haproxy", "initdb": "postgresql",
    "java": "default-jre-headless", "jq": "jq", "kamailio": "kamailio kamailio-extra-modules kamailio-utils-modules",
    "openssl": "openssl", "redis-server": "redis-server", "sipp": "sip-tester",
}  # fmt: skip
MISSING = " is not installed: apt-get install "
REQUIRED = "CALLSIEVE_TEST_SERVERS"  # a variable: with the value "required", a missing program is a failure


def program(name: str) -> str:
    """Returns the path of a program; skips the test that asks for it where it is not installed."""
    path = program_path(name)
    if not path:
        import pytest  # the command runs before pytest is installed

        end = pytest.fail if os.environ.get(REQUIRED) == "required" else pytest.skip
        end(f"{name}{MISSING}{PACKAGES[name]}")
    return path


def program_path(name: str) -> str | None:
    """Returns the path of a program, if it is installed; Debian has some in folders of their own."""
    java = Path(os.environ.get("JAVA_HOME", "/nowhere"), "bin")
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join(map(str, (os.environ["PATH"], "/usr/sbin", java, *postgres))))


def install() -> None:
    """Installs the packages of the programs that are missing, where it may; names those that it did not install."""
    missing = [name for name in PACKAGES if not program_path(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing", *(PACKAGES[name] for name in missing), flush=True)
        apt("update")
        # One unknown package makes apt-get refuse all.
        if not apt("install", missing):
            for name in missing:
                apt("install", [name])
        missing = [name for name in missing if not program_path(name)]
    if missing:
        words = " ".join(PACKAGES[name] for name in missing)
        print(f"the tests of these packages are skipped; as root, `apt-get install` installs them: {words}")


def apt(step: str, names: list[str] | tuple[()] = ()) -> bool:
    """Runs a step of apt-get for the packages of some programs; returns whether it succeeded."""
    packages = [package for name in names for package in PACKAGES[name].split()]
    command = ["apt-get", "-qq", step, "-y", "--no-install-recommends", *packages]
    variables = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=variables, stdout=subprocess.DEVNULL, check=False).returncode == 0


if __name__ == "__main__":
    install()
