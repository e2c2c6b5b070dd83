"""Runs the mutants of `mutants.toml`: small patches, each of which takes a capability away from the code.

`python -m tests.tools.teeth` runs all, `... L19 P6` those of some requirements, `... --changed` those whose file, tests
or entry differ from the last commit but one. A mutant is killed if, for each of its requirements, a test with that mark
fails on the patched tree and passes on the tree as it is. The last line has the counts; exit code 1 unless all are
killed. Patches are applied to a temporary copy of the tree, never to the tree itself.
"""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from xml.etree import ElementTree

from tests.support.paths import ROOT
from tests.tools.traceability import MUTANTS, Mark, Mutant, marks, read_mutants, trace

PACKAGES = ("features", "serving", "training")
LIBRARIES = ("features/codegen/kernel.library", "serving/bundle/forest.library")  # compiled, so Git ignores them
SECONDS = 900  # after which the tests of a mutant are stopped
# Messages of failures are dropped, so assertions are not rewritten and examples not shrunk.
OPTIONS = (
    "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:nbmake", "--assert=plain",
    "--hypothesis-profile=unshrunk",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one mutant.

    Attributes:
        name: the mutant.
        killers: the test that failed, by requirement.
        fault: why the mutant does not count as killed; "" if it does.
        seconds: duration of its tests.
    """

    name: str
    killers: dict[str, str]
    fault: str
    seconds: float


class Tree:
    """A copy of the files that Git tracks or would add, and a process that runs tests in it.

    The tests import `callsieve` from the copy.
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="teeth-")
        self.root, self._report = Path(self._folder.name, "tree"), Path(self._folder.name, "report.xml")
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        for name in {*names, *LIBRARIES} - {""}:
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        for name in PACKAGES:
            (self.root / ".package" / "callsieve" / name).symlink_to(self.root / name)
        self._start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(self.root / ".package")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", "tests.tools.forked_pytest"]
        self._runner = subprocess.Popen(
            command, cwd=self.root, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def _stop(self) -> None:
        """Ends the process, a test that it may be running, and what that has started."""
        os.killpg(self._runner.pid, signal.SIGKILL)
        self._runner.communicate()

    def run(self, tests: Sequence[str], *options: str, seconds: float | None = SECONDS) -> tuple[list[str], str]:
        """Runs tests, at most for some seconds.

        Returns: the tests that failed, and why there may be no result ("" if there is one). A test whose fixture raised
            an error did not fail.
        """
        self._report.unlink(missing_ok=True)
        arguments = [*OPTIONS, f"--junitxml={self._report}", *options, *tests]
        assert self._runner.stdin and self._runner.stdout
        self._runner.stdin.write(json.dumps(arguments) + "\n")
        self._runner.stdin.flush()
        if not select.select([self._runner.stdout], [], [], seconds)[0]:
            self._stop()
            self._start()
            return [], f"its tests ran longer than {seconds} s"
        code = int(self._runner.stdout.readline())
        if code not in (0, 1):
            return [], f"its tests did not run: exit code {code} of pytest"
        cases = list(ElementTree.parse(self._report).iter("testcase"))  # noqa: S314 - written by our own process
        failed = [_test(case) for case in cases if case.find("failure") is not None]
        errors = [_test(case) for case in cases if case.find("error") is not None]
        return failed, f"a fixture of {errors[0]} failed" if errors and not failed else ""


def _test(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"


def tests_of(mutant: Mutant, row: str, all_marks: Sequence[Mark]) -> list[str]:
    """Returns the tests of a requirement: those whose mark names the mutant's file, or all if there is none."""
    of_row = [mark for mark in all_marks if row in mark.rows]
    near = [mark for mark in of_row if mark.by == mutant.file]
    return sorted({mark.test for mark in near or of_row})


def judge(mutant: Mutant, tree: Tree, all_marks: Sequence[Mark]) -> Verdict:
    """Applies a mutant, runs the tests of each of its requirements until one fails, and undoes the patch."""
    file, start, killers, fault = tree.root / mutant.file, time.monotonic(), dict[str, str](), ""
    text = file.read_text(encoding="utf-8")
    file.write_text(mutant.patched(text), encoding="utf-8")
    for row in mutant.rows:
        tests = tests_of(mutant, row, all_marks)
        killer = next((test for test in killers.values() if test in tests), None)
        if killer is None:
            failed, fault = tree.run(tests, "-x")
            if not failed:
                fault = fault or f"SURVIVED the tests of {row}"
                break
            killer = failed[0]
        killers[row] = killer
    file.write_text(text, encoding="utf-8")
    return Verdict(mutant.name, killers, fault, round(time.monotonic() - start, 1))


def verified(verdicts: Sequence[Verdict], tree: Tree) -> list[Verdict]:
    """Returns the verdicts, with a fault where a test also fails without the patch."""
    killers = sorted({test for verdict in verdicts for test in verdict.killers.values()})
    failed, fault = tree.run(killers, seconds=None) if killers else ([], "")

    def fault_of(verdict: Verdict) -> str:
        broken = [test for test in verdict.killers.values() if test in failed]
        return verdict.fault or fault or (f"{broken[0]} fails without the patch, too" if broken else "")

    return [replace(verdict, fault=fault_of(verdict)) for verdict in verdicts]


def git(*words: str) -> str:
    """Returns the output of a Git command in the tree.

    Raises:
        SystemExit: if it fails.
    """
    process = subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S607
    if process.returncode:
        sys.exit(f"teeth: git {' '.join(words)}: {process.stderr.strip()}")
    return process.stdout


def changed(mutants: Sequence[Mutant], base: str, all_marks: Sequence[Mark]) -> list[Mutant]:
    """Returns the mutants whose entry, file or tests differ from a commit."""
    files = set(git("diff", "--name-only", base).splitlines())
    known = git("ls-tree", "--name-only", base, str(MUTANTS))
    before = tomllib.loads(git("show", f"{base}:{MUTANTS}")) if known else {}

    def differs(mutant: Mutant) -> bool:
        entry = {"rows": list(mutant.rows), "file": mutant.file, "old": mutant.old, "new": mutant.new}
        tests = [test for row in mutant.rows for test in tests_of(mutant, row, all_marks)]
        touched = {mutant.file, *(test.partition("::")[0] for test in tests)}
        return before.get(mutant.name) != entry or bool(touched & files)

    return list(filter(differs, mutants))


def main() -> None:
    """Runs the chosen mutants and prints a line for each; exit code 1 unless all are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="requirements, for example L19; all by default")
    parser.add_argument("--changed", nargs="?", const="HEAD~1", metavar="COMMIT", help="only changed since this commit")
    parser.add_argument("--most", type=int, default=1_000_000, help="run at most so many, evenly spaced in their list")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args()
    try:
        trace(ROOT)
    except ValueError as error:
        sys.exit(f"teeth: {error}")
    all_marks, mutants = marks(ROOT), read_mutants(ROOT)
    unknown = set(options.rows) - {row for mutant in mutants for row in mutant.rows}
    if unknown:
        parser.error(f"no mutant of {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not options.rows or set(options.rows) & set(mutant.rows)]
    if options.changed:
        chosen = changed(chosen, options.changed, all_marks)
    chosen = chosen[:: max(1, -(-len(chosen) // options.most))]
    verdicts: list[Verdict] = []
    if chosen:
        with Tree() as tree:
            for place, mutant in enumerate(chosen, 1):
                verdicts.append(judge(mutant, tree, all_marks))
                last = verdicts[-1]
                line = f"{last.fault or 'killed'} in {last.seconds} s: {', '.join(mutant.rows)}, {mutant.name}"
                print(f"{place}/{len(chosen)} {line}", file=sys.stderr, flush=True)
            verdicts = verified(verdicts, tree)
    faults = [verdict for verdict in verdicts if verdict.fault]
    killed = len(verdicts) - len(faults)
    if options.json:
        facts = {"killed": killed, "not_killed": len(faults), "mutants": list(map(asdict, verdicts))}
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        for verdict in faults:
            print(f"{verdict.name}: {verdict.fault}")
        print(f"{len(verdicts)} of {len(mutants)} mutants run: {killed} killed, {len(faults)} not killed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
