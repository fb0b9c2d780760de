"""What the loader says about runbooks that act on a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.app import CATALOGUE
from responder.config import read_config
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import load_rules

SETTINGS = "services: {cluster: {kind: kubernetes, env: prod, in_cluster: true, namespaces: [trading, staging]}}\n"
POLICIES = "policies: {default: {levels: [{name: L1, after: 0, page: console}]}}\ndefault: default\n"
RUNBOOK = """runbook: restart
title: Restart
match: [Down, 'env="prod"']
target: cluster/trading-app
env: prod
steps:
  - id: restart
    action: kubernetes.rollout_restart
    with: {service: cluster, namespace: trading, workload: deployment/trading-app}
    timeout: 60s
"""


def load(text: str) -> None:
    config = read_config("responder.yaml", SETTINGS, CATALOGUE, Environment({}, Path("/"), check_secrets=False))
    load_rules({"policies.yaml": POLICIES, "restart.yaml": text}, CATALOGUE, config)


def test_a_workload_in_a_namespace_of_the_service_is_taken() -> None:
    load(RUNBOOK)


@pytest.mark.parametrize(
    ("before", "after", "place", "said"),
    [
        ("trading,", "other,", "9:41: steps[0].with.namespace", "the namespaces trading, staging only"),
        ("deployment/", "pod/", "9:60: steps[0].with.workload", "its kind and its name: deployment/NAME"),
        ("deployment/", "", "9:60: steps[0].with.workload", "its kind and its name: deployment/NAME"),
    ],
)
def test_what_no_cluster_would_take_is_told_with_its_place(before: str, after: str, place: str, said: str) -> None:
    with pytest.raises(BadRules) as caught:
        load(RUNBOOK.replace(before, after))
    assert place in str(caught.value)
    assert said in str(caught.value)
