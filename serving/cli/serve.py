"""Commands of the services, over HTTP and for Asterisk. Thin: every step lives in its own module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callsieve.serving.cli.options import (
    KEYED,
    OF_ROWS,
    Bundle,
    Json,
    LayoutName,
    PolicyFile,
    QuarantineFile,
    RegisterFolder,
    Strict,
    Trust,
)

if TYPE_CHECKING:
    from callsieve.serving import Swap

commands = typer.Typer()


@commands.command()
def serve(
    bundle: Bundle,
    key: Annotated[Path, typer.Option("--key", help="Key file for the tokens of numbers.")],
    keys: Annotated[Path, typer.Option("--keys", help="File of the keys that clients show; see api-key.")],
    state: Annotated[Path, typer.Option("--state", help="Folder of what outlives the process.")],
    trust: Trust = None,
    policy: PolicyFile = None,
    registers: Annotated[
        Path | None, typer.Option("--registers", help="Folder that `callsieve registers` wrote; read anew at reload.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    zone: Annotated[str, typer.Option(help="Time zone of hours and days.")] = "Asia/Shanghai",
    deadline: Annotated[float, typer.Option(help="Milliseconds for a verdict; then the answer is pass.")] = 20.0,
    calls: Annotated[int, typer.Option(help="Calls in memory at most; bands speak if a week has room.")] = 2_000_000,
    numbers: Annotated[int, typer.Option(help="Numbers in memory at most.")] = 200_000,
    compiled: Annotated[bool, typer.Option(help="Run the kernel of the history as C, if that was built.")] = True,
) -> None:
    """Serve verdicts over HTTP: score, observe, report, explain, and a page for operators."""
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.http.server import serve as run

    judge = judge_of(bundle, state, trust, policy, registers)
    run(
        bundle, judge, read_key(key), keys, state, host=host, port=port, zone=zone, deadline=deadline / 1000,
        calls=calls, numbers=numbers, compiled=compiled,
    )  # fmt: skip


@commands.command()
def fill(
    context: typer.Context,
    calls: Annotated[Path, typer.Option(help="Records of the last days; of the last 28 something is remembered.")],
    key: Annotated[Path, typer.Option("--key", help="Key file for the tokens of numbers, as the service has it.")],
    state: Annotated[Path, typer.Option("--state", help="Folder of the service, without events as yet.")],
    layout: LayoutName = "callsieve",
    held: Annotated[int, typer.Option("--held", help="Calls in memory at most.")] = 2_000_000,
    numbers: Annotated[int, typer.Option(help="Numbers in memory at most.")] = 200_000,
    quarantine: QuarantineFile = None,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Take in records of the days before a service begins, so that its bands speak at once."""
    from callsieve.serving.batch.fill_memory import fill_state as take_in
    from callsieve.serving.cli import console
    from callsieve.serving.cli.command_tree import refuse_unused

    if layout == KEYED:
        refuse_unused(context, OF_ROWS, "--layout keyed")
    with console.progress("fill") as tell:
        told = take_in(
            state, calls, layout, key=key, calls=held, numbers=numbers, quarantine=quarantine, strict=strict,
            progress=tell,
        )  # fmt: skip
    if json:
        console.emit_json(told)
        return
    console.say(f"{told['calls']:,} calls of {told['numbers_in_memory']:,} numbers, {told['first']} to {told['last']}")
    for reason, count in told["quarantined"].items():
        console.say(f"put apart: {count:,} rows, {reason}")
    if told["dropped"]:
        console.say(f"no room for {told['dropped']:,} of them: more --held")
    console.say("bands speak from the day after them on" if told["filled"] else "too few days: bands do not speak yet")


@commands.command()
def agi(
    bundle: Bundle,
    key: Annotated[Path, typer.Option("--key", help="Key file for the tokens of numbers.")],
    state: Annotated[Path, typer.Option("--state", help="Folder of what outlives the process.")],
    trust: Trust = None,
    policy: PolicyFile = None,
    registers: RegisterFolder = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 4573,
    zone: Annotated[str, typer.Option(help="Time zone of hours and days.")] = "Asia/Shanghai",
) -> None:
    """Serve verdicts to Asterisk over FastAGI; the dialplan is in the text of serving/telephony/agi.py."""
    import asyncio

    from callsieve.features.intake.intake import Intake
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.live.live import Live
    from callsieve.serving.telephony.agi import serve

    judge = judge_of(bundle, state, trust, policy, registers)
    judge.load(bundle)
    live = Live(judge, Intake(read_key(key), zone), state)
    try:
        asyncio.run(serve(live, host, port))
    finally:
        live.close()


@commands.command()
def api_key(
    keys: Annotated[Path, typer.Option("--keys", help="File that the key's hash is added to.")],
    name: Annotated[str, typer.Option(help="Who holds the key.")],
    scopes: Annotated[
        str, typer.Option(help="Of score, report, explain, admin, appeal, decide, audit; with commas.")
    ] = "score",
    rate: Annotated[int, typer.Option(help="Requests a second.")] = 20_000,
    json: Json = False,
) -> None:
    """Make a key for a client of the service, and print it: it is kept nowhere."""
    from callsieve.serving.cli import console
    from callsieve.serving.http.api_keys import add_key

    made = add_key(keys, name, scopes.split(","), rate)
    console.emit_json({"name": name, "key": made}) if json else console.say(made)


def judge_of(bundle: Path, state: Path, trust: Path | None, policy: Path | None, registers: Path | None) -> Swap:
    """What will judge calls, before it has loaded the bundle; the folder of the state is made if there is none."""
    from callsieve.serving import Swap, WatchedClearedCallers, read_policy, read_public_key
    from callsieve.serving.bundle.signing import signer_path
    from callsieve.serving.live.cleared_callers import FILE

    signer = read_public_key(signer_path(bundle, trust))
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Swap(
        trusted=[signer],
        policy=read_policy(policy),
        registers=registers,
        epoch_file=state / "epoch",
        unlisted=WatchedClearedCallers(state / FILE),
    )
