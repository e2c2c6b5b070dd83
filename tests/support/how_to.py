"""The code of the how-to pages, for the tests that run it."""

import contextlib
import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^```(sh|python)(?: skip=([a-z]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code: its language, the reason why the page's test skips it ("" for none), and its text."""

    language: str
    skip: str
    code: str


def blocks(page: str) -> list[Block]:
    """Returns the blocks of a page, by its name without ".md"."""
    return blocks_in((FOLDER / f"{page}.md").read_text(encoding="utf-8"))


def blocks_in(text: str) -> list[Block]:
    """Returns the blocks of a text in Markdown."""
    return [Block(language, skip, code) for language, skip, code in BLOCK.findall(text)]


def code(page: str) -> str:
    """Returns the shell commands of a page that are not skipped."""
    return "".join(block.code for block in blocks(page) if block.language == "sh" and not block.skip)


def run_python(page: str, folder: Path) -> dict[str, Any]:
    """Runs the Python code of a page in a folder; returns its variables."""
    file = folder / f"{page}.py"
    file.write_text("\n".join(block.code for block in blocks(page) if block.language == "python" and not block.skip))
    with contextlib.chdir(folder):
        return runpy.run_path(str(file))


def words(page: str, start: str) -> list[str]:
    """Returns the words of the page's block that begins with `start`."""
    (code,) = (block.code for block in blocks(page) if block.code.startswith(start))
    return shlex.split(code)


def script(page: str) -> str:
    """Returns one Bash script of all blocks that are not skipped. The end of the script ends what it started."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in blocks(page):
        if not block.skip:
            lines.append(block.code if block.language == "sh" else f"python3 - <<'END'\n{block.code}END")
    return "\n".join(lines) + "\n"
