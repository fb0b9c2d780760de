"""Every message that timelines lead to, through each real notifier to a provider that refuses what the real one does.

The timelines are played first, in virtual time; what was to be sent is then sent over a real connection, in its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from responder.contracts import Message, Notifier
from responder.engine.announcer import announcement, not_reloaded, started, switched
from responder.errors import Temporary
from responder.facts import Event, Fact
from responder.notifiers.email import Email
from responder.notifiers.opsgenie import Opsgenie
from responder.notifiers.pagerduty import PagerDuty
from responder.notifiers.slack import Slack
from responder.notifiers.webhook import Webhook
from responder.policies import Policy
from responder.recorded import Outcome
from responder.scopes import PAUSE, Pause, pause_name
from responder.tales import Sent
from responder.telling import SILENT, has_line
from responder.timing import MINUTE, SECOND
from tests.acceptance.stage import RISK, Stage, alert, halting, own, playing, risky
from tests.builders import a_runbook, call_step, cut_step, ended, fired
from tests.contract import slack_parts
from tests.contract.told_messages import TEMPLATES, secret
from tests.fakes.opsgenie import KEY as GENIE_KEY
from tests.fakes.opsgenie import FakeOpsgenie
from tests.fakes.pagerduty import KEY, SENDER, FakePagerDuty
from tests.fakes.pagerduty import TOKEN as PAGER_TOKEN
from tests.fakes.receiver import FakeReceiver
from tests.fakes.slack import TOKEN, FakeSlack
from tests.fakes.smtp import FakeSmtp
from tests.hostile_values import HOSTILE
from tests.unit.story_parts import SAMPLES, incident

MENTIONED = [
    {"name": "L1", "after": 0, "page": "first", "mention": ["S012DESK"]},
    {"name": "L2", "after": "15m", "page": "second"},
]
LADDER: dict[str, Any] = {
    "remind": "30m",
    "repeat": {"every": "30m", "times": 1},
    "changes": ["first"],
    "levels": MENTIONED,
}


TWO = {"role": "risk-manager", "people": 2}
LOOK = {"id": "look", "manual": "Look at {{ incident.id }}"}

# --- timelines --------------------------------------------------------------------------------------------------------


def fixed(stage: Stage) -> None:
    risky(stage)
    stage.fires(RISK, summary="Risk is 2.0")
    stage.at("3:00")
    stage.resolves(RISK)
    stage.at("25:00")


def unfixed(stage: Stage) -> None:
    risky(stage, helps=False)
    stage.world.numbers["h"] = lambda: 1.0
    stage.fires(RISK)
    stage.at("5:30")
    stage.person("hold", lasts=2 * MINUTE)
    stage.at("20:00")
    stage.person("ack", "alice", "looking")
    stage.at("52:00")
    stage.person("takeover", "bob")


def unknown(stage: Stage) -> None:
    risky(stage, helps=False)
    stage.world.lost = "applied"
    stage.fires(RISK)
    stage.at("5:00")
    stage.person("settle", "alice", "seen in the log", applied=True)
    stage.person("note", "alice", "<!channel> & *all* is well")
    stage.at("10:00")


def approvals(stage: Stage) -> None:
    risky(stage, helps=False)
    stage.fires(RISK)
    stage.at("0:30")
    stage.approves("rita")
    stage.approves("otto")
    stage.at("1:00")
    stage.person("deny", "rita", "enough")
    stage.at("5:00")


def people(stage: Stage) -> None:
    stage.fires(RISK)
    stage.at("1:00")
    stage.person("snooze", lasts=5 * MINUTE)
    stage.at("7:00")
    stage.person("escalate", "alice")
    stage.at("8:00")
    stage.person("done", "alice")
    stage.at("8:10")
    stage.pauses()
    stage.fires({**RISK, "instance": "b"})
    stage.at("2:30:00")


def stopped(stage: Stage) -> None:
    risky(stage)
    stage.fires(RISK)
    stage.at("1:00")
    stage.person("cancel", "alice", "wrong host")
    stage.at("10:00")


def storm(stage: Stage) -> None:
    for n in range(12):
        stage.fires(alert(f"Alert{n}"))
    stage.at("20:00")
    for n in range(12):
        stage.resolves(alert(f"Alert{n}"))


def hostile(stage: Stage) -> None:
    for n, value in enumerate(HOSTILE):
        clean = value.replace("\x00", "").encode(errors="replace").decode()
        stage.fires(
            {"alertname": f"A{n}", "thing": clean or "-", "severity": "critical"}, summary=clean, description=clean
        )
    stage.at("3:00")


@dataclass(frozen=True)
class Timeline:
    """What happens, under which runbooks, and what the policy has beside LADDER."""

    script: Callable[[Stage], None]
    runbooks: tuple[Mapping[str, Any], ...]
    policy: Mapping[str, Any] = field(default_factory=dict)

    def sent(self, pager: str) -> list[Sent]:
        """What it led to, in every chat and in pagers of this kind."""
        rules, config = own(*self.runbooks, **{**LADDER, **self.policy})
        rules = replace(rules, policies={name: _everywhere(policy) for name, policy in rules.policies.items()})
        composing = {**config.notifiers, **{kind: COMPOSING[kind] for kind in CHATS}}
        composing |= dict.fromkeys(PAGERS, COMPOSING[pager])
        with playing((rules, config.model_copy(update={"notifiers": composing}))) as stage:
            self.script(stage)
            return list(stage.sent)


def _everywhere(policy: Policy) -> Policy:
    """Told in every chat; each level moves the pager's incident, which a rule set may say only of pagers that can."""
    levels = (level.model_copy(update={"escalation_policy": "PRISK"}) for level in policy.levels)
    return policy.model_copy(update={"levels": tuple(levels), "chat": CHATS})


TIMELINES = (
    Timeline(fixed, (a_runbook(steps=[cut_step(restore={"approval": "risk-manager", "remind": "10m"})]),)),
    Timeline(unfixed, (*halting("6m", countdown="1m"),)),
    Timeline(unknown, (a_runbook(steps=[call_step()]),)),
    Timeline(
        approvals,
        (
            a_runbook(
                steps=[
                    call_step(approval={"role": "risk-manager", "people": 2}),
                    call_step("two", "/b", approval="operator"),
                ]
            ),
        ),
    ),
    Timeline(
        people, (a_runbook(steps=[{"id": "look", "manual": "Look at {{ incident.id }}"}, call_step()], verify=None),)
    ),
    Timeline(stopped, (a_runbook(steps=[{"id": "look", "manual": "Look"}, call_step()]),)),
    Timeline(storm, (a_runbook(steps=[], mode="observe", verify=None),), {"storm": {"incidents": 5}}),
    Timeline(hostile, (a_runbook(match=None, steps=[call_step()], runbook="other", verify=None),)),
)


def named(timeline: object) -> str:
    """What a test of it is called."""
    return timeline.script.__name__ if isinstance(timeline, Timeline) else str(timeline)


# --- destinations -----------------------------------------------------------------------------------------------------


@dataclass
class Now:
    """The virtual time in which the message that is sent now was sent, in seconds."""

    seconds: float = 0.0


@asynccontextmanager
async def chat(kind: str, now: Now | None = None) -> AsyncIterator[Notifier]:
    """A chat that holds to its limits, those of pace too when `now` says the time."""
    match kind:
        case "slack":
            async with FakeSlack(room="C1") as server:
                if now is not None:
                    server.limits(lambda: now.seconds)
                yield Slack(token=secret(TOKEN), channel="#room", base_url=server.base_url, signing_secret=secret("s"))
        case "email":
            async with FakeSmtp() as smtp:
                given = {"host": "127.0.0.1", "port": smtp.port, "from": "r@example.com", "to": ["a@example.com"]}
                yield Email.model_validate({**given, "events": "all"})
        case _:
            async with FakeReceiver() as receiver:
                yield Webhook(url=receiver.address)


@asynccontextmanager
async def pager(kind: str) -> AsyncIterator[Notifier]:
    if kind == "pagerduty":
        async with FakePagerDuty() as server:
            yield PagerDuty(
                routing_key=secret(KEY),
                base_url=server.url,
                api_token=secret(PAGER_TOKEN),
                from_email=SENDER,
                api_url=server.url,
            )
    else:
        async with FakeOpsgenie() as genie:
            yield Opsgenie(key=secret(GENIE_KEY), base_url=genie.base_url)


COMPOSING: dict[str, Notifier] = {
    "slack": Slack(token=secret(TOKEN), channel="#room", signing_secret=secret("s")),
    "email": Email.model_validate(
        {"host": "127.0.0.1", "from": "r@example.com", "to": ["a@example.com"], "events": "all"}
    ),
    "webhook": Webhook(url="https://example.com/x"),
    "pagerduty": PagerDuty(routing_key=secret(KEY), api_token=secret(PAGER_TOKEN), from_email=SENDER),
    "opsgenie": Opsgenie(key=secret(GENIE_KEY)),
}
CHATS = ("slack", "email", "webhook")
PAGERS = ("first", "second", "boss")


@cache
def told_in(timeline: str, pager: str) -> tuple[Sent, ...]:
    """What a timeline led to: played once, and then sent to each kind of destination."""
    (found,) = [one for one in TIMELINES if named(one) == timeline]
    return tuple(found.sent(pager))


async def deliver(notifier: Notifier, told: list[Sent], now: Now | None = None) -> set[str]:
    """Send them as delivery would; a root's answer comes with what follows it. Answers the kinds that were sent."""
    roots: dict[str, str] = {}
    kinds = set()
    clock = now or Now()
    for one in told:
        message, clock.seconds = one.message, max(clock.seconds, one.at / SECOND)
        about = message.incident.id
        template = f"story/{_kind(message.event)}" if message.kind == "thread" else message.kind
        if notifier.passes_over(template, about in roots):
            continue
        answer = await _in_time(notifier, replace(message, previous=roots.get(about, "")), clock)
        kinds.add(message.kind)
        if message.kind == "root":
            roots[about] = answer
    await notifier.stop()
    return kinds


async def _in_time(notifier: Notifier, message: Message, clock: Now) -> str:
    """Sent when the provider says: the stage itself keeps no pace. It must always say when."""
    while True:
        try:
            return await notifier.send(message)
        except Temporary as busy:
            if busy.retry_after is None:
                raise
            clock.seconds += busy.retry_after


def _kind(event: Event | None) -> str:
    return "" if event is None else event.fact.kind


@pytest.mark.parametrize("timeline", TIMELINES, ids=named)
@pytest.mark.parametrize("kind", ["slack", "email", "webhook"])
async def test_a_chat_takes_every_message(kind: str, timeline: Timeline) -> None:
    # In a thread, because virtual time has an event loop of its own.
    told = await asyncio.to_thread(told_in, named(timeline), "pagerduty")
    now = Now()
    async with chat(kind, now) as notifier:
        kinds = await deliver(notifier, [one for one in told if one.destination == kind], now)
    assert kinds == {"root", "thread"}


@pytest.mark.parametrize("timeline", TIMELINES[1:], ids=named)
@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
async def test_a_pager_takes_every_message(kind: str, timeline: Timeline) -> None:
    told = await asyncio.to_thread(told_in, named(timeline), kind)
    async with pager(kind) as notifier:
        kinds = await deliver(notifier, [one for one in told if one.destination in PAGERS])
    assert "page" in kinds
    if kind == "pagerduty":
        assert {"move", "note"} & kinds, "what goes by REST passes it too"


# --- nothing is left out ----------------------------------------------------------------------------------------------

LINES = tuple(
    fact
    for fact in (*(fact for fact, _ in SAMPLES), fired("b", joined=True), ended(Outcome.UNKNOWN, detail="no answer"))
    if has_line(fact)
)
"""A fact of every kind that has a line of its own, and several of some."""


def test_every_line_is_among_those_that_are_sent() -> None:
    templates = {name.split("/")[1].partition(".")[0] for name in TEMPLATES.names() if name.startswith("story/")}
    assert {fact.kind for fact in LINES} == templates - {"checks"} - SILENT


@pytest.mark.parametrize("fact", LINES, ids=lambda fact: fact.kind)
async def test_slack_takes_every_line_about_every_state(fact: Fact) -> None:
    async with chat("slack") as notifier:
        for about in (incident(), slack_parts.unfixed(), slack_parts.unknown(), slack_parts.fixed()):
            assert isinstance(notifier, Slack)
            kept = await notifier.send(slack_parts.root(notifier, about, id=f"{id(about)}"))
            line = slack_parts.reply(notifier, about, fact, previous=kept)
            assert line.body is not None
            await notifier.send(line)
        await notifier.stop()


PAUSED = Pause(paused=True, actor="anna <!channel>", at=0, reason="<@U1> & *all* of it", until=10**15)
ANNOUNCEMENTS = (
    started("1.2.3", 7, "auto", 2, {PAUSE: PAUSED, pause_name("service", "oms"): PAUSED}),
    switched("runbook <!here>", PAUSED, 0),
    switched("runbook <!here>", PAUSED, 2 * 10**15),
    switched("automation", PAUSED.model_copy(update={"paused": False}), 0),
    not_reloaded(ValueError("<!channel> " + "x" * 5_000)),
    "stops",
)


@pytest.mark.parametrize("sentence", ANNOUNCEMENTS, ids=["started", "paused", "ran out", "resumed", "refused", "stops"])
@pytest.mark.parametrize("kind", ["slack", "email", "webhook"])
async def test_a_chat_takes_every_announcement(kind: str, sentence: str) -> None:
    async with chat(kind) as notifier:
        await notifier.send(announcement("main", sentence, "n1", 0))
        await notifier.stop()
