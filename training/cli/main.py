"""The `callsieve` command: the table of its commands.

Exit codes: 0 success, 1 a fault (one line on standard error) or a check that fails, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

try:
    import typer

    from callsieve.serving.cli.command_tree import CONTEXT, CommandGroup, Group, run, tree
except ModuleNotFoundError as error:  # the base install embeds the scorer and has no command
    if error.name not in ("rich", "typer"):
        raise
    sys.exit("callsieve: the command needs rich and typer: pip install 'callsieve[train]', or [serve], or [cases]")

RETRAIN = "Retrain: call records become a signed model"
EMBED = "Embed: the model judges calls"
AUDIT = "Audit: hold the model and its use to account"
TABLE: dict[str, dict[str, str | Group]] = {
    RETRAIN: {
        "demo": "training.cli.train:demo",
        "simulate": "training.cli.train:simulate",
        "ingest": Group(
            "Replace the numbers of complaints, own columns and registers by tokens.",
            {
                "complaints": "training.cli.ingest:complaints",
                "columns": "training.cli.ingest:columns",
                "registers": "training.cli.ingest:registers",
            },
        ),
        "features": "training.cli.calls:features",
        "train": "training.cli.train:train",
        "evaluate": "training.cli.compare:evaluate",
        "study": Group(
            "Compare trainings, rules and policies.",
            {
                "search": "training.cli.study:search",
                "roll": "training.cli.study:roll",
                "decay": "training.cli.study:decay",
                "stress": "training.cli.study:stress",
                "worlds": "training.cli.study:worlds",
                "compare": "training.cli.compare:compare",
                "membership": "training.cli.compare:membership",
                "rules": "training.cli.compare:rules",
                "policies": "training.cli.compare:policies",
            },
        ),
    },
    EMBED: {
        "score": "training.cli.calls:score",
        "serve": "serving.cli.serve:serve",
        "live": Group(
            "Fill a service's memory, serve Asterisk, make API keys.",
            {
                "fill": "serving.cli.live:fill",
                "agi": "serving.cli.live:agi",
                "api-key": "serving.cli.live:api_key",
            },
        ),
        "cases": Group(
            "Answer appeals: explain, decide, notify, clear the caller.",
            {
                "list": "training.cli.cases:show_queue",
                "show": "training.cli.cases:show",
                "appeal": "training.cli.cases:appeal",
                "decide": "training.cli.cases:decide",
                "relist": "training.cli.cases:relist",
                "notice": "training.cli.cases:notice",
                "replay": "training.cli.cases:replay",
                "watch": "training.cli.cases:watch",
                "serve": "training.cli.cases:serve",
                "exclusions": "training.cli.cases:exclusions",
            },
        ),
    },
    AUDIT: {
        "model": Group(
            "Verify, export, monitor, approve and promote a model.",
            {
                "verify": "serving.cli.serve:verify",
                "export": "training.cli.model:export",
                "monitor": "training.cli.model:monitor",
                "approve": "training.cli.model:approve",
                "approver-key": "training.cli.model:approver_key",
                "sign-gates": "training.cli.model:sign_gates",
                "promote": "training.cli.model:promote",
                "rollback": "training.cli.model:rollback",
                "replay": "training.cli.model:replay",
            },
        ),
        "audit": Group(
            "Verify and read the signed log of trainings and promotions.",
            {
                "verify": "training.cli.audit:verify",
                "witness": "training.cli.audit:witness",
                "show": "training.cli.audit:show",
                "attempts": "training.cli.audit:attempts",
                "note": "training.cli.audit:note",
                "erase": "training.cli.audit:erase",
                "prove": "training.cli.audit:prove",
                "page": "training.cli.audit:page",
            },
        ),
        "privacy": Group(
            "Declare, find, delete, export and rekey personal data.",
            {
                "declare": "training.cli.privacy:declare",
                "declaration": "training.cli.privacy:declaration",
                "undeclare": "training.cli.privacy:undeclare",
                "retention": "training.cli.privacy:retention",
                "hold": "training.cli.privacy:hold",
                "find": "training.cli.privacy:find",
                "delete": "training.cli.privacy:delete",
                "export": "training.cli.disclosure:export",
                "reidentify": "training.cli.disclosure:reidentify",
                "ticket": Group(
                    "Request and sign tickets for exports, reidentifications and audits.",
                    {
                        "export": "training.cli.disclosure:ticket_export",
                        "reidentify": "training.cli.disclosure:ticket_reidentify",
                        "parties": "training.cli.disclosure:ticket_parties",
                        "agree": "training.cli.disclosure:agree",
                    },
                ),
                "key": Group(
                    "Make, rotate and destroy the keys that turn numbers into tokens.",
                    {
                        "new": "training.cli.keys:new",
                        "rotate": "training.cli.keys:rotate",
                        "rekey": "training.cli.keys:rekey",
                        "destroy": "training.cli.keys:destroy",
                    },
                ),
            },
        ),
        "govern": Group(
            "Report to regulators, drill incidents, publish number lists.",
            {
                "report": "training.cli.govern:report",
                "parties": "training.cli.govern:parties",
                "complaints": Group(
                    "List complaints, record their handling, and print their status.",
                    {
                        "list": "training.cli.govern:complaints_list",
                        "enter": "training.cli.govern:complaints_enter",
                        "status": "training.cli.govern:complaints_status",
                    },
                ),
                "compliance": "training.cli.govern:compliance",
                "traceability": "training.cli.govern:traceability",
                "incident": Group(
                    "Drill an incident, and trace a leaked list.",
                    {
                        "drill": "training.cli.govern:drill",
                        "plant-canaries": "training.cli.govern:plant",
                        "search-canaries": "training.cli.govern:search",
                    },
                ),
                "discredited": Group(
                    "List firms that broke the rules (失信), and end an entry after an appeal.",
                    {"add": "training.cli.lists:discredit", "appeal": "training.cli.lists:appeal_discredited"},
                ),
                "token-list": Group(
                    "Publish and read signed lists of nuisance numbers as tokens.",
                    {
                        "make": "training.cli.lists:make",
                        "lookup": "training.cli.lists:lookup",
                        "share": "training.cli.lists:share",
                    },
                ),
            },
        ),
        "evidence": "training.cli.evidence:evidence",
    },
}

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    help="Retrain a nuisance-call classifier, embed it, and hold it to account.",
    epilog="Start with: callsieve demo --size tiny --seed 11. Exit codes: 0 success; 1 a fault or a failed check; "
    "2 wrong usage; 130 interrupted. The file callsieve.toml and variables CALLSIEVE_COMMAND_OPTION set options, too.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callsieve {version('callsieve')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has printed it


ROOT = tree(app, TABLE)


def main() -> None:
    """Runs `callsieve` with the words of the command line."""
    run(ROOT)
