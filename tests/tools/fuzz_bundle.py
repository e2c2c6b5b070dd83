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

from callsieve.serving.bundle.bundle import BundleError, load, save
from callsieve.serving.bundle.forest import Forest, model_from_text
from callsieve.serving.bundle.model_text import check_structure
from callsieve.serving.bundle.signing import sign
from tests.bench.harness import memory, parser_of
from tests.support import small_bundle as small

SECONDS_PER_MUTANT = 20
MAX_MEGABYTES = 512
NUMBERS = [
    "0", "1", "-1", "2", "-2", "3", "5", "6", "7", "-7", "-8", "8", "9", "10", "31", "32", "33", "127", "128", "255",
    "256", "1000", "65536", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296",
    "18446744073709551616", "1e308", "-1e308", "1e309", "1e-320", "1e999", "nan", "inf", "-inf", "NaN", "0x10",
    "1.5", "-0.5", "1e-35", "-0", "+1", "007", ".", "-", "e", "1e", "1_0", "١", "99999999999999999999999999",
]  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -1, 2**53, 2**70, 0.5, -0.0, 1e308, "", "x", "骚扰", "\ud800", "a\nb", [], {}, [[]],
    {"a": 1},
)  # fmt: skip
ARRAYS = ("left_child", "right_child", "split_feature", "threshold", "decision_type", "leaf_value", "leaf_count")
ARRAYS += ("internal_count", "cat_boundaries", "cat_threshold", "num_leaves", "num_cat", "shrinkage", "is_linear")


def mutate_text(text, rng):
    """Applies one to three changes to a model text, most of which keep its outer form."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice(CHANGES)(text, rng)
    return small.repair_sizes(text) if rng.random() < 0.8 else text


def change_number(text, rng):
    """Replaces one number of an array."""
    lines = text.split("\n")
    key = rng.choice(ARRAYS)
    matches = [i for i, line in enumerate(lines) if line.startswith(key + "=")]
    if not matches:
        return text
    i = rng.choice(matches)
    tokens = lines[i].partition("=")[2].split(" ")
    j = rng.randrange(len(tokens))
    near = [rng.choice(tokens), str(rng.randrange(-9, 9)), f"{rng.gauss(0, 1):.17g}", *rng.sample(NUMBERS, 2)]
    tokens[j] = rng.choice(near)
    lines[i] = f"{key}={' '.join(tokens)}"
    return "\n".join(lines)


def swap_in_arrays(text, rng):
    """Exchanges two numbers between arrays of children, or within one array, of one tree."""
    lines = text.split("\n")
    matches = [i for i, line in enumerate(lines[:-2]) if line.startswith("left_child=") and " " in line]
    if not matches:
        return text
    i = rng.choice(matches)
    first, second = rng.choice(((i, i + 1), (i, i), (i + 1, i + 1), (i - 4, i - 4), (i - 2, i - 2), (i + 2, i + 2)))
    a, b = lines[first].partition("=")[2].split(" "), lines[second].partition("=")[2].split(" ")
    j, k = rng.randrange(len(a)), rng.randrange(len(b))
    if first == second:
        a[j], a[k] = a[k], a[j]
    else:
        a[j], b[k] = b[k], a[j]
        lines[second] = lines[second].partition("=")[0] + "=" + " ".join(b)
    lines[first] = lines[first].partition("=")[0] + "=" + " ".join(a)
    return "\n".join(lines)


def move_line(text, rng):
    """Removes, repeats or exchanges lines."""
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[i]
        case 1:
            lines.insert(j, lines[i])
        case 2:
            lines[i], lines[j] = lines[j], lines[i]
        case _:
            same = [k for k, line in enumerate(lines) if line.partition("=")[0] == lines[i].partition("=")[0]]
            lines[i] = lines[rng.choice(same)]
    return "\n".join(lines)


def move_tree(text, rng):
    """Removes, repeats or exchanges trees."""
    head, *blocks = text.split("Tree=")
    if not blocks:
        return text
    i, j = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    match rng.randrange(3):
        case 0:
            del blocks[i]
        case 1:
            blocks.insert(j, blocks[i])
        case _:
            blocks[i], blocks[j] = blocks[j], blocks[i]
    return "Tree=".join([head, *blocks])


def move_token(text, rng):
    """Removes, repeats or inserts a token of a line."""
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    tokens = lines[i].split(" ")
    j = rng.randrange(len(tokens))
    if rng.random() < 0.5:
        del tokens[j]
    else:
        tokens.insert(j, rng.choice((tokens[j], rng.choice(NUMBERS))))
    lines[i] = " ".join(tokens)
    return "\n".join(lines)


def change_characters(text, rng):
    """Cuts, replaces or inserts characters anywhere."""
    i = rng.randrange(len(text) + 1)
    match rng.randrange(4):
        case 0:
            return text[:i]
        case 1:
            return text[:i] + rng.choice("0123456789-.e= \n\0\r\t[]é") + text[i + 1 :]
        case 2:
            return text[:i] + text[i + rng.randrange(1, 40) :]
        case _:
            return text[:i] + text[max(0, i - rng.randrange(1, 40)) :]


CHANGES = (
    (change_number,) * 8 + (swap_in_arrays,) * 4 + (move_line, move_line, move_tree, move_token, change_characters)
)


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
        ("model.txt",) * 12 + ("content.txt",) * 5 + ("bundle.json",) * 5 + ("MANIFEST.json", "MANIFEST.sig")
    )
    path = folder / kind
    data = path.read_bytes()
    if kind == "MANIFEST.sig":
        path.write_bytes(mutate_bytes(data, rng))
    elif kind.endswith(".txt"):
        path.write_bytes(mutate_text(data.decode(), rng).encode())
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
    if kind.endswith(".txt"):
        # The golden vectors catch a changed leaf. A text that passes the structure check alone must be safe as well.
        data = (folder / kind).read_bytes()
        compare(data.decode(errors="replace"), 1 if kind == "model.txt" else 3, rows)
    try:
        bundle = load(folder, small.TRUSTED)
    except BundleError as refusal:
        message = str(refusal)
        if "\n" in message or not 0 < len(message) <= 600:
            raise AssertionError(f"refusal must be one line: {message!r}") from None
        return "refused by golden vectors" if "golden vector" in message else "refused"
    for name, classes in (("model", 1), ("content", 3)):
        text = (folder / f"{name}.txt").read_text()
        trees = check_structure(text, bundle.features, classes=classes)
        scores = getattr(bundle, name).predict_raw(rows).reshape(len(rows), classes)
        np.testing.assert_array_equal(scores, small.evaluate(trees, rows, classes))
    return "loaded, scores equal"


def compare(text, classes, rows):
    """Checks that a text that passes the structure check scores like the independent evaluator, on every path."""
    try:
        trees = check_structure(text, small.FEATURES, classes=classes, levels=small.LEVELS)
    except ValueError:
        try:
            model_from_text(text.encode(errors="replace"), small.FEATURES, classes, small.LEVELS)
        except ValueError:
            return
        raise AssertionError("the compiled reader accepts a text that Python refuses") from None
    forest = Forest(trees, small.FEATURES, classes)
    expected = small.evaluate(trees, rows, classes)
    np.testing.assert_array_equal(forest.predict_raw(rows).reshape(len(rows), classes), expected)
    read = Forest(model_from_text(text.encode(), small.FEATURES, classes, small.LEVELS), small.FEATURES, classes)
    np.testing.assert_array_equal(read.predict_raw(rows).reshape(len(rows), classes), expected)
    if read.contributions(rows[0].tolist()) != forest.contributions(rows[0].tolist()):
        raise AssertionError("the contributions of the compiled reader differ")
    if classes == 1:
        np.testing.assert_array_equal([forest.predict_one(row) for row in rows.tolist()], expected[:, 0])
    assert np.isfinite(expected).all()
    base = np.zeros(classes)
    for index, tree in enumerate(trees):
        base[index % classes] += np.average(tree.leaf_value, weights=tree.leaf_count or None)
    total = [base + np.sum(forest.contributions(row), axis=1) for row in rows]
    scale = sum(max(map(abs, tree.leaf_value)) for tree in trees)
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
            save(small.card(), models, small.golden_rows()[:3], folder, small.KEY)
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
