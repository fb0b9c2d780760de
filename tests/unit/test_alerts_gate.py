"""What the Alertmanagers say about the alerts of a run: what holds it back, what does not, and when they are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.cases import Case
from responder.decide import decide
from responder.guards import GATHERED_MAX_AGE, alerts
from responder.incident import Incident
from responder.recorded import AlertsSeen, AlertState, AlertView, Answer, Cause, Effect, Outcome, Trigger
from responder.timing import SECOND
from responder.view import Finish, Gather, Next, Perform, Tell
from tests.builders import T0, a_plan, a_runbook, a_view, ended, fired, intended, opened, rules_of, started, told

FIRING, SILENCED, INHIBITED, GONE, UNCLEAR = AlertState


def seen(asked: int = 1, at: int = T0, **others: AlertState) -> AlertsSeen:
    """Fingerprint -> what is said of it; others of the asked ones fire."""
    why = {SILENCED: "silence s1 by anna: planned", UNCLEAR: "am-1: no answer"}
    views = tuple(AlertView(fingerprint=k, state=v, why=why.get(v, "")) for k, v in others.items())
    return AlertsSeen(observed_at=at, asked=asked, others=views)


def case(answer: AlertsSeen | None, *more: f.Fact, cause: Cause = Cause.ALERT, **parts: Any) -> Case:
    """A run by alert `a` and those that fire in `more`."""
    rules = rules_of(a_runbook(**parts))
    runbook = rules.runbooks["cut"]
    incident = told(opened(), fired(), started(cause=cause, brake=runbook.brake), *more)
    run = incident.runs[0].model_copy(update={"alerts": answer})
    return Case(incident, run, runbook, runbook.steps[0], a_plan(), lambda name: None, lambda name: 0.3, {}, T0)


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        (seen(2), Answer.ALLOW, "2 of 2 fire in Alertmanager"),
        (seen(2, a=SILENCED), Answer.ALLOW, "1 of 2 fire"),
        (seen(2, a=GONE, b=INHIBITED), Answer.ALLOW, "1 of 2 fire"),
        (seen(2, a=SILENCED, b=SILENCED), Answer.DENY, "2 of 2 alerts are silenced: silence s1 by anna: planned"),
        (seen(2, a=GONE, b=GONE), Answer.DENY, "Alertmanager does not list 2 of 2 alerts any more"),
        (seen(2, a=GONE, b=SILENCED), Answer.DENY, "1 of 2 alerts are silenced: silence s1 by anna: planned; "),
        (seen(2, a=UNCLEAR, b=GONE), Answer.ALLOW, "nobody can say whether 1 of 2 alerts still fire: am-1: no answer"),
        (
            AlertsSeen(observed_at=T0, nobody="no Alertmanager is configured to be asked"),
            Answer.ALLOW,
            "no Alertmanager is configured to be asked",
        ),
    ],
)
def test_what_holds_it_back(answer: AlertsSeen, expected: Answer, reason: str) -> None:
    verdict = alerts(case(answer, fired("b")))
    assert (verdict.answer, verdict.gate) == (expected, "alerts")
    assert reason in verdict.reason


def test_what_nobody_can_tell_wakes_people_where_no_brake_acts() -> None:
    assert alerts(case(seen(a=UNCLEAR))).warn is True
    assert alerts(case(seen(a=UNCLEAR), brake=True)).warn is False
    reading = replace(case(seen(a=UNCLEAR)), plan=a_plan(Effect.READ))
    assert alerts(reading).warn is False


def test_a_brake_does_not_pass_a_silence() -> None:
    assert alerts(case(seen(a=SILENCED), brake=True)).answer is Answer.DENY


def test_what_began_after_the_question_fires() -> None:
    later = case(seen(a=GONE), SECOND, fired("b"))  # type: ignore[arg-type]
    assert alerts(later).reason == "1 of 2 fire in Alertmanager"
    again = case(seen(a=GONE), f.AlertResolved(fingerprint="a", ends_at=None), SECOND, fired())  # type: ignore[arg-type]
    assert alerts(again).answer is Answer.ALLOW


@pytest.mark.parametrize("cause", [c for c in Cause if c not in (Cause.ALERT, Cause.RELAPSE)])
def test_what_no_alert_began_goes_on_whatever_becomes_of_it(cause: Cause) -> None:
    assert alerts(case(seen(a=GONE), cause=cause)).reason == "not asked for"
    assert alerts(case(seen(a=GONE), cause=Cause.RELAPSE)).answer is Answer.DENY


def test_others_that_are_not_asked_about() -> None:
    scheduled = case(seen(a=GONE))
    by_time = scheduled.incident.model_copy(update={"trigger": Trigger.SCHEDULE})
    assert alerts(replace(scheduled, incident=by_time)).answer is Answer.ALLOW
    replayed = scheduled.incident.model_copy(update={"namespace": "replay"})
    assert alerts(replace(scheduled, incident=replayed)).answer is Answer.ALLOW
    grafana = told(opened(), fired(elsewhere=True), started())
    assert alerts(replace(scheduled, incident=grafana)).answer is Answer.ALLOW


def test_a_sequence_that_must_be_finished_is_finished() -> None:
    begun = case(seen(a=GONE), intended(), ended(Outcome.OK), finish_once_started=True)
    assert alerts(begun).answer is Answer.ALLOW
    assert alerts(case(seen(a=GONE), finish_once_started=True)).answer is Answer.DENY, "what has not begun is left"


# --- when they are asked ----------------------------------------------------------------------------------------------


def ready(answer: AlertsSeen) -> f.Gathered:
    return f.Gathered(run=1, plan=a_plan(), step="cut", alerts=answer)


def following(incident: Incident, at: int = 0, **parts: Any) -> Next:
    return decide(a_view(incident, rules_of(a_runbook(**parts), levels=[]), T0 + at))


def test_they_are_asked_with_every_plan() -> None:
    begun = told(opened(), fired(), started())
    assert following(begun) == Gather(runbook="cut", rules_hash="h1", run=1, step="cut", alerts=True)
    asked = told(opened(), fired(), started(), ready(seen()))
    assert isinstance(following(asked, GATHERED_MAX_AGE), Perform)
    again = following(asked, GATHERED_MAX_AGE + 1)
    assert isinstance(again, Gather)
    assert again.alerts
    by_time = told(opened(trigger=Trigger.SCHEDULE), started(cause=Cause.SCHEDULE))
    assert following(by_time) == Gather(runbook="cut", rules_hash="h1", run=1, step="cut")


@pytest.mark.parametrize(("brake", "urgent"), [(False, False), (True, True)])
def test_a_refusal_wakes_people_only_where_a_brake_is_held_back(brake: bool, urgent: bool) -> None:
    found = following(told(opened(), fired(), started(brake=brake), ready(seen(a=SILENCED))), brake=brake)
    assert isinstance(found, Tell)
    assert isinstance(found.fact, f.Refused)
    assert found.fact.urgent is urgent
    refused = told(opened(), fired(), started(brake=brake), ready(seen(a=SILENCED)), found.fact)
    ends = following(refused.model_copy(update={"urgent_told": refused.urgent_number}), brake=brake)
    assert isinstance(ends, Finish)


def test_before_it_is_sent_again_they_are_asked_again() -> None:
    lost = (intended(plan=a_plan(Effect.KEYED)), ended(Outcome.UNKNOWN))
    at_once = following(told(opened(), fired(), started(), ready(seen()), *lost))
    assert isinstance(at_once, Perform)
    old = told(opened(), fired(), started(), ready(seen()), *lost)
    assert following(old, GATHERED_MAX_AGE + 1) == Gather(runbook="cut", rules_hash="h1", run=1, alerts=True)
    late = T0 + GATHERED_MAX_AGE + 1
    gone = told(*(opened(), fired(), started(), ready(seen()), *lost), f.Gathered(run=1, alerts=seen(at=late, a=GONE)))
    found = following(gone, GATHERED_MAX_AGE + 1)
    assert isinstance(found, Tell)
    assert "not sent again: Alertmanager does not list 1 of 1" in getattr(found.fact, "why", "")
    still = told(*(opened(), fired(), started(), ready(seen()), *lost), f.Gathered(run=1, alerts=seen(at=late)))
    assert isinstance(following(still, GATHERED_MAX_AGE + 1), Perform)


def test_what_a_silence_refused_is_called_for_again_at_its_end() -> None:
    asked = ready(seen(a=SILENCED))
    found = following(told(opened(), fired(), started(), asked))
    assert isinstance(found, Tell)
    over = f.RunEnded(run=1, result="cancelled", why="refused")
    silenced = f.AlertsSilenced(fingerprints=("a",), why="s1")
    incident = told(opened(), fired(), started(), asked, found.fact, over, silenced)
    assert (incident.episodes["a"].silenced, incident.rejoined) == ("s1", False)
    back = f.AlertsUnsilenced(fingerprints=("a",))
    again = told(opened(), fired(), started(), asked, found.fact, over, silenced, back)
    assert (again.episodes["a"].silenced, again.rejoined) == ("", True)
    other = told(opened(), fired(), started(), over, silenced, back)
    assert other.rejoined is False, "an end of a silence begins nothing by itself"
