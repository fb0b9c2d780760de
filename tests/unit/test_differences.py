"""The difference of decisions between two sets of rules, from journals alone."""

from __future__ import annotations

from typing import Any

from responder import facts as f
from responder.decisions import decisions
from responder.differences import Answering, Comparison, Played, compare
from responder.incident import Incident
from responder.journal import fold
from responder.recorded import Answer, Result, StepStatus, Verdict
from responder.tales import Line, Page, Tale
from responder.timing import MINUTE, SECOND
from tests.builders import T0, a_plan, fired, intended, opened, started

Moment = tuple[int, f.Fact]


def tale(*moments: Moment, pages: tuple[tuple[int, str], ...] = (), id_: str = "i1") -> Tale:
    """An incident from facts, each at an offset in seconds."""
    events = [
        f.Event(id=f"{id_}.{n}", incident=id_, seq=n, at=T0 + int(at * SECOND), actor="responder", fact=fact)
        for n, (at, fact) in enumerate(moments, 1)
    ]
    state = fold(events)
    assert isinstance(state, Incident)
    lines = tuple(Line(event.at - T0, event, f"told in {id_}") for event in events)
    return Tale(state, lines, tuple(Page(int(at * SECOND), who, f"why in {id_}", "") for at, who in pages))


def run(*more: Moment, to: float = 0.1, id_: str = "i1", alerts: tuple[str, ...] = ("a",), **parts: Any) -> Tale:
    """An incident that cuts to a value and ends fixed after a minute."""
    attempt = intended(plan=a_plan(params={"parameter": "kelly", "to": to}), verdicts=parts.pop("verdicts", ()))
    pages = parts.pop("pages", ())
    begun: list[Moment] = [(0, opened(id=id_, **parts)), *((0, fired(a)) for a in alerts), (0, started()), (0, attempt)]
    ended: Moment = (60, f.RunEnded(run=1, result=Result.FIXED, why=f"said in {id_}"))
    return tale(*begun, *sorted((*more, ended), key=lambda m: m[0]), pages=pages, id_=id_)


def answer(fingerprint: str = "a", runbook: str | None = "cut", target: str = "kelly", *problems: str) -> Answering:
    return Answering(fingerprint, f"Alert {fingerprint}", runbook, target, problems)


def between(one: Tale | tuple[Tale, ...], two: Tale | tuple[Tale, ...], *answers: Answering) -> Comparison:
    known = answers or (answer(),)
    sides = [(side,) if isinstance(side, Tale) else side for side in (one, two)]
    return compare(Played(known, sides[0]), Played(known, sides[1]))


def kinds(comparison: Comparison) -> list[tuple[Any, Any, Any]]:
    """Each difference as (kind, at the configured rules, at the others); a decision as its details."""
    return [
        ((d.configured or d.other).subject[0], shown(d.configured), shown(d.other))  # type: ignore[union-attr]
        for group in comparison.groups
        for d in group.differences
    ]


def shown(decision: Any) -> Any:
    return None if decision is None else (decision.offset and decision.offset // SECOND, dict(decision.details))


def gate(name: str, answer_: Answer = Answer.ALLOW, reason: str = "fine", *, warn: bool = False) -> Verdict:
    return Verdict(gate=name, answer=answer_, reason=reason, warn=warn)


def test_ids_titles_and_reasons_are_no_decisions() -> None:
    one = run(verdicts=(gate("runs", reason="0 runs, limit 3"),), id_="i1", pages=((90, "pm"),))
    two = run(verdicts=(gate("runs", reason="0 runs, limit 4"),), id_="i2", title="Other words", pages=((90, "pm"),))
    comparison = between(one, two)
    assert comparison.same
    assert (comparison.alerts(same=True), comparison.alerts(same=False)) == (1, 0)


def test_turns_of_the_engine_are_no_decisions_and_a_second_is() -> None:
    assert between(run(pages=((90, "pm"),)), run(pages=((90.4, "pm"),))).same
    assert not between(run(pages=((90, "pm"),)), run(pages=((91, "pm"),))).same


def test_a_parameter_differs_alone() -> None:
    ((kind, one, two),) = kinds(between(run(), run(to=0.08)))
    assert kind == "attempt"
    assert (one[1]["to"], two[1]["to"]) == ("0.1", "0.08")


def test_pages_differ_by_whom_and_when() -> None:
    found = kinds(between(run(pages=((60, "pm"), (300, "cro"))), run(pages=((120, "pm"), (300, "cto")))))
    assert found == [
        ("page", (60, {}), (120, {})),
        ("page", (300, {}), None),
        ("page", None, (300, {})),
    ]


def test_a_gate_that_refuses_differs_and_its_reason_is_shown() -> None:
    refused = f.Refused(run=1, step="cut", verdicts=(gate("pause"), gate("budget", Answer.DENY, "0.15 of 0.1")))
    begun = ((0, opened()), (0, fired()), (0, started()))
    comparison = between(run(verdicts=(gate("budget"),)), tale(*begun, (0, refused)))
    told = {d.other.subject[0]: d.other for d in comparison.groups[0].differences if d.other is not None}
    assert dict(told["refusal"].details) == {"gate budget": "refuses"}
    assert told["refusal"].note == "0.15 of 0.1"
    assert [k for k, _, _ in kinds(comparison)] == ["attempt", "refusal", "result"]


def test_a_gate_that_warns_and_one_more_gate_differ() -> None:
    one = run(verdicts=(gate("runs"),))
    two = run(verdicts=(gate("runs", warn=True), gate("calendar")))
    assert kinds(between(one, two)) == [
        ("gate", (0, {"": "allows"}), (0, {"": "warns"})),
        ("gate", None, (0, {"": "allows"})),
    ]


def test_waits_skips_and_failed_steps_are_decisions() -> None:
    wait = f.Waiting(run=1, step="cut", verdicts=(gate("lock", Answer.WAIT),), until=T0 + MINUTE)
    later = wait.model_copy(update={"until": T0 + 2 * MINUTE})
    skip = f.StepSkipped(run=1, step="cut", why="when a > 1 is not true")
    end = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN)
    found = kinds(between(run((1, wait), (2, skip)), run((1, later), (2, end))))
    assert [(k, one and one[1], two and two[1]) for k, one, two in found] == [
        ("wait", {"gate lock": "waits", "until": "+1:00"}, {"gate lock": "waits", "until": "+2:00"}),
        ("skip", {"": "when a > 1 is not true"}, None),
        ("end", None, {"": "unknown"}),
    ]


def test_promises_that_are_kept_are_told_by_their_run_and_page() -> None:
    kept = f.MachineFired(round=0, index=0, page=("cro",), runbook="halt")
    held = kept.model_copy(update={"held": "no evidence"})
    found = kinds(between(run((90, kept)), run((90, held))))
    assert found == [("promise", None, (90, {"": "held back"}))]


def test_another_runbook_is_told_once_for_alerts_that_change_alike() -> None:
    one, two = run(alerts=("a", "b")), run(alerts=("a", "b"), id_="i2")
    mine = (answer("a"), answer("b"))
    theirs = (answer("a", "cut-more"), answer("b", "cut-more"))
    comparison = compare(Played(mine, (one,)), Played(theirs, (two,)))
    (difference,) = comparison.groups[0].differences
    assert difference.configured is not None
    assert difference.other is not None
    assert dict(difference.configured.details) == {"": "cut on kelly"}
    assert dict(difference.other.details) == {"": "cut-more on kelly"}
    assert comparison.alerts(same=False) == 2


def test_a_problem_is_not_told_twice() -> None:
    nobody = tale((0, opened(id="i2", runbook=None)), (0, fired()), (0, f.ProblemFound(problem="no runbook matches")))
    mine, theirs = answer(), answer("a", None, "alert:x", "no runbook matches")
    comparison = compare(Played((mine,), (run(),)), Played((theirs,), (nobody,)))
    assert [k for k, _, _ in kinds(comparison)] == ["answer", "run", "attempt", "result"]


def test_incidents_are_cut_differently() -> None:
    together = run(alerts=("a", "b"))
    apart = (run(alerts=("a",), id_="i2"), run(alerts=("b",), id_="i3"))
    comparison = between(together, apart, answer("a"), answer("b"))
    (group,) = comparison.groups
    cut = group.differences[0]
    assert cut.configured is not None
    assert cut.other is not None
    assert (cut.configured.what, dict(cut.configured.details)) == ("1 incident", {"": "Alert a, Alert b"})
    assert (cut.other.what, dict(cut.other.details)) == ("2 incidents", {"": "Alert a | Alert b"})
    assert all(d.configured is None for d in group.differences[1:])


def test_incidents_are_matched_by_alerts_and_never_by_id() -> None:
    mine = (run(alerts=("a",), id_="i1"), run(alerts=("b",), id_="i2", to=0.2))
    theirs = (run(alerts=("b",), id_="i1", to=0.2), run(alerts=("a",), id_="i2"))
    comparison = between(mine, theirs, answer("a"), answer("b"))
    assert comparison.same
    assert [group.title for group in comparison.groups] == ["Alert a", "Alert b"]


def test_one_alert_that_fires_twice_is_matched_in_order() -> None:
    first, second = run(), run(id_="i2", to=0.2)
    assert between((first, second), (run(id_="i7"), run(id_="i8", to=0.2))).same
    assert not between((first, second), (first,)).same


def test_incidents_that_share_more_alerts_belong_together() -> None:
    both = run(alerts=("a", "b"), id_="i9", to=0.5)
    mine = (run(alerts=("a",), id_="i1", to=0.1), run(alerts=("b",), id_="i2", to=0.2), both)
    theirs = (run(alerts=("b",), id_="i3", to=0.2), run(alerts=("a",), id_="i4", to=0.1), both)
    assert between(mine, theirs, answer("a"), answer("b")).same


def test_an_incident_without_an_alert_is_known_by_its_target() -> None:
    one = tale((0, opened(runbook=None, target="responder:unreadable")), (0, f.ProblemFound(problem="bad")))
    comparison = between((run(), one), (run(), one))
    assert [(g.title, len(g.alerts), g.same) for g in comparison.groups] == [
        ("Alert a", 1, True),
        ("responder:unreadable", 0, True),
    ]


def test_decisions_are_in_the_order_of_time() -> None:
    found = [d.offset for d in decisions(run(pages=((30, "pm"),)))]
    assert found == sorted(found, key=lambda offset: offset or 0)
    assert len(found) == 5


def test_differences_are_in_the_order_of_time() -> None:
    comparison = between(run(pages=((30, "pm"), (600, "cro"))), run(to=0.2, pages=((30, "pm"), (61, "cto"))))
    assert [d.at // SECOND for d in comparison.groups[0].differences] == [0, 61, 600]
