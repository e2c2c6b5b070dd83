"""The compiled reader accepts no text that Python refuses, and gives the arrays that Python gives."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.serving.bundle import forest_reader
from callsieve.serving.bundle.bundle import BundleError, load
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.forest_library import LAYOUT, PATHS, library
from callsieve.serving.bundle.model_text import check_structure
from tests.support import lite_bundle
from tests.support import small_bundle as small
from tests.tools.fuzz_bundle import mutate_text


def compiled(text, features=small.FEATURES, classes=1, levels=None):
    return forest_reader._read(library(), text.encode(), features, classes, levels)


def interpreted(text, features=small.FEATURES, classes=1, levels=None):
    return forest_reader.model_of(check_structure(text, features, classes=classes, levels=levels))


def assert_equal(fast, slow, features=small.FEATURES, classes=1):
    for name in (*LAYOUT, "numeric", "most_nodes", "column_of"):
        assert getattr(fast.layout, name) == getattr(slow.layout, name), name
    forest = Forest(fast, features, classes)
    for name in PATHS:
        assert getattr(fast.paths(forest._address), name) == getattr(slow.paths(0), name), name


def check(text, classes=1, levels=small.LEVELS):
    """Returns whether the compiled reader accepts a text, after a comparison with Python."""
    try:
        fast = compiled(text, classes=classes, levels=levels)
    except ValueError:
        fast = None
    try:
        slow = interpreted(text, classes=classes, levels=levels)
    except ValueError:
        assert fast is None
        return False
    if fast is not None:
        assert_equal(fast, slow, classes=classes)
    return fast is not None


def test_models_of_lightgbm_are_read_compiled():
    assert check(small.binary_model()) and check(small.multiclass_model(), 3) and check(small.binary_model(), 1, None)
    text, features = lite_bundle.model(), tuple(lite_bundle.LITE)
    assert_equal(compiled(text, features), interpreted(text, features), features)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=300)
def test_a_changed_text_is_read_as_python_reads_it(seed):
    rng = random.Random(seed)
    text, classes = rng.choice(((small.binary_model(6), 1), (small.multiclass_model(2), 3)))
    check(mutate_text(text, rng), classes)


@pytest.mark.parametrize("old", ["num_leaves=", "left_child=", "threshold=", "internal_count=", "cat_threshold="])
def test_a_text_that_ends_anywhere_is_refused(old):
    """Also where the size of its tree says that the text ends there."""
    text = small.binary_model(6)
    start = text.index(old)
    for end in range(start, start + 60):
        assert not check(text[:end]) and not check(small.repair_sizes(text[:end] + "\n\n\n"))


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.17g}")
        | st.decimals(-(10**20), 10**20, places=12).map(lambda value: f"{value:f}")
        | st.sampled_from(
            [
                "1.0000000180025095e-35", "9007199254740993", "18446744073709551616", "0.1", "5e-324", "1e22", "-0",
                "1e23",
            ]
        ),
        min_size=3,
        max_size=3,
    )
)  # fmt: skip
@settings(max_examples=300)
def test_decimal_numbers_become_the_nearest_doubles(words):
    """A number that needs more than 128 bits, or that is close to the ends of the range, is left to Python."""
    lines = small.binary_model(1).split("\n")
    place = next(i for i, line in enumerate(lines) if line.startswith("threshold="))
    kinds = next(line for line in lines if line.startswith("decision_type=")).partition("=")[2].split(" ")
    texts = lines[place].partition("=")[2].split(" ")
    numeric = [i for i, kind in enumerate(kinds) if not int(kind) & 1]
    for i, word in zip(numeric, words, strict=False):
        texts[i] = word
    lines[place] = "threshold=" + " ".join(texts)
    check(small.repair_sizes("\n".join(lines)))


def test_an_optional_model_is_read_at_its_first_use_from_the_file_that_was_verified(tmp_path):
    small.write_bundle(folder := tmp_path / "bundle")
    bundle, lazy = load(folder, small.TRUSTED), load(folder, small.TRUSTED, lazy=True)
    changed = load(folder, small.TRUSTED, lazy=True)
    assert callable(lazy.content._source) and not callable(lazy.model._source)
    folder.rename(tmp_path / "old")  # a new bundle takes its place
    small.write_bundle(folder)
    (folder / "content.txt").write_bytes(b"another")
    rows = small.rows(5)
    assert (lazy.content.predict_raw(rows) == bundle.content.predict_raw(rows)).all()
    assert not callable(lazy.content._source)
    (tmp_path / "old" / "content.txt").write_bytes(b"changed in place")
    with pytest.raises(BundleError, match=r"^content.txt: must have the size and SHA-256"):
        changed.content.read()


def test_a_lazy_model_has_all_checks_at_its_first_use(tmp_path):
    small.write_bundle(folder := tmp_path / "bundle")
    path = folder / "content.txt"
    text = path.read_text()
    leaf = text.index("leaf_value=") + len("leaf_value=")
    path.write_text(small.repair_sizes(text[:leaf] + "0" + text[leaf + 1 :]))
    with pytest.raises(BundleError, match=r"content.txt: must have the size and SHA-256"):
        load(folder, small.TRUSTED, lazy=True)  # before anything serves
    small.sign_again(folder)
    with pytest.raises(BundleError, match=r"^content.txt: "):
        load(folder, small.TRUSTED)
    lazy = load(folder, small.TRUSTED, lazy=True)
    for _ in range(2):
        with pytest.raises(BundleError, match=r"^content.txt: "):
            lazy.content.read()
