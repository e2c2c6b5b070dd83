"""The commands `serve` and `model verify`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from .configuration import refuse_unused
from .options import (
    ApiKeys,
    Bundle,
    Certificate,
    CertificateKey,
    Host,
    Json,
    MaxCalls,
    MaxNumbers,
    Port,
    ScorerOptions,
    Trust,
    UnixSocket,
)
from .ports import require_free_port

if TYPE_CHECKING:
    from callsieve.serving import Swap


def serve(
    context: typer.Context,
    scorer: ScorerOptions,
    keys: ApiKeys,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    uds: UnixSocket = None,
    ssl_certfile: Certificate = None,
    ssl_keyfile: CertificateKey = None,
    deadline: Annotated[float, typer.Option(help="Milliseconds for a verdict; a later one is pass.")] = 20.0,
    max_calls: MaxCalls = 2_000_000,
    max_numbers: MaxNumbers = 200_000,
    compiled: Annotated[bool, typer.Option(help="Compute features in C, if it was built, or in Python.")] = True,
) -> None:
    """Serve verdicts and their reasons over HTTP, with metrics and a page for operators.

    Next: callsieve live fill.

    Example: callsieve serve --bundle run/bundle --key number.key --keys api.keys --state state
    """
    from callsieve.features.keys.tokens import read_key
    from callsieve.serving.http.server import serve as run

    if uds is None:
        require_free_port(host, port)
    else:
        refuse_unused(context, ("host", "port"), "--uds")
    if ssl_certfile is None:
        refuse_unused(context, ("ssl_keyfile",), "no --ssl-certfile")
    run(
        scorer.bundle,
        judge_of(scorer),
        read_key(scorer.key, allow_group_read=scorer.allow_group_read),
        keys,
        scorer.state,
        host=host,
        port=port,
        uds=uds,
        certificate=ssl_certfile,
        certificate_key=ssl_keyfile,
        allow_group_read=scorer.allow_group_read,
        zone=scorer.zone,
        deadline=deadline / 1000,
        calls=max_calls,
        numbers=max_numbers,
        compiled=compiled,
    )


def verify(bundle: Bundle, trust: Trust = None, json: Json = False) -> None:
    """Verify a bundle as the scorer does before it serves, and print each check.

    Next: callsieve serve.

    Example: callsieve model verify --bundle run/bundle --trust signer.pub
    """
    from callsieve.serving.bundle.verify import verify as check

    facts = check(bundle, trust, on_check=None if json else console.say)
    console.emit_json(facts) if json else console.say(f"{bundle}: model {facts['model']} passed all checks")


def judge_of(scorer: ScorerOptions) -> Swap:
    """Returns the judge of a service before it has loaded its bundle; creates the folder of the state."""
    from callsieve.serving import Swap, WatchedClearedCallers, read_policy, read_public_key
    from callsieve.serving.bundle.signing import signer_path
    from callsieve.serving.live.cleared_callers import FILE

    read_columns = None
    if scorer.columns is not None:
        from callsieve.serving.batch.column_files import open_own_columns  # needs pandas, as nothing else of a service

        read_columns = partial(open_own_columns, scorer.columns)
    signer = read_public_key(signer_path(scorer.bundle, scorer.trust))
    state: Path = scorer.state
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Swap(
        trusted=[signer],
        policy=read_policy(scorer.policy),
        registers=scorer.registers,
        columns=read_columns,
        epoch_file=state / "epoch",
        unlisted=WatchedClearedCallers(state / FILE),
    )
