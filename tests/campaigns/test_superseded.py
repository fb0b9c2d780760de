"""A kill at every turn of the loop while a more severe run supersedes one that only verifies: neither is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from responder.config import read_config
from responder.environment import Environment
from responder.loader import load_rules
from responder.recorded import Result
from responder.sources import shipped_rules
from responder.timing import SECOND
from tests.acceptance.stage import CATALOGUE, SETTINGS, START
from tests.campaigns.happenings import Happening, Lot
from tests.campaigns.services import HIGH
from tests.campaigns.simulation import Played, judged
from tests.campaigns.worlds import World

BEGINS = 10 * SECOND
"""When the more severe one fires, and from when on processes are killed."""
DOWN = (SECOND, 70 * SECOND)
POINTS = 20
"""The change begins after the third of them and has ended before the eighth; then both are watched to their ends."""


class Killed(World):
    """Dies at the `point`-th of all moments before and after a transaction or a change outside, from BEGINS on."""

    def __init__(self, *given: Any, point: int, down: int) -> None:
        super().__init__(*given)
        self.left, self.down = point, down
        store, platform = cast(Any, self.store), cast(Any, self.platform)
        store.submit, platform.change = self._around(store.submit), self._around(platform.change)

    def _around(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def killed(*given: Any) -> Any:
            self._passes()
            answer = await work(*given)
            self._passes()
            return answer

        return killed

    def _passes(self) -> None:
        if self.clock() < START + BEGINS or self._life is None:
            return
        self.left -= 1
        if self.left == 0:
            self._dies(self.down)
            raise asyncio.CancelledError


def _book(number: int) -> dict[str, Any]:
    """Two runbooks change one target, once each, with a call that nobody may do again."""
    step = {"service": "risk-api", "method": "POST", "path": f"/api/desk/r{number}s0"}
    return {
        "runbook": f"r{number}",
        "title": f"Runbook {number}",
        "match": f"A{number}",
        "target": "desk",
        "mode": "auto",
        "checks": {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": f"risk{number}"}}},
        "steps": [{"id": "s0", "action": "http.request", "with": step, "timeout": "5s"}],
        "verify": {"check": "risk", "expect": "value < 1", "within": "40s"},
    }


_TOLD = (("A0", 0, "high"), ("A1", 10, "critical"), ("A1", 100, "critical"))
"""Who fires when, how severe. What Alertmanager has told to a process that died, it tells again."""


def _played(point: int, down: int = SECOND) -> tuple[Killed, Played]:
    levels = [{"name": "L1", "after": 0, "page": "first"}]
    sources: dict[str, Any] = {f"r{number}.yaml": _book(number) for number in range(2)}
    sources["policies.yaml"] = {"policies": {"ladder": {"grace": "1m", "levels": levels}}, "default": "ladder"}
    environment = Environment({}, shipped_rules(), check_secrets=False)
    config = read_config("responder.yaml", f"mode: auto\n{SETTINGS}", CATALOGUE, environment)
    rules = load_rules({name: json.dumps(value) for name, value in sources.items()}, CATALOGUE, config).rules
    told = [
        Happening(at * SECOND, 0, "fires", {"name": name, "severity": severity, "instance": "a", "truncated": 0})
        for name, at, severity in _TOLD
    ]
    world = Killed(rules, config, Lot(1, tuple(told), 0.25, 0, {"desk": HIGH}, (0,)), point=point, down=down)
    return world, judged(world)


def _result(played: Played, runbook: str) -> Result | None:
    (run,) = [run for case in played.found.cases for run in case.incident.runs if run.runbook == runbook]
    return run.result


def test_without_a_kill_one_supersedes_the_other() -> None:
    _, played = _played(0)
    assert played.violations == ()
    assert (_result(played, "r0"), _result(played, "r1")) == (Result.UNVERIFIED, Result.INEFFECTIVE)


@pytest.mark.parametrize("down", DOWN)
def test_a_kill_at_every_point_loses_neither(down: int) -> None:
    ends = set()
    for point in range(1, POINTS):
        world, played = _played(point, down)
        assert (world.deaths, played.violations) == (1, ()), f"killed at point {point}"
        for case in played.found.cases:
            paged = any(m.template == "page" for m in case.messages)
            assert paged or case.incident.result is Result.FIXED, f"killed at point {point}"
        unknown = any(case.incident.unsettled for case in played.found.cases if case.incident.runbook == "r1")
        ends.add((_result(played, "r0"), unknown))
    # In the middle of its change nobody knows; at every other point it is done once.
    assert ends >= {(Result.UNVERIFIED, False), (Result.UNVERIFIED, True)}
