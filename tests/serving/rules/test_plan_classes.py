"""The classes of the plan: every content that a model may predict or a complaint may name has one."""

import pytest

from callsieve.serving.bundle.bundle import load
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.plan_classes import PLAN_CLASSES, plan_class, plan_table
from callsieve.serving.rules.rules import BEHAVIOUR, NETWORK, RULE_BY_NAME, RULES
from callsieve.training.data.complaint_files import layouts


@pytest.mark.source("L2", "L27", by="serving/rules/plan_classes.py")
def test_each_content_and_form_has_a_class():
    shipped = load(SHIPPED_BUNDLE, [read_public_key(SHIPPED_SIGNER)]).classes
    layout = layouts()["12321"]
    words = set(shipped["content"]) | set(layout.category.values()) | {"other"}
    assert words == set(plan_table()["content"])
    assert set(layout.mode.values()) >= set(plan_table()["mode"])
    classes = [name for kind in ("content", "mode", "rules") for name in plan_table()[kind].values()]
    assert set(classes) - {""} == set(PLAN_CLASSES) == set(plan_table()["names"])


@pytest.mark.source("L2", "L27", by="serving/rules/plan_classes.toml")
def test_the_gravest_class_counts():
    assert plan_class("loans") == "marketing"
    assert plan_class("debt_collection", {"no_consent"}) == "harassment"
    assert plan_class("fraud", {"call_bombing", "no_consent"}) == "illegal"
    assert plan_class("loans", mode="bombing") == "harassment"
    assert plan_class(None, {"ring_once", "protected_callee"}) == "harassment"
    assert plan_class("an own content") == plan_class("other") == plan_class(None) == ""


def test_facts_of_the_network_name_no_class_and_facts_of_behaviour_do():
    """A failed authentication is mostly an exchange's fault, and no crime."""
    named = plan_table()["rules"]
    assert named.keys() <= RULE_BY_NAME.keys()
    assert not [rule.name for rule in RULES if rule.kind == NETWORK and rule.name in named]
    assert {rule.name for rule in RULES if rule.kind == BEHAVIOUR} <= named.keys()
