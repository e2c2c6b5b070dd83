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
        "demo": "training.cli.world_commands:demo",
        "simulate": "training.cli.world_commands:simulate",
        "ingest": Group(
            "Replace the numbers of complaints, own columns and registers by tokens.",
            {
                "complaints": "training.cli.ingest_commands:complaints",
                "columns": "training.cli.ingest_commands:columns",
                "registers": "training.cli.ingest_commands:registers",
            },
        ),
        "features": "serving.cli.score_commands:features",
        "train": "training.cli.train_commands:train",
        "evaluate": "training.cli.compare_commands:evaluate",
        "study": Group(
            "Compare trainings, rules and policies.",
            {
                "search": "training.cli.study_commands:search",
                "roll": "training.cli.study_commands:roll",
                "decay": "training.cli.study_commands:decay",
                "worlds": "training.cli.study_commands:worlds",
                "compare": "training.cli.compare_commands:compare",
                "membership": "training.cli.compare_commands:membership",
                "rules": "training.cli.compare_commands:rules",
                "policies": "training.cli.compare_commands:policies",
            },
        ),
    },
    EMBED: {
        "score": "serving.cli.score_commands:score",
        "serve": "serving.cli.service_commands:serve",
        "live": Group(
            "Fill a service's memory, serve Asterisk, make API keys.",
            {
                "fill": "serving.cli.service_commands:fill",
                "agi": "serving.cli.service_commands:agi",
                "api-key": "serving.cli.service_commands:api_key",
            },
        ),
        "cases": Group(
            "Answer appeals: explain, decide, notify, clear the caller.",
            {
                "list": "training.cli.case_commands:show_queue",
                "show": "training.cli.case_commands:show",
                "appeal": "training.cli.case_commands:appeal",
                "decide": "training.cli.case_commands:decide",
                "end-clearance": "training.cli.case_commands:end_clearance",
                "notice": "training.cli.case_commands:notice",
                "replay": "training.cli.case_commands:replay",
                "watch": "training.cli.case_commands:watch",
                "serve": "training.cli.case_commands:serve",
                "exclusions": "training.cli.case_commands:exclusions",
            },
        ),
    },
    AUDIT: {
        "model": Group(
            "Verify, export, monitor, approve and promote a model.",
            {
                "verify": "serving.cli.service_commands:verify",
                "export": "training.cli.model_commands:export",
                "monitor": "training.cli.model_commands:monitor",
                "approve": "training.cli.model_commands:approve",
                "approver-key": "training.cli.model_commands:approver_key",
                "sign-gates": "training.cli.model_commands:sign_gates",
                "promote": "training.cli.model_commands:promote",
                "rollback": "training.cli.model_commands:rollback",
                "replay": "training.cli.model_commands:replay",
            },
        ),
        "audit": Group(
            "Verify and read the signed log of trainings and promotions.",
            {
                "verify": "training.cli.audit_commands:verify",
                "witness": "training.cli.audit_commands:witness",
                "show": "training.cli.audit_commands:show",
                "attempts": "training.cli.audit_commands:attempts",
                "note": "training.cli.audit_commands:note",
                "erase": "training.cli.audit_commands:erase",
                "prove": "training.cli.audit_commands:prove",
                "page": "training.cli.audit_commands:page",
            },
        ),
        "privacy": Group(
            "Declare, find, delete, export and rekey personal data.",
            {
                "declare": "training.cli.privacy_commands:declare",
                "declaration": "training.cli.privacy_commands:declaration",
                "undeclare": "training.cli.privacy_commands:undeclare",
                "retention": "training.cli.privacy_commands:retention",
                "hold": "training.cli.privacy_commands:hold",
                "find": "training.cli.privacy_commands:find",
                "delete": "training.cli.privacy_commands:delete",
                "export": "training.cli.disclosure_commands:export",
                "reidentify": "training.cli.disclosure_commands:reidentify",
                "ticket": Group(
                    "Request and sign tickets for exports, reidentifications and audits.",
                    {
                        "export": "training.cli.disclosure_commands:ticket_export",
                        "reidentify": "training.cli.disclosure_commands:ticket_reidentify",
                        "parties": "training.cli.disclosure_commands:ticket_parties",
                        "agree": "training.cli.disclosure_commands:agree",
                    },
                ),
                "key": Group(
                    "Make, rotate and destroy the keys that turn numbers into tokens.",
                    {
                        "new": "training.cli.key_commands:new",
                        "rotate": "training.cli.key_commands:rotate",
                        "rekey": "training.cli.key_commands:rekey",
                        "destroy": "training.cli.key_commands:destroy",
                    },
                ),
            },
        ),
        "govern": Group(
            "Report to regulators, drill incidents, publish number lists.",
            {
                "report": "training.cli.govern_commands:report",
                "parties": "training.cli.govern_commands:parties",
                "complaints": Group(
                    "List complaints, record their handling, and print their status.",
                    {
                        "list": "training.cli.govern_commands:complaints_list",
                        "enter": "training.cli.govern_commands:complaints_enter",
                        "status": "training.cli.govern_commands:complaints_status",
                    },
                ),
                "compliance": "training.cli.govern_commands:compliance",
                "incident": Group(
                    "Drill an incident, and trace a leaked list.",
                    {
                        "drill": "training.cli.govern_commands:drill",
                        "plant-canaries": "training.cli.govern_commands:plant",
                        "search-canaries": "training.cli.govern_commands:search",
                    },
                ),
                "discredited": Group(
                    "List firms that broke the rules (失信), and end an entry after an appeal.",
                    {
                        "add": "training.cli.list_commands:discredit",
                        "appeal": "training.cli.list_commands:appeal_discredited",
                    },
                ),
                "token-list": Group(
                    "Publish and read signed lists of nuisance numbers as tokens.",
                    {
                        "make": "training.cli.list_commands:make",
                        "lookup": "training.cli.list_commands:lookup",
                        "share": "training.cli.list_commands:share",
                    },
                ),
            },
        ),
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
