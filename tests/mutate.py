"""Which changes of a file no test notices: `python tests/mutate.py training/certify.py`.

The changes are those of cosmic-ray's operators, one at a time: another operator, a number one off, a negated
condition, a loop that does not run. The file's own tests run on each, in a process forked from one that has loaded the
libraries already, on a copy of the checkout. What survives is compared with `tests/mutants.txt`, which says of each
known survivor why it may live; the exit code is 1 if there is another one. Changes of annotations alone are no changes.

A changed kernel is neither compiled by Numba nor taken from C: machine code of the file as it was would hide the
change.
"""

import argparse
import ast
import difflib
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent.parent
KNOWN = HERE / "tests" / "mutants.txt"
SECONDS = 120  # of processor time that a mutant may take, in the first tests and in the others; more counts as noticed
EXAMPLES = 25  # of each property, if it is to be quick
HANGING = 1200  # seconds after which it does nothing any more
KILLED, SURVIVED, SLOW = "killed", "survived", "slow"
PYTEST = ("-x", "-q", "--noconftest", "--disable-plugin-autoload", "-p", "no:cacheprovider", "--tb=no")
# No operator that changes nothing but how slowly a test fails, or that needs names of its own to be told.
LEFT_OUT = ("VariableReplacer", "VariableInserter")


class Target(NamedTuple):
    """Tests of a file: those that run first are quick, the others run only on what they leave."""

    tests: tuple[str, ...]
    first: str  # of pytest's -k
    loaded: tuple[str, ...] = ()  # libraries to load beforehand
    is_kernel: bool = False


TARGETS = {
    "features/windows.py": Target(
        ("test_windows.py",),
        "busy_week or nobody_asks or told_later or millisecond or silence",
        ("numba", "pyarrow.parquet"),
        is_kernel=True,
    ),
    "features/order.py": Target(("test_order.py",), "sorted_list", ("pyarrow.parquet",)),
    "training/certify.py": Target(
        ("test_certify.py",), "not covers and not one_by_one and not several_tables", ("scipy.special",)
    ),
    "serving/rules.py": Target(
        ("test_rules.py",),
        "is_met or meets or has_words or shown or need_none or people_write",
        ("lightgbm", "pyarrow.parquet"),
    ),
    "serving/bundle.py": Target(("test_bundle.py",), "not mutants and not process", ("lightgbm", "numpy.testing")),
}


def mutants(source, rng):
    """Changed texts of a file that mean something else, each once, with the name of what was done, in a drawn order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    nodes, seen = list(ast_nodes(get_ast(source))), {source}
    operators = {name: get_operator(name)() for name in operator_names() if not name.endswith(LEFT_OUT)}
    places = [
        (name, place)
        for name, operator in sorted(operators.items())
        for place in range(sum(len(list(operator.mutation_positions(node))) for node in nodes))
    ]
    for name, place in rng.sample(places, len(places)):
        changed = mutate_code(source, operators[name], place)
        if changed is not None and changed not in seen and meaning(changed) != meaning(source):
            seen.add(changed)
            yield name.removeprefix("core/"), changed


def meaning(source):
    """The syntax without annotations; the text itself if it has no syntax."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def changed_lines(before, after):
    """The lines that went and came, on one line."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    told = [line[0] + " " + " ".join(line[1:].split()) for line in lines if line[:3] not in ("---", "+++", "@@ ")]
    return "  ".join(told)


def widen():
    """What Numba would have compiled runs as it stands."""
    from callsieve.features import table

    from interpreted import widened

    table.scratch = widened(table.scratch)


def run(folder, target, words, write=False):
    """pytest's exit code in a fork of this process; a signal's number, below 0, if it took too long."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            signal.alarm(HANGING)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            sys.dont_write_bytecode = not write
            os.chdir(folder)
            with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                import pytest

                if target.is_kernel:
                    widen()
                code = int(pytest.main([*PYTEST, *words]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def fate(folder, target, quick):
    """What the tests make of the file as it stands in the copy."""
    tests = [f"tests/{name}" for name in target.tests]
    for words in [[*tests, "-k", target.first], [*tests, "-k", f"not ({target.first})"]][: 1 if quick else 2]:
        code = run(folder, target, words)
        if code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
            return SLOW
        if code != 0:
            return KILLED
    return SURVIVED


def copy_of_the_checkout(target):
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    compiled = ["kernel.library"] if target.is_kernel else []
    left_out = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".venv*", "notebooks", *compiled)
    shutil.copytree(HERE, folder, dirs_exist_ok=True, symlinks=True, ignore=left_out)
    return folder


def prepare(folder, target, quick):
    """Load what the tests need of others, and set the draws: the same ones, and no search for a smaller example."""
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=str(folder / ".typing"))
    if target.is_kernel:
        os.environ["NUMBA_DISABLE_JIT"] = "1"
    sys.path[:0] = [str(folder / ".typing"), str(folder / "tests")]
    import hypothesis
    import numpy  # noqa: F401 - loaded before the fork
    import pytest  # noqa: F401
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A change that matters shows in the first few draws; most of the time goes into those that make no difference.
        **({"max_examples": EXAMPLES} if quick else {}),
    )
    settings.load_profile("mutants")
    if quick:
        hypothesis.settings = lambda **given: settings(**given | {"max_examples": EXAMPLES})
    for name in target.loaded:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.startswith("callsieve")]  # a fork would not see the change


def known():
    """Reason by file and change."""
    lines = KNOWN.read_text().splitlines() if KNOWN.exists() else []
    told, file, reason = {}, "", ""
    for line in lines:
        if line.startswith("## "):
            file = line[3:]
        elif line.startswith("# "):
            reason = line[2:]
        elif line.startswith("- "):
            told[file, line] = reason
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", choices=TARGETS)
    parser.add_argument("--sample", type=int, help="so many of them, drawn; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the tests that run first only, few draws: more survives")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    target, began = TARGETS[given.file], time.monotonic()
    source = (HERE / given.file).read_text()
    drawn = list(itertools.islice(mutants(source, random.Random(given.seed)), given.sample))
    folder = copy_of_the_checkout(target)
    file = folder / given.file
    try:
        prepare(folder, target, given.quick)
        words = ["-k", target.first] if given.quick else []
        if run(folder, target, [*[f"tests/{name}" for name in target.tests], *words], write=True) != 0:
            sys.exit(f"{given.file}: its tests fail, or take more than {SECONDS} s, without any change")
        for kept in file.parent.glob(f"__pycache__/{file.stem}.*"):
            kept.unlink()
        counts, survivors = dict.fromkeys((KILLED, SURVIVED, SLOW), 0), []
        for i, (operator, changed) in enumerate(drawn, start=1):
            file.write_text(changed)
            done = fate(folder, target, given.quick)
            counts[done] += 1
            if done == SURVIVED:
                survivors.append(changed_lines(source, changed))
                print(f"{i} of {len(drawn)}: {operator}: {survivors[-1]}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    reasons = known()
    new = [line for line in survivors if (given.file, line) not in reasons]
    told = {"file": given.file, "tried": len(drawn), "seed": given.seed, **counts}
    told |= {"new": new, "seconds": round(time.monotonic() - began)}
    print(json.dumps(told, indent=1) if given.json else "\n".join([f"{k:10}{v}" for k, v in told.items()]))
    sys.exit(bool(new))


if __name__ == "__main__":
    main()
