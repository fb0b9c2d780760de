"""The gates over all runs together: each refuses when it must, lets pass when it must, and says its numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder.automation import AutomationStorm
from responder.cases import Case
from responder.fuses import changes, relapse, storm, success
from responder.recorded import Answer, Cause, Effect, Outcome, Recorded
from responder.scopes import ENVS_KEPT, OPENINGS, Draw, Draws, Openings, Results, RunCount, RunEnd, ScopeText
from responder.scoping import openings_after
from responder.timing import DAY, HOUR, MINUTE, SECOND
from tests.builders import T0, a_plan, ended, fired, intended, opened, started, told
from tests.unit.case_parts import case

TARGET = "risk-api/kelly_fraction"
RUNS = f"runs:cut|{TARGET}"
NOTHING: ScopeText = dict[str, str]().get


def drawn(count: int, at: int = T0 - MINUTE, incident: str = "i9") -> Draws:
    return Draws(draws=tuple(Draw(at=at, amount=1, incident=incident, run=n, step="cut") for n in range(1, count + 1)))


# --- changes an hour --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "most", "told"),
    [
        ("changes:global", 30, "30 changes of all runbooks, limit 30 per 1h"),
        ("changes:runbook:cut", 10, "10 changes by cut, limit 10 per 1h"),
        ("changes:service:risk-api", 10, "10 changes to risk-api, limit 10 per 1h"),
    ],
)
def test_changes_are_counted_for_all_for_the_runbook_and_for_the_service(scope: str, most: int, told: str) -> None:
    assert changes(case({scope: drawn(most - 1)})).answer is Answer.ALLOW
    refused = changes(case({scope: drawn(most)}))
    assert (refused.answer, refused.reason) == (Answer.DENY, told)
    assert changes(case({scope: drawn(most, T0 - HOUR)})).answer is Answer.ALLOW, "an hour later they are forgotten"
    passed = changes(case({scope: drawn(most)}, brake=True))
    assert (passed.answer, passed.warn, passed.reason) == (Answer.ALLOW, True, f"brake passes: {told}")


def test_a_step_that_is_tried_again_is_one_change() -> None:
    own = Draws(draws=(*drawn(9).draws, Draw(at=T0, amount=1, incident="i1", run=1, step="cut")))
    assert changes(case({"changes:runbook:cut": own})).answer is Answer.ALLOW


def test_what_reads_and_what_takes_back_is_not_counted() -> None:
    full = case({"changes:global": drawn(30)})
    assert changes(replace(full, plan=a_plan(Effect.READ))).answer is Answer.ALLOW
    back = replace(full, run=full.run.model_copy(update={"cause": Cause.UNDO}))
    assert changes(back).answer is Answer.ALLOW


# --- storm ------------------------------------------------------------------------------------------------------------


def after_openings(*times: int, storm: AutomationStorm | None = None) -> Openings:
    body = Openings()
    given = storm or AutomationStorm(incidents=3)
    for at in times:
        scope: ScopeText = {OPENINGS: body.model_dump_json()}.get
        (change,) = openings_after(told(opened()).model_copy(update={"opened_at": at}), given, scope)
        assert isinstance(change.body, Openings)
        body = change.body
    return body


def test_a_storm_begins_with_the_third_within_five_minutes_and_is_over_after_five_calm_ones() -> None:
    assert after_openings(T0, T0 + MINUTE, T0 + 5 * MINUTE).until is None
    assert after_openings(T0, T0 + MINUTE, T0 + 5 * MINUTE - 1).until == T0 + 10 * MINUTE
    longer = after_openings(T0, T0 + MINUTE, T0 + 2 * MINUTE, T0 + 3 * MINUTE)
    assert longer.until == T0 + 11 * MINUTE, "another one makes it longer"
    over = after_openings(T0, T0 + MINUTE, T0 + 2 * MINUTE, T0 + HOUR)
    assert (over.until, over.latest) == (T0 + 10 * MINUTE, (T0 + MINUTE, T0 + 2 * MINUTE, T0 + HOUR))


def test_in_a_storm_only_brakes_act() -> None:
    body = {OPENINGS: Openings(until=T0 + 3 * MINUTE)}
    held = storm(case(body))
    assert (held.answer, held.until) == (Answer.WAIT, T0 + 3 * MINUTE)
    assert "10 incidents or more began within 5m" in held.reason
    assert storm(case(body, brake=True)).warn
    assert storm(case({OPENINGS: Openings(until=T0)})).reason == "no storm"
    acted = case(body)
    from_before = acted.run.model_copy(update={"cause": Cause.RESTORE})
    assert storm(replace(acted, run=from_before)).answer is Answer.ALLOW


# --- storms of an env -------------------------------------------------------------------------------------------------

THREE = AutomationStorm(incidents=3)


def began(*incidents: tuple[str, int], body: Openings | None = None) -> Openings:
    """The count after incidents of these envs ("" for none) began at these times."""
    after = body or Openings()
    for env, at in incidents:
        incident = told(opened(labels={"env": env} if env else {})).model_copy(update={"opened_at": at})
        scope: ScopeText = {OPENINGS: after.model_dump_json()}.get
        (change,) = openings_after(incident, THREE, scope)
        assert isinstance(change.body, Openings)
        after = change.body
    return after


def held(body: Openings, *envs: str) -> str | None:
    """Why a run is held back whose alerts say these envs; None when it is not."""
    asked = case({OPENINGS: body})
    alerts = [fired(str(n), labels={"env": env} if env else {}) for n, env in enumerate(envs)]
    incident = told(opened(labels={"env": envs[0]} if envs[0] else {}), *alerts, started())
    verdict = storm(replace(asked, incident=incident))
    return None if verdict.answer is Answer.ALLOW else verdict.reason.partition(" within")[0]


def test_a_storm_of_staging_holds_nothing_of_production_back() -> None:
    body = began(("staging", T0), ("staging", T0), ("prod", T0), ("prod", T0), ("staging", T0))
    assert held(body, "staging") == "10 incidents or more of env staging began"
    assert held(body, "prod") is None
    assert held(body, "test") is None
    assert held(body, "prod", "staging") is not None, "one of its alerts is in the storm"


def test_what_says_no_env_waits_for_the_storm_of_any_and_counts_for_each() -> None:
    staging = began(("staging", T0), ("staging", T0), ("staging", T0))
    assert held(staging, "") == "10 incidents or more of env staging began"
    assert held(staging, "prod", "") == "10 incidents or more of env staging began"
    for order in ((("prod", T0), ("", T0), ("", T0)), (("", T0), ("", T0), ("prod", T0))):
        body = began(*order)
        assert held(body, "prod") == "10 incidents or more of env prod began"
        assert held(body, "staging") is None
    none = began(("", T0), ("", T0), ("", T0))
    assert [held(none, env) for env in ("", "prod", "staging")] == ["10 incidents or more began"] * 3


def test_an_env_s_storm_ends_by_itself_and_another_one_goes_on() -> None:
    body = began(("staging", T0 - 8 * MINUTE), ("staging", T0 - 8 * MINUTE), ("staging", T0 - 8 * MINUTE))
    body = began(("prod", T0), ("prod", T0), ("prod", T0), body=body)
    assert body.storms({""}, T0) == {"staging": T0 + 2 * MINUTE, "prod": T0 + 10 * MINUTE}
    assert body.storms({""}, T0 + 2 * MINUTE) == {"prod": T0 + 10 * MINUTE}
    assert body.storms({"staging"}, T0 + 2 * MINUTE) == {}
    assert storm(case({OPENINGS: body})).until == T0 + 10 * MINUTE


def test_one_env_too_many_counts_for_each_and_drives_out_none_that_is_counted() -> None:
    others = [(f"pr-{n}", T0) for n in range(ENVS_KEPT - 1)]
    body = began(("prod", T0), *others, ("one", T0), ("two", T0), ("three", T0))
    assert set(body.envs) == {"prod", *(env for env, _ in others)}
    assert [held(body, env) for env in ("prod", "pr-0", "three", "")] == ["10 incidents or more began"] * 4
    later = began(("new", T0 + HOUR), body=body)
    assert set(later.envs) == {"new"}, "what is over makes room"
    assert began(("x" * 5_000, T0)).envs.keys() == {"x" * 100}


def test_the_count_of_before_envs_were_told_apart_counts_for_each() -> None:
    old = Openings.model_validate_json(f'{{"latest": [{T0}, {T0}, {T0}], "until": {T0 + MINUTE}}}')
    assert held(old, "prod") == "10 incidents or more began"
    assert held(began(("prod", T0 + 1), body=old), "prod") is not None


def test_the_incident_that_pages_for_a_storm_is_none_of_them() -> None:
    its_own = told(opened(runbook=None, target="storm:ladder:prod"))
    assert openings_after(its_own, THREE, NOTHING) == []
    assert openings_after(told(opened(runbook="cut", target="storm:drain")), THREE, NOTHING) != []


def test_replays_and_schedules_make_no_storm() -> None:
    replayed = told(opened()).model_copy(update={"namespace": "replay/x"})
    assert openings_after(replayed, AutomationStorm(), NOTHING) == []
    assert openings_after(told(opened()), None, NOTHING) == []


# --- relapse ----------------------------------------------------------------------------------------------------------


def relapsing(fixed: list[int], begun: list[int]) -> dict[str, Recorded]:
    return {RUNS: RunCount(started=tuple(T0 - m * MINUTE for m in begun), fixed=tuple(T0 - m * MINUTE for m in fixed))}


def test_the_second_relapse_is_left_to_people() -> None:
    first = relapse(case(relapsing([20], [25])))
    assert (first.answer, "relapse 1 within 30m" in first.reason) == (Answer.ALLOW, True)
    second = relapse(case(relapsing([50, 20], [55, 25])))
    assert (second.answer, "relapse 2 within 30m" in second.reason) == (Answer.DENY, True)
    assert relapse(case(relapsing([50, 20], [55, 25]), brake=True)).warn
    late = relapse(case(relapsing([80, 30], [85, 55])))
    assert (late.answer, late.reason) == (Answer.ALLOW, "not fixed within the last 30m")
    old = 24 * 60
    assert relapse(case(relapsing([old + 50, 20], [old + 25, 25]))).answer is Answer.ALLOW, (
        "a day later it is forgotten"
    )


# --- success ----------------------------------------------------------------------------------------------------------


def ends(*good: bool, last: int, began: int | None = None) -> dict[str, Recorded]:
    """Ends five minutes apart, the latest `last` µs ago."""
    times = [T0 - last - 5 * MINUTE * n for n in reversed(range(len(good)))]
    return {
        "results:cut": Results(ends=tuple(RunEnd(at=t, good=g) for t, g in zip(times, good, strict=True)), began=began)
    }


def test_a_runbook_that_stopped_helping_is_left_out_and_tried_again_after_an_hour() -> None:
    bad = (True, False, False, False)
    refused = success(case(ends(*bad, last=MINUTE)))
    assert (refused.answer, "1 of 4 runs of cut helped, at least 50% must" in refused.reason) == (Answer.DENY, True)
    assert success(case(ends(*bad, last=MINUTE), brake=True)).warn
    assert success(case(ends(*bad, last=HOUR - 1))).answer is Answer.DENY
    tried = success(case(ends(*bad, last=HOUR)))
    assert (tried.answer, tried.reason.endswith("this run is tried")) == (Answer.ALLOW, True)
    second = success(case(ends(*bad, last=HOUR, began=T0 - SECOND)))
    assert (second.answer, "one run is being tried" in second.reason) == (Answer.DENY, True)


@pytest.mark.parametrize("good", [(), (False, False, False), (True, False, True, False), (True, True, False)])
def test_few_runs_and_half_of_them_prove_nothing(good: tuple[bool, ...]) -> None:
    assert success(case(ends(*good, last=MINUTE))).answer is Answer.ALLOW


def test_a_trial_that_helped_forgives_what_was_before() -> None:
    before = tuple(RunEnd(at=T0 - 3 * HOUR + n * MINUTE, good=False) for n in range(4))
    helped = Results(ends=(*before, RunEnd(at=T0 - HOUR, good=True)))
    assert success(case({"results:cut": helped})).reason == "1 of 1 runs of cut helped"
    failed = Results(ends=(*before, RunEnd(at=T0 - MINUTE, good=False)))
    assert success(case({"results:cut": failed})).answer is Answer.DENY
    old = Results(ends=tuple(replace_at(e, T0 - DAY) for e in before))
    assert success(case({"results:cut": old})).answer is Answer.ALLOW, "a day later it is forgotten"


def replace_at(end: RunEnd, at: int) -> RunEnd:
    return end.model_copy(update={"at": at})


# --- what was held back -----------------------------------------------------------------------------------------------


def held_back(given: Case) -> Case:
    """Its only change was intended at T0 and held back."""
    incident = told(opened(), fired(), started(), intended(), ended(Outcome.TEMPORARY, held_back=True))
    return replace(given, incident=incident, run=incident.runs[0])


def test_what_was_held_back_has_not_begun() -> None:
    assert storm(held_back(case({OPENINGS: Openings(until=T0 + MINUTE)}))).answer is Answer.WAIT


def test_its_own_start_is_no_relapse() -> None:
    soon, fixed = T0 - MINUTE, (T0 - 5 * MINUTE, T0 - 10 * HOUR)
    once = relapse(held_back(case({RUNS: RunCount(started=(T0 - 8 * HOUR, T0), fixed=fixed)})))
    assert once.reason.startswith("relapse 1 within")
    more = relapse(held_back(case({RUNS: RunCount(started=(soon, T0), fixed=fixed)})))
    assert more.reason.startswith("relapse 2 within")


def test_its_own_trial_is_no_other_run_that_is_being_tried() -> None:
    bad = tuple(RunEnd(at=T0 - 2 * HOUR - n, good=False) for n in (3, 2, 1, 0))
    assert success(held_back(case({"results:cut": Results(ends=bad, began=T0)}))).answer is Answer.ALLOW
    assert success(held_back(case({"results:cut": Results(ends=bad, began=T0 - 1)}))).answer is Answer.DENY


def test_what_it_reserved_long_ago_is_not_taken_off_the_changes_of_others() -> None:
    own = Draw(at=T0 - HOUR, amount=1, incident="i1", run=1, step="cut")
    full = Draws(draws=(own, *drawn(10).draws))
    assert changes(held_back(case({"changes:runbook:cut": full}))).answer is Answer.DENY
