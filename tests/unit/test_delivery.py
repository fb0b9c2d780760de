"""The outbox in virtual time, on a store in memory: order, lanes, retries, dead rows, the last resort."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import JsonValue

from responder import facts as f
from responder.draft import Worker
from responder.engine.delivery import Became
from responder.engine.emergency import AGAIN, Emergency
from responder.errors import Permanent, Temporary, Unknown
from responder.messages import MessageTemplates
from responder.records import Lane, MessageRow, Sending
from responder.telling import root_id
from responder.timing import MINUTE, SECOND
from tests.unit.delivery_parts import (
    CLOSED,
    LEVEL,
    OPENED,
    PROBLEM,
    T0,
    TEMPLATES,
    Bench,
    Choosy,
    Merging,
    Pager,
    Put,
)


async def test_the_thread_waits_for_its_root_and_keeps_its_order() -> None:
    bench = Bench()
    await bench.happens(OPENED, PROBLEM, f.Acknowledged(note="on it"))
    bench.chat._troubles.append(Temporary("not now"))
    await bench.run(10 * SECOND)
    assert bench.chat.sent[0] == "root"
    assert bench.chat.sent[1] == "no runbook matches"
    assert bench.chat.sent[2].startswith("responder has acknowledged: on it.")
    assert [m.previous for m in bench.chat._sent if m.kind == "thread"] == ['{"ts": "1"}'] * 2
    assert {row.state for row in (await bench.rows()).values()} == {Sending.SENT}


async def test_a_page_never_waits_behind_a_chat() -> None:
    bench = Bench()
    bench.chat._gate = asyncio.Event()
    await bench.happens(OPENED, LEVEL)
    await bench.begun(lambda: bench.pager.sent == ["page"])
    assert bench.delivery.busy
    assert bench.chat.sent == []
    bench.chat._gate.set()
    await bench.run(5 * SECOND)
    assert "root" in bench.chat.sent
    assert "page_accepted" in await bench.kinds()


async def test_a_page_says_why_under_the_incidents_key() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    [page] = bench.pager._sent
    assert page.key == "responder/main/i1/pager/l0.0"
    assert page.text == "[critical] VaR above its limit: risk-api/kelly_fraction. Nothing was done."
    accepted = [e.fact for e in await bench.store.events("i1") if isinstance(e.fact, f.PageAccepted)]
    assert accepted == [f.PageAccepted(destination="pager", why="nobody has it", key="responder/main/i1/pager/l0.0")]


@pytest.mark.parametrize("trouble", [Temporary("503"), Unknown("no answer"), ValueError("a mistake of the notifier")])
async def test_a_page_is_tried_for_ever_with_growing_waits(trouble: Exception) -> None:
    bench = Bench()
    bench.pager._troubles.extend([trouble] * 15)
    await bench.happens(OPENED, LEVEL)
    await bench.run(30 * SECOND)
    assert bench.pager._tried == 5  # at 0, 1, 3, 7 and 15 s
    await bench.run(15 * MINUTE)
    assert bench.pager.sent == ["page"]


async def test_a_destination_that_asks_to_wait_is_left_alone() -> None:
    bench = Bench()
    bench.pager._troubles.append(Temporary("slow down", retry_after=40))
    await bench.happens(OPENED, LEVEL)
    await bench.run(SECOND)
    another = MessageRow("m2", "i1", 0, Lane.PAGE, "pager", "page", "another key", created_at=T0, next_at=T0)
    await bench.store.submit(Put(bench.new_id(), another))
    await bench.run(38 * SECOND)
    assert bench.pager._tried == 1
    await bench.run(5 * SECOND)
    assert bench.pager.sent == ["page", "page"]
    assert bench.last.sent == []


async def test_a_page_that_nobody_takes_within_a_minute_goes_to_the_next_channel_once() -> None:
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 12)
    await bench.happens(OPENED, LEVEL)
    await bench.run(20 * SECOND)
    assert bench.last.sent == []
    await bench.run(10 * MINUTE)
    assert bench.last.sent == ["page"]
    assert bench.pager.sent == ["page"]


async def test_a_refused_page_is_dead_and_told_elsewhere() -> None:
    bench = Bench()
    bench.pager._troubles.append(Permanent("the routing key is unknown"))
    await bench.happens(OPENED, LEVEL)
    await bench.run(20 * SECOND)
    assert bench.pager._tried == 1
    assert bench.last.sent == ["page"]
    assert "pager refuses pages of this incident: the routing key is unknown" in bench.chat.sent
    pages = [r for r in (await bench.rows()).values() if r.lane is Lane.PAGE]
    assert [r.state for r in pages] == [Sending.DEAD, Sending.SENT]


async def test_a_chat_that_refuses_its_root_loses_its_lines_quietly_and_is_reported_once() -> None:
    bench = Bench()
    bench.chat._troubles.extend([Permanent("channel_not_found")] * 20)
    await bench.happens(OPENED, PROBLEM)
    await bench.run(20 * SECOND)
    await bench.happens(f.Acknowledged())
    await bench.run(20 * SECOND)
    assert bench.chat._tried == 2  # the root, once for each time that something happened
    assert (await bench.kinds()).count("message_dead") == 1
    assert {r.state for r in (await bench.rows()).values()} == {Sending.DEAD}


async def test_a_chat_that_is_mended_goes_on() -> None:
    bench = Bench()
    bench.chat._troubles.append(Permanent("channel_not_found"))
    await bench.happens(OPENED)
    await bench.run(5 * SECOND)
    await bench.happens(PROBLEM)
    await bench.run(5 * SECOND)
    assert bench.chat.sent == ["root", "no runbook matches"]


async def test_a_trigger_never_follows_a_resolve() -> None:
    bench = Bench()
    bench.pager._troubles.append(Temporary("503"))
    await bench.happens(OPENED, LEVEL)
    await bench.run(0)
    await bench.happens(CLOSED)
    await bench.run(MINUTE)
    assert bench.pager.sent == ["resolve"]
    assert bench.pager._sent[0].resolves
    assert Became.DROPPED in bench.became


async def test_a_root_that_was_renewed_while_it_was_sent_is_sent_again() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    bench.chat._gate = asyncio.Event()
    await bench.begun(lambda: bench.chat._tried == 1)
    await bench.happens(f.SeverityRose(before="warning", severity="high", policy="p"))  # at the same microsecond
    bench.chat._gate.set()
    await bench.run(5 * SECOND)
    roots = [m for m in bench.chat._sent if m.kind == "root"]
    assert [m.incident.severity for m in roots] == ["critical", "high"]
    assert roots[1].previous == '{"ts": "1"}'
    assert (await bench.rows())[root_id("i1", "chat")].state is Sending.SENT


async def test_root_updates_are_debounced_except_the_last() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    await bench.run(SECOND)
    await bench.happens(f.Verifying(run=1))
    await bench.run(SECOND)
    assert bench.chat.sent == ["root"]
    await bench.run(SECOND)
    assert bench.chat.sent == ["root", "root"]
    await bench.happens(CLOSED)
    await bench.run(0)
    assert bench.chat.sent[2] == "root"


async def test_a_channel_gets_a_burst_and_then_a_message_a_second() -> None:
    bench = Bench()
    await bench.happens(OPENED, *(f.ProblemFound(problem=f"p{n}", urgent=False) for n in range(6)))
    await bench.run(0)
    assert len(bench.chat.sent) == 3
    await bench.run(2 * SECOND)
    assert bench.chat.sent == ["root", "p0", "p1", "p2", "p3"]
    await bench.run(10 * SECOND)
    assert bench.chat.sent[1:] == [f"p{n}" for n in range(6)]


async def test_what_is_passed_over_takes_no_turn() -> None:
    bench = Bench(chat=Choosy())
    problems = [f"p{n}" for n in range(6)]
    await bench.happens(OPENED, *(f.ProblemFound(problem=problem, urgent=False) for problem in problems))
    await bench.run(0)
    assert bench.chat.sent == ["root"]
    assert bench.became.count(Became.DROPPED) == 6, "what is passed over is done, and asks nobody"
    await bench.happens(*(f.Acknowledged(note=f"a{n}") for n in range(4)))
    await bench.run(0)
    assert len(bench.chat.sent[1:]) == 2, "the root took one of three turns, the others are left for what is sent"


async def test_many_lines_that_wait_leave_as_one_message() -> None:
    bench = Bench(chat=Merging())
    await bench.happens(OPENED, *(f.ProblemFound(problem=f"p{n}", urgent=False) for n in range(6)))
    await bench.run(0)
    assert bench.chat.sent == ["root", "\n".join(f"p{n}" for n in range(6))]
    [_, merged] = bench.chat._sent
    assert [line.sentence for line in merged.lines] == [f"p{n}" for n in range(6)]
    assert {row.state for row in (await bench.rows()).values()} == {Sending.SENT}
    await bench.happens(*(f.ProblemFound(problem=f"q{n}", urgent=False) for n in range(2)))
    await bench.run(10 * SECOND)
    assert sorted(bench.chat.sent[2:]) == ["q0", "q1", "root"], "one or two keep their own"


async def test_after_an_outage_the_latest_page_tells_for_those_before_it() -> None:
    bench = Bench()
    bench.pager._troubles.extend([Temporary("503")] * 16)
    await bench.happens(OPENED, LEVEL)
    await bench.run(3 * MINUTE)
    await bench.happens(f.LevelReached(round=0, index=1, name="L2", page=("pager",), why="not fixed"))
    await bench.run(10 * MINUTE)
    assert [(m.kind, m.key[-4:]) for m in bench.pager._sent] == [("page", "l0.1"), ("resolve", "l0.0")]
    states = {m.order_key[-4:]: m.state for m in await bench.store.messages_of("i1") if m.template == "page"}
    assert states["l0.0"] is Sending.DROPPED


async def test_a_broken_template_costs_the_form_not_the_message() -> None:
    broken = {"story/problem_found.txt.j2": "{{ no_such }}", "text/root.txt.j2": "{{ no_such }}"}
    bench = Bench(templates=MessageTemplates([broken]))
    await bench.happens(OPENED, PROBLEM)
    await bench.run(5 * SECOND)
    assert bench.chat.sent == ["root", "problem found: problem no runbook matches"]
    assert bench.chat._sent[0].text.startswith("[critical] VaR above its limit: risk-api/kelly_fraction is open")
    assert bench.became.count(Became.PLAIN) == 2


async def test_a_replay_is_told_only_where_nobody_is_reached() -> None:
    bench = Bench()
    await bench.happens(OPENED.model_copy(update={"namespace": "replay-1"}))
    for name in ("pager", "last"):
        row = MessageRow(name, "i1", 0, Lane.PAGE, name, "page", name, created_at=T0, next_at=T0)
        await bench.store.submit(Put(bench.new_id(), row))
    await bench.run(SECOND)
    assert (bench.pager.sent, bench.last.sent) == ([], ["page"])


async def test_a_destination_without_a_notifier_blocks_nobody() -> None:
    bench = Bench()
    await bench.happens(OPENED, LEVEL.model_copy(update={"page": ("gone", "pager")}))
    await bench.run(10 * SECOND)
    assert bench.pager.sent == ["page"]
    assert bench.last.sent == ["page"]
    assert any("no notifier is called gone" in said for said in bench.chat.sent)


async def test_one_replica_sends_for_all_and_another_goes_on_when_it_is_gone() -> None:
    bench = Bench()
    first, second = (bench.another(bench.another_desk(Worker(name))) for name in ("a", "b"))
    assert await first.work(bench.now) is not None
    await bench.happens(OPENED)
    await second.work(bench.now)
    assert second.busy == 0
    bench.now += 11 * SECOND
    await second.work(bench.now)
    await second.idle(None)
    assert bench.chat.sent == ["root"]


async def test_nothing_new_is_begun_after_a_stop() -> None:
    bench = Bench()
    await bench.happens(OPENED)
    await bench.delivery.stop(0)
    assert await bench.delivery.work(bench.now) is None
    assert bench.chat.sent == []


async def test_the_emergency_page_is_sent_once_an_outage_and_resolved() -> None:
    now = T0
    pager = Pager()
    pager._troubles.append(Temporary("503"))
    emergency = Emergency("main", {"pager": pager}, lambda: now)
    await emergency.store_down("disk full")
    await emergency.store_down("disk full")
    assert pager._tried == 1
    now += AGAIN
    await emergency.store_down("disk full")
    now += AGAIN
    await emergency.store_down("disk full")
    [page] = pager._sent
    assert page.key == "responder/main/store-down"
    assert page.text == "Responder main cannot record anything, so it acts on no alert: disk full"
    await emergency.store_back()
    await emergency.store_back()
    assert pager.sent == ["page", "resolve"]
    assert not emergency.pending


def test_messages_carry_no_body_unless_the_notifier_makes_one() -> None:
    body: JsonValue = Pager().compose("page", {}, TEMPLATES.render)
    assert body is None
