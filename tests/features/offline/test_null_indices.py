"""Tables that leave a reader have valid indices under nulls, however a file is cut into batches.

Arrow looks up some of these indices: an invalid one reads outside of a map, and the process can die.
`pytest --hypothesis-profile=explore tests/features/offline/test_null_indices.py` reads 200 newly drawn files.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.files.progress import silent
from callsieve.features.frame.frame_columns import layout_of, read_frame
from callsieve.features.intake.intake import Intake
from callsieve.features.intake.keyed_table import read_keyed
from callsieve.features.intake.text_columns import dictionary_column, unified
from callsieve.features.keys.tokens import Key
from callsieve.features.offline import keyed_file
from callsieve.features.reading import call_files
from callsieve.features.reading.layouts import read_layout
from callsieve.features.reading.quarantine import Quarantine

KEY = Key("e1", b"k" * 32)
LAYOUT = read_layout("callsieve")
TEXTS = ("network_caller", "trunk", "operator", "device", "place", "cause")
SHARES = st.sampled_from([0.0, 0.3, 0.7, 0.97, 1.0])


def drawn_calls(seed, rows, shares):
    """Calls, each text column with its share of nulls, and one in ten without an end."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.cumsum(rng.integers(1, 10**6, rows)), unit="ms")
    number = lambda: [f"138{digits:08d}" for digits in rng.integers(0, 50, rows)]
    calls = {"start": start.astype("datetime64[ms, UTC]"), "caller": number(), "callee": number()}
    over = rng.random(rows) < 0.9
    calls |= {"ring": np.where(over, 5.0, np.nan), "talk": np.where(over, 20.0, np.nan)}
    for name, share in zip(TEXTS, shares, strict=True):
        words = [f"{seed}{name}{word}" if name != "network_caller" else f"139{word:08d}" for word in range(40)]
        calls[name] = np.where(rng.random(rows) < share, None, rng.choice(np.array(words, dtype=object), rows))
    return pd.DataFrame(calls)


def check_indices(table):
    """Every index is a place in the dictionary, also under a null; all are 0 if the dictionary is empty."""
    for name in table.column_names:
        for chunk in table[name].chunks if pa.types.is_dictionary(table[name].type) else ():
            values = pa.Array.from_buffers(
                chunk.indices.type, len(chunk), [None, chunk.indices.buffers()[1]], offset=chunk.offset
            ).to_numpy()
            assert values.min(initial=0) >= 0 and values.max(initial=0) < max(len(chunk.dictionary), 1), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nulls")


@pytest.mark.system
@settings(max_examples=100 if settings.get_current_profile_name() == "explore" else 10)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(1, 200), shares=st.tuples(*[SHARES] * len(TEXTS)),
    batch=st.integers(1, 60), chunk=st.integers(1, 120), group=st.integers(1, 90), shards=st.integers(1, 3),
)  # fmt: skip
def test_indices_under_nulls_are_valid_however_a_file_is_cut(folder, seed, rows, shares, batch, chunk, group, shards):
    calls = drawn_calls(seed, rows, shares)
    calls.to_parquet(folder / "calls.parquet", row_group_size=group)
    calls.to_csv(folder / "calls.csv", index=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(call_files, "BATCH_ROWS", batch)
        patched.setattr(keyed_file, "CHUNK_ROWS", chunk)
        patched.setattr(keyed_file, "count_shards", lambda _path: shards)
        for suffix in ("parquet", "csv"):
            path = folder / f"calls.{suffix}"
            table = call_files.read_calls(path, LAYOUT).table
            check_indices(table)
            with Quarantine(path.name, LAYOUT, None, None, strict=False) as invalid:
                for part in keyed_file.chunks(call_files.read_batches(path, LAYOUT, invalid)):
                    check_indices(part)
            keyed_file.write_keyed(
                path, "callsieve", folder / "keyed.parquet", key=KEY, quarantine=None, strict=False, progress=silent
            )
            keyed = read_keyed(folder / "keyed.parquet")
            check_indices(keyed)
            expected = Intake(KEY, zone=LAYOUT.hours_zone).table(table)
            check_indices(expected)
            by_start = pa.array(np.searchsorted(expected["start"].to_numpy(), keyed["start"].to_numpy()))
            for name in ("trunk", "operator", "device", "place"):
                assert table[name].to_pylist() == pa.array(calls[name], pa.string()).to_pylist()
                assert keyed[name].to_pylist() == expected[name].take(by_start).to_pylist()
    check_indices(read_frame(calls, layout_of(None, calls, "UTC", None), "CN"))


@pytest.mark.parametrize("words", [("a", "b"), ("a", None), (None, None)])
def test_tables_of_others_may_have_any_index_under_a_null(words):
    """Also where a whole part has no word, and so an empty dictionary."""
    parts = []
    for word in words:
        column = pa.array([word, None], pa.string()).dictionary_encode()
        indices = pa.array(np.array([0, 10**6], dtype=np.int32), mask=np.array([word is None, True]))
        parts.append(pa.table({"x": pa.DictionaryArray.from_arrays(indices, column.dictionary)}))
    column = unified(pa.concat_tables(parts))["x"]
    assert column.to_pylist() == [words[0], None, words[1], None]
    assert column.num_chunks == 1 and (words == (None, None) or check_indices(pa.table({"x": column})) is None)


def test_negative_codes_are_null_with_a_valid_index_under_them():
    column = dictionary_column(np.array([-1, 1, -2]), ["a", "b"], np.int8)
    assert column.to_pylist() == [None, "b", None] and column.indices.type == pa.int8()
    check_indices(pa.table({"x": column}))
