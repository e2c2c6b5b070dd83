"""The commands `serve`, `live fill`, `live agi`, `live tap`, `live consume` and `live api-key`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer import Option

from callsieve.features.keys.tokens import read_key
from callsieve.serving import Scorer, Swap, WatchedClearedCallers
from callsieve.serving.bundle.signing import read_public_key, signer_path
from callsieve.serving.live.cleared_callers import FILE
from callsieve.serving.rules.policy import read_policy

from . import console
from .configuration import refuse_unused
from .console import Result
from .options import (
    KEYED,
    ROW_OPTIONS,
    ApiKeys,
    CallRowOptions,
    Calls,
    GroupRead,
    Host,
    LayoutOptions,
    MemoryOptions,
    NumberKey,
    Port,
    ScorerOptions,
    ShippedBundle,
    StateFolder,
    Trust,
)

if TYPE_CHECKING:
    from callsieve.serving.bundle.bundle import Bundle as LoadedBundle
    from callsieve.serving.live.memory import Limits
    from callsieve.serving.scorer.listed import Listed
    from callsieve.serving.streams.source import Source


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """The address that a service listens on."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    uds: Annotated[Path | None, Option("--uds", help="Unix socket to listen on, instead of an address and a port.")] = (
        None
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """The stream of call events and the stream of verdicts."""

    kafka: Annotated[str | None, Option("--kafka", help="Kafka brokers as HOST:PORT, separated by commas.")] = None
    kafka_settings: Annotated[
        Path | None, Option("--kafka-settings", help="File of settings NAME=VALUE of librdkafka, such as TLS and SASL.")
    ] = None
    redis: Annotated[str | None, Option("--redis", help="URL of a Redis server, in place of --kafka.")] = None
    partitions: Annotated[int, Option(min=1, help="Streams of calls in Redis: NAME:0, NAME:1 and so on.")] = 16
    calls_topic: Annotated[str, Option(help="Topic of call events, or name of their streams.")] = "calls"
    verdicts_topic: Annotated[str, Option(help="Topic or stream that gets the verdicts.")] = "verdicts"


def serve(
    context: typer.Context,
    scorer: ScorerOptions,
    keys: ApiKeys,
    listener: Listener,
    *,
    deadline: Annotated[float, Option(help="Milliseconds for a verdict; a later one is pass.")] = 20.0,
    memory: MemoryOptions,
    json: bool = False,
) -> None:
    """Serve verdicts and their reasons over HTTP, with metrics and a page for operators.

    Next: callsieve live fill.

    Example: callsieve serve --bundle run/bundle --key number.key --keys api.keys --state state
    """
    from callsieve.serving.http.server import serve as run
    from callsieve.serving.live.memory import Limits
    from callsieve.serving.live.service_log import log_to_stderr

    if listener.uds is None:
        require_free_port(listener.host, listener.port)
    else:
        refuse_unused(context, ("host", "port"), "--uds")
    log_to_stderr(json=json)
    run(
        scorer.bundle,
        scorers_of(scorer),
        read_key(scorer.key, allow_group_read=scorer.allow_group_read),
        keys,
        scorer.state,
        host=listener.host,
        port=listener.port,
        uds=listener.uds,
        allow_group_read=scorer.allow_group_read,
        zone=scorer.zone,
        deadline=deadline / 1000,
        limits=Limits(memory.max_calls, memory.max_numbers),
    )


def fill(
    context: typer.Context,
    calls: Calls,
    key: NumberKey,
    state: StateFolder,
    rows: CallRowOptions,
    written: LayoutOptions,
    *,
    memory: MemoryOptions,
    bundle: ShippedBundle = None,
    trust: Trust = None,
    allow_group_read: GroupRead = False,
) -> Result:
    """Fill the memory of a new service from call records, so that it does not abstain for its first week.

    Next: callsieve serve.

    Example: callsieve live fill --calls Master.csv --layout asterisk --key number.key --state state
    """
    from callsieve.serving.batch.call_files import CallFile
    from callsieve.serving.batch.fill_memory import fill_state

    if written.layout == KEYED:
        refuse_unused(context, ROW_OPTIONS, "--layout keyed")
    if bundle is None:
        refuse_unused(context, ("trust",), "no --bundle")
    trusted = None if bundle is None else [read_public_key(signer_path(bundle, trust))]
    scorer = Scorer.load(bundle, trusted=trusted)
    file = CallFile(
        path=calls,
        layout=written.layout,
        key=key,
        quarantine=rows.quarantine,
        strict=rows.strict,
        allow_quarantine=rows.allow_quarantine,
        zone=written.zone,
        allow_group_read=allow_group_read,
    )
    with console.progress("live fill") as progress:
        facts = fill_state(state, file, calls=memory.max_calls, numbers=memory.max_numbers, progress=progress)
    days = f"{facts['first']} to {facts['last']}"
    lines = [f"{facts['calls']:,} calls of {facts['numbers_in_memory']:,} numbers, {days}"]
    lines += console.quarantined(facts["quarantined"])
    if facts["dropped"]:
        lines.append(f"{facts['dropped']:,} calls dropped: memory is full; raise --max-calls")
    lines.append(f"feed of the records: {facts['feed']}; `feed` in a policy file pins it")
    known = "a week is known: the model acts" if facts["filled"] else "less than a week is known: the model abstains"
    facts["feed_fault"] = scorer.feed_fault(scorer.feed_for(facts["feed"]))
    if facts["feed_fault"]:
        known = f"the {'shipped ' if bundle is None else ''}model abstains: {facts['feed_fault']}"
    return Result(facts, [*lines, known])


def agi(scorer: ScorerOptions, host: Host = "127.0.0.1", port: Port = 4573, json: bool = False) -> None:
    """Give Asterisk verdicts over FastAGI; docs/how-to/asterisk.md shows the dialplan.

    Next: callsieve live fill.

    Example: callsieve live agi --bundle run/bundle --key number.key --state state
    """
    from callsieve.serving.live.live import DEADLINE
    from callsieve.serving.telephony.agi import serve as answer

    _run_loop(scorer, (host, port), partial(answer, host=host, port=port), json=json, deadline=DEADLINE)


def tap(
    scorer: ScorerOptions,
    host: Host = "127.0.0.1",
    port: Port = 9060,
    *,
    switch: Annotated[
        list[str] | None,
        Option(help="Address of a switch that sends copies: its own INVITEs are other legs; repeat for several."),
    ] = None,
    trusted_network: Annotated[
        list[str] | None,
        Option(help="Network whose P-Asserted-Identity and verstat count, as 10.0.0.0/8; repeat for several."),
    ] = None,
    memory: MemoryOptions,
    json: bool = False,
) -> None:
    """Score copies of SIP messages (HEP3), and print each verdict as a line of JSON; no call is touched.

    Next: callsieve live fill.

    Example: callsieve live tap --bundle run/bundle --key number.key --state state --switch 192.0.2.1
    """
    from callsieve.serving.live.memory import Limits
    from callsieve.serving.telephony.tap import DEADLINE, Senders
    from callsieve.serving.telephony.tap import serve as listen

    senders = Senders(
        frozenset(map(str, _addresses("--switch", switch, ip_address))),
        tuple(_addresses("--trusted-network", trusted_network, ip_network)),
    )
    run = partial(listen, write=partial(print, end="", flush=True), senders=senders, host=host, port=port)
    limits = Limits(memory.max_calls, memory.max_numbers)
    _run_loop(scorer, (host, port), run, json=json, deadline=DEADLINE, limits=limits)


def _addresses(option: str, texts: list[str] | None, read: Callable[[str], T]) -> list[T]:
    try:
        return [read(text) for text in texts or ()]
    except ValueError as error:
        console.fail(f"{option}: {error}", code=2)


def _run_loop(
    scorer: ScorerOptions,
    address: tuple[str, int],
    run: Callable[..., Coroutine[Any, Any, None]],
    *,
    json: bool,
    deadline: float,
    limits: Limits | None = None,
) -> None:
    """Runs a service on asyncio until it is stopped; `run` gets the live state and `reload`."""
    import asyncio

    from callsieve.features.intake.intake import Intake
    from callsieve.features.intake.number_memory import CACHE_SIZE
    from callsieve.serving.live.live import Live
    from callsieve.serving.live.memory import LIMITS
    from callsieve.serving.live.service_log import log_to_stderr, report_stop

    require_free_port(*address)
    log_to_stderr(json=json)
    scorers = scorers_of(scorer)
    scorers.load(scorer.bundle)
    limits = limits or LIMITS
    key = read_key(scorer.key, allow_group_read=scorer.allow_group_read)
    intake = Intake(key, scorer.zone, cached=max(limits.numbers, CACHE_SIZE))
    live = Live(scorers, intake, scorer.state, deadline=deadline, limits=limits)
    lost = 0
    try:
        asyncio.run(run(live, reload=partial(scorers.load, scorer.bundle)))
    finally:
        lost = live.close()
    report_stop(scorer.state, lost)


def consume(
    context: typer.Context, scorer: ScorerOptions, stream: StreamOptions, *, memory: MemoryOptions, json: bool = False
) -> None:
    """Read call events from Kafka or Redis Streams, and write verdicts; each partition has a folder in --state.

    Next: callsieve live fill.

    Example: callsieve live consume --kafka 127.0.0.1:9092 --bundle run/bundle --key number.key --state state
    """
    import threading
    from importlib.metadata import version

    from callsieve.features.intake.intake import Intake
    from callsieve.features.intake.number_memory import CACHE_SIZE
    from callsieve.serving.http.server import signals
    from callsieve.serving.live.live import Live
    from callsieve.serving.live.memory import Limits
    from callsieve.serving.live.service_log import log_to_stderr, report_stop
    from callsieve.serving.streams.consumer import DEADLINE, StreamConsumer

    log_to_stderr(json=json)
    key = read_key(scorer.key, allow_group_read=scorer.allow_group_read)

    bundles: dict[str, LoadedBundle] = {}  # one model in memory for all partitions, and one copy of the lists
    listed = followed(scorer.lists)

    def open_live(folder: Path) -> Live:
        scorers = scorers_of(replace(scorer, state=folder, lists=None), bundles, listed)
        scorers.load(scorer.bundle)
        limits = Limits(memory.max_calls, memory.max_numbers)
        intake = Intake(key, scorer.zone, cached=max(limits.numbers, CACHE_SIZE))
        return Live(scorers, intake, folder, deadline=DEADLINE, limits=limits, by_commit=True)

    def reload() -> None:
        for partition, live in list(consumer.lives.items()):
            try:
                model = live.scorers.load(scorer.bundle).bundle.model_id
                log.info("partition %d: model %s in service", partition, model)
            except (ValueError, OSError) as error:
                log.error("partition %d: bundle refused, the last good one stays in service: %s", partition, error)

    log, stopped = logging.getLogger("callsieve.serving"), threading.Event()
    consumer = StreamConsumer(_source(context, stream), open_live, scorer.state)
    log.info("start: callsieve %s, state in %s", version("callsieve"), scorer.state)
    with signals(stopped.set, reload):
        lost = consumer.run(stopped.is_set)
    if lost:
        raise OSError(
            f"{scorer.state}: the disk refused {lost:,} events; the next start reads them from the stream again"
        )
    report_stop(scorer.state, lost)


def _source(context: typer.Context, stream: StreamOptions) -> Source:
    if (stream.kafka is None) == (stream.redis is None):
        raise typer.BadParameter("expected either --kafka or --redis")
    if stream.kafka is not None:
        from callsieve.serving.streams.kafka_source import KafkaSource, read_settings

        refuse_unused(context, ("partitions",), "--kafka")
        settings = read_settings(stream.kafka_settings)
        return KafkaSource(stream.kafka, stream.calls_topic, stream.verdicts_topic, settings)
    from callsieve.serving.streams.redis_source import RedisSource

    refuse_unused(context, ("kafka_settings",), "--redis")
    return RedisSource(stream.redis or "", stream.calls_topic, stream.verdicts_topic, stream.partitions)


def api_key(
    keys: Annotated[Path, Option("--keys", help="File of API keys; gets the hash of the new key.")],
    name: Annotated[str, Option(help="Name of the client.")],
    scopes: Annotated[
        str, Option(help="Scopes separated by commas, of score, report, explain, admin, appeal, decide, audit.")
    ] = "score",
) -> Result:
    """Make an API key for a client of the service, and print it; only its hash is stored.

    Next: callsieve serve.

    Example: callsieve live api-key --keys api.keys --name proxy --scopes score,report
    """
    from callsieve.serving.http.api_keys import add_key

    key = add_key(keys, name, scopes.split(","))
    return Result({"name": name, "key": key}, key)


def followed(lists: Path | None) -> Listed | None:
    """Returns the entries of the lists of a TOML file, which a thread keeps up to date; None without a file."""
    if lists is None:
        return None
    from callsieve.serving.lists.following import open_lists

    opened = open_lists(lists)
    opened.follow()
    return opened.listed


def scorers_of(
    scorer: ScorerOptions, bundles: dict[str, LoadedBundle] | None = None, listed: Listed | None = None
) -> Swap:
    """Returns the scorers of a service before it has loaded its bundle; creates the folder of the state."""
    read_columns = None
    if scorer.columns is not None:
        from callsieve.serving.batch.own_column_join import (
            open_own_columns,  # needs pandas, as nothing else of a service
        )

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
        cleared=WatchedClearedCallers(state / FILE),
        bundles=bundles,
        listed=listed or followed(scorer.lists),
    )


def require_free_port(host: str, port: int) -> None:
    """Raises OSError, with the next step, if this process cannot listen on a TCP port.

    A service checks its address before it loads its state and its model.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise OSError(
            f"port {port} of {host}: {reason}; choose another --port or --host, or stop the process that has it"
        ) from None
