"""PagerDuty's own incident by REST: notes, levels, who has it, and whatever goes wrong."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from responder.contracts import Message, PagerState
from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.notifiers.pagerduty import PagerDuty, marker
from responder.pagerduty_rest import Found
from tests.contract.pager_parts import OLDER, PAGE, page, paging, saying
from tests.contract.told_messages import secret
from tests.fakes.pagerduty import INTEGRATION, Page, person

# --- notes ------------------------------------------------------------------------------------------------------------


async def test_a_note_is_left_once_however_often_it_is_sent() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        first, second = saying(pager, "note"), saying(pager, "note", "it is over", id="other")
        second = replace(second, event=second.event and second.event.model_copy(update={"seq": 10}))
        for given in (first, first, second, replace(first, attempt=3)):
            await pager.send(given)
        assert server.page(PAGE).notes == ["asha has it: looking (responder i1:9)", "it is over (responder i1:10)"]
        assert marker(first) == "(responder i1:9)"


async def test_a_note_that_may_have_arrived_is_looked_for() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        server.fail(503, path="/notes", after=1)
        with pytest.raises(Unknown, match="503"):
            await pager.send(saying(pager, "note"))
        server.page(PAGE).notes.append(f"asha has it: looking {marker(saying(pager, 'note'))}\n")
        await pager.send(saying(pager, "note", attempt=2))
        assert len(server.page(PAGE).notes) == 1


async def test_a_note_goes_to_the_page_that_is_open() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager, key=OLDER))
        await pager.send(page(pager))
        await pager.send(saying(pager, "resolve", key=OLDER))
        await pager.send(saying(pager, "note", key=OLDER))
        assert [len(one.notes) for one in server.pages] == [0, 1]
        await pager.send(saying(pager, "resolve"))
        await pager.send(saying(pager, "note", "it is over", attempt=2, id="other", event=None))
        assert [len(one.notes) for one in server.pages] == [0, 2], "of those that are over, the latest"


async def test_a_note_waits_for_its_incident_and_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with paging() as (server, pager):
        server.unseen = 1
        await pager.send(page(pager))
        with pytest.raises(Temporary, match=r"no incident of responder/main/i1/desk/l0.0 to note on yet"):
            await pager.send(saying(pager, "note"))
        await pager.send(saying(pager, "note", attempt=2))
        assert len(server.page(PAGE).notes) == 1
        await pager.send(saying(pager, "note", key="responder/main/i1/other/l0.0", attempt=6))
    assert "is left out: PagerDuty has no incident of responder/main/i1/other/l0.0" in caplog.text


# --- levels -----------------------------------------------------------------------------------------------------------


def move(pager: PagerDuty, attempt: int = 1) -> Message:
    return saying(pager, "move", level="PRISK", attempt=attempt)


async def test_the_incident_of_a_level_is_moved_to_its_escalation_policy_once_it_is_there() -> None:
    async with paging() as (server, pager):
        server.unseen = 1
        await pager.send(page(pager, level="PRISK"))
        assert server.calls == [], "a page waits for nothing"
        with pytest.raises(Temporary, match=r"no incident of responder/main/i1/desk/l0.0 to move yet"):
            await pager.send(move(pager))
        await pager.send(move(pager, 2))
        assert server.page(PAGE).policy == "PRISK"
        await pager.send(move(pager, 3))
        assert server.calls.count(f"PUT /incidents/{server.page(PAGE).id}") == 1, "it is there already"


async def test_a_page_that_somebody_has_is_not_moved() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        server.acknowledge(server.page(PAGE))
        await pager.send(move(pager))
        assert server.page(PAGE).policy == "PDEFAULT"


@pytest.mark.parametrize("trouble", ["unseen", "down", "lost"])
async def test_a_move_is_tried_again_and_then_a_persons_to_do(trouble: str) -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        for attempt in (1, 2, 7, 8):
            server.page(PAGE).unseen = 1 if trouble == "unseen" else 0
            if trouble == "down":
                server.fail(503, path="/incidents", Retry_After="60")
            if trouble == "lost":
                server.fail(503, path=server.page(PAGE).id)
            expected, said = (ResponderError, None) if attempt < 8 else (Permanent, "PRISK, move it by hand: ")
            with pytest.raises(expected, match=said) as raised:
                await pager.send(move(pager, attempt))
            assert isinstance(raised.value, Permanent) is (attempt == 8)
            assert getattr(raised.value, "retry_after", None) is None, "its pages would wait"
        await pager.send(move(pager, 8))
        assert server.page(PAGE).policy == "PRISK"


async def test_a_move_that_is_refused_is_a_persons_at_once() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        server.fail(403, path="/incidents")
        with pytest.raises(Permanent, match=r"not at the escalation policy PRISK, move it by hand: .*403"):
            await pager.send(move(pager))


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_it_can_be_asked_who_has_it() -> None:
    async with paging() as (server, pager):
        seen = [await pager.asked(PAGE)]
        await pager.send(page(pager))
        seen.append(await pager.asked(PAGE))
        server.acknowledge(server.page(PAGE))
        seen.append(await pager.asked(PAGE))
        server.resolve(server.page(PAGE), "Bo Lind")
        seen.append(await pager.asked(PAGE))
        assert seen == [
            None,
            PagerState("triggered"),
            PagerState("acknowledged", "Asha Rao"),
            PagerState("resolved", "Bo Lind"),
        ]
        assert pager.answers


async def test_our_own_word_is_nobodys_answer() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        await pager.send(saying(pager, "acknowledge"))
        assert server.page(PAGE).status == "acknowledged"
        assert await pager.asked(PAGE) == PagerState("triggered")
        await pager.send(saying(pager, "resolve"))
        assert await pager.asked(PAGE) is None


async def test_of_several_incidents_of_one_key_the_open_one_counts() -> None:
    async with paging() as (server, pager):
        server.pages += [
            Page(PAGE, id="Q1", open=False, changed_by=person()),
            Page(PAGE, id="Q2", acknowledged=[person("Bo")]),
            Page(PAGE, id="Q3", open=False, changed_by=INTEGRATION),
        ]
        assert await pager.asked(PAGE) == PagerState("acknowledged", "Bo")


async def test_without_a_token_nobody_can_be_asked() -> None:
    async with paging(rest=False) as (server, pager):
        assert (pager.answers, await pager.asked(PAGE), await pager.keys_of("Q1"), server.calls) == (
            False,
            None,
            (),
            [],
        )


async def test_the_keys_of_an_incident_are_those_of_its_alerts() -> None:
    async with paging() as (server, pager):
        await pager.send(page(pager))
        assert await pager.keys_of(server.page(PAGE).id) == (PAGE,)
        assert await pager.keys_of("QNOTHING") == ()
        asked = len(server.calls)
        assert [await pager.keys_of(bad) for bad in ("", "../users", "a/b", "Q?x", "Q" * 99)] == [()] * 5
        assert len(server.calls) == asked


@pytest.mark.parametrize(
    "found",
    [Found("Q1", "acknowledged", "", "P"), Found("Q1", "triggered", "", "P")],
)
def test_an_open_incident_that_nobody_has_is_triggered(found: Found) -> None:
    assert found.state == PagerState("triggered")


# --- what an answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "expected", "said", "wait"),
    [
        (400, {}, Permanent, "check `from_email`", None),
        (401, {}, Permanent, "env THE_SECRET holds a REST API key", None),
        (403, {}, Permanent, "the right to write", None),
        (404, {}, Permanent, "check api_url", None),
        (301, {"Location": "https://elsewhere.example/"}, Permanent, "redirects are not followed", None),
        (429, {"Retry_After": "7"}, Temporary, "429: not now, why", 7),
        (429, {"ratelimit_reset": "41"}, Temporary, "429", 41),
        (429, {"ratelimit_reset": "soon"}, Temporary, "429", None),
        (500, {}, Temporary, "500", None),
        (503, {"Retry_After": "7"}, Temporary, "503", 7),
    ],
)
async def test_an_answer_of_rest_says_whether_to_ask_again(
    status: int, headers: dict[str, Any], expected: type[Exception], said: str, wait: float | None
) -> None:
    async with paging() as (server, pager):
        server.fail(status, **headers)
        with pytest.raises(expected, match=said) as raised:
            await pager.asked(PAGE)
        assert getattr(raised.value, "retry_after", None) == wait
        assert len(server.calls) == 1, "nothing is tried twice"


async def test_rest_counts_its_calls_and_says_when_to_go_on() -> None:
    async with paging() as (server, pager):
        server.limits(lambda: 0.0)
        server._called.extend([0.0] * 959)
        assert await pager.asked(PAGE) is None
        with pytest.raises(Temporary, match="429: Rate Limit Exceeded") as raised:
            await pager.asked(PAGE)
        assert raised.value.retry_after == 60


async def test_an_account_wants_to_know_in_whose_name(caplog: pytest.LogCaptureFixture) -> None:
    async with paging(from_email=None) as (server, pager):
        await pager.start()
        await pager.send(page(pager))
        with pytest.raises(Permanent, match=r"Requester User Not Found.*needs `from_email`"):
            await pager.send(saying(pager, "note"))
        server.account_key = False
        await pager.send(saying(pager, "note"))
        assert len(server.page(PAGE).notes) == 1
    assert "without `from_email`" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'{"incidents": {}}', b'{"incidents": [1, {"id": "../x", "status": "triggered"}]}',
        b'{"incidents": [{"id": "Q1", "status": "merged"}]}', b"[" * 5_000,
    ],
)  # fmt: skip
async def test_an_answer_that_does_not_say_it_says_nothing(body: bytes) -> None:
    async with paging() as (server, pager):
        server.answer(body)
        assert await pager.asked(PAGE) is None


async def test_no_failure_shows_a_key_or_token(caplog: pytest.LogCaptureFixture) -> None:
    wrong = "u+wrongwrongwrongwrong"
    with caplog.at_level(logging.DEBUG):
        async with paging(api_token=secret(wrong)) as (server, pager):
            with pytest.raises(Permanent, match="401: Unauthorized") as first:
                await pager.asked(PAGE)
            server.answer(f'{{"error": {{"message": "Token token={wrong} may not; {wrong}"}}}}'.encode(), 403)
            with pytest.raises(Permanent, match="may not") as second:
                await pager.asked(PAGE)
            assert wrong not in repr(pager)
    assert wrong not in str(first.value) + str(second.value) + caplog.text


async def test_an_empty_token_is_named_by_its_place() -> None:
    async with paging(api_token=secret(" \n")) as (server, pager):
        with pytest.raises(Permanent, match="env THE_SECRET is empty"):
            await pager.asked(PAGE)
        assert server.calls == []
