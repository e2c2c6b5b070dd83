"""The commands of personal data at rest, and of the keys that turn numbers into tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from callsieve.features.files.atomic import check_present
from callsieve.features.files.dates import now_ms
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.callee_keys import EPHEMERAL
from callsieve.features.keys.rotation import Rekeying
from callsieve.features.keys.tokens import Key, Purpose, read_any_key, read_key
from callsieve.serving.cli import console
from callsieve.serving.cli.console import Result
from callsieve.serving.cli.options import CalleesKey, Data, NumberKey, StateFolders, Why
from callsieve.serving.custody import purposes
from callsieve.serving.custody.retention import read_retention
from callsieve.training.oversight.log.folder_log import DECLARATION

from .log_options import ActOptions, LogOptions

if TYPE_CHECKING:
    from callsieve.training.oversight.privacy.places import Places

RulesFile = Annotated[Path | None, Option("--rules", help="Retention rules; by default the shipped rules.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceOptions:
    """Where personal data may be, beside the folder of calls."""

    store: str | None = None
    verdicts: Annotated[
        list[Path] | None, Option("--verdicts", help="File that `callsieve score --out` wrote; repeat for several.")
    ] = None
    registers: Annotated[
        list[Path] | None,
        Option("--registers", help="Folder that `callsieve ingest registers` wrote; repeat for several."),
    ] = None
    rules: RulesFile = None

    def places(self, data: Path | None, states: Sequence[Path]) -> Places:
        """Returns these places, with a folder of calls and folders of live state."""
        from callsieve.training.oversight.privacy.places import Places

        return Places(
            data=data,
            states=states,
            store=self.store,
            verdicts=self.verdicts or (),
            registers=self.registers or (),
            rules=read_retention(self.rules),
        )


DeclaredFolder = Annotated[Path, Argument(help="Folder of calls or registers.")]


def declare(
    folder: DeclaredFolder,
    act: ActOptions,
    source: Annotated[str, Option(help="Source of the rows.")] = "",
    basis: Annotated[str, Option(help="Legal basis for storing them.")] = "",
    purpose: Annotated[
        list[str] | None,
        Option(help="Permitted purpose; repeat for several. training includes evaluation and monitoring."),
    ] = None,
    until: Annotated[str, Option(help="Last UTC day of the permission, such as 2027-01-31.")] = "",
    change: Annotated[
        bool, Option("--change", help="Change a declaration; options that are left out stay as they are.")
    ] = False,
) -> Result:
    """Declare the source and the permitted purposes of a folder; commands refuse other purposes and later days.

    The audit log in the folder records it with the person.

    Next: callsieve privacy declaration.

    Example: callsieve privacy declare world --source switch --basis contract --purpose training --until 2027-01-31
    --person p1
    """
    if change:
        before = purposes.declaration_to_change(folder)
        source, basis, until = source or before.source, basis or before.basis, until or before.until
        purpose = purpose or list(before.purposes)
    if not (source and basis and purpose and until):
        console.fail("privacy declare: expected --source, --basis, --purpose and --until, or --change", code=2)
    enter = declaration_entry(act, folder, "change" if change else "declare")
    facts = asdict(purposes.declare(folder, source, basis, purpose or (), until, change=change, enter=enter))
    return Result(facts, f"{folder}: for {', '.join(facts['purposes'])}, until {until}")


def declaration_entry(act: ActOptions, folder: Path, what: str) -> Callable[[Mapping[str, Any] | None], int]:
    """Returns a function that enters the new content of a declaration, None for its removal, in the folder's log."""
    return lambda content: act.log(folder).append(DECLARATION, {"act": what, "declaration": content})


def declaration(folder: DeclaredFolder) -> Result:
    """Show the declaration of a folder.

    Next: callsieve privacy retention.

    Example: callsieve privacy declaration world
    """
    check_present(folder)
    declared = purposes.read_declaration(folder)
    if declared is None:
        facts = {"purposes": purposes.UNDECLARED}
        return Result(facts, lambda: console.show_facts(str(folder), facts))
    shown = asdict(declared) | {"purposes": ", ".join(declared.purposes)}
    return Result(asdict(declared), lambda: console.show_facts(str(folder), shown))


def undeclare(folder: DeclaredFolder, act: ActOptions) -> Result:
    """Remove the declaration of a folder; its files may then be used for any purpose, and do not expire.

    The audit log in the folder records it with the person.

    Next: callsieve privacy declare.

    Example: callsieve privacy undeclare world --person p1
    """
    purposes.undeclare(folder, declaration_entry(act, folder, "undeclare"))
    return Result({"purposes": purposes.UNDECLARED}, f"{folder}: undeclared")


@console.private
def retention(
    log: LogOptions,
    places: PlaceOptions,
    data: Annotated[Path | None, Option("--data", help="Folder of keyed calls.")] = None,
    state: Annotated[Path | None, Option("--state", help="Folder of a service's live state.")] = None,
) -> Result:
    """Erase expired rows, and record plan and result in the audit log; exit code 1 if expired rows remain.

    Run the command again after an interruption: it records what was erased, and erases the rest.

    Next: callsieve govern compliance.

    Example: callsieve privacy retention --data world --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy import retention_run

    if not (data or state or places.store or places.verdicts or places.registers):
        console.fail("privacy retention: expected --data, --state, --store, --verdicts or --registers", code=2)
    with console.progress("privacy retention") as progress:
        signed_log, where = log.signed(), places.places(data, () if state is None else (state,))
        result = retention_run.erase_expired(where, signed_log, now_ms(), progress)
    return Result(result, lambda: _show_retention(result), failed=bool(result["left"]))


@console.private
def hold(
    data: Data,
    log: LogOptions,
    purpose: Annotated[str, Option("--purpose", help="Purpose, for the audit log: the case or the order.")],
    person: str,
    token: Annotated[
        list[str] | None, Argument(metavar="[TOKEN]...", help="Tokens of callers whose calls are copied, too.")
    ] = None,
) -> Result:
    """Copy calls that failed authentication to held.parquet, which is stored for tracing longer than the calls.

    Next: callsieve privacy export --held.

    Example: callsieve privacy hold --data world --purpose tracing --person p1 --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy.exports import hold as run

    with console.progress("privacy hold"):
        facts = run(data, token or (), purpose, person, log.signed())
    text = f"{data / 'held.parquet'}: {facts['held']:,} calls, {facts['added']:,} of them new"
    return Result(facts, text)


def find(data: Data, key: NumberKey, rules: RulesFile = None) -> Result:
    """Count the rows of the person whose number is on standard input, by table.

    Next: callsieve privacy delete.

    Example: callsieve privacy find --data world --key number.key
    """
    from callsieve.training.oversight.privacy import tables

    token = token_on_stdin(key)
    with console.progress("privacy find") as progress:
        files = tables.find(data, token, read_retention(rules), now_ms(), progress)
    return Result({"files": files}, lambda: _show(files))


@console.private
def delete(
    data: Data,
    key: NumberKey,
    why: Why,
    log: LogOptions,
    places: PlaceOptions,
    state: StateFolders = None,
    callees_key: CalleesKey = None,
) -> Result:
    """Delete the rows of the person whose number is on standard input, and exclude the number from later trainings.

    Prints the models that learnt from the rows, and the rows that stay, with the reason and the last day.
    Run the command again after an interruption: it deletes the rest, and records the whole.

    Next: callsieve privacy find.

    Example: callsieve privacy delete --data world --key number.key --why request --audit audit --signing-key log.key
    """
    from callsieve.serving.batch.output_keys import read_callee_keys
    from callsieve.training.oversight.privacy.deletion import delete_everywhere
    from callsieve.training.oversight.privacy.places import Person

    token = token_on_stdin(key)
    with console.progress("privacy delete") as progress:
        person, signed_log = Person(token, read_callee_keys(callees_key)), log.signed()
        result = delete_everywhere(person, places.places(data, state or ()), why, signed_log, now_ms(), progress)
    lines = [f"model {model['model']}, run {model['run']}: trained on {model['why']}" for model in result["models"]]
    for name, seconds in result["scorers"].items():
        lines.append(f"scorer {name}: deleted the number within {seconds:.1f} s")
    for rest in result["stays"]:
        until = f", until {rest['until']}" if rest["until"] else ""
        lines.append(f"stays    {rest['where']}: {rest['rows']} rows: {rest['why']}{until}")
    if result["resumes"] is not None:
        lines.append(f"finished the interrupted deletion of entry {result['resumes']} of the audit log")
    lines.append(f"plan: entry {result['intent']}, result: entry {result['entry']} of the audit log")

    def show() -> None:
        _show(result["files"])
        for line in lines:
            console.say(line)

    return Result(result, show)


def token_on_stdin(key: Path) -> str:
    """Returns the token of the number on standard input; other users can read a command line."""
    written = sys.stdin.readline().strip()
    if not written:
        raise ValueError("standard input: expected a telephone number on the first line")
    return Intake(read_key(key)).token("number", written) or ""


def _show_retention(result: Mapping[str, Any]) -> None:
    rows = [
        (name, file["outcome"], *(str(file.get(column, "")) for column in ("rows_before", "erased", "past_their_time")))
        for name, file in result["files"].items()
    ]
    console.show_table("retention", ("table", "outcome", "rows before", "rows erased", "expired rows left"), rows)
    for entry in result["finished"]:
        console.say(f"result of an earlier, interrupted run: entry {entry} of the audit log")
    if result["intent"] is None:
        console.say(f"nothing to do: no row or file has expired; entry {result['entry']} of the audit log")
    else:
        console.say(f"plan: entry {result['intent']}, result: entry {result['entry']} of the audit log")


def _show(files: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [(name, str(table["rows"]), str(table["kept"])) for name, table in files.items()]
    console.show_table("rows", ("table", "rows", "must be stored for now"), rows)


def new(
    path: Annotated[Path, Argument(help="New key file, readable by its owner only.")],
    epoch: Annotated[
        str, Option(help="Name of the epoch, the time in which the key is used; each token begins with it.")
    ],
    purpose: Annotated[
        Purpose, Option(help="What the tokens are for; the key is refused for any other purpose.")
    ] = "records",
) -> Result:
    """Make a key that turns numbers into tokens.

    Next: callsieve features --key.

    Example: callsieve privacy key new number.key --epoch e1
    """
    if epoch == EPHEMERAL:
        console.fail(f"privacy key new: --epoch {EPHEMERAL}: reserved for keys that are never stored; use another name")
    Key.generate(epoch, purpose).write(path)
    facts = {"key": str(path), "epoch": epoch, "purpose": purpose}
    return Result(facts, f"{path}: key {epoch} for {purpose}; store it apart from the data")


def rotate(
    old: Annotated[Path, Argument(help="Key file of the current epoch.")],
    path: Annotated[Path, Argument(help="New key file for the next epoch.")],
    epoch: Annotated[str, Option(help="Name of the next epoch.")],
) -> Result:
    """Make the key of the next epoch; `rekey` then converts all stored tokens.

    Next: callsieve privacy key rekey.

    Example: callsieve privacy key rotate number.key next.key --epoch e2
    """
    read_key(old).rotated(epoch).write(path)
    facts = {"key": str(path), "epoch": epoch}
    return Result(facts, f"{path}: key {epoch}; next: callsieve privacy key rekey")


@console.private
def rekey(
    old: Annotated[Path, Argument(help="Key file of the old epoch.")],
    path: Annotated[Path, Argument(help="Key file of the new epoch.")],
    log: LogOptions,
    data: Annotated[list[Path] | None, Option("--data", help="Folder of keyed tables; repeat for several.")] = None,
    state: Annotated[
        Path | None, Option("--state", help="Folder of a service's live state; stop the service first.")
    ] = None,
    store: str | None = None,
    callees: Annotated[
        tuple[Path, Path] | None,
        Option("--callees-key", help="Old and new key of the called numbers in verdicts and exports."),
    ] = None,
) -> Result:
    """Convert all tokens of the old epoch into tokens of the new epoch, and write no table of pairs.

    Next: callsieve privacy key destroy.

    Example: callsieve privacy key rekey number.key next.key --data world --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy.rekey import rekey_everything

    outer = None if callees is None else (read_key(callees[0], "callees"), read_key(callees[1], "callees"))
    keys = Rekeying(read_key(old), read_key(path), outer)
    with console.progress("privacy key rekey") as progress:
        facts = rekey_everything(keys, data or [], state, store, log.signed(), progress)
    lines = [f"{name}: {rows}" for name, rows in facts["keyed"].items()]
    return Result(facts, [*lines, f"epoch {keys.old} is now {keys.new}; entry {facts['entry']} of the audit log"])


def destroy(
    path: Annotated[Path, Argument(help="Key file of the epoch that ends.")],
    why: Why,
    log: LogOptions,
    data: Annotated[
        list[Path] | None, Option("--data", help="Folder that must have no token of this key; repeat for several.")
    ] = None,
) -> Result:
    """Destroy a key, so that no copy of its tokens can be linked to a number.

    Next: callsieve govern compliance.

    Example: callsieve privacy key destroy number.key --why 'end of the epoch' --audit audit --signing-key log.key
    """
    from callsieve.training.oversight.privacy import rekey as stores

    old, signed_log = read_any_key(path), log.signed()
    for folder in data or ():
        if count := stores.left_of(folder, old.epoch):
            console.fail(f"{folder}: {count} files have tokens of epoch {old.epoch}: run privacy key rekey first")
    stores.destroy(path, old)
    facts = {"what": "destroyed", "epoch": old.epoch, "purpose": old.purpose, "why": why}
    entry = signed_log.append("key", facts)
    return Result(facts | {"entry": entry}, f"epoch {old.epoch} is destroyed")
