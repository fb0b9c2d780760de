"""Stand-ins for services: values that changes move, attempts as written, answers in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from responder.answers import CheckAnswer, Cue, Fate, Outage, Phase, Script, StepAnswer
from responder.contracts import Parameter, ReadSpec, WriteSpec
from responder.errors import Permanent, Temporary, Unknown
from responder.http_calls import HttpCall
from responder.simulated_services import Attempt, NotSimulated, Prompter, SimulatedServices, nowhere
from responder.timing import SECOND

WRITE = WriteSpec(path="/set", body={"to": "{{ value }}"})


def a_parameter(service: str, value: str, path: str = "/status") -> Parameter:
    return Parameter(service=service, read=ReadSpec(path=path, value=value), write=WRITE, floor=0, total_per_day=1)


PARAMETERS = {
    "api/one": a_parameter("api", "limits.one"),
    "api/two": a_parameter("api", "limits.two"),
    "other/one": a_parameter("other", "one"),
}


class Waited:
    """Remembers for how long somebody slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_page_shows_every_parameter_that_is_read_there() -> None:
    services = SimulatedServices(PARAMETERS, {"api/one": 1.0, "api/two": 2.0, "other/one": 3.0}, Waited())
    answer = done(services.connect("api").send(HttpCall("GET", "/status"), 1.0))
    assert (answer.status, answer.body) == (200, {"limits": {"one": 1.0, "two": 2.0}})


def test_a_page_without_a_parameter_has_no_stand_in() -> None:
    services = SimulatedServices(PARAMETERS, {"api/one": 1.0}, Waited())
    with pytest.raises(NotSimulated, match="api: GET /other is not asked in a simulation"):
        done(services.connect("api").send(HttpCall("GET", "/other"), 1.0))
    with pytest.raises(NotSimulated, match="service api is not asked"):
        nowhere("api")


def test_a_change_moves_the_value_by_its_key() -> None:
    services = SimulatedServices(PARAMETERS, {"api/one": 1.0}, Waited())
    services.attempts["k"] = Attempt(StepAnswer(ok=True), assumed=False, change=services.setter("api/one", 0.5))
    done(services.connect("api").send(HttpCall("POST", "/set", json={"to": 0.5}, key="k"), 1.0))
    assert services.values == {"api/one": 0.5}


# --- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "raises", "happens", "fate"),
    [
        (StepAnswer(ok=True), None, True, Fate.APPLIED),
        (StepAnswer(temporary="down"), Temporary, False, Fate.NOT_APPLIED),
        (StepAnswer(refused="422"), Permanent, False, Fate.NOT_APPLIED),
        (StepAnswer(lost=Fate.APPLIED), Unknown, True, Fate.APPLIED),
        (StepAnswer(lost=Fate.NOT_APPLIED), Unknown, False, Fate.NOT_APPLIED),
        (StepAnswer(lost=Fate.UNCLEAR), Unknown, False, Fate.UNCLEAR),
    ],
)
def test_an_attempt_goes_as_it_is_written(
    said: StepAnswer, raises: type[Exception] | None, happens: bool, fate: Fate
) -> None:
    changes: list[str] = []
    attempt = Attempt(said, assumed=False, change=lambda: changes.append("done"))
    assert raised(lambda: attempt.made(Waited(), reads=False)) is raises
    assert (attempt.happened, changes, attempt.fate) == (happens, ["done"] * happens, fate)


def raised(work: Callable[[], Coroutine[Any, Any, None]]) -> type[Exception] | None:
    try:
        done(work())
    except Exception as error:  # noqa: BLE001
        return type(error)
    return None


def test_a_reading_changes_nothing_and_a_lost_one_may_be_tried_again() -> None:
    attempt = Attempt(StepAnswer(lost=Fate.APPLIED), assumed=False, change=lambda: pytest.fail("it changed something"))
    assert raised(lambda: attempt.made(Waited(), reads=True)) is Temporary


def test_the_change_comes_before_the_delay() -> None:
    order: list[Any] = []

    async def sleep(seconds: float) -> None:
        order.append(seconds)

    attempt = Attempt(StepAnswer(ok=True, delay="3s"), assumed=False, change=lambda: order.append("change"))
    done(attempt.made(sleep, reads=False))
    assert order == ["change", 3.0]


# --- written answers --------------------------------------------------------------------------------------------------


def cues(*values: int, begins: int = 0, name: str = "risk") -> Phase[CheckAnswer]:
    found = [Cue(CheckAnswer(value=v), f"a.yaml:{v}", name, n + 1) for n, v in enumerate(values)]
    return Phase(begins, tuple(found))


def asked(prompter: Prompter, offset: int = 0, incident: str = "i1", runbook: str = "cut") -> Any:
    cue = prompter.check(incident, runbook, "risk", offset)
    return None if cue is None else cue.answer.value


def test_answers_come_in_order_and_the_last_one_stays() -> None:
    prompter = Prompter(Script(checks={"risk": (cues(1, 2),)}))
    assert [asked(prompter) for _ in range(4)] == [1, 2, 2, 2]


def test_every_incident_hears_the_sequence_from_its_beginning() -> None:
    prompter = Prompter(Script(checks={"risk": (cues(1, 2),)}))
    assert [asked(prompter, incident=i) for i in ("i1", "i1", "i2", "i1")] == [1, 2, 1, 2]


def test_a_later_phase_takes_over_and_nothing_is_said_before_the_first() -> None:
    prompter = Prompter(Script(checks={"risk": (cues(1, 2, begins=10), cues(3, begins=20))}))
    assert [asked(prompter, offset) for offset in (0, 10, 20, 20)] == [None, 1, 3, 3]


def test_the_answers_of_one_runbook_come_first() -> None:
    prompter = Prompter(Script(checks={"risk": (cues(1),), "cut.risk": (cues(2),)}))
    assert [asked(prompter, runbook=r) for r in ("cut", "other")] == [2, 1]


def test_what_nobody_asked_for_is_known() -> None:
    prompter = Prompter(Script(checks={"risk": (cues(1, 2, 3),)}))
    asked(prompter)
    assert [cue.number for cue in prompter.unasked()] == [2, 3]


def test_a_service_is_down_while_it_is() -> None:
    outage = Outage.model_validate({"down": "refused", "from": "1s", "until": "2s"})
    prompter = Prompter(Script(services={"api": (outage,)}))
    said = [prompter.down("api", offset) for offset in (0, SECOND, 2 * SECOND)]
    assert said == [None, "api: refused", None]
    assert prompter.down("other", SECOND) is None
