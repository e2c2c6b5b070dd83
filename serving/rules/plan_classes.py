"""The three classes of nuisance calls in the plan of thirteen ministries: marketing, harassment and illegal.

The file `plan_classes.toml` assigns contents, modes and rules to classes. A class describes a call; it is no legal
finding.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from callsieve.features.files.toml_file import read_toml

PLAN_CLASSES = ("marketing", "harassment", "illegal")
"""The classes, from the mildest to the gravest."""
_KINDS = ("content", "mode", "rules")


@cache
def plan_table() -> dict[str, Any]:
    """Returns the reviewed table: `version`, the classes of `content`, `mode` and `rules`, and `names` (en, zh)."""
    return read_toml(Path(__file__).with_name("plan_classes.toml"), "plan_classes.toml")


def plan_class(content: str | None, rules: Collection[str] = (), mode: str | None = None) -> str:
    """Returns the gravest class that the content, the mode or a rule names; "" if none of them names a class.

    >>> plan_class("loans"), plan_class("loans", {"call_bombing"}), plan_class(None, {"authentication_failed"})
    ('marketing', 'harassment', '')
    """
    table = plan_table()
    words = {"content": (content,), "mode": (mode,), "rules": rules}
    named = [table[kind].get(word, "") for kind in _KINDS for word in words[kind]]
    return max(named, key=lambda name: PLAN_CLASSES.index(name) + 1 if name else 0, default="")
