"""Commands for incidents: the drill, and canary numbers that show where a list comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from callsieve.serving.cli.options import Json

commands = typer.Typer()
incident = typer.Typer(
    no_args_is_help=True, help="Incidents: people concerned, notices, and where a leaked list comes from."
)
canaries = typer.Typer(no_args_is_help=True, help="Canary numbers: unassigned, planted in copies, searched in lists.")
commands.add_typer(incident, name="incident")
incident.add_typer(canaries, name="canaries")

CanaryKey = Annotated[Path, typer.Option("--key", help="Key file (purpose canaries) that decides the canary numbers.")]
State = Annotated[Path, typer.Option(help="File that lists the data sets with canaries; it holds no number.")]


@incident.command()
def drill(
    record: Annotated[
        Path, typer.Option(help="Record of the incident (TOML), in the form of training/governance/incident.toml.")
    ],
    out: Annotated[Path, typer.Option(help="New or empty folder for incident.json and the notices.")],
    json: Json = False,
) -> None:
    """List affected data sets, keys, epochs and numbers of people, and write the notices with their deadlines."""
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
        console.say(f"the key of epoch {epoch} is affected: its numbers can be read")


@canaries.command()
def plant(
    key: CanaryKey,
    dataset: Annotated[str, typer.Option(help="Name of the copy; each copy that leaves the house has its own.")],
    calls: Annotated[
        Path | None, typer.Option(help="Keyed calls (Parquet); without them, raw calls are printed as CSV.")
    ] = None,
    store_key: Annotated[Path | None, typer.Option(help="With --calls: key file of their tokens.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --calls: new file for the copy.")] = None,
    state: State = Path("canaries.json"),
    count: Annotated[int, typer.Option(min=1, help="Number of canaries.")] = 20,
    since: Annotated[
        str | None, typer.Option(help="Without --calls: first moment, such as 2026-03-01T00:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Without --calls: last moment.")] = None,
    json: Json = False,
) -> None:
    """Write a copy of keyed calls with canaries, or print raw calls between canaries as CSV."""
    from callsieve.features.files.dates import moment_in
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.cli import console
    from callsieve.training.governance import canaries as canary

    secret, planted = read_key(key, "canaries"), canary.Canaries(dataset, count)
    if calls is not None and store_key is not None and out is not None:
        rows = canary.plant(calls, out, secret, read_key(store_key), planted, state)
        facts = {"dataset": dataset, "canaries": count, "rows": rows}
        console.emit_json(facts) if json else console.say(
            f"{out}: {rows:,} calls, {count} of them canaries of {dataset}"
        )
        return
    if calls is not None or since is None or until is None:
        console.fail("plant: expected --calls with --store-key and --out, or --since and --until", code=2)
    first, last = moment_in(since, "--since").timestamp(), moment_in(until, "--until").timestamp()
    canary.add_to_state(state, planted)
    lines = canary.raw_lines(secret, planted, first, last)
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
    store_key: Annotated[Path | None, typer.Option(help="Key file of the store: searches tokens, too.")] = None,
    json: Json = False,
) -> None:
    """Search a list for canaries; exit code 1 if it has any."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.cli import console
    from callsieve.training.governance import canaries as canary

    store = None if store_key is None else read_key(store_key)
    result = canary.search(file, read_key(key, "canaries"), state, store)
    if json:
        console.emit_json(result)
    else:
        for row in result["datasets"]:
            console.say(f"{row['dataset']}: {row['found']} of {row['planted']} canaries found")
        console.say(f"{result['lines']:,} lines read")
    if any(row["found"] for row in result["datasets"]):
        sys.exit(1)
