"""The least rights of a set of runbooks: narrowed as far as the runbooks say, and never further."""

from __future__ import annotations

from typing import Any

import pytest

from responder.actions import ACTIONS
from responder.rights import Use, grants_of, roles_of, sentinel_rights, server_rights, uses_of, values_of
from responder.runbook import Runbook
from responder.services import RedisSentinelService, RedisService

SPACE = {"service": "cluster", "namespace": "trading"}
INPUTS: dict[str, Any] = {
    "app": {"label": "app", "one_of": ["api", "worker"]},
    "pod": {"label": "pod", "type": "word"},
    "symbol": {"label": "symbol", "pattern": "[A-Z-]+"},
}


def uses(*steps: tuple[str, dict[str, Any]], **more: Any) -> tuple[Use, ...]:
    listed = [{"id": f"s{number}", "action": name, "with": with_} for number, (name, with_) in enumerate(steps)]
    whole = {"runbook": "it", "title": "It", "target": "it", "inputs": INPUTS, "steps": listed, **more}
    return uses_of([Runbook.model_validate(whole)], ACTIONS, {})


def role(*steps: tuple[str, dict[str, Any]]) -> list[str]:
    (rules,) = roles_of(uses(*((name, {**SPACE, **with_}) for name, with_ in steps)), "cluster").values()
    return [rule.line for rule in rules]


def test_a_workload_that_is_named_is_the_only_one_that_may_be_touched() -> None:
    restart = ("kubernetes.rollout_restart", {"workload": "deployment/trading-app"})
    status = ("kubernetes.rollout_status", {"workload": "statefulset/{{ app }}"})
    assert role(restart, status) == [
        '{apiGroups: ["apps"], resources: [deployments], resourceNames: ["trading-app"], verbs: [get, patch]}',
        '{apiGroups: ["apps"], resources: [statefulsets], resourceNames: ["api", "worker"], verbs: [get]}',
    ]


def test_where_the_alert_says_which_workload_no_name_is_written() -> None:
    assert role(("kubernetes.rollout_restart", {"workload": "deployment/{{ pod }}"})) == [
        '{apiGroups: ["apps"], resources: [deployments], verbs: [get, patch]}'
    ]
    open_kind = role(("kubernetes.rollout_status", {"workload": "{{ pod }}"}))
    assert open_kind == [
        f'{{apiGroups: ["apps"], resources: [{kind}s], verbs: [get]}}'
        for kind in ("daemonset", "deployment", "statefulset")
    ]


def test_one_use_without_a_name_opens_the_verb_that_it_uses_and_no_other() -> None:
    named = ("kubernetes.rollout_restart", {"workload": "deployment/trading-app"})
    assert role(named, ("kubernetes.rollout_status", {"workload": "deployment/{{ pod }}"})) == [
        '{apiGroups: ["apps"], resources: [deployments], verbs: [get]}',
        '{apiGroups: ["apps"], resources: [deployments], resourceNames: ["trading-app"], verbs: [patch]}',
    ]


def test_what_a_use_does_not_reach_is_left_out() -> None:
    scale = {"workload": "deployment/a", "replicas": 2, "min": 1, "max": 3}
    only_looked = role(("kubernetes.scale", scale))
    assert '{apiGroups: ["autoscaling"], resources: [horizontalpodautoscalers], verbs: [list]}' in only_looked
    assert not any("statefulsets" in line for line in only_looked)
    raised = role(("kubernetes.scale", {**scale, "autoscaler": "raise_minimum"}))
    assert '{apiGroups: ["autoscaling"], resources: [horizontalpodautoscalers], verbs: [get, list, patch]}' in raised
    assert role(("kubernetes.logs", {"pod": "{{ pod }}"})) == ['{apiGroups: [""], resources: [pods/log], verbs: [get]}']
    assert role(("kubernetes.pods", {"selector": "app=trading"})) == [
        '{apiGroups: [""], resources: [pods], verbs: [list]}'
    ]
    undone = role(("kubernetes.rollout_undo", {"workload": "daemonset/a"}))
    assert [line.partition("resources: [")[2].partition("]")[0] for line in undone] == [
        "controllerrevisions",
        "daemonsets",
    ]


def test_a_way_back_by_another_action_needs_its_rights_too() -> None:
    back = {"action": "kubernetes.configmap_patch", "with": {**SPACE, "configmap": "limits", "set": {"A": "1"}}}
    step = {"id": "a", "action": "wait", "with": {"seconds": 1}, "undo": back}
    (rules,) = roles_of(uses(steps=[step]), "cluster").values()
    assert [rule.line for rule in rules] == [
        '{apiGroups: [""], resources: [configmaps], resourceNames: ["limits"], verbs: [get, patch]}'
    ]


def test_grants_are_those_of_the_service_and_each_stands_once() -> None:
    end = {"service": "db", "users": ["reporting"], "spared": ["oms"], "older_than": "1s"}
    used = uses(
        ("postgres.long_queries", {"service": "db"}),
        ("postgres.terminate_queries", end),
        ("postgres.promote", {"candidates": ["one", "two"], "fencing": "the old one is stopped"}),
    )
    assert grants_of(used, "db") == ("GRANT pg_monitor TO {role}", "GRANT pg_signal_backend TO {role}")
    assert len(grants_of(used, "two")) == 2
    assert grants_of(used, "three") == ()


def test_keys_and_channels_are_patterns_that_nothing_else_fits() -> None:
    used = uses(
        ("redis.get", {"service": "cache", "key": "var_pct:{{ symbol }}"}),
        ("redis.get", {"service": "cache", "key": "a[b]*? c"}),
        ("redis.hgetall", {"service": "cache", "key": "state:{{ app }}"}),
        ("redis.write_test", {"service": "cache"}),
        ("redis.publish", {"service": "cache", "channel": "param.reload", "message": "all"}),
    )
    rights = server_rights(used, "cache", RedisService(url="redis://127.0.0.1/3"))
    assert rights.keys == (
        r"a\[b\]\*\??c",
        "responder:write-test",
        "state:api",
        "state:worker",
        "var_pct:*",
    )
    assert rights.channels == ("param.reload",)
    assert "select" in rights.commands
    assert server_rights(used, "another", RedisService(url="redis://127.0.0.1")).commands == ()


def test_sentinels_are_asked_for_the_master_by_readers_and_for_more_by_what_needs_more() -> None:
    reader = uses(("redis.info", {"service": "trading-redis"}))
    service = RedisSentinelService(sentinels=("one:26379",), master="mymaster")
    assert sentinel_rights(reader, "trading-redis").commands == ("sentinel|get-master-addr-by-name",)
    assert server_rights(reader, "trading-redis", service).commands == ("info",)
    failover = uses(("redis.failover", {"service": "trading-redis"}))
    assert sentinel_rights(failover, "trading-redis").line("responder") == (
        "ACL SETUSER responder reset on >PASSWORD -@all "
        "+info +sentinel|ckquorum +sentinel|failover +sentinel|master +sentinel|replicas"
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("plain", ("plain",)),
        ("{{ app }}-{{app}}", ("api-api", "api-worker", "worker-api", "worker-worker")),
        ("{{ pod }}", None),
        ("{{ app | upper }}", None),
        ("{{ app }}" * 7, None),
    ],
)
def test_what_a_text_can_become_is_known_where_all_its_inputs_are_limited(
    text: str, values: tuple[str, ...] | None
) -> None:
    (use,) = uses(("redis.get", {"service": "cache", "key": text}))
    assert values_of(text, use.runbook.inputs) == values
