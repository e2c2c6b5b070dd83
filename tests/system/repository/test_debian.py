"""A machine without programs that tests use: a test names the package that it needs, and a command installs it."""

import os
import shutil
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.support import debian

SIPP = "sipp is not installed: apt-get install sip-tester"
# Installs packages as programs of the same names, and refuses all that it is asked for with SIPp's package.
APT_GET = """#!/bin/sh
case "$*" in *sip-tester*) exit 100; esac
for word in "$@"; do
  case "$word" in postgresql) word=initdb;; default-jre-headless) word=java; esac
  echo > "{folder}/$word" && /bin/chmod +x "{folder}/$word"
done
"""


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """The only folder for programs, which has none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "program_path", shutil.which)
    return tmp_path


@pytest.mark.parametrize(("value", "ends"), [("", pytest.skip), ("required", pytest.fail)])
def test_a_missing_program_ends_the_test_with_the_name_of_its_package(value, ends, bare, monkeypatch):
    monkeypatch.setenv(debian.REQUIRED, value)
    with pytest.raises(ends.Exception) as caught:
        debian.program("sipp")
    assert str(caught.value) == SIPP and not list(bare.iterdir())


def test_each_missing_program_is_one_line_of_the_summary():
    reports, lines = [SimpleNamespace(longrepr=("x.py", 1, f"Skipped: {SIPP}"))] * 7, []
    other = SimpleNamespace(longrepr=("x.py", 1, "Skipped: no Windows"))
    conftest.pytest_terminal_summary(SimpleNamespace(stats={"skipped": [*reports, other]}, write_line=lines.append))
    assert lines == [f"7 Skipped: {SIPP}"]


def test_one_unknown_package_does_not_keep_the_others_from_root(bare, monkeypatch, capsys):
    (bare / "apt-get").write_text(APT_GET.format(folder=bare))
    (bare / "apt-get").chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    debian.install()
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("installing chromium curl haproxy ") and last.endswith(": sip-tester")
    assert [name for name in debian.PACKAGES if not debian.program_path(name)] == ["sipp"]


@pytest.mark.parametrize("user", [0, 1000])
def test_without_root_or_apt_get_one_line_names_the_packages(user, bare, monkeypatch, capsys):
    if user:
        (bare / "apt-get").symlink_to("/bin/false")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    debian.install()
    (line,) = capsys.readouterr().out.splitlines()
    assert all(package in line.split() for packages in debian.PACKAGES.values() for package in packages.split())
