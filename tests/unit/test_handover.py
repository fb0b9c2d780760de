"""The hand-over's digest: what the next shift is told, and in which order."""

from dataclasses import replace

from responder import facts as f
from responder.handover import AHEAD, Standing, digest
from responder.incident import Due, Incident
from responder.recorded import Outcome, Result, StepStatus
from responder.records import DeadLetterRow, Lane, MessageRow, Sending
from responder.scopes import InForce, Lock, Pause, Scheduled
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, ended, fired, intended, opened, started, told

NOW = T0 + 3 * HOUR
EMPTY = Standing(since=T0, now=NOW)


def incident(name: str, **changes: object) -> Incident:
    return told(opened(title=name), fired()).model_copy(update={"id": name, **changes})


def unknown() -> Incident:
    why = "no answer"
    stopped = f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why=why)
    return told(opened(), fired(), started(), intended(), SECOND, ended(Outcome.UNKNOWN), stopped)


def test_nothing_is_told_as_nothing() -> None:
    found = digest(EMPTY)
    assert found.pop("now") == "2026-11-20T17:00:00Z"
    assert found.pop("since") == "2026-11-20T14:00:00Z"
    assert found.pop("pause") is None
    assert set(map(tuple, found.values())) == {()}


def test_what_nobody_has_and_is_most_severe_stands_first() -> None:
    mine = told(opened(title="mine"), fired(), f.Acknowledged(note="on it"), actor="asha")
    mild, strange = incident("mild", severity="warning"), incident("strange", severity=None)
    standing = replace(EMPTY, open=(mine, mild, strange), waits={"mild": "its alerts to end"})
    found = digest(standing)["open"]
    assert [one["title"] for one in found] == ["strange", "mild", "mine"]
    assert found[1]["waits_for"] == "its alerts to end"
    assert found[2]["who"] == {
        "name": "asha",
        "does": "has acknowledged it",
        "at": "2026-11-20T14:00:00Z",
        "note": "on it",
    }
    assert found[0]["lasted"] == 3 * 3600.0


def test_what_closed_comes_latest_first_with_its_result() -> None:
    first = incident("first", closed_at=T0 + MINUTE, result=Result.FIXED)
    last = incident("last", closed_at=T0 + HOUR, result=Result.INEFFECTIVE)
    found = digest(replace(EMPTY, closed=(first, last)))["closed"]
    assert [(one["title"], one["result"], one["lasted"]) for one in found] == [
        ("last", "ineffective", 3600.0),
        ("first", "fixed", 60.0),
    ]


def test_an_unknown_change_of_a_closed_incident_is_still_to_be_settled() -> None:
    found = digest(replace(EMPTY, locked=(unknown(),)))["unsettled"]
    assert [(one["incident"], one["preview"]) for one in found] == [("i1", "kelly 0.25 → 0.1")]


def test_changes_in_force_say_what_was_and_for_how_long() -> None:
    below = InForce(incident="i1", attempt="a", step="cut", target="t", preview="cut", before=0.25, value=0.1, since=T0)
    top = below.model_copy(
        update={"incident": "i2", "before": 0.1, "value": 0.05, "since": T0 + HOUR, "beneath": below}
    )
    found = digest(replace(EMPTY, in_force={"t": top}))["in_force"]
    assert [(c["incident"], c["value"], c["before"], c["lasted"], c["beneath_another"]) for c in found] == [
        ("i2", 0.05, 0.1, 7200.0, False),
        ("i1", 0.1, 0.25, 10800.0, True),
    ]


def test_what_comes_is_told_in_order_and_not_too_far_ahead() -> None:
    soon = Due(kind="level", round=0, due=NOW + HOUR, what="L2 is told")
    silent = Due(kind="poll", round=0, due=NOW + MINUTE)
    far = Due(kind="level", round=1, due=NOW + AHEAD + 1, what="L3 is told")
    change = InForce(incident="i1", attempt="a", step="cut", target="t", preview="cut", before=1, value=0, since=T0)
    found = digest(
        replace(
            EMPTY,
            open=(incident("one", agenda=(far, soon, silent)),),
            in_force={"t": change},
            reminders={"t": NOW + MINUTE, "gone": NOW},
            schedules={"nightly": Scheduled(cron="0 0 * * *", timezone="UTC", next=NOW + 2 * HOUR)},
        )
    )["timers"]
    assert [(one["about"], one["what"]) for one in found] == [
        ("t", "people are reminded of it: cut"),
        ("one", "L2 is told"),
        ("nightly", "its schedule starts a run"),
    ]


def test_locks_the_pause_and_what_is_dead_are_told() -> None:
    row = MessageRow("m1", "i1", 1, Lane.PAGE, "desk", "page", "k", T0, T0, state=Sending.DEAD, error="no such key")
    found = digest(
        replace(
            EMPTY,
            pause=Pause(paused=True, actor="otto", at=T0, reason="maintenance"),
            unread=("lock:redis:mymaster",),
            locks={"t": Lock(incident="i1", run=1, since=T0, unknown=True)},
            letters=(DeadLetterRow("d1", T0, "am", "not JSON", b"{"),),
            messages=(row,),
        )
    )
    assert found["pause"] == {"actor": "otto", "at": "2026-11-20T14:00:00Z", "reason": "maintenance"}
    assert found["unreadable"] == ["lock:redis:mymaster"]
    assert [(lock["target"], lock["unknown"]) for lock in found["locks"]] == [("t", True)]
    assert [(d["id"], d["bytes"], "body" in d) for d in found["dead_letters"]] == [("d1", 1, False)]
    assert [(m["destination"], m["error"]) for m in found["dead_messages"]] == [("desk", "no such key")]
