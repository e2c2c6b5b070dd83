"""Vectors to verdicts: the part that a host embeds.

>>> from callsieve.features import Call, History, Intake, read_key
>>> from callsieve.serving import Scorer, read_public_key
>>> intake, history = Intake(read_key("number.key")), History()
>>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
>>> call = intake(Call(1772500000.0, "+86 138 0000 0000", "010 1234 5678"))
>>> scorer.score(history, call).action
'pass'
>>> history.observe(call)

Examples in this package are run in a folder with what `callsieve train` or `callsieve demo` leaves: `bundle`,
`signer.pub` and `number.key`.
"""

from .bundle.bundle import Bundle, BundleError
from .bundle.signing import read_public_key
from .live.cleared_callers import ClearedCallers, WatchedClearedCallers
from .live.swap import Swap
from .rules.policy import Policy, read_policy
from .rules.registers import Registers
from .rules.rules import Fact
from .scorer.reasons import Reason
from .scorer.scorer import Scorer
from .scorer.verdict import Scores, Verdict

__all__ = [
    "Bundle",
    "BundleError",
    "ClearedCallers",
    "Fact",
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
