"""The same notification before the real performer, with a platform at the wire, and in a replay: the same decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from responder.answers import nameable, read_answers
from responder.assumptions import Assumption
from responder.cli import rehearsal
from responder.cli.comparison import as_text
from responder.config import Config
from responder.differences import Played, compare
from responder.recordings import Recording
from responder.rules import Rules
from responder.tales import Tale
from responder.timing import MINUTE, format_time
from tests.acceptance.stage import ALERT, RISK, START, Stage, breach, own, playing, risky, shipped, templates
from tests.builders import a_runbook, call_step, cut_step

HORIZON = 70 * MINUTE
"""The last level is told after an hour; later only the same reminder comes again and again."""
PROBE = {"probe": {"path": "/api/status", "expect": 'body.trading == "halted"'}}


@dataclass(frozen=True)
class Case:
    """A platform, and the answers that say the same."""

    rules: Callable[[], tuple[Rules, Config]]
    labels: dict[str, str]
    world: Callable[[Stage], None]
    answers: dict[str, Any] = field(default_factory=dict)


def worlds(*changes: Callable[[Stage], None], **parts: Any) -> Callable[[Stage], None]:
    def made(stage: Stage) -> None:
        for change in changes:
            change(stage)
        for name, value in parts.items():
            setattr(stage.world, name, value)

    return made


def never_helps(stage: Stage) -> None:
    breach(stage, helps=False)


def stays_risky(stage: Stage) -> None:
    risky(stage, helps=False)


def cut(**parts: Any) -> Callable[[], tuple[Rules, Config]]:
    return lambda: own(a_runbook(steps=[cut_step(**parts)]))


def called(**parts: Any) -> Callable[[], tuple[Rules, Config]]:
    return lambda: own(a_runbook(steps=[call_step("halt", "/api/stop-trading", **parts)]))


CASES = {
    "it helps": Case(shipped, dict(ALERT), worlds(breach), {"checks": {"var": [2.1, 0.8]}}),
    "it does not help": Case(
        shipped, dict(ALERT), worlds(never_helps),
        {"checks": {"var": 2.1, "var_while_halted": 2.1}, "steps": {"halt": "ok"}},
    ),
    "no data": Case(
        shipped, dict(ALERT), worlds(dark=True), {"services": {"metrics": {"down": "connection refused"}}},
    ),
    "the risk API is down": Case(
        cut(), RISK, worlds(stays_risky, blind=True),
        {"services": {"risk-api": {"down": "/api/status: connection refused"}}, "checks": {"risk": 2.0}},
    ),
    "refused": Case(
        cut(), RISK, worlds(stays_risky, refused=[422]),
        {"steps": {"cut": {"refused": "422"}}, "checks": {"risk": 2.0}},
    ),
    "rate limited, then tried again": Case(
        cut(retry={"attempts": 2, "first": "5s"}), RISK, worlds(risky, refused=[429]),
        {"steps": {"cut": [{"temporary": "429"}, "ok"]}, "checks": {"risk": 0.5}},
    ),
    "slow": Case(
        cut(), RISK, worlds(risky, slow=4.0),
        {"steps": {"cut": {"ok": True, "delay": "4s"}}, "checks": {"risk": 0.5}},
    ),
    "lost, and it happened": Case(
        cut(), RISK, worlds(risky, lost="applied"), {"steps": {"cut": {"lost": "applied"}}, "checks": {"risk": 0.5}},
    ),
    "lost, and it never happens": Case(
        cut(), RISK, worlds(stays_risky, lost="not applied"),
        {"steps": {"cut": {"lost": "not_applied"}}, "checks": {"risk": 2.0}},
    ),
    "a lost call that is probed": Case(
        called(more=PROBE), RISK, worlds(risky, lost="applied"),
        {"steps": {"halt": {"lost": "applied"}}, "checks": {"risk": 0.5}},
    ),
    "a lost call with a key": Case(
        called(service="keyed-api"), RISK, worlds(stays_risky, lost="applied"),
        {"steps": {"halt": {"lost": "applied"}}, "checks": {"risk": 2.0}},
    ),
    "a lost call that nothing tells about": Case(
        called(), RISK, worlds(stays_risky, lost="applied"),
        {"steps": {"halt": {"lost": "applied"}}, "checks": {"risk": 2.0}},
    ),
    "more than a day allows": Case(
        cut(), RISK, worlds(stays_risky, kelly=0.5),
        {"parameters": {"risk-api/kelly_fraction": 0.5}, "checks": {"risk": 2.0}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_replay_decides_as_it_would_be_decided(name: str) -> None:
    case = CASES[name]
    rules, config = case.rules()
    real, replayed = really(case, rules, config), simulated(case, rules, config)
    found = compare(Played((), real), Played((), replayed))
    assert len(real) == len(replayed) == 1
    assert found.same, as_text(found)


def really(case: Case, rules: Rules, config: Config) -> tuple[Tale, ...]:
    with playing((rules, config)) as stage:
        case.world(stage)
        stage.fires(case.labels)
        stage.advance(HORIZON)
        return tuple(stage.tales())


def simulated(case: Case, rules: Rules, config: Config) -> tuple[Tale, ...]:
    text = yaml.safe_dump({"parameters": {"risk-api/kelly_fraction": 0.25}, **case.answers})
    known = nameable([rules], config.parameters, config.services)
    script = read_answers("answers.yaml", text.encode(), known)
    alert = {"status": "firing", "labels": case.labels, "startsAt": format_time(START)}
    recording = Recording("alert", START, json.dumps({"version": "4", "alerts": [alert]}).encode())
    stage = rehearsal.Stage(config, templates().render, rules)
    plot = rehearsal.plot_of([recording], script, Assumption.UNFIXED, HORIZON, [stage], START)
    return rehearsal.rehearse(plot, stage).tales
