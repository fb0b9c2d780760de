"""The story of a Redis master that dies: real servers, the shipped runbook redis-master-down, and how it ended.

Judged at the servers themselves: who says that it is a master, whom the Sentinels name, what they were told to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from responder.demo import hosting, monitoring
from responder.demo.ending import Ending, Finding, events_of, paged_in, times
from responder.demo.installation import Installation, installed, write_failover_config
from responder.demo.monitoring import Monitoring, Subject, Watched
from responder.demo.observer import recorded
from responder.demo.redis_servers import Group, Running, exporter, planned_group, running
from responder.demo.scaled_rules import LADDER_SCALE, SCALE
from responder.demo.session import LONGEST, LOOK_EVERY, Respond, Stage, evaluating, stamp

RUNBOOK: Final = "redis-master-down"
CATALOGUE: Final = "nse-equities"
SUBJECT: Final = Subject(CATALOGUE, "redis-master", ("RedisMasterDown",), 'count(up{job="redis-master"} == 1)')
PATIENCE: Final = 2 * LONGEST
"""Servers and pauses between retries are not scaled: where a machine is slow, the Sentinels notice late, and the
failover is tried again. Otherwise the story is over long before."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look. `masters`: ports of the servers that say that they are one; `named`: the master by each Sentinel;
    `told`: failovers that Sentinels were told to do."""

    masters: tuple[int, ...]
    named: tuple[int, ...]
    told: int
    written: bool
    incidents: tuple[Mapping[str, Any], ...]
    messages_wait: bool

    @property
    def over(self) -> bool:
        """Nothing more will happen."""
        closed = all(incident["status"] == "closed" for incident in self.incidents)
        return bool(self.incidents) and closed and not self.messages_wait


@dataclass(frozen=True, slots=True)
class Failover:
    """What was seen: `first` is the port of the master that died, at `broke_at` (µs since the epoch)."""

    first: int
    broke_at: int
    last: Sight

    @property
    def incident(self) -> Mapping[str, Any]:
        """The newest one; empty without one."""
        return self.last.incidents[0] if self.last.incidents else {}


@dataclass(frozen=True, slots=True)
class _Scene:
    running: Running
    responder: httpx.AsyncClient

    async def look(self) -> Sight:
        """Raises Permanent when the responder does not answer."""
        incidents, wait = await recorded(self.responder)
        servers = self.running
        masters = await servers.masters()
        return Sight(masters, await servers.named(), servers.told(), await servers.written(masters), incidents, wait)


async def play_failover(stage: Stage, respond: Respond) -> Failover:
    """Plays the story, at most `PATIENCE` seconds. Raises Permanent, BadConfig, BadRules."""
    ends = time.monotonic() + PATIENCE
    async with _started(stage, respond) as scene:
        last = await scene.look()
        first = last.masters[0]
        stage.say(f"{stamp(stage)} demo: {first} is the master. Now it is killed, before it can tell anybody")
        broke_at = stage.clock()
        await scene.running.kill_master()
        while not last.over and time.monotonic() < ends:
            await asyncio.sleep(LOOK_EVERY)
            seen = await scene.look()
            for line in _news(last, seen):
                stage.say(f"{stamp(stage)} redis: {line}")
            last = seen
        return Failover(first, broke_at, last)


@contextlib.asynccontextmanager
async def _started(stage: Stage, respond: Respond) -> AsyncIterator[_Scene]:
    installation = installed(stage.folder, CATALOGUE, only=(RUNBOOK,))
    tokens = installation.tokens
    group = planned_group(stage.folder, (tokens.cache, tokens.cache_owner))
    plan = monitoring.planned(stage.folder, built_in=stage.built_in)
    exported, responder = hosting.bound(), hosting.bound()
    listen = hosting.address_of(responder)
    write_failover_config(installation, listen, plan.metrics_url, plan.alertmanager_url, group.sentinels)
    for line in _cast(plan, group, listen):
        stage.say(line)
    async with contextlib.AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running(group))
        await stack.enter_async_context(hosting.hosted(exporter(servers), exported))
        await stack.enter_async_context(respond(installation.config, responder))
        watched = Watched(hosting.address_of(exported), listen, installation.webhook_token_file, SUBJECT)
        await stack.enter_async_context(monitoring.watching(plan, watched, stage.clock))
        stage.say(f"{stamp(stage)} demo: everything is up")
        yield _Scene(servers, await stack.enter_async_context(_client(installation, listen)))


def _client(installation: Installation, listen: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {installation.tokens.person}"}
    return httpx.AsyncClient(base_url=f"http://{listen}", headers=headers, trust_env=False)


def _cast(plan: Monitoring, group: Group, listen: str) -> list[str]:
    """Who takes part, where, and what is not as in production."""
    replicas, sentinels = (", ".join(map(str, ports)) for ports in (group.ports[1:], group.sentinel_ports))
    return [
        f"  Redis         127.0.0.1:{group.ports[0]} the master; replicas {replicas}",
        f"  Sentinels     {sentinels}. To elect, all three would have to",
        "                agree, and one is slow to: so a dead master stays dead here",
        *evaluating(plan),
        f"  responder     http://{listen}  (SQLite, the shipped {RUNBOOK}",
        f"                of {CATALOGUE})",
        f"Times of the runbook are scaled 1:{SCALE}, the levels of escalation 1:{LADDER_SCALE}; the",
        "servers take the time that they take.",
        "Slack channels and pagers are lines on this screen; nobody is really paged, and",
        "the mails are left out, as they say the same.",
        "",
    ]


def _news(before: Sight, now: Sight) -> Iterator[str]:
    """What happened at the servers between two looks, one sentence each."""
    if before.masters != now.masters:
        who = ", ".join(map(str, now.masters))
        yield f"{who} says that it is the master" if who else "no server answers as a master"
    if before.told != now.told:
        yield "a Sentinel is told to promote a replica"
    if before.named != now.named and len(set(now.named)) == 1:
        yield f"all {len(now.named)} Sentinels name {now.named[0]}"
    if now.written and not before.written:
        yield "the new master took a write"


# --- the ending -------------------------------------------------------------------------------------------------------


def findings(course: Failover) -> Iterator[Finding]:
    """Everything that the story promises."""
    last, incident = course.last, course.incident
    yield Finding("the alert became one incident", len(last.incidents) == 1, f"{len(last.incidents)} incidents")
    status, result = str(incident.get("status", "never opened")), str(incident.get("result"))
    yield Finding("the incident is closed", status == "closed", status)
    yield Finding("its result is fixed", result == "fixed", result)
    yield Finding("one Sentinel was told to promote, and once", last.told == 1, f"{last.told} times")
    new = set(last.masters) - {course.first}
    seen = ", ".join(map(str, last.masters)) or "nobody"
    yield Finding("one replica is the master, and nobody else", len(last.masters) == len(new) == 1, seen)
    named = ", ".join(map(str, last.named))
    yield Finding("all three Sentinels name it", set(last.named) == new and len(last.named) == 3, named)
    yield Finding("it took a write", last.written, "it has none")


def ended(course: Failover, watching: str, folder: str | None) -> Ending:
    """The ending for people and for programs; `folder` when it was kept."""
    judged, incident, last = tuple(findings(course)), course.incident, course.last
    moments = times(incident, course.broke_at)
    shown = " → ".join(f"{name} {at:.1f} s" for name, at in moments.items() if at is not None)
    masters = ", ".join(map(str, last.masters)) or "nobody"
    lines = (
        f"master          {course.first} → {masters}",
        f"after the kill  {shown or 'nothing happened'}",
        f"paged           {', '.join(paged_in(last.incidents)) or 'nobody'}",
    )
    document = {
        "master": {"before": course.first, "after": list(last.masters)},
        "sentinels": {"name": list(last.named), "told": last.told},
        "seconds": moments,
        "paged": list(paged_in(last.incidents)),
        "incident": {name: incident.get(name) for name in ("id", "status", "result")},
        "steps": [event["text"] for event in events_of(incident) if event["kind"] == "attempt_ended"],
    }
    return Ending(judged, lines, {"monitoring": watching, **document, "folder": folder})
