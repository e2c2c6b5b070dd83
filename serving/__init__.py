"""Vectors to verdicts: the part that a host embeds.

from callsieve.features import History, Intake, read_key
from callsieve.serving import Scorer, read_public_key

intake, history = Intake(read_key("key")), History()
scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
verdict = scorer.score(history, intake(call))
history.observe(intake(call))

Examples in this package are run in a folder with what `callsieve train` or `callsieve demo` leaves: `bundle`,
`signer.pub` and `number.key`.
"""

from .bundle import Bundle, Refused
from .policy import Policy, read_policy
from .reasons import Reason
from .registers import Registers
from .rules import Fact
from .scorer import Scorer, Scores, Verdict
from .signing import read_public_key
from .swap import Swap
from .unlisted import Cleared, Unlisted

__all__ = [
    "Bundle",
    "Cleared",
    "Fact",
    "Policy",
    "Reason",
    "Refused",
    "Registers",
    "Scorer",
    "Scores",
    "Swap",
    "Unlisted",
    "Verdict",
    "read_policy",
    "read_public_key",
]
