"""No page has an English sentence with `--lang zh`."""

import base64
import re
from html import unescape
from types import SimpleNamespace

import pytest

from callsieve.features.catalogue import BY_NAME, NAMES
from callsieve.training.language import language
from callsieve.training.oversight.audit import audit_page
from callsieve.training.oversight.audit.content import Fault, entry_place
from callsieve.training.oversight.governance import report_page as governance_page
from callsieve.training.oversight.governance.complaint_desk import desk_rules
from callsieve.training.oversight.log.gates import shipped_gates
from callsieve.training.reports import model_card, run_page
from callsieve.training.reports.check_page import check_page
from tests.training.reports.run_figures import adapted_figures, example_figures
from tests.training.reports.test_check_page import example_sheet

HASH = "9c1f" * 16
TABLES = ("calls", "complaints 2", "findings", "recycled", "lists", "campaigns", "exclusions", "truth", "vectors")
DATASETS = {name: {"sha256": HASH, "rows": 9, "purpose": "training"} for name in (*TABLES, "labelled train")}
COMMANDS = ("callsieve model monitor", "callsieve privacy retention", "callsieve model sign-gates")


def figures():
    """Figures of a run with all that the model card and the audit page show."""
    run = example_figures()
    gates = {"entry": 0, "sha256": HASH, "touches": 2, "registered": False, "owner": ""}
    gates["refused"] = [gate.metric for gate in shipped_gates().gates]
    run["bands"][0] |= {"raised": ["quiet_mobile"], "silent": ["satellite"]}
    run["data"] |= {"judged_on": "groups unseen in training"}
    run["model"] |= {"id": "7", "calibration": "isotonic"}
    run |= {"gates": gates, "catalogue": HASH, "rows": {"train": 9, "certify": 9, "groups": 3}}
    for feature, name in zip(run["model"]["top_features"], NAMES, strict=False):
        feature["name"] = name
    for number, row in enumerate(run["by_folder"]):
        row["folder"] = str(number)
    return run


def adapted(checks=175):
    """Figures of an adaptation with all that the model card shows."""
    run = figures()
    return adapted_figures(checks) | {name: run[name] for name in ("gates", "catalogue", "rows", "model")}


def audited(faults):
    """The audit page of a promoted run, after another one with other settings."""
    profile = '{"num_rows": 9, "sha256": "' + HASH + '"}'
    run = {"model": "7", "version": "1", "record": {
        "run": {"start_time": 0, "end_time": 0, "user_id": ""}, "tag": {}, "metric": {"auc": 0.9},
        "dataset": {name: {"profile": profile, "tags": {"mlflow.data.context": "training"}} for name in DATASETS},
        "parameter": {"seed": "1"},
    }}  # fmt: skip
    before = {"record": run["record"] | {"parameter": {}, "metric": {"auc": 0.8}}}
    content = audit_page.about(run, figures(), shipped_gates().results({"test_fold_touches": 3.0}), [before])
    approval = {"by": "王", "key": "0" * 16}
    moves = [
        ("2025-03-09T16:00:00Z", "promotion", {"version": "1", "from": None, "approvals": [approval, approval]}),
        ("2025-03-10T16:00:00Z", "rollback", {"version": "1", "from": "2", "why": "误报", "approvals": []}),
    ]
    checked = SimpleNamespace(faults=faults, anchor="核查依据：日志头 head.json", runs=1, root=HASH)
    entry = SimpleNamespace(index=4, at="2025-03-09T16:00:00Z")
    event = {"entry": entry, "moves": moves, "checked": checked, "entries": 5, "alias": "1"}
    return audit_page.page(content | event, {"none": None})


def governed():
    """The governance report with every table."""
    row = {"calls": 900, "before": 800, "year_before": 700, "people": {"callee": 90, "caller": 30}}
    splits = {name: {"yes": 90, "no": 810} for name in ("answered", "false_number", "registered", "outsourced")}
    splits |= {"action": {"pass": 800, "label": 60, "screen": 20, "block": 20}, "accepts": {"yes": 400, "no": 500}}
    splits |= {"licence": {"none": 9, "not in force": 8}}
    splits |= {"plan_class": {"marketing": 50, "harassment": 30, "illegal": 20}, "outside_register": {"yes": 9}}
    names = {"operator": "e1." + "a" * 32, "class": "95_service", "industry": "school", "content": "loans"}
    names |= {"regulator": "education", "plan_class": "marketing", "complaints_category": "loans", "all": "all"}
    names |= dict.fromkeys(("trunk", "block", "principal", "agent", "victims_in_common"), "e1." + "b" * 32)
    names |= {"unregistered_bulk": "e1." + "b" * 32, "unlicensed": "乙公司"}
    names |= dict.fromkeys(("preferences", "refusals"), "loans") | {"complaints": "all", "complaints_area": "010"}
    tables = {name: [row | {"row": shown, "splits": splits}] for name, shown in names.items()}
    league = {"row": "010", "calls": 900, "acted": 9, "complaints": 9, "rate": 10.5, "rank": 1, "rank_before": 2}
    leagues = {"area": [league | {"content": "loans"}]}
    figures = {
        "tables": tables, "leagues": leagues, "least": {"callee": 10, "caller": 5}, "base": 5, "bulk": 100,
        "now": "2025-03-03/2025-03-10", "before": "2025-02-24/2025-03-03", "names": {"e1." + "a" * 32: "甲公司"},
        "simulated": True,
    }  # fmt: skip
    return "".join(
        governance_page.page(figures | {"model": model})
        for model in (None, {"id": "7076", "simulated": True}, {"id": "7076", "simulated": False})
    )


PAGES = {
    "run page": lambda: run_page.page(figures()),
    "run page of an adaptation": lambda: run_page.page(adapted()),
    "run page of an adaptation without checks": lambda: run_page.page(adapted(checks=0)),
    "page of numbers to check": lambda: "".join(check_page(example_sheet(look)) for look in (1, 2)),
    "model card of an adaptation": lambda: model_card.page("模型卡", model_card.model_card(adapted())),
    "model card": lambda: model_card.page("模型卡", model_card.model_card(figures())),
    "datasheet": lambda: model_card.page("数据说明书", model_card.datasheet(figures(), DATASETS)),
    "audit page, sound": lambda: audited([]),
    "audit page, faulty": lambda: audited([Fault(entry_place(3), "缺失：日志被截断")]),
    "governance report": governed,
    "descriptions of features": lambda: " | ".join(feature.zh for feature in BY_NAME.values()),
    "answers of the complaint desk": lambda: " | ".join(text["zh"] for text in desk_rules().notices.values()),
}


def shown(page):
    """The text of a page that a reader sees, with that of its pictures; code is left out."""
    pictures = [base64.b64decode(code).decode() for code in re.findall(r"base64,([\w+/=]+)", page)]
    text = re.sub(r"(?s)<style>.*?</style>|<code>.*?</code>|<pre>.*?</pre>|base64,[\w+/=]+", "|", page)
    drawn = [text for svg in pictures for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    text = unescape("|".join([*re.findall(r'alt="(.*?)"', text), re.sub(r"(?s)<.*?>", "|", text), *drawn]))
    for command in COMMANDS:
        text = text.replace(command, "|")
    return text


# Names of tables, metrics and kinds on these pages are in Chinese, too: these Latin words are all that they have.
WORDS = {"callsieve", "SHA", "LightGBM", "UTC", "AUC", "AP", "mean", "logit", "small", "Apache", "SIP", "imei"}
ALL_CHINESE = {"run page", "model card", "datasheet", "governance report", "page of a feature table"}


@pytest.mark.parametrize("name", PAGES)
def test_a_chinese_page_has_no_english_sentence(name):
    with language("zh"):
        text = shown(PAGES[name]())
    assert re.findall(r"[A-Za-z]+(?:[ ,;:'()-]+[A-Za-z]+){2,}", text) == []
    assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 40
    if name in ALL_CHINESE:
        text = re.sub(r"[0-9a-f]{12,}|e1\.[ab]+|\w+\.(toml|csv|parquet)|\[owner\]", "", text)
        assert set(re.findall(r"[A-Za-z]{2,}", text)) <= WORDS
