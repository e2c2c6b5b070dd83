"""The commands behind the figures that README.md and EVIDENCE.md state.

Each claim is a command that prints JSON. A function of `claim_figures.py` takes the figures from it, and
`evidence_page.py` writes them into EVIDENCE.md. To add a figure: add a claim here, run `callsieve evidence --only
NAME`, and state the figure in the text; `tests/training/evidence/test_claims.py` fails for a figure in a text that
EVIDENCE.md lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import claim_figures as figures
from .claim_figures import Figures, Output

WORK = "{work}"
"""Placeholder in commands for a folder that all claims of a run share."""
DATA = "../shared/data"
"""Folder of data sets that are not shipped with the project."""
REAL = f"{DATA}/sichuan_raw_calls_4_subscribers.csv"
TABLE, COMPLAINTS = f"{DATA}/{figures.EIGHT_MONTHS}", f"{DATA}/ftc_complaints_2020H2.parquet"
SHIPPED = "serving/shipped/bundle"
WORLDS = f"callsieve study worlds --json --valid-from 2026-11-28 --valid-days 730 --out {WORK}"
COUNTS = f"python tests/bench/bench_worlds.py {WORK}"
KNOWN = "python tests/bench/bench_known.py --json"
PUBLISHED = "python tests/bench/bench_published.py"
SICHUAN = f"{PUBLISHED} evaluation {DATA} tests/bench/bench_sichuan.py --data {{}}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A command and the figures that its output gives.

    Attributes:
        name: as in EVIDENCE.md and for `--only`.
        command: as typed in the project's folder; prints JSON.
        figures: takes the figures from the output.
        hashed: the part of the output that follows from the code alone, and not from time, machine or random keys.
            EVIDENCE.md keeps the hash of this part of the quick command's output. None if all of it is measured.
        quick: a form of the command on a tiny world; empty if the command itself is quick.
        needs: a file without which the command cannot run.
        after: the claim whose output folder the command reads.
    """

    name: str
    command: str
    figures: Callable[[Output], Figures]
    hashed: Callable[[Output], Any] | None
    quick: str = ""
    needs: str = ""
    after: str = ""


def _training_part(output: Output) -> Any:
    """Returns the figures without the ids of data and model, because each run keys its calls anew."""
    return [output[name] for name in ("headline", "ranking", "rows", "bands", "baselines", "by_folder", "feeds")]


CLAIMS = (
    Claim(
        "catalogue",
        "callsieve features --list --json",
        figures.catalogue,
        lambda output: output["hash"],
    ),
    Claim(
        "base install",
        "python tests/bench/bench_install.py --json",
        figures.install,
        None,
    ),
    Claim(
        "shipped model",
        f"{WORLDS}/worlds",
        figures.shipped_model,
        _training_part,
        quick=f"{WORLDS}/few --size tiny --learn 5",
    ),
    Claim(
        "by number",
        f"python tests/bench/bench_numbers.py {SHIPPED}",
        figures.by_number,
        lambda output: output["worlds"],
        quick=f"python tests/bench/bench_numbers.py {SHIPPED} --size tiny --seeds 11",
    ),
    Claim(
        "number of worlds",
        f"{COUNTS}/pool {DATA} --families 4 --models 0",
        figures.number_of_worlds,
        lambda output: [output["worlds"], output["labels"]],
        quick=f"{COUNTS}/counts {DATA} --size tiny --counts 1 --models 0 --others 1",
    ),
    Claim(
        "demo",
        f"callsieve demo --json --out {WORK}/demo",
        figures.demo,
        _training_part,
        quick=f"callsieve demo --json --size tiny --seed 11 --out {WORK}/tiny",
    ),
    Claim(
        "real subscribers",
        f"python tests/bench/bench_real.py {SHIPPED} {DATA}",
        figures.real_callers,
        lambda output: output,
        needs=REAL,
    ),
    Claim(
        "first days",
        f"python tests/bench/bench_cold.py {SHIPPED}",
        figures.first_days,
        lambda output: output["days"],
        quick=f"python tests/bench/bench_cold.py {SHIPPED} --size tiny --seed 11",
    ),
    Claim(
        "known callers",
        f"{KNOWN} 611 612 613",
        figures.known_callers,
        lambda output: output["worlds"],
        quick=f"{KNOWN} 11 --size tiny",
    ),
    Claim(
        "published table",
        f"{PUBLISHED} training {TABLE} train --json --seed 1 --vectors {{}}",
        figures.published_table,
        lambda output: output["test"],
        needs=TABLE,
    ),
    Claim(
        "Sichuan tables",
        SICHUAN,
        figures.sichuan,
        lambda output: output,
        quick=f"{SICHUAN} --seeds 0",
        needs=TABLE,
    ),
    Claim(
        "reach of a list",
        f"{PUBLISHED} statistics {COMPLAINTS} ingest complaints --json --layout ftc-counts {{}}",
        figures.reach,
        lambda output: output["churn"]["shares"],
        needs=COMPLAINTS,
    ),
)
