"""Counts the calls on which a tap on Kamailio and its HTTP requests agree. Run by hand.

python -m tests.bench.speed.bench_sip [--tapped 5000] [--json]

Needs the packages of `tests/system/test_kamailio.py`. The calls that SIPp places reach the tap as copies. The figures
are calls whose facts and ends agree with those of the HTTP requests, and calls whose verdicts are equal.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.harness import parser_of, show
from tests.system import test_tap

TAPPED_RATE = 50  # calls a second


def with_tap(calls: int) -> dict[str, float]:
    """Returns how many of the calls that Kamailio places agree between a tap and the HTTP requests."""
    with tempfile.TemporaryDirectory() as root:
        service, tap, placed = test_tap.tapped(Path(root), calls, TAPPED_RATE)
        agreeing, equal, _ = test_tap.compared(Path(root), service, tap)
    return {"placed": placed, "agreeing": agreeing, "equal_verdicts": equal}


def main() -> None:
    """Prints the figures."""
    options = parser_of(__doc__, tapped=5000, json=False).parse_args()
    show(with_tap(options.tapped), as_json=options.json)


if __name__ == "__main__":
    main()
