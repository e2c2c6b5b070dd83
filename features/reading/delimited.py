"""Delimited text, plain or gzip -> batches of cells with their line numbers; one line is one row.

Arrow's parser is fast and trusts its input: it refuses a whole block for one wrong byte, takes a stray
carriage return for the end of a line, and lets an open quote swallow the lines after it. So each block is
cut at line ends here, lines with such a fault are blanked out before Arrow sees it, and every line is
accounted for afterwards.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .layouts import Layout
from .quarantine import BAD_ENCODING, BAD_NUMBER_OF_COLUMNS, TRUNCATED_FILE, BrokenLine

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 4 << 20
"""Bytes of text that are parsed at once, and the length from which a line is not believed."""

_FIELD = rb'(?:"[^"]*(?:""[^"]*)*"|[^",][^,]*|)'
_WELL_QUOTED = re.compile(rb"%s(?:,%s)*" % (_FIELD, _FIELD))
_SNIFFED_LINES = 100
_LONGEST_HEADER = 100_000
# What is told by its first bytes to be no text of lines; those of UTF-32 begin as those of UTF-16 do.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
}

Find = Callable[[Sequence[str]], Mapping[str, tuple[str, ...]]]
"""Column names of a file -> which of them stand for what."""


class Batch(NamedTuple):
    """Cells of a stretch of a file, the numbers of their rows, its broken lines, and the bytes read."""

    cells: pa.Table
    rows: npt.NDArray[np.int64]
    broken: list[BrokenLine]
    done: int


class _Block(NamedTuple):
    text: bytes  # whole lines, each with its line end
    offset: int  # of the first byte, in the unpacked file
    done: int  # bytes read of the file as stored
    open_end: bool  # the last line had no line end
    cut: bytes | None  # what stood after the last line end where a packed file broke off


def read_lines(path: Path, layout: Layout, find: Find) -> Iterator[Batch]:
    """Batches of a text file; `find` is asked once which of the file's columns are wanted.

    Raises: ValueError: if the file is not UTF-8 text in lines, or has no header line where one must be.
    """
    names: list[str] = []
    wanted: list[str] = []
    line = 1
    for block in _blocks(path):
        text, offset = block.text, block.offset
        if not names:
            if not text and not layout.header:
                raise ValueError(f"{path.name}: the gzip file breaks off in its first line, expected a header line")
            names, used = _names(path, text, layout)
            wanted = sorted({name for columns in find(names).values() for name in columns})
            line += text.count(b"\n", 0, used)
            text, offset = text[used:], offset + used
        cells, kept, broken = _parse(path, text, names, wanted)
        broken = [fault._replace(row=fault.row + line, offset=fault.offset + offset) for fault in broken]
        lines = text.count(b"\n")
        if block.open_end and broken and broken[-1].row == line + lines - 1:
            broken[-1] = broken[-1]._replace(reason=TRUNCATED_FILE, expected="a whole last line")
        if block.cut is not None:
            end = offset + len(text)
            broken.append(BrokenLine(line + lines, TRUNCATED_FILE, "a whole gzip file", block.cut, end))
        yield Batch(cells, kept + line, broken, block.done)
        line += lines
    if not names:
        raise ValueError(f"{path.name}: the file is empty, expected {'calls' if layout.header else 'a header line'}")


def _blocks(path: Path) -> Iterator[_Block]:
    with path.open("rb") as stored:
        packed = stored.read(2) == b"\x1f\x8b"
        stored.seek(0)
        stream = gzip.GzipFile(fileobj=stored) if packed else stored
        tail, offset, ended, broke = b"", 0, False, False
        while not ended:
            parts, size = [tail], len(tail)
            try:
                while size < BLOCK and not ended:
                    part = stream.read1(BLOCK)
                    ended = not part
                    parts.append(part)
                    size += len(part)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                ended = broke = True
            text = b"".join(parts)
            whole = text.rfind(b"\n") + 1
            if not whole and not ended:
                raise ValueError(f"{path.name}: no line end in {len(text)} bytes, expected lines of text")
            text, tail = text[:whole], text[whole:]
            if ended and tail and not broke:
                yield _Block(text + tail + b"\n", offset, stored.tell(), True, None)
            elif text or broke:
                yield _Block(text, offset, stored.tell(), False, tail if broke else None)
            offset += whole


def _names(path: Path, text: bytes, layout: Layout) -> tuple[list[str], int]:
    """Column names of the file, and how many bytes of `text` they took."""
    kind = next((kind for mark, kind in _MARKS.items() if text.startswith(mark)), None)
    if kind is not None:
        raise ValueError(f"{path.name}: the file is {kind}, expected UTF-8 text")
    mark = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    if layout.header:
        lines = text[mark:].decode("utf-8", "replace").split("\n", _SNIFFED_LINES)[:_SNIFFED_LINES]
        widths = Counter(len(_cells(line)) for line in lines if len(line) < _LONGEST_HEADER)
        fitting = [width for width, _ in widths.most_common() if layout.least_columns <= width <= len(layout.header)]
        return list(layout.header[: fitting[0] if fitting else len(layout.header)]), mark
    end = text.find(b"\n") + 1
    names = [name.strip() for name in _cells(_header(text[mark:end], path.name))]
    if not any(names):
        raise ValueError(f"{path.name}: the first line has no column names, expected a header line")
    return names, end


def _header(line: bytes, file: str) -> str:
    """The first line as text. Raises: ValueError: in one line that says why it is no header line."""
    if not _is_utf8(line):
        raise ValueError(f"{file}: the first line is not UTF-8 text, expected a header line")
    if b"\r" in line.rstrip(b"\r\n"):
        raise ValueError(
            f"{file}: a carriage return stands within the first line, expected lines that end in LF or CRLF"
        )
    if len(line) > _LONGEST_HEADER:
        raise ValueError(f"{file}: the first line has {len(line):,} bytes, expected at most {_LONGEST_HEADER:,}")
    return line.decode()


def _cells(line: str) -> list[str]:
    line = line.rstrip("\r\n")
    return [] if "\r" in line else next(csv.reader([line]), [])


def _parse(
    path: Path, text: bytes, names: Sequence[str], wanted: Sequence[str]
) -> tuple[pa.Table, npt.NDArray[np.int64], list[BrokenLine]]:
    """Cells of the sound lines, their places among the lines, and the broken lines."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)[: len(ends)]
    faults = _line_faults(text, starts, ends)
    table, kept, wrong = _arrow(text, (starts, ends), faults, names, wanted)
    if table is None:
        faults |= _quote_faults(text, starts, ends, faults)
        table, kept, wrong = _arrow(text, (starts, ends), faults, names, wanted)
    if table is None:
        raise ValueError(f"{path.name}: the lines cannot be told apart, expected quotes to close within a line")
    for number, columns in wrong:
        faults[int(kept[number - 1])] = (BAD_NUMBER_OF_COLUMNS, f"{len(names)} columns, got {columns}")
    kept = np.delete(kept, [number - 1 for number, _ in wrong])
    broken = [BrokenLine(i, *fault, text[starts[i] : ends[i]], int(starts[i])) for i, fault in sorted(faults.items())]
    return table, kept, broken


_LineFaults = dict[int, tuple[str, str]]
_Places = npt.NDArray[np.int64]


def _line_faults(text: bytes, starts: _Places, ends: _Places) -> _LineFaults:
    """Lines that Arrow must not see: wrong encodings, stray line ends, quotes that stay open."""
    faults: _LineFaults = {}
    if b'"' in text:
        quotes = np.add.reduceat(np.frombuffer(text, np.uint8) == ord('"'), starts, dtype=np.int64)
        odd: list[int] = np.flatnonzero(quotes % 2).tolist()
        faults = dict.fromkeys(odd, (BAD_NUMBER_OF_COLUMNS, "quotes that close within the line"))
    if not _is_utf8(text) or b"\0" in text or text.count(b"\r") != text.count(b"\r\n"):
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            line = text[start:end]
            if not _is_utf8(line) or b"\0" in line:
                faults[i] = (BAD_ENCODING, "UTF-8 text")
            elif b"\r" in line[:-1]:
                faults[i] = (BAD_ENCODING, "no carriage return within a line")
    return faults


def _quote_faults(text: bytes, starts: _Places, ends: _Places, faults: _LineFaults) -> _LineFaults:
    lines = ((i, text[starts[i] : ends[i]].rstrip(b"\r")) for i in range(len(starts)) if i not in faults)
    fault = (BAD_NUMBER_OF_COLUMNS, "quotes around whole cells")
    return {i: fault for i, line in lines if b'"' in line and not _WELL_QUOTED.fullmatch(line)}


def _arrow(
    text: bytes,
    lines: tuple[_Places, _Places],
    faults: _LineFaults,
    names: Sequence[str],
    wanted: Sequence[str],
) -> tuple[pa.Table | None, _Places, list[tuple[int, int]]]:
    """Cells, places of the lines that were parsed, and of these the wrong ones (number from 1, columns).

    No table if Arrow did not see one row a line.
    """
    import pyarrow as pa
    import pyarrow.csv

    wrong: list[tuple[int, int]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        wrong.append((row.number, row.actual_columns))
        return "skip"

    starts, ends = lines
    # One more line of empty cells: an open quote on the last one must have something to swallow, too.
    blanked = bytearray(text + b"," * (len(names) - 1) + b"\n")
    filled = (ends - starts - (np.frombuffer(blanked, np.uint8)[ends - 1] == ord("\r"))) > 0
    for i in faults:
        blanked[starts[i] : ends[i]] = b"\n" * int(ends[i] - starts[i])
        filled[i] = False
    kept = np.flatnonzero(filled)
    text_type = pa.dictionary(pa.int32(), pa.string())
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(blanked),
            pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(blanked) + 1),
            pa.csv.ParseOptions(invalid_row_handler=skip),
            pa.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(wanted, text_type),
                include_columns=wanted,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:  # not for any text that was tried, but its message could quote one
        return None, kept, []
    return (table[:-1] if table.num_rows - 1 + len(wrong) == len(kept) else None), kept, wrong


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
