"""Small sets of rules with random limits, brakes, modes, approvals and promises, as they would be written.

The set of a number is always the same. Not here: what happens to it (`worlds`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from responder.config import Config, read_config
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import load_rules
from responder.rules import Rules
from responder.sources import shipped_rules
from tests.acceptance.stage import CATALOGUE, SETTINGS
from tests.campaigns.services import KELLY

SETS = 200
"""Different sets of rules; loading one costs as much as playing a world."""
EAGER = 0.3
"""The share of sets whose runbooks have no limits of their own and are verified at once: they run again and again."""
RIVALS = 0.4
"""The share of sets in which two plain runbooks change one target, so that one comes while the other is verified."""
TARGETS = (KELLY, KELLY, "trading", "desk")
PEOPLE = ("alice", "bob", "carol")
HOURS: Mapping[str, tuple[str, str]] = {
    "first": ("14:00", "14:01"),
    "second": ("14:01", "14:02"),
    "late": ("14:02", "15:00"),
}
"""Calendars, open from a minute until before another one of a world's day (UTC): it begins at 14:00."""
CUT = {"parameter": KELLY, "reason": "too much risk"}


def some(chance: random.Random, share: float, **part: Any) -> dict[str, Any]:
    """These keys, or none."""
    return part if chance.random() < share else {}


def rates(chance: random.Random, most: int) -> str:
    """`2 per 10m`."""
    return f"{chance.randint(1, most)} per {chance.choice(('1m', '5m', '1h'))}"


@lru_cache(maxsize=SETS)
def rule_set(number: int) -> tuple[Rules, Config]:
    """Set `number`. What the loader refuses is drawn again."""
    for attempt in range(100):
        chance = random.Random(f"rules {number} {attempt}")
        config = _config(chance)
        try:
            return load_rules(_files(chance), CATALOGUE, config).rules, config
        except BadRules:
            continue
    raise AssertionError(f"rule set {number}: nothing that the loader takes in a hundred attempts")


def _config(chance: random.Random) -> Config:
    automation = {
        **some(chance, 0.4, changes=rates(chance, 4)),
        **some(chance, 0.3, changes_per_service=rates(chance, 3)),
        **some(chance, 0.3, changes_per_runbook=rates(chance, 3)),
        **some(chance, 0.3, storm={"incidents": chance.randint(2, 3), "within": "1m", "calm": "30s"}),
        **some(chance, 0.3, relapse={"within": "2m", "count": chance.choice((1, 1, 2)), "memory": "1h"}),
        **some(chance, 0.3, success={"share": chance.choice((0.5, 1.0)), "runs": 2, "rest": "1m"}),
    }
    text = f"mode: auto\n{SETTINGS}\nautomation: {json.dumps(automation)}\n"
    return read_config("responder.yaml", text, CATALOGUE, Environment({}, shipped_rules(), check_secrets=False))


def _files(chance: random.Random) -> dict[str, str]:
    count = chance.choice((1, 2, 2, 3, 3))
    shared = chance.choice(TARGETS)
    books = [
        _runbook(chance, number, shared if chance.random() < 0.7 else chance.choice(TARGETS)) for number in range(count)
    ]
    if any(p.get("run") for book in books for p in book.get("unless_fixed", {}).values()):
        books.append(_halt(chance))
    if chance.random() < RIVALS:
        books = [_rival(chance, number) for number in range(2)]
    elif chance.random() < EAGER:
        books = [_eager(book) for book in books]
    written: dict[str, Any] = {f"{book['runbook']}.yaml": book for book in books}
    hours = {name: {"days": "mon-sun", "from": a, "to": b, "timezone": "UTC"} for name, (a, b) in HOURS.items()}
    written["calendars.yaml"] = {"calendars": hours}
    written["policies.yaml"] = {"policies": {"ladder": _ladder(chance)}, "default": "ladder"}
    return {name: json.dumps(value) for name, value in written.items()}


def _ladder(chance: random.Random) -> dict[str, Any]:
    levels = [{"name": "L1", "after": 0, "page": "first"}, {"name": "L2", "after": "2m", "page": "second"}]
    return {
        "grace": chance.choice((0, "30s", "1m")),
        "acknowledgement": chance.choice(("1m", "2m")),
        "levels": levels,
        **some(chance, 0.2, repeat={"every": "1m", "times": 1}),
    }


# --- runbooks ---------------------------------------------------------------------------------------------------------


def _runbook(chance: random.Random, number: int, target: str) -> dict[str, Any]:
    steps = [_step(chance, number, target, place) for place in range(chance.choice((1, 1, 2)))]
    brake = chance.random() < 0.3
    return {
        "runbook": f"r{number}",
        "title": f"Runbook {number}",
        "match": f"A{number}",
        "target": target,
        "mode": chance.choice(("auto",) * 12 + ("approve", "approve", "observe")),
        "brake": brake,
        "checks": {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": f"risk{number}"}}},
        "steps": steps,
        "escalation": "ladder",
        **some(chance, 0.4, only_if=_only_if(chance)),
        **some(chance, 0.85, verify=_verify(chance)),
        **some(chance, 0.7, limits=_limits(chance)),
        **some(chance, 0.2, finish_once_started=True),
        **some(chance, 0.15 if number else 0, yields_to="r0"),
        **some(chance, 0.5, unless_fixed=_promises(chance)),
        **some(chance, 0.25, calendar=_calendar(chance)),
    }


def _only_if(chance: random.Random) -> dict[str, Any]:
    return {"check": "risk", "expect": "value > 1", "if_missing": chance.choice(("page", "act_and_page"))}


def _verify(chance: random.Random) -> dict[str, Any]:
    return {
        "check": "risk",
        "expect": "value < 1",
        "settle": chance.choice((0, "5s")),
        "within": chance.choice(("20s", "40s")),
        "hold": chance.choice((0, "10s")),
        **some(chance, 0.3, harmful="value > before + 0.2"),
    }


_LEFT_OUT = ("limits", "only_if", "calendar", "unless_fixed", "yields_to")


def _eager(book: dict[str, Any]) -> dict[str, Any]:
    steps = [{key: part for key, part in step.items() if key != "approval"} for step in book["steps"][:1]]
    verify = {"check": "risk", "expect": "value < 1", "settle": 0, "within": "5s", "hold": 0}
    rest = {key: part for key, part in book.items() if key not in _LEFT_OUT}
    return {**rest, "mode": "auto", "steps": steps, "verify": verify} if book["runbook"] != "halt" else book


def _rival(chance: random.Random, number: int) -> dict[str, Any]:
    step = _call(chance, "s0", "desk", chance.choice(("unsafe", "probed", "keyed", "put")), f"r{number}")
    verify = {**_verify(chance), "within": "40s", "hold": "10s"}
    book = {**_runbook(chance, number, "desk"), "mode": "auto", "brake": False, "steps": [step], "verify": verify}
    return {key: part for key, part in book.items() if key not in (*_LEFT_OUT, "finish_once_started")}


def _calendar(chance: random.Random) -> dict[str, Any]:
    name = chance.choice(tuple(HOURS))
    hours = {"within": [name]} if chance.random() < 0.5 else {"outside": [name]}
    return {**hours, "otherwise": chance.choice(("wait", "deny", "ask"))}


def _limits(chance: random.Random) -> dict[str, Any]:
    return {
        "cooldown": chance.choice((0, "20s", "1m")),
        **some(chance, 0.5, runs=rates(chance, 3)),
        **some(chance, 0.4, ineffective=rates(chance, 2)),
    }


def _promises(chance: random.Random) -> dict[str, Any]:
    run = some(chance, 0.6, run="halt", countdown=chance.choice((0, "15s")))
    return {chance.choice(("30s", "1m", "2m")): {"page": "boss", **run}}


def _halt(chance: random.Random) -> dict[str, Any]:
    query = {"action": "prometheus.query", "with": {"service": "metrics", "query": "halted"}}
    step = _call(chance, "halt", "trading", "probed")
    verify = {"check": "halted", "expect": "value < 1", "within": "30s"}
    whole = {"runbook": "halt", "title": "Halt trading", "target": "trading", "mode": "auto", "brake": True}
    return {**whole, "checks": {"halted": query}, "steps": [step], "verify": verify, "escalation": "ladder"}


# --- steps ------------------------------------------------------------------------------------------------------------


def _step(chance: random.Random, number: int, target: str, place: int) -> dict[str, Any]:
    step = f"s{place}"
    if place and chance.random() < 0.25:
        return {"id": step, "manual": "Look at it"}
    if target == KELLY and chance.random() < 0.8:
        made = _cut(chance, step)
    else:
        kind = chance.choice(("unsafe", "probed", "keyed", "put"))
        made = _call(chance, step, "kelly" if target == KELLY else target, kind, f"r{number}")
    approval = {"role": "operator", "people": chance.choice((1, 1, 2)), "within": chance.choice(("30s", "1m"))}
    return {**made, **some(chance, 0.2, approval=approval)}


def _cut(chance: random.Random, step: str) -> dict[str, Any]:
    back = chance.choice(({}, {"restore": {"approval": "risk-manager", "remind": "1m"}}, {"undo": _APPROVED}))
    with_ = {**CUT, "to": chance.choice((0.1, 0.2, 0.05))}
    return {"id": step, "action": "parameter.reduce", "with": with_, **_tries(chance), **back}


_APPROVED: Mapping[str, Any] = {"approval": "risk-manager"}


def _call(chance: random.Random, step: str, area: str, kind: str, own: str = "") -> dict[str, Any]:
    """A change over HTTP, of an effect class; its path names what it touches."""
    path = f"/api/{area}/{own}{step}"
    with_: dict[str, Any] = {"service": "keyed-api" if kind == "keyed" else "risk-api", "path": path}
    with_["method"] = "PUT" if kind == "put" else "POST"
    if kind == "probed":
        with_["probe"] = {"path": "/api/status", "expect": f"body.done.{own}{step} == true"}
    undo = {"action": "http.request", "with": {"service": "risk-api", "method": "PUT", "path": f"/api/{area}/undo"}}
    back = some(chance, 0.3, undo=undo) if own else {}
    return {"id": step, "action": "http.request", "with": with_, **_tries(chance), **back}


def _tries(chance: random.Random) -> dict[str, Any]:
    retry = {"attempts": chance.randint(2, 3), "first": "2s"}
    return {"timeout": chance.choice(("5s", "10s")), **some(chance, 0.5, retry=retry)}
