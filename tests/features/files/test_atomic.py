"""Files appear whole or not at all, and `write_new` never replaces one."""

import errno
import resource
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from callsieve.features.files.atomic import check_distinct, write_atomic, write_new
from callsieve.features.reading.call_files import write_table
from tests.support.errors import raising

LARGE = pa.table({"number": range(1 << 16)})


def test_one_of_several_concurrent_writers_of_a_new_file_succeeds(tmp_path):
    def write(n):
        try:
            write_new(tmp_path / "file", b"%d" % n)
        except FileExistsError as error:
            assert "exists already" in str(error)
            return None
        return b"%d" % n

    with ThreadPoolExecutor(8) as threads:
        successes = [data for data in threads.map(write, range(8)) if data is not None]
    assert successes == [(tmp_path / "file").read_bytes()]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_existing_file(tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", b"before")
    monkeypatch.setattr("os.fsync", raising(OSError("no room")))
    for write, name in ((write_atomic, "file"), (write_new, "another")):
        with pytest.raises(OSError, match="no room"):
            write(tmp_path / name, b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


@pytest.mark.parametrize(
    "write", [lambda path: write_atomic(path, bytes(1 << 16)), lambda path: write_table(LARGE, path)]
)
def test_the_error_of_a_full_disk_names_the_file(write, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, before[1]))
    try:
        with pytest.raises(OSError) as error:
            write(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(error.value) == f"[Errno {errno.EFBIG}] File too large: '{tmp_path / 'file'}'"
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_missing_folder_names_the_file(tmp_path):
    path = tmp_path / "missing" / "file"
    for write in (write_atomic, write_new):
        with pytest.raises(FileNotFoundError) as error:
            write(path, b"data")
        assert error.value.filename == str(path)


def test_one_file_under_two_paths_is_refused(tmp_path):
    check_distinct(tmp_path / "a", None, tmp_path / "b", None)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="expected a different path for each"):
        check_distinct(tmp_path / "a", tmp_path / "link")
