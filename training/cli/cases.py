"""Commands of cases: from a case id to its evidence, an appeal, a decision, a notice. Thin."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callsieve.features.files.dates import unix_now
from callsieve.serving.cli.options import Json, Trust

if TYPE_CHECKING:
    from callsieve.serving.cases.store import CaseStore

commands = typer.Typer()
case = typer.Typer(no_args_is_help=True, help="Verdicts that persons appeal against: evidence, decision, unlisting.")
commands.add_typer(case, name="case")

Id = Annotated[str, typer.Argument(metavar="CASE", help="16 digits of 0-9 a-f, as the verdict has them.")]
Store = Annotated[
    str,
    typer.Option("--store", envvar="CALLSIEVE_CASES", help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."),
]
States = Annotated[
    list[Path] | None, typer.Option("--state", help="Folder of live state of a scorer on this machine; once for each.")
]
RulesFile = Annotated[Path | None, typer.Option("--rules", help="Rules of cases; the shipped cases.toml by default.")]
Person = Annotated[str, typer.Option(help="Who decides: a name of a-z 0-9 _ . - as the audit log shall show it.")]
Why = Annotated[str, typer.Option(help="The reason; the notice shows it to the caller.")]
Log = Annotated[Path | None, typer.Option("--audit", help="Folder of an audit log that shall hold the decision.")]
LogKey = Annotated[Path | None, typer.Option("--signing-key", help="Key (PEM) that signs the log.")]
SQLITE = "sqlite:///cases.db"
EVERY = 0.2  # seconds between two looks of `watch`


@case.command("list")
def show_queue(
    group: Annotated[int | None, typer.Option(help="Show all appeals of this group; by default one of each.")] = None,
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """List open appeals in the order in which a person should look at them, those that belong together in one line."""
    from dataclasses import asdict

    from callsieve.serving.cli import console

    with _opened(store, state, rules) as opened:
        waiting = opened.waiting(unix_now())
    if json:
        console.emit_json({"appeals": [asdict(one) for one in waiting]})
        return
    first = {one.group: one for one in reversed(waiting)}
    shown = [one for one in waiting if (first[one.group] is one if group is None else one.group == group)]
    rows = [
        (one.case, _moment(one.due) + (" overdue" if one.overdue else ""), f"{one.harm:.1f}", str(one.group),
         str(one.members), f"{one.voices} of {one.needs}") for one in shown
    ]  # fmt: skip
    head = ("case", "answer until", "harm", "group", "in it", "agreed")
    console.show_table(f"{len(waiting)} open appeals in {len(first)} groups", head, rows)


@case.command()
def show(case_id: Id, store: Store = SQLITE, state: States = None, rules: RulesFile = None, json: Json = False) -> None:
    """Show what a verdict was made of, as it was then, and what became of it."""
    from callsieve.serving.cli import console
    from callsieve.serving.live.verdict_log import letters_to_floats

    with _opened(store, state, rules) as opened:
        found = opened.find(case_id, unix_now())
    told = {name: getattr(found.evidence, name) for name in found.evidence.__slots__ if name not in ("raw", "vector")}
    told |= {"raw": _shown(letters_to_floats(found.evidence.raw)[0]), "appeals": list(found.appeals)}
    if json:
        console.emit_json(told | {"vector": [_shown(value) for value in letters_to_floats(found.evidence.vector)]})
        return
    console.say(f"case {case_id}: {told['action']}, call of {_moment(found.evidence.at)}")
    for name in ("score", "raw", "band", "status", "model", "policy", "content", "mode", "caller"):
        console.say(f"{name:<9}{told[name]}")
    for fact in (*found.evidence.rules, *found.evidence.reasons):
        console.say(f"because  {fact.get('en', fact) if isinstance(fact, dict) else fact}")
    for appeal in found.appeals:
        console.say(f"appeal {appeal['appeal']} of {_moment(appeal['at'])}: {appeal['state']} ({appeal['ground']})")
        for said in appeal["decisions"]:
            console.say(f"  {_moment(said['at'])} {said['person']}: {said['outcome']}: {said['why']}")


@case.command()
def appeal(
    case_id: Id,
    ground: Annotated[str, typer.Option(help="What the caller says of itself: a word of the rules.")] = "other",
    words: Annotated[str, typer.Option(help="In its own words, without a telephone number.")] = "",
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """Take an appeal; whoever takes it has made sure that it comes from whom the number belongs to."""
    from callsieve.serving.cli import console

    with _opened(store, state, rules) as opened:
        told = opened.appeal(case_id, ground, words, unix_now())
    shown = {name: told[name] for name in ("appeal", "case", "at", "due", "state")}
    console.emit_json(shown) if json else console.say(f"appeal {told['appeal']}: answer until {_moment(told['due'])}")


@case.command()
def decide(
    case_id: Id,
    outcome: Annotated[
        str, typer.Option(help="upheld: the verdict stands; overturned: its caller passes from now on.")
    ],
    person: Person,
    why: Why,
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    json: Json = False,
) -> None:
    """Enter what a person decided on an appeal; a scorer whose folder is named passes the caller at once."""
    from callsieve.serving.cli import console

    with _opened(store, state, rules) as opened:
        told = opened.decide(case_id, outcome, person, why, unix_now())
        entry = _log(audit, signing_key, {"case": case_id, "outcome": outcome, "person": person, "why": why,
                                          "state": told["state"]})  # fmt: skip
    shown = {name: told[name] for name in ("appeal", "case", "state", "needs")}
    if json:
        console.emit_json(shown | ({"entry": entry} if entry is not None else {}))
    elif told["state"] == "open":
        console.say(f"appeal {told['appeal']}: {told['needs']} persons must agree, for it came with others; still open")
    else:
        console.say(f"appeal {told['appeal']}: {told['state']}")


@case.command()
def relist(
    case_id: Id,
    person: Person,
    why: Why,
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    json: Json = False,
) -> None:
    """End the unlisting of a case's caller: from now on its calls are judged again."""
    from callsieve.serving.cli import console

    with _opened(store, state, rules) as opened:
        opened.relist(case_id, person, why, unix_now())
        _log(audit, signing_key, {"case": case_id, "outcome": "relisted", "person": person, "why": why})
    console.emit_json({"case": case_id, "relisted": True}) if json else console.say(f"case {case_id}: relisted")


@case.command()
def notice(
    case_id: Id,
    language: Annotated[str, typer.Option(help="en or zh.")] = "zh",
    zone: Annotated[str, typer.Option(help="Time zone of the moments in it.")] = "Asia/Shanghai",
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """Print what the caller is told: what happened, why, what can be done, and what a person decided."""
    from callsieve.serving.cases.notice import notice as written
    from callsieve.serving.cli import console

    with _opened(store, state, rules) as opened:
        found = opened.find(case_id, unix_now())
        ended = [one for one in opened.cleared() if one["caller"] == found.evidence.caller]
        last = ended[-1] if ended and ended[-1]["ended_at"] is not None else None
        text = written(found, opened.rules, language, zone, last)
    console.emit_json({"case": case_id, "language": language, "notice": text}) if json else typer.echo(text, nl=False)


@case.command()
def replay(
    case_id: Id,
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of the bundle that gave the verdict.")],
    trust: Trust = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="Policy of then; the shipped one by default.")] = None,
    store: Store = SQLITE,
    state: States = None,
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """Judge a case's vector once more and compare bit for bit; exit code 1 if something is not as it was."""
    from callsieve.serving import Scorer, read_policy, read_public_key
    from callsieve.serving.bundle.signing import signer_path
    from callsieve.serving.cases.rescore import rescore
    from callsieve.serving.cli import console

    signer = read_public_key(signer_path(bundle, trust))
    scorer = Scorer.load(bundle, trusted=[signer], policy=read_policy(policy))
    with _opened(store, state, rules) as opened:
        result = rescore(opened.find(case_id, unix_now()).evidence, scorer)
    if json:
        console.emit_json({"equal": list(result.equal), "differences": list(result.differences)})
    else:
        for name in result.equal:
            console.say(f"equal    {name}")
        for line in result.differences:
            console.say(f"differs  {line}")
    if result.differences:
        sys.exit(1)


@case.command()
def watch(
    state: Annotated[list[Path], typer.Option("--state", help="Folder of live state of a scorer; once for each.")],
    store: Store = SQLITE,
    rules: RulesFile = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
) -> None:
    """Beside a running scorer: take in what it wrote down, and have it know several times a second who is unlisted."""
    from callsieve.serving.cases.feed import import_verdicts, publish_cleared

    with _opened(store, state, rules) as opened:
        while not once:
            time.sleep(EVERY)
            for folder in state:
                import_verdicts(opened, folder)
                publish_cleared(opened, folder, unix_now())


@case.command()
def serve(
    state: Annotated[list[Path], typer.Option("--state", help="Folder of live state of a scorer; once for each.")],
    keys: Annotated[Path, typer.Option("--keys", help="File of the keys that clients show; see api-key.")],
    store: Store = SQLITE,
    rules: RulesFile = None,
    audit: Log = None,
    signing_key: LogKey = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8081,
) -> None:
    """As `watch`, and over HTTP: a desk takes appeals (scope appeal), persons decide in their name (scope decide).

    Who asked for what is written into the access log of the first folder.
    """
    from callsieve.serving.cases.app import CaseService, case_application
    from callsieve.serving.http.access_log import CASE_ACCESSES, AccessLog
    from callsieve.serving.http.api_keys import read_keys
    from callsieve.serving.http.server import configured

    with _opened(store, state, rules) as opened:
        log = AccessLog(state[0], CASE_ACCESSES)
        service = CaseService(
            opened, state, read_keys(keys), unix_now, lambda said: _log(audit, signing_key, dict(said)), log.note,
            log.close,
        )  # fmt: skip
        configured(case_application(service), host, port).run()


@case.command()
def exclusions(
    out: Annotated[Path, typer.Option(help="Folder of calls for training; gets exclusions.parquet.")],
    store: Store = SQLITE,
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """Write who is not to be learnt from again, and that judging holds them benign, each as known from its day on."""
    from callsieve.serving.cli import console
    from callsieve.training.data.exclusions import write_cleared

    with _opened(store, None, rules) as opened:
        facts = write_cleared(opened.cleared(), out)
    console.emit_json(facts) if json else console.say(f"{out}: {facts['excluded']} numbers excluded from training")


@contextmanager
def _opened(url: str, folders: list[Path] | None, rules: Path | None) -> Iterator[CaseStore]:
    """The store, with what the scorers wrote down; when the work is done they know who is unlisted."""
    from callsieve.serving.cases.case_rules import read_case_rules
    from callsieve.serving.cases.feed import import_verdicts, publish_cleared
    from callsieve.serving.cases.store import CaseError, CaseStore, DatabaseError
    from callsieve.serving.custody.retention import read_retention

    store = CaseStore(url, read_case_rules(rules), keep=read_retention().of("cases").ceiling)
    try:
        for folder in folders or ():
            import_verdicts(store, folder)
        yield store
        for folder in folders or ():
            publish_cleared(store, folder, unix_now())
    except DatabaseError as error:
        raise CaseError(f"store of cases: it failed: {type(error).__name__}") from None
    finally:
        store.close()


def _log(folder: Path | None, key: Path | None, payload: dict[str, Any]) -> int | None:
    if folder is None:
        return None
    from callsieve.training.log.audit_log import append
    from callsieve.training.log.run_paths import log_key

    return append(folder, "decision", payload, log_key(folder.parent, key))


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _shown(value: float) -> float | None:
    return value if math.isfinite(value) else None
