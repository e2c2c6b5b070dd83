"""The commands `live fill`, `live agi` and `live api-key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console
from .configuration import refuse_unused
from .options import (
    KEYED,
    ROW_OPTIONS,
    Calls,
    ExchangeZone,
    GroupRead,
    Host,
    Json,
    LayoutName,
    MaxCalls,
    MaxNumbers,
    NumberKey,
    Port,
    RowOptions,
    ScorerOptions,
    StateFolder,
)
from .ports import require_free_port
from .serve_commands import judge_of


def fill(
    context: typer.Context,
    calls: Calls,
    key: NumberKey,
    state: StateFolder,
    rows: RowOptions,
    layout: LayoutName = "callsieve",
    zone: ExchangeZone = None,
    max_calls: MaxCalls = 2_000_000,
    max_numbers: MaxNumbers = 200_000,
    allow_group_read: GroupRead = False,
    json: Json = False,
) -> None:
    """Fill the memory of a new service from call records, so that it does not abstain for its first week.

    Next: callsieve serve.

    Example: callsieve live fill --calls Master.csv --layout asterisk --key number.key --state state
    """
    from callsieve.serving.batch.call_files import CallFile
    from callsieve.serving.batch.fill_memory import fill_state

    if layout == KEYED:
        refuse_unused(context, ROW_OPTIONS, "--layout keyed")
    file = CallFile(
        path=calls,
        layout=layout,
        key=key,
        quarantine=rows.quarantine,
        strict=rows.strict,
        zone=zone,
        allow_group_read=allow_group_read,
    )
    with console.progress("live fill") as progress:
        facts = fill_state(state, file, calls=max_calls, numbers=max_numbers, progress=progress)
    if json:
        console.emit_json(facts)
        return
    days = f"{facts['first']} to {facts['last']}"
    console.say(f"{facts['calls']:,} calls of {facts['numbers_in_memory']:,} numbers, {days}")
    console.say_quarantined(facts["quarantined"])
    if facts["dropped"]:
        console.say(f"{facts['dropped']:,} calls dropped: memory is full; raise --max-calls")
    console.say(
        "a week is known: the model acts" if facts["filled"] else "less than a week is known: the model abstains"
    )


def agi(scorer: ScorerOptions, host: Host = "127.0.0.1", port: Port = 4573) -> None:
    """Give Asterisk verdicts over FastAGI; docs/how-to/asterisk.md shows the dialplan.

    Next: callsieve live fill.

    Example: callsieve live agi --bundle run/bundle --key number.key --state state
    """
    import asyncio

    from callsieve.features.intake.intake import Intake
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.live.live import Live
    from callsieve.serving.telephony.agi import serve

    require_free_port(host, port)
    judge = judge_of(scorer)
    judge.load(scorer.bundle)
    key = read_key(scorer.key, allow_group_read=scorer.allow_group_read)
    live = Live(judge, Intake(key, scorer.zone), scorer.state)
    try:
        asyncio.run(serve(live, host, port))
    finally:
        live.close()


def api_key(
    keys: Annotated[Path, typer.Option("--keys", help="File of API keys; gets the hash of the new key.")],
    name: Annotated[str, typer.Option(help="Name of the client.")],
    scopes: Annotated[
        str,
        typer.Option(help="Scopes separated by commas, of score, report, explain, admin, appeal, decide, audit."),
    ] = "score",
    rate: Annotated[int, typer.Option(help="Requests a second.")] = 20_000,
    json: Json = False,
) -> None:
    """Make an API key for a client of the service, and print it; only its hash is stored.

    Next: callsieve serve.

    Example: callsieve live api-key --keys api.keys --name proxy --scopes score,report
    """
    from callsieve.serving.http.api_keys import add_key

    key = add_key(keys, name, scopes.split(","), rate)
    console.emit_json({"name": name, "key": key}) if json else console.say(key)
