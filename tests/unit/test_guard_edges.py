"""The gates at their edges: the hours, root causes, moments of equality and the modes of what a person puts back.

Each test notices a small change of a gate that no other unit test does (`python -m tests.mutation guards`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from responder import facts as f
from responder.automation import Automation
from responder.calendars import Calendar, known_until
from responder.cases import Case, Touched, deny, wait
from responder.guards import (
    INFORMED,
    LIMITS,
    LOCAL,
    YIELD_RECHECK,
    alerts,
    budget,
    calendar,
    cooldown,
    env,
    ineffective,
    judge,
    lock,
    may_only_read,
    mode,
    only_if,
    pause,
    runs,
    same_gate,
    under_way,
    wakes_nobody,
    why_missing,
    yields_to,
)
from responder.incident import Incident
from responder.recorded import (
    AlertsSeen,
    AlertState,
    AlertView,
    Answer,
    Cause,
    Effect,
    Mode,
    Observation,
    Outcome,
    Recorded,
    Verdict,
)
from responder.runbook import Hours
from responder.scopes import Draw, Draws, Lock, Opens, Pause, RunCount
from responder.timing import DAY, HOUR, MINUTE, SECOND, format_time
from tests.builders import T0, a_plan, a_runbook, cut_step, ended, fired, intended, opened, rules_of, started, told

TARGET = "risk-api/kelly_fraction"
RUNS = f"runs:cut|{TARGET}"


def case(scopes: Mapping[str, Recorded] | None = None, *more: Any, **parts: Any) -> Case:
    """The first step of the first run."""
    runbook = rules_of(a_runbook(**parts)).runbooks["cut"]
    bodies = {name: body.model_dump_json() for name, body in (scopes or {}).items()}
    incident: Incident = told(opened(), fired(), started(), *more)
    return Case(incident, incident.runs[0], runbook, runbook.steps[0], None, bodies.get, lambda name: 0.3, {}, T0)


def caused(given: Case, cause: Cause, run_mode: Mode = Mode.AUTO) -> Case:
    """The same, begun otherwise."""
    return replace(given, run=given.run.model_copy(update={"cause": cause, "mode": run_mode}))


# --- the hours --------------------------------------------------------------------------------------------------------


def between(first: int, last: int) -> Calendar:
    """Open every day from so many minutes after T0 until so many; UTC."""
    from_, to = (format_time(T0 + minutes * MINUTE)[11:16] for minutes in (first, last))
    return Calendar.model_validate({"from": from_, "to": to, "timezone": "UTC"})


NOW, SOON, LATER = between(-60, 60), between(30, 60), between(90, 120)
ALWAYS = Calendar.model_validate({"from": "00:00", "to": "24:00", "timezone": "UTC"})


def judged(hours: Mapping[str, object], *more: Any, **parts: Any) -> Verdict:
    """What the gate of the hours says."""
    given = replace(case(None, *more, **parts), calendars={"now": NOW, "soon": SOON, "later": LATER, "always": ALWAYS})
    runbook = given.runbook.model_copy(update={"calendar": Hours.model_validate({"otherwise": "wait", **hours})})
    return calendar(replace(given, runbook=runbook))


def test_within_one_of_several_calendars_is_enough() -> None:
    assert judged({"within": "now"}).answer is Answer.ALLOW
    assert judged({"within": ["soon", "now"]}).answer is Answer.ALLOW
    assert judged({"within": ["soon", "now"]}).reason.startswith("soon is closed until")


def test_outside_all_of_them_is_needed() -> None:
    assert judged({"outside": ["soon", "later"]}).answer is Answer.ALLOW
    held = judged({"outside": ["now", "soon"]})
    assert (held.answer, held.until) == (Answer.WAIT, T0 + HOUR)
    assert held.reason.startswith("now is open until")
    assert "soon" not in held.reason


def test_it_waits_for_the_first_change_of_what_shuts_it() -> None:
    assert judged({"within": ["later", "soon"]}).until == T0 + 30 * MINUTE
    assert judged({"within": ["soon"], "outside": "now"}).until == T0 + 30 * MINUTE


def test_what_may_be_done_instead_of_waiting() -> None:
    assert judged({"within": "soon", "otherwise": "deny"}).answer is Answer.DENY
    assert judged({"within": "soon", "otherwise": "ask"}).answer is Answer.ASK
    assert judged({"outside": "always"}).answer is Answer.DENY, "it never changes, so nothing can be waited for"
    brake = judged({"within": "soon"}, brake=True)
    assert (brake.answer, brake.warn) == (Answer.ALLOW, True)


def test_the_data_of_an_exchange_that_have_ended_shut_both_ways() -> None:
    bombay = Calendar.model_validate({"exchange": "XBOM"})
    ends = known_until(bombay)
    assert ends is not None
    for hours in ({"within": "x"}, {"outside": "x"}):
        given = replace(case(), calendars={"x": bombay}, now=ends + DAY)
        runbook = given.runbook.model_copy(update={"calendar": Hours.model_validate(hours)})
        assert calendar(replace(given, runbook=runbook)).answer is Answer.DENY


# --- root causes ------------------------------------------------------------------------------------------------------


def test_it_yields_to_the_incidents_of_a_root_cause_and_names_the_latest() -> None:
    opens = {"open:halt": Opens(incidents=("i7", "i8"))}
    held = yields_to(case(opens, yields_to=["halt"]))
    assert (held.answer, held.until) == (Answer.WAIT, T0 + 30 * SECOND)
    assert held.reason == "yields to halt: incident i8 is open"
    assert YIELD_RECHECK == 30 * SECOND
    assert yields_to(case({"open:halt": Opens(incidents=("i1",))}, yields_to=["halt"])).answer is Answer.ALLOW
    assert yields_to(case({"open:halt": Opens(incidents=("i1", "i7"))}, yields_to=["halt"])).answer is Answer.WAIT
    assert yields_to(case(yields_to=["halt"])).answer is Answer.ALLOW


def test_what_has_begun_yields_to_nothing() -> None:
    opens = {"open:halt": Opens(incidents=("i7",))}
    done = (intended(), ended(Outcome.OK))
    assert yields_to(case(opens, *done, yields_to=["halt"])).answer is Answer.ALLOW
    assert yields_to(case(opens, *done, yields_to=["halt"], finish_once_started=True)).answer is Answer.ALLOW
    assert yields_to(case(opens, yields_to=["halt"], finish_once_started=True)).answer is Answer.WAIT


# --- moments of equality ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["runs", "ineffective"])
def test_what_is_exactly_one_window_old_counts_no_more(gate: str) -> None:
    asked, counted = (runs, "started") if gate == "runs" else (ineffective, "ineffective")
    limits = {gate: "1 per 6h"}
    for age, answer in ((6 * HOUR, Answer.ALLOW), (6 * HOUR - 1, Answer.DENY)):
        body = RunCount.model_validate({counted: (T0 - age,)})
        assert asked(case({RUNS: body}, limits=limits)).answer is answer
    assert asked(case(limits=limits)).reason.startswith("0 "), "without a row there was none"


def test_without_a_cooldown_the_end_of_the_last_run_says_nothing() -> None:
    just = {RUNS: RunCount(ended=T0)}
    assert cooldown(case(just, limits={"cooldown": "0s"})).reason == "no run lately"
    assert cooldown(case({RUNS: RunCount(ended=T0 - HOUR)}, limits={"cooldown": "10m"})).reason.endswith("1h ago")


def test_a_total_may_be_used_up_and_not_passed() -> None:
    used = {f"parameter:{TARGET}": Draws(draws=(Draw(at=T0, amount=0.1, incident="i9"),))}
    for more, answer in ((0.2, Answer.ALLOW), (0.2001, Answer.DENY)):
        given = replace(case(used), plan=a_plan(draws={f"parameter:{TARGET}": more}))
        assert budget(given).answer is answer


def test_a_pause_is_looked_at_again_soon() -> None:
    paused = case({"pause:global": Pause(paused=True, actor="al", at=T0)})
    assert pause(paused).until == T0 + 5 * SECOND
    assert pause(replace(case(), halted="the pause file")).reason == "the pause file"


def test_of_several_who_hold_a_lock_it_names_the_one_that_nobody_knows_about_else_the_first() -> None:
    beside = tuple(Lock(incident=f"i{n}", run=n, since=T0, unknown=n == 8) for n in (7, 8))
    known = tuple(held.model_copy(update={"unknown": False}) for held in beside)
    for others, answer, holder in ((beside, Answer.DENY, "run 8 of incident i8"), (known, Answer.WAIT, "run 7 of")):
        held = lock(case({f"lock:{TARGET}": others[0].model_copy(update={"beside": others[1:]})}))
        assert (held.answer, holder in held.reason) == (answer, True)


# --- modes and environments -------------------------------------------------------------------------------------------


def test_a_lowered_mode_holds_everything_back_but_what_a_person_puts_back() -> None:
    lowered = replace(case(), ceiling=Mode.OBSERVE)
    assert mode(lowered).answer is Answer.DENY
    assert mode(caused(lowered, Cause.RESTORE)).reason == "mode auto"
    assert mode(caused(lowered, Cause.ALERT, Mode.OBSERVE)).reason == "mode observe"
    assert mode(caused(lowered, Cause.ALERT, Mode.APPROVE)).answer is Answer.DENY
    assert mode(replace(case(), ceiling=Mode.APPROVE)).reason == "mode auto, ceiling approve"


def test_a_service_of_another_env_is_not_touched() -> None:
    labelled = told(opened(), fired(labels={"env": "paper"}), started())
    given = replace(case(), incident=labelled, touched=(Touched("risk-api", "paper"), Touched("journal")))
    assert env(given).reason == "env paper"
    assert env(replace(given, touched=(Touched("journal"),))).reason == "of no env"
    assert env(replace(given, touched=(Touched("risk-api", "live"),))).answer is Answer.DENY


def test_the_words_of_the_alerts_gate_count_right() -> None:
    states = {"a": AlertState.INHIBITED, "b": AlertState.INHIBITED}
    for given, reason in (
        (states, "2 of 2 fire in Alertmanager"),
        (dict.fromkeys("ab", AlertState.SILENCED), "2 of 2 alerts are silenced: hush"),
        ({"a": AlertState.SILENCED, "b": AlertState.GONE}, "not list 1 of 2 alerts any more"),
    ):
        views = tuple(
            AlertView(fingerprint=k, state=v, why="hush" if v is AlertState.SILENCED else "") for k, v in given.items()
        )
        whole = case(None, fired("b"))
        seen = AlertsSeen(observed_at=T0, asked=2, others=views)
        asked = replace(whole, run=whole.run.model_copy(update={"alerts": seen}))
        assert alerts(asked).reason.endswith(reason)


def test_a_sample_says_how_far_in_the_future_it_is() -> None:
    seen = Observation(check="risk", asked_at=T0 + 2 * MINUTE, value=1.0)
    assert why_missing(seen, MINUTE, T0) == "its sample is 2m in the future: check the clocks"


# --- alerts that fire and are kept from being told --------------------------------------------------------------------


def test_an_alert_that_another_one_keeps_from_being_told_fires_too() -> None:
    views = (
        AlertView(fingerprint="a", state=AlertState.FIRING),
        AlertView(fingerprint="b", state=AlertState.INHIBITED),
    )
    whole = case(None, fired("b"))
    seen = AlertsSeen(observed_at=T0, asked=1, others=views)
    verdict = alerts(replace(whole, run=whole.run.model_copy(update={"alerts": seen})))
    assert (verdict.answer, verdict.reason) == (Answer.ALLOW, "2 of 2 fire in Alertmanager")


# --- the pause, and the brake that a person confirmed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "brake", "answer"),
    [
        (Cause.PERSON, True, Answer.ALLOW),
        (Cause.PERSON, False, Answer.WAIT),
        (Cause.ALERT, True, Answer.WAIT),
        (Cause.UNLESS_FIXED, True, Answer.WAIT),
        (Cause.SCHEDULE, True, Answer.WAIT),
    ],
)
def test_only_a_brake_that_a_person_confirmed_passes_the_pause_and_people_are_told(
    cause: Cause, brake: bool, answer: Answer
) -> None:
    paused = case({"pause:global": Pause(paused=True, actor="al", at=T0)}, brake=brake)
    verdict = pause(caused(paused, cause))
    assert (verdict.answer, verdict.warn) == (answer, answer is Answer.ALLOW)


# --- what the store holds and nobody can read -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [RUNS, f"lock:{TARGET}", "results:cut", "openings:live", "changes:global"])
def test_a_limit_that_cannot_be_read_holds_back_all_but_a_brake(name: str) -> None:
    for brake in (False, True):
        given = replace(case(brake=brake), scope={name: "no JSON"}.get, automation=Automation(), plan=a_plan())
        verdicts = judge(given, (*LOCAL, *INFORMED))
        unread = [v for v in verdicts if "cannot be read" in v.reason]
        assert unread
        assert {(v.answer, v.warn) for v in unread} == {(Answer.ALLOW if brake else Answer.DENY, brake)}
        assert {v.gate for v in unread} <= LIMITS


@pytest.mark.parametrize(
    ("name", "gate", "answer"),
    [
        ("pause:global", "pause", Answer.WAIT),
        ("open:halt", "yields_to", Answer.DENY),
        (f"parameter:{TARGET}", "budget", Answer.DENY),
    ],
)
def test_what_a_brake_may_not_pass_holds_it_back_when_it_cannot_be_read_too(
    name: str, gate: str, answer: Answer
) -> None:
    plan = a_plan(draws={f"parameter:{TARGET}": 0.1})
    given = replace(case(brake=True, yields_to=["halt"]), scope={name: "no JSON"}.get, plan=plan)
    verdict = judge(given, (*LOCAL, *INFORMED))[-1]
    assert (verdict.gate, verdict.answer, verdict.warn) == (gate, answer, False)


# --- evidence, asked once ---------------------------------------------------------------------------------------------

NO_NEED = Observation(check="risk", value=1.0, observed_at=T0, asked_at=T0)
ONLY_IF = {"check": "risk", "expect": "value > 1.5"}
BY_HAND = f.ManualDone(run=1, step="cut")


@pytest.mark.parametrize(
    ("happened", "finish", "asked"),
    [
        ([], False, True),
        ([intended()], False, False),
        ([intended(), ended(Outcome.OK)], False, False),
        ([intended(), ended(Outcome.UNKNOWN)], False, False),
        ([intended(), ended(Outcome.PERMANENT)], False, True),
        ([intended(plan=a_plan(Effect.READ)), ended(Outcome.OK)], False, True),
        ([], True, True),
        ([BY_HAND], False, True),
        ([BY_HAND], True, False),
    ],
    ids=["nothing", "sent", "done", "unknown", "refused", "read", "sequence", "by hand", "sequence by hand"],
)
def test_after_a_change_its_own_effect_may_not_stop_the_sequence(
    happened: list[f.Fact], finish: bool, asked: bool
) -> None:
    given = case(None, *happened, only_if=ONLY_IF, finish_once_started=finish)
    run = given.run.model_copy(update={"observations": {"risk": NO_NEED}})
    verdict = only_if(replace(given, run=run))
    assert (verdict.answer is Answer.DENY) is asked
    assert under_way(given.run, given.runbook) is not asked


# --- who is woken by a refusal ----------------------------------------------------------------------------------------


def refused(seen: Observation | None) -> Verdict:
    given = case(only_if=ONLY_IF)
    return only_if(replace(given, run=given.run.model_copy(update={"observations": {"risk": seen} if seen else {}})))


def test_good_evidence_wakes_nobody_and_missing_evidence_does() -> None:
    run = case().run
    assert wakes_nobody(run, refused(NO_NEED))
    for seen in (None, NO_NEED.model_copy(update={"observed_at": T0 - DAY})):
        assert not wakes_nobody(run, refused(seen))


def test_the_words_of_a_service_decide_nothing_about_it() -> None:
    error = "Redis says there is nothing to do: READONLY"
    down = Observation(check="risk", asked_at=T0, error=error)
    assert error in refused(down).reason
    assert not wakes_nobody(case().run, refused(down))


def test_every_other_gate_that_refuses_wakes_people() -> None:
    assert not wakes_nobody(case().run, deny("runs", "check risk says there is nothing to do: no"))


@pytest.mark.parametrize("brake", [False, True])
def test_a_silence_lets_people_sleep_but_not_about_a_brake(brake: bool) -> None:
    run = case().run.model_copy(update={"brake": brake})
    assert wakes_nobody(run, deny("alerts", "1 of 1 alerts are silenced")) is not brake


# --- told once, and a step that may only read -------------------------------------------------------------------------

LOCKED = wait("lock", "is locked by run 3", T0 + 5 * SECOND)
PAUSED = wait("pause", "automation is paused", T0 + 5 * SECOND)


def test_a_run_that_waits_tells_people_again_when_it_waits_for_something_else() -> None:
    later = LOCKED.model_copy(update={"reason": "is locked by run 4", "until": T0 + MINUTE})
    assert same_gate((LOCKED,), (later,))
    assert not same_gate((PAUSED,), (LOCKED,))
    assert not same_gate((LOCKED,), (deny("lock", "nobody knows"),))
    assert not same_gate((), (LOCKED,))


TO_A_BRAKE = [cut_step(), cut_step(id="halt", brake=True)]


def waiting(step: int = 0, **changes: Any) -> Case:
    given = case(steps=TO_A_BRAKE)
    return replace(given, step=given.runbook.steps[step], run=given.run.model_copy(update=changes))


def test_on_the_way_to_a_brake_a_limit_does_not_keep_a_step_from_being_looked_at() -> None:
    assert may_only_read(waiting(), (LOCKED,))
    assert not may_only_read(waiting(), (PAUSED,)), "the pause does"
    assert not may_only_read(replace(waiting(), plan=a_plan()), (LOCKED,)), "it is known what it does"
    assert not may_only_read(waiting(step=1), (LOCKED,)), "it is the brake"


def test_what_waits_for_the_limit_already_is_not_looked_at_again_and_again() -> None:
    until = T0 + 5 * SECOND
    assert not may_only_read(waiting(waits_until=until, verdicts=(LOCKED,)), (LOCKED,))
    assert may_only_read(waiting(waits_until=until, verdicts=(PAUSED,)), (LOCKED,)), "it waited for another gate"
    assert may_only_read(waiting(verdicts=(LOCKED,)), (LOCKED,)), "it does not wait any more"


# --- the case of a step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brakes", "step", "before"),
    [
        ((False, True), 0, True),
        ((False, False, True), 0, True),
        ((False, False, True), 1, True),
        ((True, False), 1, False),
        ((True, False), 0, False),
        ((True, False, False), 1, False),
        ((False, False), 0, False),
    ],
)
def test_a_step_leads_to_a_brake_only_when_one_comes_after_it(
    brakes: tuple[bool, ...], step: int, before: bool
) -> None:
    steps = [cut_step(id=f"s{number}", brake=brake) for number, brake in enumerate(brakes)]
    given = case(steps=steps)
    assert replace(given, step=given.runbook.steps[step]).before_brake is before
    back = caused(given, Cause.UNDO)
    assert not replace(back, step=back.runbook.steps[step]).before_brake, "what is taken back leads to none"


def test_a_scheduled_run_only_reads_and_what_a_person_starts_need_not() -> None:
    assert caused(case(), Cause.SCHEDULE).only_reads
    assert not caused(case(), Cause.PERSON).only_reads
    assert replace(case(), plan=a_plan(Effect.READ)).only_reads
    assert not replace(case(), plan=a_plan(Effect.SET)).only_reads
