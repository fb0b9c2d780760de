"""A run that acts: the way from one step to the next, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from responder import facts as f
from responder.acting import HELD_BACK, PROBES
from responder.decide import decide
from responder.incident import Incident
from responder.recorded import Cause, Effect, Mode, Observation, Outcome, ProbeAnswer, Result, StepStatus
from responder.scopes import Lock, Pause
from responder.timing import MINUTE, SECOND
from responder.view import Ask, Finish, Gather, Next, Perform, Tell, WaitUntil
from tests.builders import (
    T0,
    a_plan,
    a_runbook,
    a_view,
    cut_step,
    ended,
    fired,
    intended,
    opened,
    rules_of,
    started,
    told,
)

BEGUN = (opened(), fired(), started())
TARGET = "risk-api/kelly_fraction"


def ready(**plan: Any) -> f.Gathered:
    return f.Gathered(run=1, plan=a_plan(**plan), step="cut")


def following(incident: Incident, at: int = 0, scopes: dict[str, str] | None = None, **parts: Any) -> Next:
    return decide(a_view(incident, rules_of(a_runbook(**parts), levels=[]), T0 + at, scopes))


def fact(found: Next) -> Any:
    assert isinstance(found, Tell | Ask | Finish), found
    return found.fact


def test_a_fresh_plan_that_passes_is_performed() -> None:
    found = following(told(*BEGUN, ready()))
    assert isinstance(found, Perform)
    assert [v.gate for v in found.verdicts] == [
        *("pause", "mode", "env", "cooldown", "runs", "ineffective", "lock", "storm", "relapse", "success"),
        *("calendar", "yields_to", "alerts", "only_if", "budget", "changes"),
    ]


def test_an_old_plan_is_made_again() -> None:
    assert isinstance(following(told(*BEGUN, ready()), 30 * SECOND), Perform)
    assert following(told(*BEGUN, ready()), 31 * SECOND) == Gather(
        runbook="cut", rules_hash="h1", run=1, step="cut", alerts=True
    )


def test_after_a_local_refusal_nothing_is_asked() -> None:
    paused = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}
    assert fact(following(told(*BEGUN), scopes=paused)).kind == "waiting"


TO_A_BRAKE = [cut_step(), {**cut_step(id="halt"), "brake": True}]
"""A step, and the brake that it leads to."""


@pytest.mark.parametrize("unknown", [False, True], ids=["held", "unknown"])
def test_what_only_reads_on_the_way_to_a_brake_is_not_held_by_limits(unknown: bool) -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=1, since=T0, unknown=unknown).model_dump_json()}
    begun = told(opened(), fired(), started(steps=("cut", "halt")))
    assert isinstance(following(begun, scopes=held, steps=TO_A_BRAKE), Gather), "it is made ready, to see what it does"
    reading = told(opened(), fired(), started(steps=("cut", "halt")), ready(effect=Effect.READ))
    passed = following(reading, scopes=held, steps=TO_A_BRAKE)
    assert isinstance(passed, Perform)
    (said,) = [v for v in passed.verdicts if v.gate == "lock"]
    assert (said.reason.startswith("reads for a brake"), said.warn) == (True, False), "the brake itself tells people"
    alone = told(*BEGUN, ready(effect=Effect.READ))
    assert fact(following(alone, scopes=held)).kind in ("waiting", "refused"), (
        "without a brake it is read when it is time"
    )


def test_a_change_before_a_brake_is_held_and_told_once() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=1, since=T0).model_dump_json()}
    changing = (opened(), fired(), started(steps=("cut", "halt")), ready())
    first = fact(following(told(*changing), scopes=held, steps=TO_A_BRAKE))
    assert first.kind == "waiting"
    again = following(told(*changing, first), 31 * SECOND, held, steps=TO_A_BRAKE)
    assert isinstance(again, WaitUntil), "an old plan is not made again while it waits"


def test_the_pause_holds_what_reads_for_a_brake_too() -> None:
    paused = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}
    begun = told(opened(), fired(), started(steps=("cut", "halt")))
    assert fact(following(begun, scopes=paused, steps=TO_A_BRAKE)).kind == "waiting"


def test_waiting_is_told_once() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=1, since=T0).model_dump_json()}
    first = fact(following(told(*BEGUN), scopes=held))
    again = following(told(*BEGUN, first), 5 * SECOND, held)
    assert again == WaitUntil(T0 + 10 * SECOND, "gate")


def test_a_refusal_is_told_then_ends_the_run() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=1, since=T0, unknown=True).model_dump_json()}
    refused = fact(following(told(*BEGUN), scopes=held))
    assert (refused.kind, refused.urgent) == ("refused", True)
    urgent = fact(following(told(*BEGUN, refused), scopes=held))
    assert (urgent.kind, urgent.number, urgent.why) == ("urgent_told", 1, f"refused: {refused.verdicts[-1].reason}")
    assert fact(following(told(*BEGUN, refused, urgent), scopes=held)).result is Result.CANCELLED


def test_nothing_to_do_is_done() -> None:
    found = fact(following(told(*BEGUN, ready(nothing_to_do="already 0.1"))))
    assert (found.kind, found.status, found.why) == ("step_ended", StepStatus.DONE, "already 0.1")


def test_observing_previews_even_what_would_be_refused() -> None:
    observing = told(opened(), fired(), started(mode=Mode.OBSERVE), ready())
    paused = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}
    assert fact(following(observing, scopes=paused)).kind == "previewed"


def test_a_manual_step_is_asked_for_once() -> None:
    steps = [{"id": "cut", "manual": "Look"}]
    asked = fact(following(told(*BEGUN), steps=steps))
    assert (asked.kind, asked.instruction) == ("manual_asked", "Look")
    assert following(told(*BEGUN, asked), steps=steps) == WaitUntil()


def test_observing_only_says_what_a_person_would_be_asked() -> None:
    observing = told(opened(), fired(), started(mode=Mode.OBSERVE))
    found = fact(following(observing, steps=[{"id": "cut", "manual": "Look"}]))
    assert (found.kind, found.preview) == ("previewed", "a person would be asked: Look")


def test_what_a_machine_could_not_begin_in_time_is_for_people() -> None:
    held = {f"lock:{TARGET}": Lock(incident="i9", run=1, since=T0).model_dump_json()}
    machine = told(opened(), fired(), started(cause=Cause.UNLESS_FIXED))
    assert fact(following(machine, HELD_BACK, held)).kind == "waiting"
    found = fact(following(machine, HELD_BACK + 1, held))
    assert (found.result, found.why) == (Result.FAILED, "held back for 1m: people decide now")
    begun = told(opened(), fired(), started(cause=Cause.UNLESS_FIXED), intended(), ended(Outcome.TEMPORARY))
    late = following(begun, HELD_BACK + 1, steps=[cut_step(retry={"attempts": 2, "first": "5s"})])
    assert isinstance(late, Gather), "what it has begun it goes on with"


def test_answers_count_from_when_they_came_in() -> None:
    slow = {"risk": {"action": "prometheus.query", "with": {"service": "metrics", "query": "risk"}, "max_age": "5s"}}
    parts: dict[str, Any] = {"checks": slow, "only_if": {"check": "risk", "expect": "value > 1"}}
    asked = Observation(check="risk", value=2.0, observed_at=T0, asked_at=T0)
    incident = told(*BEGUN, 6 * SECOND, f.Gathered(run=1, observations=(asked,), plan=a_plan(), step="cut"))
    refused = fact(following(incident, 6 * SECOND, **parts))
    assert (refused.kind, refused.verdicts[-1].gate) == ("refused", "only_if"), "it is not asked for ever"


@pytest.mark.parametrize("stop", [f.TakenOver(), f.AlertResolved(fingerprint="a", ends_at=None)])
def test_before_the_next_change_it_stops(stop: f.Fact) -> None:
    found = following(told(*BEGUN, ready(), stop))
    assert fact(found).result is Result.CANCELLED
    acted = told(opened(), fired(), started(steps=("one", "cut")), intended(step="one"), ended(Outcome.OK),
                 f.StepEnded(run=1, step="one", status=StepStatus.DONE), stop)  # fmt: skip
    steps = [cut_step(id="one"), cut_step()]
    assert fact(following(acted, steps=steps)).kind == "verifying", "what was changed is verified"


def test_a_step_in_flight_is_never_cut_short() -> None:
    found = following(told(*BEGUN, intended(), f.TakenOver()))
    assert found == WaitUntil(T0 + MINUTE + 2 * SECOND, "deadline")


@pytest.mark.parametrize(
    ("tries", "retry_at", "expected"),
    [(1, 5 * SECOND, WaitUntil(T0 + 5 * SECOND, "retry")), (2, None, "failed")],
)
def test_retries_end(tries: int, retry_at: int | None, expected: object) -> None:
    facts: list[f.Fact] = []
    for number in range(1, tries + 1):
        at = None if retry_at is None else T0 + retry_at
        facts += [intended(number), ended(Outcome.TEMPORARY, number, retry_at=at)]
    found = following(told(*BEGUN, *facts), steps=[cut_step(retry={"attempts": 2, "first": "5s"})])
    if expected == "failed":
        assert fact(found).why == "said so after 2 attempts"
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("on_failure", "kind"),
    [("abort", "run_ended"), ("continue", "verifying")],
)
def test_what_a_failed_step_means(on_failure: str, kind: str) -> None:
    failed = f.StepEnded(run=1, step="cut", status=StepStatus.FAILED, why="no")
    incident = told(*BEGUN, intended(), ended(Outcome.PERMANENT), failed)
    assert fact(following(incident, steps=[cut_step(on_failure=on_failure)])).kind == kind


def test_a_second_send_has_the_plan_and_key_of_the_first() -> None:
    found = following(told(*BEGUN, intended(plan=a_plan(Effect.KEYED)), ended(Outcome.UNKNOWN)))
    assert isinstance(found, Perform)
    assert found.again is not None
    assert found.again.key == "responder/test/i1.1.cut.1"
    assert found.plan == found.again.plan


@pytest.mark.parametrize(
    ("answers", "over", "status"),
    [
        ([ProbeAnswer.APPLIED], False, StepStatus.DONE),
        ([ProbeAnswer.UNCLEAR, ProbeAnswer.APPLIED], False, StepStatus.DONE),
        ([ProbeAnswer.UNCLEAR] * PROBES, False, StepStatus.UNKNOWN),
        ([ProbeAnswer.NOT_APPLIED], True, StepStatus.SKIPPED),
    ],
)
def test_what_a_probe_makes_of_it(answers: list[ProbeAnswer], over: bool, status: StepStatus) -> None:
    facts: list[f.Fact] = [intended(), ended(Outcome.UNKNOWN)]
    facts += [f.Probed(attempt="i1.1.cut.1", answer=answer) for answer in answers]
    facts += [f.AlertResolved(fingerprint="a", ends_at=None)] if over else []
    assert fact(following(told(*BEGUN, *facts))).status is status


def test_an_unclear_probe_is_asked_again_with_growing_patience() -> None:
    unclear = f.Probed(attempt="i1.1.cut.1", answer=ProbeAnswer.UNCLEAR, detail="no answer")
    for asked, wait in ((1, 2), (2, 4), (3, 8), (4, 16)):
        incident = told(*BEGUN, intended(), ended(Outcome.UNKNOWN), *[unclear] * asked)
        assert following(incident) == WaitUntil(T0 + wait * SECOND, "probe")
        again = Gather(runbook="cut", rules_hash="h1", run=1, probe="i1.1.cut.1")
        assert following(incident, wait * SECOND) == again


@pytest.mark.parametrize(("sent", "wait"), [(1, 0), (2, 2), (3, 4), (4, 8)])
def test_sending_again_gives_the_service_more_and_more_time(sent: int, wait: int) -> None:
    plan = a_plan(Effect.KEYED)
    facts = [x for n in range(1, sent + 1) for x in (intended(n, plan), ended(Outcome.UNKNOWN, n))]
    incident = told(*BEGUN, *facts)
    if wait:
        assert following(incident, wait * SECOND - 1) == WaitUntil(T0 + wait * SECOND, "retry")
    assert isinstance(following(incident, wait * SECOND), Perform)


def test_sending_again_waits_for_the_pause() -> None:
    paused = {"pause:global": Pause(paused=True, actor="al", at=T0).model_dump_json()}
    found = following(told(*BEGUN, intended(plan=a_plan(Effect.KEYED)), ended(Outcome.UNKNOWN)), scopes=paused)
    assert fact(found).kind == "waiting"


@pytest.mark.parametrize(("expect", "status"), [("value.ok == true", "done"), ("value.ok == false", "failed"),
                                                ("value.gone == 1", "failed")])  # fmt: skip
def test_an_output_is_judged(expect: str, status: str) -> None:
    incident = told(*BEGUN, intended(), ended(Outcome.OK, output={"ok": True}))
    assert fact(following(incident, steps=[cut_step(expect=expect)])).status.value == status


WAITING: dict[str, Any] = {
    "expect": "value.done",
    "retry": {"attempts": 3, "first": "5s", "unless": "value.failed"},
}
"""A reading that is asked until it is done."""


def read(number: int, output: JsonValue, again: int | None = None, outcome: Outcome = Outcome.OK) -> list[f.Fact]:
    """One more answer of the reading; `again`: when it was recorded that it is asked again."""
    seen = None if again is None else f.NotYet(tried=number, of=3, why="value.done false")
    more = {"output": output, "retry_at": again, "not_yet": seen}
    return [intended(number, a_plan(Effect.READ)), ended(outcome, number, **more)]


def test_a_reading_is_asked_again_when_its_time_has_come() -> None:
    incident = told(*BEGUN, *read(1, {"done": False}, T0 + 5 * SECOND))
    assert incident.runs[0].step("cut").why == "not yet, tried 1 of 3: value.done false"
    assert following(incident, steps=[cut_step(**WAITING)]) == WaitUntil(T0 + 5 * SECOND, "retry")
    assert isinstance(following(incident, 5 * SECOND, steps=[cut_step(**WAITING)]), Gather)
    stopped = told(*BEGUN, *read(1, {"done": False}, T0 + 5 * SECOND), f.TakenOver())
    assert fact(following(stopped, steps=[cut_step(**WAITING)])).result is Result.CANCELLED


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([{"done": False}] * 3, "expected value.done within 3 tries, but value.done false; last seen: said so"),
        (
            [{"failed": True}],
            "expected value.done, but value.failed true, so it has finally failed; last seen: said so",
        ),
    ],
    ids=["never done", "failed for good"],
)
def test_the_last_answer_of_a_reading_says_why_it_failed(answers: list[JsonValue], why: str) -> None:
    facts: list[f.Fact] = []
    for number, answer in enumerate(answers, 1):
        again = T0 if number < len(answers) else None
        facts += [*read(number, answer, again)]
    found = fact(following(told(*BEGUN, *facts), steps=[cut_step(**WAITING)]))
    assert (found.status, found.why) == (StepStatus.FAILED, why)


def test_a_change_is_never_done_again_because_of_its_answer() -> None:
    incident = told(*BEGUN, intended(), ended(Outcome.OK, output={"done": False}, retry_at=T0))
    assert fact(following(incident, steps=[cut_step(**WAITING)])).status is StepStatus.FAILED


def test_a_process_that_died_while_it_waited_reads_on() -> None:
    facts = [one for number in range(1, 8) for one in read(number, {"done": False}, T0)]
    lost = told(*BEGUN, *facts, *read(8, None, outcome=Outcome.UNKNOWN))
    steps = [cut_step(**{**WAITING, "retry": {"attempts": 12}})]
    found = following(lost, steps=steps)
    assert isinstance(found, Perform), "what was answered before is not counted as sent in vain"


def test_without_verification_nobody_claims_success() -> None:
    done = f.StepEnded(run=1, step="cut", status=StepStatus.DONE)
    found = fact(following(told(*BEGUN, intended(), ended(Outcome.OK), done), verify=None))
    assert found.result is Result.UNVERIFIED
