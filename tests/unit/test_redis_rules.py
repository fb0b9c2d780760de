"""What the loader and lint say about runbooks that change something in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.app import CATALOGUE
from responder.config import read_config
from responder.documents import parse_document
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import load_rules
from responder.references import Surroundings
from responder.risks import Code, Subject, risks_of
from responder.runbook import Runbook

SETTINGS = """
services:
  redis: {kind: redis_sentinel, env: prod, sentinels: [s-1, s-2, s-3], master: mymaster}
  metrics: {kind: prometheus, env: prod, url: 'http://metrics:9090'}
notifiers:
  oncall: {kind: pagerduty, routing_key: {env: KEY}}
auth:
  people: {desk: {token: {env: T}, roles: [operator]}}
"""
POLICIES = "policies: {default: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: default\n"
RUNBOOK = """runbook: move
title: Move the master
match: [Move, 'env="prod"']
target: redis/master
env: prod
mode: auto
limits: {cooldown: 10m, runs: 3 per 6h}
escalation: default
checks:
  up: {action: prometheus.query, with: {service: metrics, query: 'max(up{env="prod"})', freshness: 'up{env="prod"}'}}
steps:
  - id: move
    action: redis.failover
    with: {service: redis, planned: true}
    timeout: 45s
    # more
verify: {check: up, expect: value > 0, within: 2m}
"""
PUBLISH = """action: redis.publish
    with: {service: redis, channel: c, message: m}"""


def load(text: str) -> None:
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, Environment({}, Path("/"), check_secrets=False))
    load_rules({"policies.yaml": POLICIES, "move.yaml": text}, CATALOGUE, config)


def test_automation_alone_never_replaces_a_master_that_works() -> None:
    with pytest.raises(BadRules) as caught:
        load(RUNBOOK)
    said = str(caught.value)
    assert "steps[0].action: a failover of a master that works loses writes that it has acknowledged" in said
    assert "add `approval:` with the role that decides it" in said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# more", "approval: operator"),
        (", planned: true", ""),
        ("planned: true", "planned: false"),
    ],
)
def test_with_a_person_or_of_a_master_that_is_down_it_may(before: str, after: str) -> None:
    load(RUNBOOK.replace(before, after))


@pytest.mark.parametrize(("approval", "allowed"), [("", False), (", approval: operator", True)])
def test_an_undo_is_no_way_around_it(approval: str, allowed: bool) -> None:
    undo = f"undo: {{action: redis.failover, with: {{service: redis, planned: true}}{approval}}}"
    once = RUNBOOK.replace(", planned: true}\n", "}\n").replace("2m}", "2m, harmful: value > before}")
    text = once.replace("# more", undo)
    if allowed:
        load(text)
        return
    with pytest.raises(BadRules, match=r"steps\[0\]\.undo\.action: a failover of a master that works"):
        load(text)


@pytest.mark.parametrize(("more", "codes"), [("", [Code.UNSAFE_STEP]), (", repeatable: true", [])])
def test_a_message_that_may_be_heard_twice_is_not_unsafe(more: str, codes: list[Code]) -> None:
    text = RUNBOOK.replace(
        "action: redis.failover\n    with: {service: redis, planned: true}", PUBLISH.replace("m}", f"m{more}}}")
    )
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, Environment({}, Path("/"), check_secrets=False))
    document = parse_document("move.yaml", text)
    runbook = Runbook.model_validate(document.value, by_alias=True, by_name=False)
    around = Surroundings(CATALOGUE, config, {"move"}, {"default"})
    found = list(risks_of(Subject(runbook, document, around)))
    assert [problem.code for problem in found] == codes
    assert all("`repeatable: true`" in problem.hint for problem in found)
