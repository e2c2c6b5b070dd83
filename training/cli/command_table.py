"""The `callsieve` command: the table of its commands.

Exit codes: 0 success, 1 a fault (one line on standard error) or a check that fails, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys

try:
    import typer

    from callsieve.serving.cli.command_tree import CONTEXT, CommandGroup, run, tree
except ModuleNotFoundError as error:  # the base install embeds the scorer and has no command
    if error.name not in ("rich", "typer"):
        raise
    sys.exit("callsieve: the command needs rich and typer: pip install 'callsieve[train]', or [serve], or [cases]")

RETRAIN = "Retrain: call records become a signed model"
EMBED = "Embed: the model judges calls"
AUDIT = "Audit: hold the model and its use to account"
TABLE = {
    RETRAIN: {
        "demo": "training.cli.world_commands:demo",
        "simulate": "training.cli.world_commands:simulate",
        "ingest calls": "training.cli.ingest_commands:calls",
        "ingest complaints": "training.cli.ingest_commands:complaints",
        "ingest checks": "training.cli.ingest_commands:checks",
        "ingest trusted": "training.cli.ingest_commands:trusted",
        "ingest columns": "training.cli.ingest_commands:columns",
        "ingest registers": "training.cli.ingest_commands:registers",
        "features": "serving.cli.score_commands:features",
        "train": "training.cli.train_commands:train",
        "adapt": "training.cli.train_commands:adapt",
        "evaluate": "training.cli.compare_commands:evaluate",
        "study roll": "training.cli.study_commands:roll",
        "study decay": "training.cli.study_commands:decay",
        "study worlds": "training.cli.study_commands:worlds",
        "study compare": "training.cli.compare_commands:compare",
        "study membership": "training.cli.compare_commands:membership",
        "study rules": "training.cli.compare_commands:rules",
        "study policies": "training.cli.compare_commands:policies",
    },
    EMBED: {
        "score": "serving.cli.score_commands:score",
        "serve": "serving.cli.service_commands:serve",
        "live fill": "serving.cli.service_commands:fill",
        "live agi": "serving.cli.service_commands:agi",
        "live tap": "serving.cli.service_commands:tap",
        "live consume": "serving.cli.service_commands:consume",
        "live api-key": "serving.cli.service_commands:api_key",
        "cases list": "training.cli.case_commands:show_queue",
        "cases show": "training.cli.case_commands:show",
        "cases appeal": "training.cli.case_commands:appeal",
        "cases decide": "training.cli.case_commands:decide",
        "cases end-clearance": "training.cli.case_commands:end_clearance",
        "cases notice": "training.cli.case_commands:notice",
        "cases replay": "training.cli.case_commands:replay",
        "cases watch": "training.cli.case_commands:watch",
        "cases serve": "training.cli.case_commands:serve",
        "cases exclusions": "training.cli.case_commands:exclusions",
    },
    AUDIT: {
        "model verify": "training.cli.model_commands:verify",
        "model export": "training.cli.model_commands:export",
        "model monitor": "training.cli.model_commands:monitor",
        "model approve": "training.cli.model_commands:approve",
        "model approver-key": "training.cli.model_commands:approver_key",
        "model sign-gates": "training.cli.model_commands:sign_gates",
        "model promote": "training.cli.model_commands:promote",
        "model rollback": "training.cli.model_commands:rollback",
        "model replay": "training.cli.model_commands:replay",
        "audit verify": "training.cli.audit_commands:verify",
        "audit checkpoint": "training.cli.audit_commands:checkpoint",
        "audit show": "training.cli.audit_commands:show",
        "audit attempts": "training.cli.audit_commands:attempts",
        "audit note": "training.cli.audit_commands:note",
        "audit erase": "training.cli.audit_commands:erase",
        "audit prove": "training.cli.audit_commands:prove",
        "audit page": "training.cli.audit_commands:page",
        "privacy declare": "training.cli.privacy_commands:declare",
        "privacy declaration": "training.cli.privacy_commands:declaration",
        "privacy undeclare": "training.cli.privacy_commands:undeclare",
        "privacy retention": "training.cli.privacy_commands:retention",
        "privacy hold": "training.cli.privacy_commands:hold",
        "privacy find": "training.cli.privacy_commands:find",
        "privacy delete": "training.cli.privacy_commands:delete",
        "privacy export": "training.cli.disclosure_commands:export",
        "privacy reidentify": "training.cli.disclosure_commands:reidentify",
        "privacy ticket export": "training.cli.disclosure_commands:ticket_export",
        "privacy ticket reidentify": "training.cli.disclosure_commands:ticket_reidentify",
        "privacy ticket parties": "training.cli.disclosure_commands:ticket_parties",
        "privacy ticket agree": "training.cli.disclosure_commands:agree",
        "privacy key new": "training.cli.privacy_commands:new",
        "privacy key rotate": "training.cli.privacy_commands:rotate",
        "privacy key rekey": "training.cli.privacy_commands:rekey",
        "privacy key destroy": "training.cli.privacy_commands:destroy",
        "govern report": "training.cli.govern_commands:report",
        "govern parties": "training.cli.govern_commands:parties",
        "govern complaints list": "training.cli.govern_commands:complaints_list",
        "govern complaints enter": "training.cli.govern_commands:complaints_enter",
        "govern complaints status": "training.cli.govern_commands:complaints_status",
        "govern rectification order": "training.cli.govern_commands:rectification_order",
        "govern rectification recheck": "training.cli.govern_commands:rectification_recheck",
        "govern rectification list": "training.cli.govern_commands:rectification_list",
        "govern compliance": "training.cli.govern_commands:compliance",
        "govern incident drill": "training.cli.govern_commands:drill",
        "govern incident plant-canaries": "training.cli.govern_commands:plant",
        "govern incident search-canaries": "training.cli.govern_commands:search",
        "govern discredited add": "training.cli.list_commands:discredit",
        "govern discredited appeal": "training.cli.list_commands:appeal_discredited",
        "govern token-list publish": "training.cli.list_commands:publish",
        "govern token-list lookup": "training.cli.list_commands:lookup",
    },
}
"""For each heading of the help the commands below it, and their functions as `package.module:function`."""

GROUPS = {
    "ingest": "Replace the numbers of calls, complaints, checks, trusted numbers, own columns and registers by tokens.",
    "study": "Compare trainings, rules and policies.",
    "live": "Fill a service's memory, serve Asterisk, make API keys.",
    "cases": "Answer appeals: explain, decide, notify, clear the caller.",
    "model": "Verify, export, monitor, approve and promote a model.",
    "audit": "Verify and read the signed log of trainings and promotions.",
    "privacy": "Declare, find, delete, export and rekey personal data.",
    "privacy ticket": "Request and sign tickets for exports, reidentifications and audits.",
    "privacy key": "Make, rotate and destroy the keys that turn numbers into tokens.",
    "govern": "Report to regulators, drill incidents, publish number lists.",
    "govern complaints": "List complaints, record their handling, and print their status.",
    "govern rectification": "Order a party to remedy something (整改), and record re-checks.",
    "govern incident": "Drill an incident, and trace a leaked list.",
    "govern discredited": "List firms that broke the rules (失信), and end an entry after an appeal.",
    "govern token-list": "Publish and read signed lists of nuisance numbers as tokens.",
}
"""One line of help for each command with subcommands."""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    help="Retrain a nuisance-call classifier, embed it, and hold it to account. These options may stand anywhere.",
    epilog="Start with: callsieve demo --size tiny --seed 11. Exit codes: 0 success; 1 a fault or a failed check; "
    "2 wrong usage; 130 interrupted. The file callsieve.toml and CALLSIEVE_* variables set options, too.",
)


ROOT = tree(app, TABLE, GROUPS)


def main() -> None:
    """Runs `callsieve` with the words of the command line."""
    run(ROOT)
