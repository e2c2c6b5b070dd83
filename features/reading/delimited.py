"""Reads delimited text, plain or gzip, as batches of cells with their line numbers; one line is one row.

Arrow's parser is fast but not robust: it rejects a whole block for one invalid byte, ends a line at a stray carriage
return, and lets an open quote swallow the next lines. So this module cuts blocks at line ends, blanks lines with such a
fault before Arrow reads them, and accounts for every line afterwards.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from callsieve.features.arrays import Int64s

from .layouts import Layout
from .quarantine import BAD_ENCODING, BAD_NUMBER_OF_COLUMNS, TRUNCATED_FILE, BrokenLine

BLOCK = 4 << 20
"""Bytes of text that are parsed at once, and the maximum length of a line."""

_FIELD = rb'(?:"[^"]*(?:""[^"]*)*"|[^",][^,]*|)'
_WELL_QUOTED = re.compile(rb"%s(?:,%s)*" % (_FIELD, _FIELD))
_SNIFFED_LINES = 100
_OTHER_SEPARATORS = (";", "\t", "|")
_LONGEST_HEADER = 100_000
# First bytes of files that are not UTF-8 text. UTF-32 comes first: its mark starts with that of UTF-16.
_SIGNATURES = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
}

MatchColumns = Callable[[Sequence[str]], Mapping[str, tuple[str, ...]]]
"""Maps the column names of a file to the names of each role."""


class Batch(NamedTuple):
    """Cells of a part of a file, the numbers of their rows, the broken lines, and the bytes read so far."""

    cells: pa.Table
    rows: Int64s
    broken: list[BrokenLine]
    done: int


class _Block(NamedTuple):
    text: bytes  # whole lines, each with its line end
    offset: int  # of the first byte, in the unpacked file
    done: int  # bytes read of the file as stored
    open_end: bool  # the last line had no line end
    cut: bytes | None  # bytes after the last line end of a truncated gzip file


def read_lines(path: Path, match: MatchColumns, layout: Layout | None = None) -> Iterator[Batch]:
    """Yields batches of a text file, with the columns that `match` selects.

    `layout`: names the columns of a file without a header line; None for a file that has one.
    """
    names: list[str] = []
    wanted: list[str] = []
    header, fewest = ((), 0) if layout is None else (layout.header, layout.least_columns)
    line = 1
    for block in _blocks(path):
        text, offset = block.text, block.offset
        if not names:
            if not text and not header:
                raise ValueError(f"{path.name}: the gzip file is truncated in its first line, expected a header line")
            names, used = _names(path, text, header, fewest)
            wanted = sorted({name for columns in match(names).values() for name in columns})
            line += text.count(b"\n", 0, used)
            text, offset = text[used:], offset + used
        cells, parsed, broken, lines = _parse(path, text, names, wanted)
        broken = [fault._replace(row=fault.row + line, offset=fault.offset + offset) for fault in broken]
        if block.open_end and broken and broken[-1].row == line + lines - 1:
            broken[-1] = broken[-1]._replace(reason=TRUNCATED_FILE, expected="a whole last line")
        if block.cut is not None:
            end = offset + len(text)
            broken.append(BrokenLine(line + lines, TRUNCATED_FILE, "a whole gzip file", block.cut, end))
        yield Batch(cells, parsed + line, broken, block.done)
        line += lines
    if not names:
        raise ValueError(f"{path.name}: the file is empty, expected {'calls' if header else 'a header line'}")


def _blocks(path: Path) -> Iterator[_Block]:
    with path.open("rb") as stored:
        packed = stored.read(2) == b"\x1f\x8b"
        stored.seek(0)
        stream = gzip.GzipFile(fileobj=stored) if packed else stored
        tail, offset, ended, truncated = b"", 0, False, False
        while not ended:
            parts, size = [tail], len(tail)
            try:
                while size < BLOCK and not ended:
                    part = stream.read1(BLOCK)
                    ended = not part
                    parts.append(part)
                    size += len(part)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                ended = truncated = True
            text = b"".join(parts)
            end = text.rfind(b"\n") + 1
            if not end and not ended:
                raise ValueError(f"{path.name}: no line end in {len(text)} bytes, expected lines of text")
            text, tail = text[:end], text[end:]
            if ended and tail and not truncated:
                yield _Block(text + tail + b"\n", offset, stored.tell(), True, None)
            elif text or truncated:
                yield _Block(text, offset, stored.tell(), False, tail if truncated else None)
            offset += end


def _names(path: Path, text: bytes, header: Sequence[str], fewest: int) -> tuple[list[str], int]:
    """Returns the column names of the file, and the length of the header in bytes."""
    kind = next((kind for signature, kind in _SIGNATURES.items() if text.startswith(signature)), None)
    if kind is not None:
        raise ValueError(f"{path.name}: the file is {kind}, expected UTF-8 text")
    mark = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    if header:
        lines = text[mark:].decode("utf-8", "replace").split("\n", _SNIFFED_LINES)[:_SNIFFED_LINES]
        widths = Counter(len(_cells(line)) for line in lines if len(line) < _LONGEST_HEADER)
        valid = [width for width, _ in widths.most_common() if fewest <= width <= len(header)]
        return list(header[: valid[0] if valid else len(header)]), mark
    end = text.find(b"\n") + 1
    names = [name.strip() for name in _cells(_header(text[mark:end], path.name))]
    if not any(names):
        raise ValueError(f"{path.name}: the first line has no column names, expected a header line")
    separator = next((mark for mark in _OTHER_SEPARATORS if len(names) == 1 and mark in names[0]), None)
    if text.startswith((b'{"', b"[{")):
        raise ValueError(f"{path.name}: the file looks like JSON, expected CSV with a header line, or Parquet")
    if separator is not None:
        raise ValueError(f"{path.name}: the header line is separated by {separator!r}, expected commas")
    return names, end


def _header(line: bytes, file: str) -> str:
    if not _is_utf8(line):
        raise ValueError(f"{file}: the first line is not UTF-8 text, expected a header line; save the file as UTF-8")
    if b"\r" in line.rstrip(b"\r\n"):
        raise ValueError(f"{file}: the first line contains a carriage return, expected lines that end in LF or CRLF")
    if len(line) > _LONGEST_HEADER:
        raise ValueError(f"{file}: the first line has {len(line):,} bytes, expected at most {_LONGEST_HEADER:,}")
    return line.decode()


def _cells(line: str) -> list[str]:
    line = line.rstrip("\r\n")
    return [] if "\r" in line else next(csv.reader([line]), [])


def _parse(
    path: Path, text: bytes, names: Sequence[str], wanted: Sequence[str]
) -> tuple[pa.Table, Int64s, list[BrokenLine], int]:
    """Returns the cells of the valid lines, their positions among the lines, the broken lines, and the line count."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)[: len(ends)]
    faults = _line_faults(text, starts, ends)
    table, parsed, rejected = _arrow(text, (starts, ends), faults, names, wanted)
    if table is None:
        faults |= _quote_faults(text, starts, ends, faults)
        table, parsed, rejected = _arrow(text, (starts, ends), faults, names, wanted)
    if table is None:
        raise ValueError(f"{path.name}: the lines cannot be separated, expected quotes to close within a line")
    for number, columns in rejected:
        faults[int(parsed[number - 1])] = (BAD_NUMBER_OF_COLUMNS, f"{len(names)} columns, got {columns}")
    parsed = np.delete(parsed, [number - 1 for number, _ in rejected])
    broken = [BrokenLine(i, *fault, text[starts[i] : ends[i]], int(starts[i])) for i, fault in sorted(faults.items())]
    return table, parsed, broken, len(ends)


_LineFaults = dict[int, tuple[str, str]]


def _line_faults(text: bytes, starts: Int64s, ends: Int64s) -> _LineFaults:
    """Faults of lines that Arrow must not see: invalid encoding, stray carriage returns, quotes that stay open."""
    faults: _LineFaults = {}
    if b'"' in text:
        is_quote = np.frombuffer(text, np.uint8) == ord('"')
        # Bytes: for another type, or for a sum, NumPy takes 20 times as long.
        odd: list[int] = np.flatnonzero(np.bitwise_xor.reduceat(is_quote.view(np.uint8), starts)).tolist()
        faults = dict.fromkeys(odd, (BAD_NUMBER_OF_COLUMNS, "quotes that close within the line"))
    # To look for a carriage return takes a tenth of the time of counting them.
    if not _is_utf8(text) or b"\0" in text or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n")):
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            line = text[start:end]
            if not _is_utf8(line) or b"\0" in line:
                faults[i] = (BAD_ENCODING, "UTF-8 text")
            elif b"\r" in line[:-1]:
                faults[i] = (BAD_ENCODING, "no carriage return within a line")
    return faults


def _quote_faults(text: bytes, starts: Int64s, ends: Int64s, faults: _LineFaults) -> _LineFaults:
    lines = ((i, text[starts[i] : ends[i]].rstrip(b"\r")) for i in range(len(starts)) if i not in faults)
    fault = (BAD_NUMBER_OF_COLUMNS, "quotes around whole cells")
    return {i: fault for i, line in lines if b'"' in line and not _WELL_QUOTED.fullmatch(line)}


def _arrow(
    text: bytes, lines: tuple[Int64s, Int64s], faults: _LineFaults, names: Sequence[str], wanted: Sequence[str]
) -> tuple[pa.Table | None, Int64s, list[tuple[int, int]]]:
    """Parses the lines without faults with Arrow.

    Returns: the cells, or None if Arrow did not read one row per line; positions of the parsed lines; and of these the
        rejected ones (number from 1, count of columns).
    """
    rejected: list[tuple[int, int]] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        rejected.append((row.number, row.actual_columns))
        return "skip"

    starts, ends = lines
    # An extra line of empty cells, so that an open quote on the last line changes the count of rows, too.
    blanked = bytearray(text + b"," * (len(names) - 1) + b"\n")
    filled = (ends - starts - (np.frombuffer(blanked, np.uint8)[ends - 1] == ord("\r"))) > 0
    for i in faults:
        blanked[starts[i] : ends[i]] = b"\n" * int(ends[i] - starts[i])
        filled[i] = False
    parsed = np.flatnonzero(filled)
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
    except pa.ArrowInvalid:  # no known text causes it; its message could quote the data
        return None, parsed, []
    return (table[:-1] if table.num_rows - 1 + len(rejected) == len(parsed) else None), parsed, rejected


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
