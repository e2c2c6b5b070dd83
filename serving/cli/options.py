"""Options that several commands share: a type for each single option, a dataclass for related options.

`command_tree.expanded` turns a parameter of a dataclass into one option for each field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from callsieve.features.online.history import DEFAULT_CALLS, DEFAULT_NUMBERS


def print_version(wanted: bool) -> None:
    """Prints the installed version and exits, if this is wanted."""
    if wanted:
        typer.echo(f"callsieve {version('callsieve')}")
        raise typer.Exit


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedOptions:
    """Options of the root. A command reads those that it has parameters of, with its own defaults for None."""

    version: Annotated[
        bool, Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False
    json: Annotated[
        bool, Option("--json", help="Print one JSON object on standard output; a service writes its log as JSON.")
    ] = False
    threads: Annotated[int, Option(min=0, help="Cores to use; 0 means all. Results do not depend on it.")] = 0
    seed: Annotated[int | None, Option(min=0, help="Seed of every random choice.")] = None
    lang: Annotated[str | None, Option(help="Language of the pages: en or zh.")] = None
    zone: Annotated[
        str | None,
        Option(
            help="Time zone of hours and days, and of times without an offset; by default the layout's, or "
            "Asia/Shanghai."
        ),
    ] = None
    audit_log: Annotated[
        Path | None,
        Option("--audit", help="Folder of the audit log; by default audit/ in the run or beside the bundle."),
    ] = None
    signing_key: Annotated[
        Path | None, Option(help="Ed25519 key (PEM) that signs; by default the log's, or a new one in your key folder.")
    ] = None
    person: Annotated[str | None, Option(help="Who does it, for the audit log: a name of a-z 0-9 _ . -")] = None
    gates: Annotated[
        Path | None, Option(help="TOML file of gates, the limits of a run's metrics; by default the shipped one.")
    ] = None
    tracking_uri: Annotated[
        str | None, Option(help="MLflow store; by default MLFLOW_TRACKING_URI or mlruns.db here.")
    ] = None
    store: Annotated[
        str | None,
        Option(envvar="CALLSIEVE_CASES", help="Case store: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."),
    ] = None


SHARED = {field.name: f"--{field.name.replace('_', '-')}" for field in fields(SharedOptions)} | {"audit_log": "--audit"}
"""The words of these options by their names. In a file, `audit` can also be the table of the commands of that name."""
Size = Annotated[str, Option(help="Size of the simulated world: tiny, village, small, town, city.")]
Scenario = Annotated[Path | None, Option(help="TOML file that overrides parts of the default scenario.")]
Out = Annotated[Path, Option("--out", help="New or empty folder for the results.")]
Data = Annotated[Path, Option("--data", help="Folder with calls, complaints and findings (Parquet).")]
Calls = Annotated[Path, Option("--calls", help="File or folder of call records.")]
Bundle = Annotated[Path, Option("--bundle", help="Folder of a signed model (bundle).")]
ShippedBundle = Annotated[
    Path | None, Option("--bundle", help="Folder of a signed model (bundle); by default the shipped one.")
]
Trust = Annotated[
    Path | None, Option("--trust", help="Public key (PEM) of the signer; by default signer.pub beside the bundle.")
]
NumberKey = Annotated[Path, Option("--key", help="Key file that turns numbers into tokens.")]
KeyFile = Annotated[
    Path | None,
    Option("--key", help="Key file that turns numbers into tokens; by default CALLSIEVE_KEY, else a new key."),
]
CalleesKey = Annotated[
    Path | None,
    Option("--callees-key", help="Key file for called numbers in verdicts and exports; by default a new key."),
]


def shipped_or_own(path: Path | None) -> Path | None:
    """Returns the path of a policy file that an option names by its path or, for a shipped policy, by its name."""
    from callsieve.serving.rules.policy import policy_path

    return None if path is None else policy_path(path)


PolicyFile = Annotated[
    Path | None,
    Option(
        "--policy",
        callback=shipped_or_own,
        help="Policy file, or a shipped policy: default (if not given) or plan-2018.",
    ),
]
RegisterFolder = Annotated[Path | None, Option("--registers", help="Folder that `callsieve ingest registers` wrote.")]
LayoutName = Annotated[
    str,
    Option(
        "--layout",
        help="callsieve, asterisk, sichuan, plain, copenhagen, reality, keyed, spark (keyed calls on Spark, for "
        "score and features), or a TOML file.",
    ),
]
ListsFile = Annotated[
    Path | None, Option("--lists", help="TOML file of lists of other issuers that the service or the command follows.")
]
FeatureNames = Annotated[
    str | None,
    Option(
        "--features",
        help="Names separated by commas, a file with one name a line, or lite (10 for handsets); by default all.",
    ),
]
Keep = Annotated[list[str] | None, Option("--keep", help="Column of --calls to copy to --out; repeat for several.")]
ComplaintFile = Annotated[Path | None, Option("--complaints", help="File of complaints.")]
ColumnFile = Annotated[
    Path | None, Option("--columns", help="Own columns by number (Parquet), as `callsieve ingest columns` writes them.")
]
LabelPolicyFile = Annotated[
    Path | None,
    Option(
        "--label-policy",
        help="TOML file that says which complaints and findings make a label; by default the shipped one.",
    ),
]
ValidFrom = Annotated[
    str,
    Option(
        "--valid-from", help="First day of the model's validity, such as 2026-11-28; by default the last day of calls."
    ),
]
StateFolder = Annotated[Path, Option("--state", help="Folder of the service's live state.")]
StateFolders = Annotated[
    list[Path] | None, Option("--state", help="Folder of a service's live state; repeat for several.")
]
ApiKeys = Annotated[Path, Option("--keys", help="File of API keys; see `callsieve live api-key`.")]
Host = Annotated[str, Option("--host", help="Address to listen on.")]
Port = Annotated[int, Option("--port", min=0, max=65535, help="Port to listen on.")]
GroupRead = Annotated[
    bool,
    Option(
        "--allow-group-read", help="Accept key files that their group may read, such as those of a Kubernetes fsGroup."
    ),
]
ValidDays = Annotated[float, Option("--valid-days", help="Days until it expires.")]
Why = Annotated[str, Option("--why", help="Reason, for the audit log.")]
KEYED, SPARK = "keyed", "spark"
ROW_OPTIONS = ("quarantine", "strict", "allow_quarantine", "zone")
"""Options about rows as written: a keyed table is accepted or refused as a whole, and its times have no zone."""


AllowQuarantine = Annotated[
    bool,
    Option("--allow-quarantine", help="Go on without the invalid rows of --calls even if they are more than a tenth."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowOptions:
    """Where invalid rows go."""

    quarantine: Annotated[
        Path | None, Option("--quarantine", help="File for invalid rows, with their reasons (JSON lines).")
    ] = None
    strict: Annotated[bool, Option("--strict", help="Fail on the first invalid row instead of quarantining it.")] = (
        False
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRowOptions(RowOptions):
    """Where invalid rows of calls go, and how many there may be."""

    allow_quarantine: AllowQuarantine = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutOptions:
    """How the calls are written."""

    layout: LayoutName = "callsieve"
    zone: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryOptions:
    """How much a service keeps in memory."""

    max_calls: Annotated[
        int, Option("--max-calls", help="Calls to keep in memory; with less than a week of calls the scorer abstains.")
    ] = DEFAULT_CALLS
    max_numbers: Annotated[int, Option("--max-numbers", help="Numbers to keep in memory.")] = DEFAULT_NUMBERS


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerOptions:
    """The bundle, policy, registers, own columns and lists of a service, and the folder of its state."""

    bundle: Bundle
    key: NumberKey
    state: StateFolder
    trust: Trust = None
    policy: PolicyFile = None
    registers: RegisterFolder = None
    columns: ColumnFile = None
    lists: ListsFile = None
    zone: str = "Asia/Shanghai"
    allow_group_read: GroupRead = False
