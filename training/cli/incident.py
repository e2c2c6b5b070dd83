"""Commands for incidents: the drill, and canary numbers that tell where a list is from. Thin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Json

commands = typer.Typer()
incident = typer.Typer(
    no_args_is_help=True, help="Incidents: whom they concern, who must be told, where a list is from."
)
canaries = typer.Typer(no_args_is_help=True, help="Numbers that nobody has, seeded in data and looked for in lists.")
commands.add_typer(incident, name="incident")
incident.add_typer(canaries, name="canaries")

CanaryKey = Annotated[
    Path, typer.Option("--key", help="Key file that decides which numbers are canaries; used for no other.")
]
State = Annotated[Path, typer.Option(help="File that knows what was planted in which data set; it holds no number.")]


@incident.command()
def drill(
    record: Annotated[
        Path, typer.Option(help="What happened (TOML); training/governance/incident.toml shows the form.")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder for incident.json and the notices.")],
    json: Json = False,
) -> None:
    """Name affected data sets, keys, epochs and how many people, and fill the notices with their clocks."""
    from callsieve.serving.cli import console
    from callsieve.training.governance.incident import drill as run

    facts = run(record, console.new_folder(out))
    if json:
        console.emit_json(facts)
        return
    epochs = ", ".join(sorted(facts["epochs"])) or "none"
    console.say(f"{len(facts['datasets'])} data sets, {facts['call_records']:,} call records")
    console.say(f"at most {facts['people_at_most']:,} people; epochs {epochs}")
    for name, moment in facts["clocks"].items():
        console.say(f"{moment}  {name}")
    for epoch in facts["readable_epochs"]:
        console.say(f"the key of epoch {epoch} is among it: its numbers can be read")


@canaries.command()
def plant(
    key: CanaryKey,
    dataset: Annotated[str, typer.Option(help="Name of the copy: each that is handed out has its own.")],
    calls: Annotated[
        Path | None, typer.Option(help="Keyed calls (Parquet); without, lines of raw calls are printed.")
    ] = None,
    store_key: Annotated[Path | None, typer.Option(help="With --calls: key file of their tokens.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --calls: new file for the copy.")] = None,
    state: State = Path("canaries.json"),
    count: Annotated[int, typer.Option(min=1, help="How many canaries.")] = 20,
    since: Annotated[
        str | None, typer.Option(help="Without --calls: first moment, such as 2026-03-01T00:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Without --calls: last moment.")] = None,
    json: Json = False,
) -> None:
    """Write a copy of keyed calls with canaries in it, or print raw calls of canaries for who seeds records."""
    from callsieve.features.files.dates import moment_in
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.cli import console
    from callsieve.training.governance import decoys

    secret, planted = read_key(key, "canaries"), decoys.Planted(dataset, count)
    if calls is not None and store_key is not None and out is not None:
        rows = decoys.plant(calls, out, secret, read_key(store_key), planted, state)
        facts = {"dataset": dataset, "canaries": count, "rows": rows}
        console.emit_json(facts) if json else console.say(
            f"{out}: {rows:,} calls, {count} of them canaries of {dataset}"
        )
        return
    if calls is not None or since is None or until is None:
        console.fail("plant: expected --calls with --store-key and --out, or --since and --until", code=2)
    first, last = moment_in(since, "--since").timestamp(), moment_in(until, "--until").timestamp()
    decoys.remember(state, planted)
    lines = decoys.raw_rows(secret, planted, first, last)
    if json:
        console.emit_json({"dataset": dataset, "canaries": count, "lines": list(lines)})
        return
    for line in lines:
        typer.echo(line)


@canaries.command()
def search(
    file: Annotated[Path, typer.Argument(help="A list from outside: text, plain or gzip, or Parquet.")],
    key: CanaryKey,
    state: State = Path("canaries.json"),
    store_key: Annotated[Path | None, typer.Option(help="Look for tokens too: key file of the store.")] = None,
    json: Json = False,
) -> None:
    """Look for canaries in a list; exit code 1 if there are any."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.cli import console
    from callsieve.training.governance import decoys

    told = decoys.search(file, read_key(key, "canaries"), state, None if store_key is None else read_key(store_key))
    if json:
        console.emit_json(told)
    else:
        for one in told["datasets"]:
            console.say(f"{one['dataset']}: {one['found']} of {one['planted']} canaries found")
        console.say(f"{told['lines']:,} lines read")
    if any(one["found"] for one in told["datasets"]):
        sys.exit(1)
