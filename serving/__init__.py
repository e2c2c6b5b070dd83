"""Turns vectors into verdicts: the thin scorer that a host embeds, and the services around it.

May import `features`, never `training`. Start with `scorer.scorer`; `bundle` and `rules` are below it, and `live`,
`batch`, `http`, `telephony`, `cases` and `lists` are around it.

>>> from callsieve.features import Call, History, Intake, read_key
>>> from callsieve.serving import Scorer, read_public_key
>>> intake, history = Intake(read_key("number.key")), History()
>>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
>>> call = intake(Call(1772500000.0, "+86 138 0000 0000", "010 1234 5678"))
>>> scorer.score(history, call).action
'pass'
>>> history.observe(call)

The examples in this package run in a folder that `callsieve train` wrote: it has `bundle`, `signer.pub` and
`number.key`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle.bundle import Bundle, BundleError
    from .bundle.signing import read_public_key
    from .live.cleared_callers import ClearedCallers, WatchedClearedCallers
    from .live.swap import Swap
    from .rules.policy import Policy, read_policy
    from .rules.registers import Registers
    from .rules.rules import Fact
    from .scorer.own_columns import OwnColumns
    from .scorer.reasons import Reason
    from .scorer.scorer import Scorer
    from .scorer.verdict import Scores, Verdict

__all__ = [
    "Bundle",
    "BundleError",
    "ClearedCallers",
    "Fact",
    "OwnColumns",
    "Policy",
    "Reason",
    "Registers",
    "Scorer",
    "Scores",
    "Swap",
    "Verdict",
    "WatchedClearedCallers",
    "read_policy",
    "read_public_key",
]


_FILES = {
    "Bundle": "bundle.bundle",
    "BundleError": "bundle.bundle",
    "ClearedCallers": "live.cleared_callers",
    "Fact": "rules.rules",
    "OwnColumns": "scorer.own_columns",
    "Policy": "rules.policy",
    "Reason": "scorer.reasons",
    "Registers": "rules.registers",
    "Scorer": "scorer.scorer",
    "Scores": "scorer.verdict",
    "Swap": "live.swap",
    "Verdict": "scorer.verdict",
    "WatchedClearedCallers": "live.cleared_callers",
    "read_policy": "rules.policy",
    "read_public_key": "bundle.signing",
}


def __getattr__(name: str) -> Any:
    """Imports a name on first use: a host of the scorer needs few of them, and imports take most of its start."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_FILES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
