"""Which steps fail over, for how long they are tried, and whether the Sentinels notice by then."""

from __future__ import annotations

from typing import Any

import pytest

from responder.actions import ACTIONS
from responder.actions.redis_failover import RedisFailover
from responder.failover_patience import AFTER, Tried, judged, tried
from responder.rights import Use, uses_of
from responder.runbook import Runbook
from responder.timing import SECOND


def uses(*steps: dict[str, Any]) -> tuple[Use, ...]:
    common = {"action": "redis.failover", "with": {"service": "cache"}}
    written = [{"id": f"s{number}", **common, **step} for number, step in enumerate(steps)]
    runbook = Runbook.model_validate({"runbook": "it", "title": "It", "target": "it", "steps": written})
    return uses_of([runbook], ACTIONS, {})


def test_the_pauses_between_all_attempts_count() -> None:
    retried = {"retry": {"attempts": 4, "first": "5s", "cap": "15s"}}
    after = {"with": {"service": "cache", "after": "2s"}}
    found = tried(uses({}, retried, after), "cache")
    assert found == (
        Tried("it", "s0", 0, 10 * SECOND), Tried("it", "s1", 30 * SECOND, 10 * SECOND), Tried("it", "s2", 0, 2 * SECOND)
    )  # fmt: skip


def test_other_services_other_actions_and_planned_ones_do_not_count() -> None:
    other = {"with": {"service": "other"}}
    planned = {"with": {"service": "cache", "planned": True}}
    assert tried(uses(other, planned, {"action": "redis.write_test"}), "cache") == ()


def test_the_default_is_that_of_the_action() -> None:
    assert RedisFailover(service="cache").after == AFTER


@pytest.mark.parametrize(("notice", "good"), [(30, True), (31, False)])
def test_it_must_be_tried_until_the_sentinels_have_had_their_turn(notice: int, good: bool) -> None:
    ((found, says),) = judged([Tried("it", "s0", 40 * SECOND, 10 * SECOND)], notice * SECOND)
    assert found is good
    assert ("raise the step's `retry`" in says) is not good
