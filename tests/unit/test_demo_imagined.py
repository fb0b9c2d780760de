"""The imagined people of the demo: what they answer, when, with whose credential, and that they answer once."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from responder.demo.imagined import ON_CALL, RISK_MANAGER, THINKS, Imagined, wishes_reload
from responder.demo.observer import Seen
from responder.errors import Permanent


def seen(*incidents: dict[str, Any]) -> Seen:
    return Seen(0.25, 1.2, 1.8, trading=True, calls=(), incidents=incidents, messages_wait=False)


APPROVAL = {"id": "a1", "approval": {"step": "reset", "plan": "d1g"}, "runs": []}
MANUAL = {
    "id": "b2",
    "approval": None,
    "runs": [{"number": 1, "steps": [{"id": "cause", "status": "done"}, {"id": "restart", "status": "asked"}]}],
}


class Server:
    """The responder's API as the people reach it; it answers what the test says and keeps what it was sent."""

    def __init__(self, status: int = 200, **answers: Any) -> None:
        self.status, self.answers = status, answers
        self.sent: list[tuple[str, str, Any]] = []

    def client(self, who: str) -> httpx.AsyncClient:
        def answer(request: httpx.Request) -> httpx.Response:
            self.sent.append((who, request.url.path, json.loads(request.content)))
            return httpx.Response(self.status, json=self.answers.get(request.url.path.rpartition("/")[2], {}))

        return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://responder")

    def people(self, said: list[str]) -> Imagined:
        return Imagined({who: self.client(who) for who in (ON_CALL, RISK_MANAGER)}, said.append)


async def test_each_question_is_answered_once_after_a_while_by_whose_it_is() -> None:
    server, said = Server(), list[str]()
    people = server.people(said)
    everything = seen(APPROVAL, MANUAL)
    assert await people.answer(everything, 100.0) == []
    assert await people.answer(everything, 100.0 + THINKS - 0.1) == []
    given = await people.answer(everything, 100.0 + THINKS)
    assert [(one.who, one.verb, one.step) for one in given] == [
        (RISK_MANAGER, "approve", "reset"),
        (ON_CALL, "done", "restart"),
    ]
    assert await people.answer(everything, 200.0) == []
    assert [(who, path) for who, path, _ in server.sent] == [
        (RISK_MANAGER, "/api/v1/incidents/a1/approve"),
        (ON_CALL, "/api/v1/incidents/b2/done"),
    ]
    assert server.sent[0][2]["plan"] == "d1g"
    assert [line.partition(":")[0] for line in said] == [RISK_MANAGER, ON_CALL]


async def test_what_is_asked_anew_is_a_question_of_its_own() -> None:
    server = Server()
    people = server.people([])
    for plan in ("one", "two"):
        asked = seen({**APPROVAL, "approval": {"step": "reset", "plan": plan}})
        await people.answer(asked, 0.0)
        await people.answer(asked, THINKS)
    assert [body["plan"] for _, _, body in server.sent] == ["one", "two"]


async def test_nothing_is_said_where_nothing_is_asked() -> None:
    server = Server()
    people = server.people([])
    quiet = seen({"id": "c3", "approval": None, "runs": [{"number": 1, "steps": [{"id": "x", "status": "done"}]}]})
    await people.answer(quiet, 0.0)
    await people.answer(quiet, 100.0)
    assert server.sent == []


async def test_an_answer_that_is_refused_ends_the_demo() -> None:
    people = Server(status=403).people([])
    await people.answer(seen(APPROVAL), 0.0)
    with pytest.raises(Permanent, match=r"imagined-risk-manager could not approve reset \(403\)"):
        await people.answer(seen(APPROVAL), THINKS)


async def test_a_reload_is_asked_for_and_tried_with_the_plan_that_was_shown() -> None:
    verdicts = [{"answer": "allow", "reason": "on"}, {"answer": "deny", "reason": "value 1.65 <= 1.5 is false"}]
    server = Server(plan={"plan": "d1g", "goes_ahead": False, "verdicts": verdicts})
    wished = await wishes_reload(server.client(ON_CALL), 1.65, tries=True)
    assert (wished.goes_ahead, wished.refused, wished.status) == (False, ("value 1.65 <= 1.5 is false",), 200)
    assert [path for _, path, _ in server.sent] == [f"/api/v1/runbooks/hot-reload/{verb}" for verb in ("plan", "run")]
    assert server.sent[1][2]["plan"] == "d1g"
    only = await wishes_reload(server.client(ON_CALL), 1.2, tries=False)
    assert (only.status, len(server.sent)) == (None, 3)
    with pytest.raises(Permanent, match="the plan of hot-reload is refused"):
        await wishes_reload(Server(status=404).client(ON_CALL), 1.2, tries=False)
