"""Fuzzes correctly signed bundles with structure-aware mutations: `python -m tests.tools.fuzz_bundle`.

Each mutant must either be refused in one line, or score exactly as its own arrays say, with contributions that add up
to the score. A crash, a hang or excessive memory ends the process with an exit code other than 0. Mutant i of a seed is
always the same; `--start` resumes, or shares the work between processes. Prints one JSON object; with `--minutes` it
stops in time and reports how many mutants it tried. The default is a million.
"""

import faulthandler
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from callsieve.serving.bundle.bundle import BundleError, load
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.forest_layout import Layout
from callsieve.serving.bundle.signing import sign
from callsieve.training.model.trees import save_bundle
from tests.bench.harness import memory, parser_of
from tests.support import small_bundle as small

SECONDS_PER_MUTANT = 20
MAX_MEGABYTES = 512
NUMBERS = (0, 1, -1, 2, -2, 6, -7, 8, 31, 255, -256, 32_767, -32_768, 65_535, 2**31 - 1, -(2**31))
REALS = (0.0, -0.0, 1.5, -1e6, 1e6 + 1, 1e308, 5e-324, np.nan, np.inf, -np.inf)
VALUES = (
    None, True, False, 0, 1, -1, 2**53, 2**70, 0.5, -0.0, 1e308, "", "x", "骚扰", "\ud800", "a\nb", [], {}, [[]],
    {"a": 1},
)  # fmt: skip
SECTIONS = ("node",) * 8 + ("missing", "leaf", "leaf_count", "bound", "tree", "category", "number", "header")


def mutate_forest(data, rng):
    """Applies one to three changes to packed trees, most of which keep their sections."""
    if rng.random() < 0.1:
        return mutate_bytes(data, rng)
    data = bytearray(data)
    parts = small.sections(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        part = parts[rng.choice(SECTIONS)].reshape(-1)
        i, j = rng.randrange(len(part)), rng.randrange(len(part))
        if rng.random() < 0.3:
            part[i], part[j] = part[j], part[i]
        elif part.dtype.kind == "f":
            part[i] = rng.choice((part[j], *REALS))
        else:
            range_of = np.iinfo(part.dtype)
            value = rng.choice((int(part[i]) + rng.choice((-1, 1)), int(part[j]), *rng.sample(NUMBERS, 3)))
            part[i] = min(max(value, range_of.min), range_of.max)
    return bytes(data)


def mutate_json(value, rng):
    """Replaces or removes one item somewhere in a JSON value."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = mutate_json(value[key], rng)
        return value
    if isinstance(value, int | float) and rng.random() < 0.3:
        return value * rng.choice((-1, 2, 0.5)) + rng.choice((0, 1, -1))
    return rng.choice(VALUES)


def mutate_bytes(data, rng):
    """Flips a bit, truncates, or inserts bytes, once or four times."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 4))):
        i = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[i] ^= 1 << rng.randrange(8)
            case 1:
                del data[i:]
            case _:
                data[i:i] = rng.randbytes(rng.randrange(1, 9))
        if not data:
            break
    return bytes(data)


def json_bytes(value, rng):
    """Encodes in the bundle's own form or in another; lone surrogates are passed through."""
    form = {"sort_keys": True, "indent": 1} if rng.random() < 0.8 else {}
    return (json.dumps(value, ensure_ascii=False, **form) + "\n").encode(errors="surrogatepass")


def mutate_bundle(folder, rng):
    """Changes one file of a valid bundle and signs the result; returns the name of the file."""
    kind = rng.choice(
        ("model.forest",) * 12 + ("content.forest",) * 5 + ("bundle.json",) * 5 + ("MANIFEST.json", "MANIFEST.sig")
    )
    path = folder / kind
    data = path.read_bytes()
    if kind == "MANIFEST.sig":
        path.write_bytes(mutate_bytes(data, rng))
    elif kind.endswith(".forest"):
        path.write_bytes(mutate_forest(data, rng))
    elif rng.random() < 0.2:
        path.write_bytes(mutate_bytes(data, rng))
    else:
        path.write_bytes(json_bytes(mutate_json(json.loads(data), rng), rng))
    if kind == "MANIFEST.json":
        (folder / "MANIFEST.sig").write_bytes(sign(path.read_bytes(), small.KEY))
    elif kind != "MANIFEST.sig":
        small.sign_again(folder)
    return kind


def outcome(folder, kind, rows):
    """Returns the outcome of the mutant.

    Raises:
        AssertionError: if it is neither refused in one line nor scored as its arrays say.
    """
    if kind.endswith(".forest"):
        # The golden vectors catch a changed leaf. A file that passes the structure check alone must be safe as well.
        assert_safe((folder / kind).read_bytes(), 1 if kind == "model.forest" else 3, rows)
    try:
        bundle = load(folder, small.TRUSTED)
    except BundleError as refusal:
        message = str(refusal)
        if "\n" in message or not 0 < len(message) <= 600:
            raise AssertionError(f"refusal must be one line: {message!r}") from None
        return "refused by golden vectors" if "golden vector" in message else "refused"
    for name, classes in (("model", 1), ("content", 3)):
        part = small.sections((folder / f"{name}.forest").read_bytes())
        scores = getattr(bundle, name).predict_raw(rows).reshape(len(rows), classes)
        np.testing.assert_array_equal(scores, small.evaluate_packed(part, rows, classes))
    return "loaded, scores equal"


def read(data, classes, *, compiled):
    """Returns the forest of packed trees; None if they are refused."""
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            small.without_library(patch)
        try:
            forest = Forest(Layout(data, small.FEATURES, classes, small.LEVELS), small.FEATURES, classes)
        except ValueError:
            return None
        _ = forest._functions, forest._explained
        return forest


def assert_safe(data, classes, rows):
    """Checks that packed trees are refused, or score like the independent evaluator, with the library and without."""
    forest, slow = (read(data, classes, compiled=compiled) for compiled in (True, False))
    assert (forest is None) == (slow is None)
    if forest is None:
        return
    part = small.sections(data)
    expected = small.evaluate_packed(part, rows, classes)
    for model in (forest, slow):
        np.testing.assert_array_equal(model.predict_raw(rows).reshape(len(rows), classes), expected)
    if classes == 1:
        np.testing.assert_array_equal([forest.predict_one(row) for row in rows.tolist()], expected[:, 0])
    assert slow.contributions(rows[0]) == forest.contributions(rows[0])
    base, scale, first = np.zeros(classes), 0.0, 0
    for index, leaves in enumerate(part["tree"][:, 1]):
        leaf, first = part["leaf"][first : first + leaves], first + leaves
        base[index % classes] += np.average(leaf, weights=part["leaf_count"][first - leaves : first])
        scale += np.abs(leaf).max()
    total = [base + np.sum(forest.contributions(row), axis=1) for row in rows]
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12 * scale)


def megabytes():
    """Returns the peak memory of this program."""
    return int(memory("VmHWM"))


def try_mutant(folder, whole, rows, seed, index):
    """Makes one mutant, restores the bundle, and returns the outcome."""
    # The alarm's default action ends the process, so a hang is a failure.
    signal.alarm(SECONDS_PER_MUTANT)
    try:
        kind = mutate_bundle(folder, random.Random(f"{seed}:{index}"))
        result = f"{kind}: {outcome(folder, kind, rows)}"
        if megabytes() > MAX_MEGABYTES:
            raise MemoryError(f"{megabytes()} MB in memory")
    except BaseException:
        print(f"mutant {index} of seed {seed}", file=sys.stderr)
        raise
    signal.alarm(0)
    for name in (kind, "MANIFEST.json", "MANIFEST.sig"):
        (folder / name).write_bytes(whole[folder / name])
    return result


def main():
    parser = parser_of(__doc__, mutants=1_000_000, minutes=math.inf, seed=1, start=0)
    parser.add_argument("--bundle", type=Path, help="a bundle of small_bundle.write_bundle; a small one by default")
    arguments = parser.parse_args()
    faulthandler.enable()
    counts, began, end = Counter(), time.monotonic(), arguments.start + arguments.mutants
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - deleting files on a disk is slow
    with tempfile.TemporaryDirectory(dir=in_memory) as place:
        folder = Path(place, "mutant")
        if arguments.bundle:
            shutil.copytree(arguments.bundle, folder)
        else:
            # Small models, so that most of the time is spent on mutants.
            models = {"model": small.binary_model(6), "content": small.multiclass_model(2)}
            save_bundle(small.card(), models, small.golden_rows()[:3], folder, small.KEY)
        whole = {path: path.read_bytes() for path in folder.iterdir()}
        rows = np.vstack([small.rows(5, seed=9), small.awkward_rows()])
        for index in range(arguments.start, end):
            counts[try_mutant(folder, whole, rows, arguments.seed, index)] += 1
            if index % 5000 == 4999:
                print(f"{index + 1} mutants", file=sys.stderr, flush=True)
            if time.monotonic() - began > 60 * arguments.minutes:
                break
    seconds = round(time.monotonic() - began, 1)
    summary = {"mutants": counts.total(), "seed": arguments.seed, "start": arguments.start, "seconds": seconds}
    print(json.dumps(summary | {"peak_mb": megabytes()} | dict(sorted(counts.items()))))


if __name__ == "__main__":
    main()
