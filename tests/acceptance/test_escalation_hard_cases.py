"""Cases that a strict review of the escalation found, each once wrong."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from responder import facts as f
from responder.choices import choices, find_choice
from responder.contracts import Message, PagerState
from responder.desk import Desk
from responder.draft import Draft, Worker
from responder.errors import Permanent, Rejected, Unknown
from responder.operations import Tick
from responder.recorded import Result
from responder.records import State
from responder.simulate import sleep
from responder.timing import HOUR, MINUTE, SECOND
from tests.acceptance.escalation_parts import NO_RUN, STORM, approving
from tests.acceptance.stage import RISK, Stage, alert, halting, own, playing, risky
from tests.builders import a_runbook, call_step
from tests.unit.delivery_parts import CLOSED, LEVEL, OPENED, PROBLEM, Bench, Merging

WARNING = {**RISK, "severity": "warning"}
CRITICAL = {**RISK, "severity": "critical", "instance": "b"}


class Pagers:
    """PagerDuty's own view: a page triggers, our acknowledge event or a person acknowledges, a resolve ends."""

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.people: dict[str, str] = {}
        self.asked: list[str] = []

    def __call__(self, name: str, key: str) -> PagerState | None:
        self.asked.append(key)
        assert self.stage is not None
        status = ""
        for sent in self.stage.sent:
            m = sent.message
            if sent.destination != name:
                continue
            if m.kind == "page" and m.key == key:
                status = "triggered"
            elif m.kind in ("acknowledge", "resolve") and m.key == key:
                status = f"{m.kind}d"
        if status == "triggered" and key in self.people:
            return PagerState("acknowledged", self.people[key])
        return PagerState(status, "") if status else None


# --- asking the pagers ------------------------------------------------------------------------------------------------


def test_a_rise_pages_though_the_old_page_was_acknowledged_at_the_pager() -> None:
    pagers = Pagers()
    with playing(own(NO_RUN), says=pagers) as stage:
        pagers.stage = stage
        stage.fires(WARNING)
        stage.at("3:00")
        stage.person("ack")
        stage.at("10:00")
        stage.fires(CRITICAL)
        stage.at("13:00")
        assert stage.pages == [("2:00", "first"), ("12:00", "first")]


def test_after_a_snooze_our_own_acknowledge_is_nobodys_answer() -> None:
    pagers = Pagers()
    with playing(own(NO_RUN, acknowledgement=0), says=pagers) as stage:
        pagers.stage = stage
        stage.fires(RISK)
        stage.at("5:00")
        stage.person("snooze", lasts=30 * MINUTE)
        stage.at("5:00:00")
        assert stage.pages == [("2:00", "first"), ("45:00", "second")]


def test_a_relapse_pages_though_the_old_page_was_acknowledged_at_the_pager() -> None:
    pagers = Pagers()
    with playing(own(a_runbook(limits={"cooldown": "2h"}), grace="1m"), says=pagers) as stage:
        pagers.stage = stage
        stage.world.numbers["risk"] = lambda: 2.0
        stage.fires(RISK)
        stage.at("1:30")
        stage.person("ack")
        stage.world.numbers["risk"] = lambda: 0.5
        stage.at("20:00")
        fixed = stage.incident.result
        stage.world.numbers["risk"] = lambda: 2.0
        stage.at("29:00")
        assert fixed is Result.FIXED
        assert len(stage.told("relapsed")) == 1
        assert len(stage.pages) >= 2, "who had it had it until it was fixed"


def test_an_old_acknowledgement_at_another_pager_does_not_answer_for_ever() -> None:
    pagers = Pagers()
    levels = [
        {"name": "L1", "after": 0, "page": "first"},
        {"name": "L2", "after": "15m", "page": "second"},
        {"name": "L3", "after": "30m", "page": "boss"},
    ]
    with playing(own(NO_RUN, levels=levels), says=pagers) as stage:
        pagers.stage = stage
        stage.fires(RISK)
        stage.at("16:00")
        stage.person("ack")
        stage.at("46:30")
        assert stage.pages[-1] == ("46:00", "second"), "the acknowledgement ran out"
        stage.at("1:01:00")
        assert stage.pages[-1] == ("1:00:00", "boss"), "nobody has answered since"


def test_a_slow_check_delays_no_level() -> None:
    slow = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "timeout": "5m"}}
    verify = {"check": "risk", "expect": "value < 1", "within": "30m"}
    with playing(own(a_runbook(checks=slow, steps=[call_step()], verify=verify)), says=lambda n, k: None) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("14:00")
        stage.world.thinks = 200.0
        stage.at("15:10")
        assert [to for _, to in stage.pages] == ["first", "second"]


@pytest.mark.parametrize("asks", [False, True])
def test_a_dead_owner_of_a_long_step_delays_no_level(asks: bool) -> None:
    levels = [{"name": "L1", "after": 0, "page": "first"}, {"name": "L2", "after": "3m", "page": "second"}]
    rules = own(a_runbook(steps=[call_step(timeout="20m")], verify=None), levels=levels, grace=0)
    with playing(rules, says=(lambda n, k: None) if asks else None) as stage:
        stage.world.slow = 1000.0
        stage.fires(RISK)
        stage.at("2:30")
        shelf = stage._alive.desk.shelf
        stage.stop()
        stage._run(sleep(300))
        other = Worker("other")  # another replica; the lease of the dead one goes on until the step's deadline

        async def none(_: str) -> None:
            return None

        desk = Desk(stage.store, shelf, other, stage._new_id, none)
        about = stage.incident.id
        turn = stage._run(desk.submit(lambda book: Tick(desk.new_id(), about, book, other)))
        told = [e.fact.kind for e in stage.events(stage.incident)]
        able = turn.next is not None or told.count("level_reached") == 2
        stage.boot()
        assert able, "the second level is overdue by minutes, and whoever is alive must tell it"


# --- the ladder -------------------------------------------------------------------------------------------------------


def test_a_level_that_waits_for_its_hours_holds_up_no_higher_one() -> None:
    """Not played on: at 15:00 the due timer row is looked at again and again, and the engine spins for ever."""
    desk = {"desk": {"days": "mon-fri", "from": "09:00", "to": "13:00", "timezone": "UTC"}}
    levels = [
        {"name": "L1", "after": 0, "page": "first", "during": "desk"},
        {"name": "L2", "after": "15m", "page": "second"},
    ]
    with playing(own(NO_RUN, calendars=desk, levels=levels)) as stage:
        stage.fires(RISK)
        stage.at("14:58")
        book = stage._alive.desk.shelf
        about = stage.incident.id
        row = stage._run(stage.store.incident(about))
        later = State(now=stage.clock() + 10 * MINUTE, incidents={about: row})
        draft = Draft("x", later, book, Worker("w", alone=True))
        turn = draft.advance(about)
        assert list(turn.incident.levels_reached) == ["0:1"]


def test_who_acknowledges_what_climbs_no_ladder_is_not_paged_for_it() -> None:
    with playing(own(NO_RUN, chat_only=["warning"])) as stage:
        stage.fires(WARNING)
        stage.at("5:00")
        stage.person("ack")
        stage.at("2:00:00")
        assert stage.pages == []


def test_an_acknowledgement_that_runs_out_pages_once() -> None:
    levels = [{"name": "L1", "after": 0, "page": "first"}]
    with playing(own(NO_RUN, levels=levels, repeat={"every": "30m", "times": 3})) as stage:
        stage.fires(RISK)
        stage.at("5:00")
        stage.person("ack")
        stage.at("36:00")
        assert stage.pages == [("2:00", "first"), ("35:00", "first")]


def test_a_snooze_keeps_what_was_left_until_the_ladder_begins_again() -> None:
    with playing(own(NO_RUN, repeat={"every": "30m", "times": 3})) as stage:
        stage.fires(RISK)
        stage.at("16:00")
        stage.person("snooze", lasts=HOUR)
        stage.at("1:20:00")
        assert stage.told("ladder_repeated") == [], "29 minutes were left"


def test_where_pagerduty_owns_the_ladder_and_cannot_be_reached_somebody_climbs() -> None:
    with playing(own(NO_RUN, owner="pagerduty")) as stage:
        stage.refuses("first", for_minutes=24 * 60)
        stage.fires(RISK)
        stage.at("2:00:00")
        assert "second" in [to for _, to in stage.pages], "PagerDuty was never told, so nobody climbs there"


def test_harm_wakes_people_though_it_is_snoozed() -> None:
    verify = {"check": "risk", "expect": "value < 1", "within": "2m", "settle": "30s", "harmful": "value > before + 1"}
    with playing(own(a_runbook(steps=[call_step()], verify=verify))) as stage:
        stage.world.numbers["risk"] = lambda: 9.0 if stage.world.changes and stage.offset > 60 * SECOND else 2.0
        stage.fires(RISK)
        stage.at("0:20")
        stage.person("snooze", lasts=4 * HOUR)
        stage.at("5:00")
        assert any(r.result is Result.HARMFUL for r in stage.incident.runs)
        assert [to for _, to in stage.pages] == ["first"], "nobody looks while it is snoozed"


# --- storms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", [False, True])
def test_a_member_of_a_storm_whose_severity_rises_is_heard(ack: bool) -> None:
    rules = own(NO_RUN, storm=STORM, chat_only=[] if ack else ["warning"], acknowledgement=0)
    with playing(rules) as stage:
        for n in range(5):
            stage.fires({**alert(f"Alert{n}"), "severity": "warning"})
        stage.fires(WARNING)
        member = stage.incidents()[-1]
        assert member.storm is not None
        stage.at("3:00")
        if ack:
            stage.person("ack", incident=member.storm)
        before = len(stage.pages)
        stage.at("10:00")
        stage.fires(CRITICAL)
        stage.at("1:00:00")
        pages = [s for s in stage.sent if s.message.kind == "page"][before:]
        about = {s.message.incident.id for s in pages} & {member.id, member.storm}
        assert about, "a rise is heard also after an acknowledgement"


def test_an_acknowledged_member_of_a_storm_wakes_nobody_by_itself() -> None:
    with playing(own(NO_RUN, storm=STORM)) as stage:
        for n in range(8):
            stage.fires(alert(f"Alert{n}"))
        member = stage.incidents()[-1]
        assert member.storm is not None
        stage.at("1:00")
        stage.person("ack", incident=member.id)
        stage.person("takeover", incident=member.storm)
        stage.at("40:00")
        assert member.id not in {s.message.incident.id for s in stage.sent if s.message.kind == "page"}


def test_a_new_outbreak_is_not_swallowed_by_a_storm_that_somebody_had_hours_ago() -> None:
    with playing(own(NO_RUN, storm=STORM)) as stage:
        for n in range(8):
            stage.fires(alert(f"Alert{n}"))
        storm = next(i for i in stage.incidents() if i.target.startswith("storm:"))
        stage.person("takeover", incident=storm.id)
        stage.at("10:00:00")
        before = len(stage.pages)
        for n in range(100, 140):
            stage.fires(alert(f"Alert{n}"))
        stage.at("10:20:00")
        pages = [s for s in stage.sent if s.message.kind == "page"][before:]
        told = {s.message.incident.target for s in pages}
        assert any(target.startswith("storm:") for target in told), f"39 new ones, and only {told} is told"


# --- promises ---------------------------------------------------------------------------------------------------------


def test_a_countdown_that_is_held_while_its_check_is_read_still_comes() -> None:
    first, halt = halting("5m", countdown="1m")
    with playing(own(first, halt)) as stage:
        risky(stage, helps=False)
        stage.world.numbers["h"] = lambda: 1.0
        stage.fires(RISK)
        stage.at("4:50")
        stage.world.thinks = 4.0
        stage.at("5:01")
        stage.person("hold", lasts=5 * MINUTE)
        stage.at("5:10")
        stage.world.thinks = 0.0
        assert stage.world.trading == "running"
        stage.at("10:30")
        assert stage.world.trading == "halted"


# --- approvals --------------------------------------------------------------------------------------------------------


def test_a_yes_without_a_plan_does_not_count_for_another_plan() -> None:
    cut = {"action": "parameter.reduce", "with": {"parameter": "risk-api/kelly_fraction", "to": 0.1, "reason": "x"}}
    with playing(
        own(a_runbook(steps=[{"id": "cut", **cut, "approval": {"role": "risk-manager", "people": 2}}]))
    ) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:30")
        stage.world.kelly = 0.2
        stage.at("1:30")
        stage.approves("rita")
        stage.approves("otto")
        stage.after("1s")
        again = stage.last_run.approval
        assert again is not None
        assert again.why, "another plan is asked"
        with pytest.raises(Rejected):
            stage.person("approve", "rita")  # says nothing about which


def test_what_was_done_before_a_no_is_still_looked_at() -> None:
    steps = [call_step("one", "/api/one"), call_step("two", "/api/two", approval={"role": "risk-manager"})]
    with playing(own(a_runbook(steps=steps))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("0:30")
        assert stage.world.done == ["/api/one"]
        stage.person("deny", "rita", "not now")
        stage.after("5m")
        assert stage.last_run.result is not Result.CANCELLED, "one change was made, and nobody has seen what it did"


def test_a_button_from_before_a_rise_does_not_snooze_what_is_critical_now() -> None:
    with playing(own(NO_RUN)) as stage:
        stage.fires(WARNING)
        stage.at("3:00")
        policy = next(iter(stage.scene.rules.policies.values()))
        old = [c.token for c in choices(stage.incident, policy) if c.verb == "snooze"]
        stage.fires(CRITICAL)
        stage.at("3:01")
        assert stage.incident.severity == "critical"
        assert [find_choice(stage.incident, policy, token) for token in old] == [None] * len(old)


def test_a_button_of_a_question_that_ran_out_does_not_answer_the_next_one() -> None:
    with playing(own(approving())) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.pauses()
        policy = next(iter(stage.scene.rules.policies.values()))
        old = next(c.token for c in choices(stage.incident, policy) if c.verb == "approve")
        stage.approves("rita")
        stage.at("30:00")
        stage.resumes()
        stage.after("1m")
        assert stage.world.done == [], "it was for ten minutes"
        assert len(stage.told("approval_asked")) == 2
        assert find_choice(stage.incident, policy, old) is None


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_a_page_is_not_handed_over_once_somebody_has_it() -> None:
    levels = [{"name": "L1", "after": 0, "page": "first", "fallback": "second"}]
    with playing(own(NO_RUN, levels=levels)) as stage:
        stage.refuses("first", for_minutes=30)
        stage.fires(RISK)
        stage.at("2:10")
        stage.person("ack")
        stage.at("10:00")
        assert stage.pages == [], "somebody has it since 2:10"


def test_a_page_that_was_handed_over_ends_with_its_incident() -> None:
    levels = [{"name": "L1", "after": 0, "page": "first", "fallback": "second"}]
    with playing(own(NO_RUN, levels=levels)) as stage:
        stage.refuses("first", for_minutes=30)
        stage.fires(RISK)
        stage.at("5:00")
        assert [to for _, to in stage.pages] == ["second"]
        key = next(s.message.key for s in stage.sent if s.message.kind == "page")
        stage.resolves(RISK)
        stage.after("1h")
        ended = [(s.destination, s.message.key) for s in stage.sent if s.message.kind == "resolve"]
        assert ("second", key) in ended, "else it rings at the second pager for ever"


def test_a_page_that_was_handed_over_is_acknowledged_where_it_rings() -> None:
    levels = [{"name": "L1", "after": 0, "page": "first", "fallback": "second"}]
    with playing(own(NO_RUN, levels=levels)) as stage:
        stage.refuses("first", for_minutes=30)
        stage.fires(RISK)
        stage.at("5:00")
        stage.person("ack")
        stage.after("1m")
        assert "second" in [s.destination for s in stage.sent if s.message.kind == "acknowledge"]


async def test_a_page_that_is_refused_after_the_end_wakes_nobody() -> None:
    bench = Bench()
    bench.pager._gate = asyncio.Event()
    bench.pager._troubles.append(Permanent("no"))
    await bench.happens(OPENED, LEVEL)
    await bench.begun(lambda: bench.pager._tried == 1)
    bench.now += SECOND
    await bench.happens(CLOSED)
    bench.now += SECOND
    bench.pager._gate.set()
    await bench.run(MINUTE)
    assert bench.last.sent == [], "it is over"


class Finding(Merging):
    """As Slack: the answer is lost after the message stands there; a doubtful one is looked for by its id."""

    merges: ClassVar[bool] = True

    def _stands(self) -> dict[str, str]:
        stands: dict[str, str] = self.__dict__.setdefault("stands", {})
        return stands

    async def send(self, message: Message) -> str:
        stands = self._stands()
        if message.doubtful and message.id in stands:
            return '{"ts": "1"}'
        if message.kind == "thread":
            stands[message.id] = message.text
            if len(stands) == 1:
                raise Unknown("the answer was lost")
        return await super().send(message)


async def test_lines_that_came_after_a_lost_answer_are_told() -> None:
    chat = Finding()
    bench = Bench(chat=chat)
    await bench.happens(OPENED, PROBLEM)
    await bench.run(0)
    await bench.happens(*(f.ProblemFound(problem=f"p{n}", urgent=False) for n in range(6)))
    await bench.run(5 * MINUTE)
    told = "\n".join(chat._stands().values())
    assert [n for n in range(6) if f"p{n}" not in told] == []
