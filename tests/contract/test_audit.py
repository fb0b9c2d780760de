"""The self-audit, the outside switches that hear of a clean one, and what is announced, in the test's own time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from responder import facts as f
from responder.app import CATALOGUE, App
from responder.commands import Command, SetPause
from responder.config import read_config
from responder.connections import open_transport
from responder.draft import Draft
from responder.engine.announcer import WAITS, chats
from responder.engine.audit import EVERY, FRESH, STUCK
from responder.engine.heartbeat import AGAIN, Pinged, Pings
from responder.environment import Environment
from responder.errors import BadConfig, Permanent, StoreUnavailable, Temporary
from responder.heartbeat_settings import DeadMansSwitch
from responder.incident import Due, Incident
from responder.ingest import News, tell_news
from responder.loader import load_rules
from responder.records import Change, Keys, Lane, MessageRow, ScopeRow, State, TimerRow, Writes
from responder.scopes import PAUSE, Pause, pause_name
from responder.timing import MINUTE, SECOND
from tests.contract.announcing_parts import Chat, Puts, announcing, without_time
from tests.contract.app_parts import START, Time, built, incidents
from tests.fakes.server import FakeServer


async def audited(app: App, time: Time, after: int = 0) -> tuple[str, ...]:
    """So much later, one audit."""
    time.now += after
    assert await app.health.audit.work(time.now) == time.now + EVERY
    assert app.health.audit.last is not None
    return app.health.audit.last.reasons


def page(message_id: str, created_at: int, template: str = "page") -> MessageRow:
    return MessageRow(message_id, "i", 1, Lane.PAGE, "oncall", template, message_id, created_at, created_at)


# --- what an audit finds ----------------------------------------------------------------------------------------------


async def test_a_program_that_is_well_is_clean_and_nobody_is_told(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        assert [await audited(app, time, EVERY) for _ in range(3)] == [(), (), ()]
        assert await incidents(app) == []


async def test_a_loop_that_fails_is_told_at_the_second_look_and_once(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        app.loops[1].failing = "ValueError: no"
        reason = "the delivery loop fails: ValueError: no"
        assert await audited(app, time) == (reason,)
        assert await incidents(app) == [], "it may have been a moment"
        for _ in range(3):
            await audited(app, time, EVERY)
        (incident,) = await incidents(app)
        assert (incident.target, incident.problems) == ("responder:audit", (reason,))
        assert [name for name, _ in incident.paged] == ["console"]


async def test_what_comes_again_is_told_again_and_what_goes_on_is_not(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time, "") as app:
        for failing in ("no", "no", "no", None, "no", "no"):
            app.loops[0].failing = failing
            await audited(app, time, EVERY)
            for incident in await incidents(app):
                await acknowledged(app, incident)
        assert len(await incidents(app)) == 2


async def acknowledged(app: App, incident: Incident) -> None:
    if not incident.closed:
        await app.desk.submit(lambda shelf: Command(app.desk.new_id(), incident.id, "ack", "anna", shelf, None))


async def test_a_timer_that_nobody_looks_at_is_found(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        timer = TimerRow("scope:x", Due(kind="remind", round=0, due=time.now))
        await app.store.submit(Puts("a", Writes(timers=(timer,))))
        assert await audited(app, time, MINUTE) == ()
        assert await audited(app, time, SECOND) == ("a timer is due for more than 1m and nobody looks",)


async def test_a_page_that_nobody_takes_is_found_by_its_destination(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        rows = (page("p", START), page("p2", START), page("r", START, "resolve"))
        await app.store.submit(Puts("a", Writes(messages=rows)))
        assert await audited(app, time, STUCK) == ()
        (reason,) = await audited(app, time, SECOND)
        assert reason.startswith("oncall has not accepted a page for more than 5m: ")


NEWS = News("responder:test", "Something", "Something")


@dataclass(frozen=True)
class Strands:
    """Leave an incident open whose alert ended, as no operation does: without a timer, a message and a person."""

    id: str
    book: Any

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[str]:
        draft = Draft(self.id, state, self.book)
        name = tell_news(draft, NEWS, "x")
        draft.record(name, f.AlertFired(fingerprint="f", labels={}, annotations={}, severity=None, starts_at=None))
        draft.record(name, f.AlertResolved(fingerprint="f", ends_at=None))
        (row,) = draft.writes().incidents
        return Change(Writes(incidents=(row,)), name)


async def test_an_open_incident_that_waits_for_nothing_is_found(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        name = await app.desk.submit(lambda shelf: Strands("s", shelf))
        (reason,) = await audited(app, time)
        assert reason.startswith(f"incident {name} on responder:test is open and waits for nothing")
        await app.store.submit(Puts("a", Writes(messages=(replace(page("m", time.now), incident=name),))))
        assert await audited(app, time) == (), "a message is on its way"


def _counting_on(incident: Incident, due: Due) -> Incident:
    return incident.model_copy(update={"agenda": (due,)})


async def test_a_timer_that_the_store_has_lost_is_armed_again_and_told_at_once(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time, "") as app:
        name = await app.desk.submit(lambda shelf: Strands("s", shelf))
        row = await app.store.incident(name)
        assert row is not None
        due = Due(kind="level", round=0, due=time.now + MINUTE)
        await app.store.submit(Puts("a", Writes(incidents=(replace(row, fold=_counting_on(row.fold, due)),))))
        (reason,) = await audited(app, time)
        assert reason == f"the store had lost timers of incident {name} on responder:test; they are armed again"
        assert (name, "level", 0) in await app.store.armed()
        assert ("responder:audit", (reason,)) in [(i.target, i.problems) for i in await incidents(app)]
        assert await audited(app, time) == ()


async def test_a_pass_that_hangs_is_found(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        app.loops[1].busy_since = time.now
        assert await audited(app, time, MINUTE) == ()
        (reason,) = await audited(app, time, SECOND)
        assert reason.startswith("the delivery loop has hung for more than 1m")


def _resume(app: App, shelf: Any) -> SetPause:
    return SetPause(app.desk.new_id(), paused=False, actor="anna", reason="mended", book=shelf)


async def test_a_row_that_cannot_be_read_pauses_is_named_and_mended_by_resuming(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await app.store.submit(Puts("a", Writes(scopes=(ScopeRow(PAUSE, "no JSON", time.now),))))
        (reason,) = await audited(app, time)
        assert reason.startswith("the store's row pause:global cannot be read: `responder resume`")
        held = (await app.announcer.pauses())[PAUSE]
        assert held.holds(time.now)
        await app.desk.submit(lambda shelf: _resume(app, shelf))
        assert await audited(app, time) == ()
        assert not (await app.announcer.pauses())[PAUSE].holds(time.now)


async def test_its_own_news_waits_for_a_person_and_is_nothing_to_find(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        app.loops[0].failing = "no"
        await audited(app, time)
        await audited(app, time, EVERY)
        app.loops[0].failing = None
        assert len(await incidents(app)) == 1
        time.now += MINUTE - SECOND
        await app.timers.work(time.now)
        assert await audited(app, time) == ()


async def test_a_store_that_cannot_be_written_is_unclean_and_the_audit_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    async with built(tmp_path, time) as app:

        async def full(operation: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(app.store, "submit", full)
            assert [await audited(app, time, EVERY) for _ in range(3)] == [("disk full",)] * 3
            assert "disk full" in await app.health.audit.proven()
        assert await audited(app, time, EVERY) == ()
        assert await app.health.audit.proven() == ""


# --- out: switches ----------------------------------------------------------------------------------------------------


class FakeSwitch(FakeServer):
    """A dead-man's switch. `answers` are its next statuses; after them it takes everything."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answers: list[int] = []
        super().__init__([Route("/ping/secret", self._take, methods=["GET", "POST"])])

    async def _take(self, request: Request) -> Response:
        self.calls.append(f"{request.method} {request.url.query}")
        return PlainTextResponse("", self.answers.pop(0) if self.answers else 200)

    def configured(self, name: str = "outside", **more: Any) -> DeadMansSwitch:
        return DeadMansSwitch(name=name, url=f"{self.url}/ping/secret?k=v", **more)


def pings(app: App, *switches: DeadMansSwitch) -> tuple[Pings, list[str]]:
    results: list[str] = []
    return Pings(switches, app.health.audit.proven, results.append, open_transport), results


async def test_a_switch_is_called_after_a_clean_audit_as_often_as_it_wants(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, FakeSwitch() as switch:
        sender, results = pings(app, switch.configured(), switch.configured("other", method="POST", every="2m"))
        await audited(app, time)
        assert await sender.work(time.now) == time.now + MINUTE
        assert sorted(switch.calls) == ["GET k=v", "POST k=v"]
        await audited(app, time, EVERY)
        assert await sender.work(time.now) == time.now + MINUTE
        assert switch.calls[2:] == ["GET k=v"]
        assert results == ["taken"] * 3
        assert sender.state["outside"] == Pinged(taken=time.now)


async def test_nobody_hears_that_we_are_well_before_an_audit_or_after_an_unclean_or_old_one(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, FakeSwitch() as switch:
        sender, results = pings(app, switch.configured())
        await sender.work(time.now)
        assert sender.state["outside"].wrong == "withheld: nothing was audited yet"
        app.loops[0].failing = "no"
        await audited(app, time, AGAIN)
        await sender.work(time.now)
        assert "the timers loop fails: no" in sender.state["outside"].wrong
        app.loops[0].failing = None
        await audited(app, time, AGAIN)
        time.now += FRESH + SECOND
        await sender.work(time.now)
        assert sender.state["outside"].wrong == "withheld: the last audit is 1m31s old"
        assert (switch.calls, results) == ([], ["withheld"] * 3)
        await audited(app, time)
        await sender.work(time.now + AGAIN)
        assert switch.calls == ["GET k=v"]


async def test_nobody_hears_that_we_are_well_when_nothing_can_be_written_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    async with built(tmp_path, time) as app, FakeSwitch() as switch:
        sender, _ = pings(app, switch.configured())
        await audited(app, time)

        async def full(operation: object) -> None:
            raise StoreUnavailable("disk full")

        monkeypatch.setattr(app.store, "submit", full)
        await sender.work(time.now)
        assert (switch.calls, sender.state["outside"].wrong) == ([], "withheld: disk full")


async def test_a_call_that_fails_is_counted_told_without_the_address_and_tried_again_soon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    async with built(tmp_path, time) as app, FakeSwitch() as switch:
        gone = DeadMansSwitch(name="gone", url="http://127.0.0.1:1/ping/secret?k=v")
        sender, results = pings(app, switch.configured(), gone)
        switch.answers = [404]
        await audited(app, time)
        assert await sender.work(time.now) == time.now + AGAIN
        assert sender.state["outside"].wrong.startswith("the switch answers 404: ")
        assert "nothing was sent" in sender.state["gone"].wrong
        time.now += AGAIN
        await sender.work(time.now)
        assert sorted(results) == ["failed"] * 3 + ["taken"]
        said = caplog.text + str(sender.state)
        assert "secret" not in said
        assert "k=v" not in said


# --- announcements ----------------------------------------------------------------------------------------------------


async def switch_pause(app: App, time: Time, reason: str, *, paused: bool) -> None:
    time.now += SECOND
    await app.desk.submit(lambda shelf: SetPause(app.desk.new_id(), paused, "anna", reason, shelf))


async def test_a_start_says_what_it_begins_with_and_nothing_was_said_before(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, announcing(app) as (announcer, chat):
        announcer.say("too early")
        await switch_pause(app, time, "a drill", paused=True)
        await announcer.begin("1.2.3", "auto", 2)
        await announcer.stop("stops")
        began, stopped = without_time(chat._said)
        assert began.split("; ") == [
            "Responder responder: started: version 1.2.3, 0 runbooks, mode auto",
            "goes on with 2 open incidents of an earlier process",
            "automation is paused by anna since 2027-01-15T08:00:01Z: a drill",
        ]
        assert stopped == "Responder responder: stops"


async def test_a_pause_and_its_end_are_told_once_among_replicas(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, announcing(app) as (one, chat), announcing(app) as (other, second):
        for announcer in (one, other):
            await announcer.begin("1", "auto", 0)
            await announcer.watch(time.now)
        await switch_pause(app, time, "strange fills", paused=True)
        await asyncio.gather(one.watch(time.now), other.watch(time.now))
        await switch_pause(app, time, "", paused=False)
        await asyncio.gather(one.watch(time.now), other.watch(time.now))
        await asyncio.gather(one.watch(time.now), other.watch(time.now))
        await asyncio.gather(one.stop(), other.stop())
        assert sorted(without_time(chat._said[1:] + second._said[1:])) == [
            "Responder responder: anna has paused automation: strange fills. People are paged as always",
            "Responder responder: anna lets automation act again",
        ]


async def test_a_pause_of_one_runbook_or_service_is_told_too(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app, announcing(app) as (announcer, chat):
        await announcer.begin("1", "auto", 0)
        await announcer.watch(time.now)
        for number, what in enumerate(("runbook", "service")):
            row = Pause(paused=True, actor="anna", at=time.now, reason="a drill").model_dump_json()
            scope = ScopeRow(pause_name(what, "cut"), row, time.now)
            await app.desk.store.submit(Puts(f"p{number}", Writes(scopes=(scope,))))
        await announcer.watch(time.now)
        await announcer.stop()
        assert sorted(without_time(chat._said[1:])) == [
            "Responder responder: anna has paused runbook cut: a drill. People are paged as always",
            "Responder responder: anna has paused service cut: a drill. People are paged as always",
        ]
        chat._said.clear()
        await announcer.begin("1", "auto", 0)
        await announcer.stop()
        assert "; runbook cut is paused by anna since" in chat._said[0]


TWO_CHATS = """
notifiers:
  room: {kind: slack, token: {env: T}, channel: C0RISK}
  same: {kind: slack, token: {env: T}, channel: C0RISK}
  mail: {kind: email, host: 127.0.0.1, from: r@example.com, to: [a@example.com]}
  quiet: {kind: slack, token: {env: T}, channel: C0QUIET}
"""


def test_the_chats_of_all_policies_hear_of_it_each_place_once() -> None:
    config = read_config("responder.yaml", TWO_CHATS, CATALOGUE, Environment({}, Path(), check_secrets=False))
    policies = {"a": {"chat": ["room"]}, "b": {"chat": ["same", "mail"]}, "c": {"chat": ["console"]}}
    sources = {"policies.yaml": json.dumps({"policies": policies, "default": "a"})}
    rules = load_rules(sources, CATALOGUE, config).rules
    assert chats(rules, config.notifiers) == ("room", "mail")
    assert chats(rules, {"console": config.notifiers["console"]}) == ("console",)


async def test_a_reload_that_was_refused_is_told_whoever_asked_for_it(tmp_path: Path) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        chat = Chat()
        app.announcer.notifiers = {"console": chat}
        await app.announcer.begin("1", "auto", 0)
        with (tmp_path / "responder.yaml").open("a") as file:
            file.write("unknown: 1\n")
        with pytest.raises(BadConfig):
            await app.reload()
        await app.announcer.stop()
        assert "a reload was refused, and the rules and settings from before go on: " in chat._said[-1]


async def test_a_reload_is_told_in_the_chats_that_it_brings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    time = Time()
    async with built(tmp_path, time) as app:
        await app.announcer.begin("1", "auto", 0)
        (tmp_path / "mine").mkdir()
        policies = "policies: {default: {chat: [desk], levels: [{name: L1, after: 0, page: console}]}}"
        (tmp_path / "mine" / "policies.yaml").write_text(policies)
        with (tmp_path / "responder.yaml").open("a") as file:
            file.write("rules: [./mine]\nnotifiers: {desk: {kind: console}}\n")
        assert set(app.announcer.notifiers) == {"console"}
        await app.reload()
        await app.announcer.stop()
        assert set(app.announcer.notifiers) == {"console", "desk"}
        began, reloaded = without_time(capsys.readouterr().out.splitlines())
        assert "started" in began
        assert reloaded.startswith("Responder responder: reloaded: 0 runbooks")


async def test_an_announcement_is_tried_three_times_and_never_twice_when_it_may_have_arrived(tmp_path: Path) -> None:
    time, waits = Time(), list[float]()
    async with built(tmp_path, time) as app, announcing(app, waits) as (announcer, chat):
        await announcer.begin("1", "auto", 0)
        await announcer.stop()
        chat._said.clear()
        for raised, told in (([Temporary("no")] * 2, 1), ([Temporary("no")] * 3, 0), ([Permanent("no")], 0)):
            chat._raises[:] = raised
            announcer.say("news")
            await announcer.stop()
            assert (len(chat._said), chat._raises) == (told, [])
            chat._said.clear()
        assert waits == [*WAITS, *WAITS]


async def test_a_stop_does_not_wait_for_a_chat_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr("responder.engine.announcer.FAREWELL", 0.01)
    async with built(tmp_path, time) as app, announcing(app) as (announcer, chat):
        chat._hangs = True
        await announcer.begin("1", "auto", 0)
        await announcer.stop("stops")
        assert announcer._tasks == set()
