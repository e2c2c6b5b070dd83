"""Options that several commands share: a type for each single option, a dataclass for related options.

`command_tree.expanded` turns a parameter of a dataclass into one option for each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from callsieve.features.online.history import DEFAULT_CALLS, DEFAULT_NUMBERS

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
Threads = Annotated[int, typer.Option(min=0, help="Cores to use; 0 means all. Results do not depend on it.")]
Size = Annotated[str, typer.Option(help="Size of the simulated world: tiny, village, small, town, city.")]
Scenario = Annotated[Path | None, typer.Option(help="TOML file that overrides parts of the default scenario.")]
Out = Annotated[Path, typer.Option("--out", help="New or empty folder for the results.")]
Data = Annotated[Path, typer.Option("--data", help="Folder with calls, complaints and findings (Parquet).")]
Calls = Annotated[Path, typer.Option("--calls", help="File or folder of call records.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="Folder of a signed model (bundle).")]
ShippedBundle = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a signed model (bundle); by default the shipped one.")
]
Trust = Annotated[
    Path | None,
    typer.Option("--trust", help="Public key (PEM) of the signer; by default signer.pub beside the bundle."),
]
NumberKey = Annotated[Path, typer.Option("--key", help="Key file that turns numbers into tokens.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file that turns numbers into tokens; by default CALLSIEVE_KEY, else a new key."),
]
CalleesKey = Annotated[
    Path | None,
    typer.Option("--callees-key", help="Key file for called numbers in verdicts and exports; by default a new key."),
]


def shipped_or_own(path: Path | None) -> Path | None:
    """Returns the path of a policy file that an option names by its path or, for a shipped policy, by its name."""
    from callsieve.serving.rules.policy import policy_path

    return None if path is None else policy_path(path)


PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        callback=shipped_or_own,
        help="Policy file, or a shipped policy: default (if not given) or plan-2018.",
    ),
]
RegisterFolder = Annotated[
    Path | None, typer.Option("--registers", help="Folder that `callsieve ingest registers` wrote.")
]
LayoutName = Annotated[
    str,
    typer.Option("--layout", help="callsieve, asterisk, sichuan, plain, copenhagen, reality, keyed, or a TOML file."),
]
FeatureNames = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Names separated by commas, a file with one name a line, or lite (10 for handsets); by default all.",
    ),
]
Keep = Annotated[
    list[str] | None, typer.Option("--keep", help="Column of --calls to copy to --out; repeat for several.")
]
ComplaintFile = Annotated[
    Path | None,
    typer.Option("--complaints", help="File of complaints."),
]
ColumnFile = Annotated[
    Path | None,
    typer.Option("--columns", help="Own columns by number (Parquet), as `callsieve ingest columns` writes them."),
]
LabelPolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--label-policy",
        help="TOML file that says which complaints and findings make a label; by default the shipped one.",
    ),
]
GatesFile = Annotated[
    Path | None,
    typer.Option("--gates", help="TOML file of gates, the limits of a run's metrics; by default the shipped one."),
]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow store; by default MLFLOW_TRACKING_URI or mlruns.db here.")
]
ValidFrom = Annotated[
    str,
    typer.Option(
        "--valid-from", help="First day of the model's validity, such as 2026-11-28; by default the last day of calls."
    ),
]
StateFolder = Annotated[Path, typer.Option("--state", help="Folder of the service's live state.")]
StateFolders = Annotated[
    list[Path] | None, typer.Option("--state", help="Folder of a service's live state; repeat for several.")
]
ApiKeys = Annotated[Path, typer.Option("--keys", help="File of API keys; see `callsieve live api-key`.")]
CaseStoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="CALLSIEVE_CASES", help="Case store: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
    ),
]
Zone = Annotated[str, typer.Option("--zone", help="Time zone of hours and days.")]
ExchangeZone = Annotated[
    str | None,
    typer.Option(
        "--zone", help="Time zone of times without an offset, and of hours and days; by default the layout's."
    ),
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")]
LogFormat = Annotated[
    Literal["text", "json"], typer.Option("--log-format", help="Form of the log on standard error: text or json.")
]
GroupRead = Annotated[
    bool,
    typer.Option(
        "--allow-group-read", help="Accept key files that their group may read, such as those of a Kubernetes fsGroup."
    ),
]
ValidDays = Annotated[float, typer.Option("--valid-days", help="Days until it expires.")]
Lang = Annotated[str, typer.Option("--lang", help="Language of the pages: en or zh.")]
Why = Annotated[str, typer.Option("--why", help="Reason, for the audit log.")]
SigningKey = Annotated[Path, typer.Option("--signing-key", help="Ed25519 key (PEM) that signs.")]

KEYED = "keyed"
ROW_OPTIONS = ("quarantine", "strict", "allow_quarantine", "zone")
"""Options about rows as written: a keyed table is accepted or refused as a whole, and its times have no zone."""


AllowQuarantine = Annotated[
    bool,
    typer.Option(
        "--allow-quarantine", help="Go on without the invalid rows of --calls even if they are more than a tenth."
    ),
]
EngineName = Annotated[
    Literal["table", "spark"],
    typer.Option("--engine", help="table, or spark: reads keyed calls (Parquet), and writes a new folder."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowOptions:
    """Where invalid rows go."""

    quarantine: Annotated[
        Path | None, typer.Option("--quarantine", help="File for invalid rows, with their reasons (JSON lines).")
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on the first invalid row instead of quarantining it.")
    ] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRowOptions(RowOptions):
    """Where invalid rows of calls go, and how many there may be."""

    allow_quarantine: AllowQuarantine = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutOptions:
    """How the calls are written."""

    layout: LayoutName = "callsieve"
    zone: ExchangeZone = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryOptions:
    """How much a service keeps in memory."""

    max_calls: Annotated[
        int,
        typer.Option(
            "--max-calls", help="Calls to keep in memory; with less than a week of calls the scorer abstains."
        ),
    ] = DEFAULT_CALLS
    max_numbers: Annotated[int, typer.Option("--max-numbers", help="Numbers to keep in memory.")] = DEFAULT_NUMBERS


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerOptions:
    """The bundle, policy, registers and own columns of a service, and the folder of its state."""

    bundle: Bundle
    key: NumberKey
    state: StateFolder
    trust: Trust = None
    policy: PolicyFile = None
    registers: RegisterFolder = None
    columns: ColumnFile = None
    zone: Zone = "Asia/Shanghai"
    allow_group_read: GroupRead = False
