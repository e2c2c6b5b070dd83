"""Writes the pages of the site that follow from the code: features, commands, the policy, notebooks, texts of the root.

`conf.py` calls `write_pages` before the pages are read. Git ignores what it writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from callsieve.features import Intake, Key, call_features
from callsieve.features.catalogue import FEATURES
from callsieve.features.catalogue.glossary import GLOSSARY
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.cli.command_tree import commands
from callsieve.serving.http.metrics import metrics
from callsieve.serving.live.live import Live
from callsieve.serving.live.memory import Limits
from callsieve.serving.live.swap import Swap
from callsieve.serving.scorer.status import MESSAGES
from callsieve.training.cli.command_table import ROOT as COMMAND
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.world.basis.variation import Range, shipped_variation

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "serving" / "shipped"
PROJECT = {
    "evidence": "EVIDENCE.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "licences": "LICENSES.md",
}
CALLER, NEIGHBOUR = "13800138000", "13800138055"


def write_pages() -> None:
    """Writes the generated pages beside the others."""
    pages = {f"project/{page}.md": project_page(ROOT / name) for page, name in PROJECT.items()}
    pages |= {
        "reference/features.md": features_page(),
        "reference/commands.md": commands_page(),
        "reference/policy.md": policy_page(),
        "reference/statuses.md": statuses_page(),
        "reference/metrics.md": metrics_page(),
        "reference/varied-worlds.md": varied_worlds_page(),
    }
    pages |= {
        f"tutorials/{path.name}": path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb")
    }
    for path, text in pages.items():
        target = Path(__file__).parent / path
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def project_page(path: Path) -> str:
    """Returns a text of the root folder; its links to files outside the site become plain text."""
    pages = {name: f"{page}.md" for page, name in PROJECT.items()}
    return re.sub(
        r"\[([^]]+)\]\((?!https?:)([^)]+)\)",
        lambda link: f"[{link[1]}]({pages[link[2]]})" if link[2] in pages else f"`{link[2]}`",
        path.read_text(encoding="utf-8"),
    )


# A number that calls five people within an hour, is called back by one of them, and shares its block, trunk and device
# with one other number. Start in minutes before the call in question; ring and talk in seconds.
EXAMPLE = [
    # minutes, caller, callee, ring, talk, outcome, released_by
    (2880, CALLER, "13911110001", 12, 95, "answered", "callee"),
    (55, CALLER, "13911110002", 8, 0, "rejected", "callee"),
    (50, CALLER, "13911110003", 25, 0, "no_answer", "network"),
    (41, CALLER, "13911110004", 6, 7, "answered", "callee"),
    (33, CALLER, "13911110005", 3, 0, "no_answer", "caller"),
    (20, NEIGHBOUR, "13911110009", 9, 4, "answered", "callee"),
    (12, "13911110003", CALLER, 7, 20, "answered", "caller"),
    (5, CALLER, "13911110006", 10, 0, "busy", "network"),
    (0, CALLER, "13911110007", 10, 0, "no_answer", "network"),
]
COLUMNS = ("minutes before", "caller", "callee", "ring", "talk", "outcome", "released_by")


def example_values() -> dict[str, float]:
    """Returns the value of each feature of the last call of the example."""
    calls = pd.DataFrame(EXAMPLE, columns=COLUMNS)
    calls["start"] = pd.Timestamp("2026-04-01 10:00", tz="Asia/Shanghai") - pd.to_timedelta(
        calls.pop(COLUMNS[0]), "min"
    )
    calls["trunk"], calls["device"] = "trunk-1", "device-1"
    calls.loc[calls["caller"].str.startswith("139"), ["trunk", "device"]] = None
    return dict(call_features(calls, {name: name for name in calls.columns}).iloc[-1])


def features_page() -> str:
    """Returns the terms, and for each feature its meaning, formula and worked example."""
    values = example_values()
    return "\n".join(
        [
            "# Features",
            f"{len(FEATURES)} features describe a call by what was known before it. "
            "`callsieve features --list` prints them.\n",
            "## Terms\n",
            *(f"**{term}**\n:   {meaning}\n" for term, meaning in GLOSSARY.items()),
            "## The example\n",
            "The value after *example* below is that of the last of these calls. All calls but the one made by "
            f"139 1111 0003 come over one trunk from one device; {NEIGHBOUR} is in the block of {CALLER}.\n",
            *_table(COLUMNS, EXAMPLE),
            "\n## The list\n",
            *(_feature(feature.definition, values.get(feature.name)) for feature in FEATURES),
        ]
    )


def _feature(definition: dict[str, Any], value: float | None) -> str:
    parts = [f"- {part}: {_part(definition[part])}" for part in ("part", "whole", "other") if part in definition]
    formula = [f"- formula: `{definition['formula']}`"] if "formula" in definition else []
    example = [] if value is None else [f"- example: **{'unknown' if math.isnan(value) else f'{value:.4g}'}**"]
    excluding = [f"- leaves out: {definition['excluding']}"] if definition.get("excluding") else []
    lines = [f"### `{definition['name']}`", f"\n{definition['en']} ({definition['unit']}) · {definition['zh']}\n"]
    return "\n".join([*lines, *formula, *parts, *excluding, *example, ""])


def _part(part: str | dict[str, Any]) -> str:
    if isinstance(part, str):
        return f"`{part}`"
    window = part.get("window_seconds")
    return f"{part['adds']} of `{part['events']}`, where: {part['where']}" + (f", in {window} s" if window else "")


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(map(str, row))} |"


def commands_page() -> str:
    """Returns the help of each command: what it does, its example, and its options."""
    lines = [
        "# Commands\n",
        "`callsieve COMMAND --help` prints the same. These options stand anywhere on the line of a command that reads "
        "them:\n",
        *_table(("option", "meaning", "default"), _options(COMMAND)),
        "",
    ]
    for path, command in commands(COMMAND):
        lines += [
            f"## `callsieve {path}`\n",
            *_help(command.help or ""),
            "",
            *_table(("option", "meaning", "default"), _options(command)),
            f"\n{command.epilog or ''}\n",
        ]
    return "\n".join(lines)


def _help(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b", "").split("\n\n"):
        line = " ".join(paragraph.split())
        yield f"```sh\n{line.removeprefix('Example: ')}\n```\n" if line.startswith("Example: ") else f"{line}\n"


def _options(command: Any) -> list[tuple[Any, ...]]:
    rows = []
    for option in command.params:
        names = (
            ", ".join(f"`{name}`" for name in option.opts)
            if option.param_type_name == "option"
            else f"`{option.name.upper()}`"
        )
        default = "required" if option.required else option.default
        shown = "" if default in (None, False, ()) or callable(default) else f"{default}"
        rows.append((names, " ".join((getattr(option, "help", "") or "").split()).replace("|", "\\|"), shown))
    return rows


def policy_page() -> str:
    """Returns the shipped policy file."""
    text = (ROOT / "serving" / "rules" / "policy.toml").read_text(encoding="utf-8")
    return "\n".join(
        [
            "# Policy\n",
            "A policy file says which action follows from a rule, or from a score that reaches a band (a named "
            "threshold). This is the shipped one. `--policy FILE` uses another. `callsieve study policies OLD NEW` "
            "shows whose calls a new one would treat differently.\n",
            f"```toml\n{text}```",
        ]
    )


def statuses_page() -> str:
    """Returns the table of the statuses of a verdict."""
    return "\n".join(
        [
            "# Statuses\n",
            "A verdict has one of these statuses, in Python, over HTTP, in files, metrics and pages. The `message` of "
            "a verdict names all conditions that hold; the status is the most serious one.\n",
            "| status | message |",
            "|---|---|",
            *(f"| `{status}` | {message} |" for status, message in MESSAGES.items()),
        ]
    )


def varied_worlds_page() -> str:
    """Returns the table of what a varied world draws, and what is known of each value."""
    variation = shipped_variation()
    order = {"none": "no source", "partial": "in part", "source": "fixed by a source"}
    ranges = sorted(variation.range, key=lambda limits: list(order).index(limits.evidence))
    rows = [
        (limits.title, _parameters(limits), order[limits.evidence], _drawn(limits), limits.reason) for limits in ranges
    ]
    lacks = [(lack.records, f"{lack.chance:.0%} of the worlds", lack.reason) for lack in variation.lack]
    return "\n".join(
        [
            "# Varied worlds\n",
            "`callsieve simulate --vary` and `callsieve study worlds` draw these parameters of a simulated world anew, "
            "by the seed of the world. Factors are drawn evenly on a logarithmic scale; for a share, they multiply the "
            "odds. A factor *for all* is drawn once for a world, the habit of its network; a factor *each* for each "
            "parameter. `world.json` names each drawn value. What no source says varies by ten or more, what a source "
            "fixes by three at most.\n",
            *_table(("range", "parameters", "known", "drawn", "source, or why there is none"), rows),
            "\n## What the records lack\n",
            *_table(("calls", "chance", "reason"), lacks),
            "",
        ]
    )


def _parameters(limits: Range) -> str:
    names = ", ".join(f"`{name}`" for name in limits.names)
    return names if limits.callers == "all" else f"{names}, {limits.callers} callers"


def _drawn(limits: Range) -> str:
    factors = {"for all": limits.worldwide, "each": limits.factor}
    texts = [f"{low:g} to {high:g} {whose}" for whose, (low, high) in factors.items() if (low, high) != (1.0, 1.0)]
    texts += [f"up to {limits.shift:g} h earlier or later"] if limits.shift else []
    texts += [f"0 in {limits.absent:.0%} of the worlds"] if limits.absent else []
    return ", ".join(texts) or "stays"


def metrics_page() -> str:
    """Returns the metrics of the service, and the metrics by which MLflow and the gates know a run."""
    key, swap = Key("e1", bytes(32)), Swap(trusted=[read_public_key(SHIPPED / "signer.pub")])
    swap.load(SHIPPED / "bundle")
    with TemporaryDirectory() as folder:
        live = Live(swap, Intake(key), Path(folder), limits=Limits(1000, 100))
        try:
            text = metrics(live, swap, {200: 1}).decode()
        finally:
            live.close()
    families = dict(re.findall(r"^# HELP (callsieve_\w+) (.*)$", text, re.MULTILINE))
    gates = [(f"`{gate.metric}`", gate.means) for gate in shipped_gates().gates]
    return "\n".join(
        [
            "# Metrics\n",
            "## Of the service\n",
            "`GET /metrics` gives these in Prometheus's text format, beside those of the process.\n",
            *_table(("metric", "meaning"), [(f"`{name}`", meaning) for name, meaning in families.items()]),
            "\n## Of a run\n",
            "MLflow has these metrics of each run, and the shipped gates bound them.\n",
            *_table(("metric", "meaning"), gates),
        ]
    )
