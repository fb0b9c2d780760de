"""What folding remembers of people: since when the climb stands still, which pages are open, how large a storm is."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.incident import Incident
from responder.people_folds import PEOPLE, REPLACED_KEPT, held_by_calendar, waits_for_hours
from responder.recorded import Answer, Cause, Outcome, Result, Verdict
from responder.timing import HOUR, MINUTE
from tests.builders import T0, ended, fired, intended, opened, started, told

L1 = f.LevelReached(round=0, index=0, name="L1", page=(), why="")
L2 = f.LevelReached(round=0, index=1, name="L2", page=(), why="")
EXPIRED = f.AcknowledgementExpired(count=1, page=())


def after(*facts: f.Fact | int) -> Incident:
    """The state after these facts, from T0 on; a number lets so many µs pass."""
    return told(opened(), fired(), *facts)


# --- the climb stands still -------------------------------------------------------------------------------------------


def ladder(*facts: f.Fact | int) -> tuple[int, int, int | None]:
    """By how long the ladder has moved on, how long it has stood still since the latest level, and since when."""
    incident = after(*facts)
    return incident.ladder_from - T0, incident.stood, incident.still_since


def test_the_ladder_moves_on_by_the_time_for_which_it_stood_still() -> None:
    acknowledged = (2 * MINUTE, f.Acknowledged(), 30 * MINUTE)
    assert ladder(*acknowledged) == (0, 0, T0 + 2 * MINUTE)
    assert ladder(*acknowledged, EXPIRED) == (30 * MINUTE, 30 * MINUTE, None)
    assert ladder(*acknowledged, f.Unacknowledged()) == (30 * MINUTE, 30 * MINUTE, None)
    again = (*acknowledged, EXPIRED, MINUTE, f.Acknowledged(), 5 * MINUTE, EXPIRED)
    assert ladder(*again) == (35 * MINUTE, 35 * MINUTE, None), "both times together"


def test_it_has_stood_still_only_since_the_latest_level() -> None:
    still = (2 * MINUTE, f.Acknowledged(), 10 * MINUTE)
    assert ladder(*still, L1, 5 * MINUTE, EXPIRED) == (15 * MINUTE, 5 * MINUTE, None), "a level was told meanwhile"
    assert ladder(*still, L2, 5 * MINUTE, L1, MINUTE, EXPIRED) == (16 * MINUTE, MINUTE, None), "the latest of them"
    assert ladder(*still, EXPIRED, L1) == (10 * MINUTE, 0, None)
    other = f.LevelReached(round=1, index=0, name="L1", page=(), why="")
    assert ladder(*still, other, 5 * MINUTE, EXPIRED) == (15 * MINUTE, 15 * MINUTE, None), "of another round"
    assert ladder(MINUTE, L1, MINUTE, f.Acknowledged(), MINUTE, EXPIRED) == (MINUTE, MINUTE, None)


def test_it_stood_still_until_its_end_and_not_until_somebody_could_record_that() -> None:
    late = f.AcknowledgementExpired(count=1, page=(), ended=T0 + 32 * MINUTE)
    assert ladder(2 * MINUTE, f.Acknowledged(), 5 * HOUR, late) == (30 * MINUTE, 30 * MINUTE, None)
    snoozed = (2 * MINUTE, f.Snoozed(until=T0 + 12 * MINUTE))
    assert ladder(*snoozed, 5 * HOUR, f.SnoozeEnded()) == (10 * MINUTE, 10 * MINUTE, None)
    assert ladder(*snoozed, MINUTE, f.SnoozeEnded()) == (MINUTE, MINUTE, None), "it was ended before"


def test_an_end_before_the_beginning_moves_nothing() -> None:
    """Clocks were set: what is over was over before it began."""
    early = f.AcknowledgementExpired(count=1, page=(), ended=T0)
    assert ladder(2 * MINUTE, f.Acknowledged(), MINUTE, early) == (0, 0, None)


def test_the_first_word_counts_since_when_nobody_climbs() -> None:
    words = (f.Acknowledged(), MINUTE, f.Snoozed(until=T0 + HOUR), MINUTE, f.Acknowledged())
    assert after(*words).still_since == T0
    incident = after(*words[:3])
    assert (incident.acknowledged, incident.snoozes, incident.acknowledgements) == (None, 1, 1)
    assert after(*words).acknowledgements == 2
    assert after(f.Snoozed(until=T0), f.Snoozed(until=T0)).snoozes == 2


def test_an_acknowledgement_of_before_the_time_was_kept_counts_from_itself() -> None:
    old = after(MINUTE, f.Acknowledged()).model_copy(update={"still_since": None})
    expired = f.Event(id="e9", incident="i1", seq=9, at=T0 + 4 * MINUTE, actor="responder", fact=EXPIRED)
    found = PEOPLE[f.AcknowledgementExpired](old, EXPIRED, expired)
    assert (found.ladder_from, found.stood) == (T0 + 3 * MINUTE, 3 * MINUTE)
    nobody = PEOPLE[f.AcknowledgementExpired](after(), EXPIRED, expired)
    assert (nobody.ladder_from, nobody.stood, nobody.still_since) == (T0, 0, None)


def test_a_ladder_that_begins_again_has_forgotten_who_had_it() -> None:
    page = f.Paged(destination="first", key="k1", why="")
    known = (L1, page, f.PageAccepted(destination="first", key="k1"), f.Acknowledged(), MINUTE, EXPIRED)
    again = after(*known, MINUTE, f.LadderRepeated(number=1))
    assert (again.ladder_from, again.ladder_round, again.repeats) == (T0 + 2 * MINUTE, 1, 1)
    assert (again.acknowledged, again.snoozed, again.still_since, again.stood) == (None, None, None, 0)
    assert (again.answered, again.reached) == (("k1",), ())


# --- pages ------------------------------------------------------------------------------------------------------------


def paged(*pages: tuple[str, str, str], accepted: tuple[str, str] | None = None) -> Incident:
    """After pages to a destination, by their keys, each in the place of another one or of none."""
    facts: list[f.Fact | int] = [f.Paged(destination=to, key=k, why="", supersedes=before) for to, k, before in pages]
    if accepted is not None:
        facts.append(f.PageAccepted(destination=accepted[0], key=accepted[1]))
    return after(*facts)


def test_one_page_is_open_at_each_destination_and_ends_those_before_it() -> None:
    one = paged(("first", "k1", ""))
    assert (one.paged, one.replaced) == ((("first", "k1"),), {})
    both = paged(("first", "k1", ""), ("second", "k1", ""))
    assert both.paged == (("first", "k1"), ("second", "k1"))
    later = paged(("first", "k1", ""), ("second", "k1", ""), ("first", "k2", "k1"))
    assert later.paged == (("second", "k1"), ("first", "k2")), "only where it was put out"
    assert later.replaced == {"k2": ("k1",)}
    third = paged(("first", "k1", ""), ("first", "k2", "k1"), ("first", "k3", "k2"))
    assert (third.paged, third.replaced) == ((("first", "k3"),), {"k3": ("k2", "k1")})


def test_an_accepted_page_ends_the_ones_before_it_and_no_others() -> None:
    pages = (("first", "k1", ""), ("first", "k2", "k1"), ("second", "m1", ""), ("second", "m2", "m1"))
    taken = paged(*pages, accepted=("first", "k2"))
    assert (taken.replaced, taken.reached) == ({"m2": ("m1",)}, ("first",))
    assert taken.paged == paged(*pages).paged


def test_so_many_pages_are_ended_by_one() -> None:
    pages = [("first", f"k{n}", f"k{n - 1}" if n else "") for n in range(25)]
    (ended,) = paged(*pages).replaced.values()
    assert ended == tuple(f"k{n}" for n in range(23, 3, -1))
    assert len(ended) == REPLACED_KEPT


def test_words_from_outside_are_remembered_and_others_are_not() -> None:
    words = (f.Noted(text="x", word="w1"), f.Noted(text="y"), f.Acknowledged(via="first", word="w2"), f.Acknowledged())
    assert after(*words, f.Unacknowledged(word="w3")).heard == ("w1", "w2", "w3")
    many = after(*[f.Noted(text="x", word=f"w{n}") for n in range(105)]).heard
    assert many == tuple(f"w{n}" for n in range(5, 105))


# --- storms -----------------------------------------------------------------------------------------------------------


def storm(grows: int, shrinks: int = 0) -> Incident:
    """A storm after so many incidents have joined it and so many of them are over."""
    joined = [f.StormGrew(incident=f"m{n}", title="", target=f"t{n}") for n in range(grows)]
    return told(opened(), *joined, *[f.StormShrank(incident=f"m{n}") for n in range(shrinks)])


def test_a_storm_counts_who_joined_and_who_is_left() -> None:
    found = storm(3, 1)
    assert (found.members, found.members_open, found.member_names) == (3, 2, ("t0", "t1", "t2"))
    assert storm(2, 2).members_open == 0
    assert storm(1, 3).members_open == 0, "never fewer than none"
    assert storm(30).member_names == tuple(f"t{n}" for n in range(10))


@pytest.mark.parametrize("size", [100, 1_000])
def test_ten_times_as_many_are_news(size: int) -> None:
    before, there, past = (storm(count) for count in (size - 1, size, size + 1))
    assert there.urgent == f"{size} incidents by now"
    assert (before.urgent_number, past.urgent_number) == (there.urgent_number - 1, there.urgent_number)


@pytest.mark.parametrize(("was", "left"), [(3, 2), (1, 0), (0, 0)])
def test_one_fewer_is_left_and_never_fewer_than_none(was: int, left: int) -> None:
    fact = f.StormShrank(incident="m")
    event = f.Event(id="e9", incident="i1", seq=9, at=T0, actor="responder", fact=fact)
    large = told(opened()).model_copy(update={"members_open": was})
    assert PEOPLE[f.StormShrank](large, fact, event).members_open == left


def test_ten_thousand_are_news_too() -> None:
    for members, news in ((9_998, False), (9_999, True), (10_000, False)):
        large = told(opened()).model_copy(update={"members": members})
        fact = f.StormGrew(incident="m", title="", target="t")
        event = f.Event(id="e9", incident="i1", seq=9, at=T0, actor="responder", fact=fact)
        assert (PEOPLE[f.StormGrew](large, fact, event).urgent == "10000 incidents by now") is news


# --- hours ------------------------------------------------------------------------------------------------------------

SHUT = Verdict(gate="calendar", answer=Answer.DENY, reason="closed")
ROOM = Verdict(gate="budget", answer=Answer.DENY, reason="used up")


@pytest.mark.parametrize(
    ("verdicts", "acted", "held"),
    [
        ((SHUT,), False, True),
        ((ROOM, SHUT), False, True),
        ((SHUT, ROOM), False, False),
        ((SHUT,), True, False),
        ((SHUT.model_copy(update={"answer": Answer.ASK}),), False, False),
        ((), False, False),
    ],
)
def test_its_hours_held_it_back_when_they_had_the_last_word(
    verdicts: tuple[Verdict, ...], acted: bool, held: bool
) -> None:
    tried: tuple[f.Fact, ...] = (intended(), ended(Outcome.PERMANENT)) if acted else ()
    refused = f.Refused(run=1, step="cut", verdicts=verdicts)
    assert held_by_calendar(after(started(), *tried, refused).runs[0]) is held


SAID = f.CalendarOverridden(runbook="cut", until=T0 + HOUR, hours="closed", note="agreed")


def test_only_the_run_of_this_runbook_that_its_hours_held_back_begins_anew() -> None:
    over = (f.Refused(run=1, step="cut", verdicts=(SHUT,)), f.RunEnded(run=1, result=Result.CANCELLED, why=""))
    assert after(started(), *over).result is Result.CANCELLED
    anew = after(started(), *over, SAID)
    assert anew.result is None
    assert anew.override is not None
    assert (anew.override.actor, anew.override.at, anew.override.until) == ("responder", T0, T0 + HOUR)
    other = after(started(runbook="halt"), *over, SAID)
    assert other.result is Result.CANCELLED
    assert other.override is not None
    limited = (f.Refused(run=1, step="cut", verdicts=(ROOM,)), f.RunEnded(run=1, result=Result.CANCELLED, why=""))
    assert after(started(), *limited, SAID).result is Result.CANCELLED
    going_on = (started(number=2, cause=Cause.RELAPSE), f.Refused(run=2, step="cut", verdicts=(SHUT,)), SAID)
    assert after(started(), *over, *going_on).result is Result.CANCELLED, "it is under way and passes its gate itself"
    assert after(SAID).override is not None


WAITS = Verdict(gate="calendar", answer=Answer.WAIT, reason="closed", until=T0 + HOUR)


def waiting(*verdicts: Verdict, run: int = 1) -> f.Waiting:
    """A run waits by these gates."""
    return f.Waiting(run=run, step="cut", verdicts=verdicts, until=T0 + HOUR)


@pytest.mark.parametrize(
    ("verdicts", "for_hours"),
    [
        ((WAITS,), True),
        ((ROOM, WAITS), True),
        ((WAITS, WAITS.model_copy(update={"gate": "pause"})), False),
        ((SHUT,), False),
        ((WAITS.model_copy(update={"answer": Answer.ASK}),), False),
        ((), False),
    ],
)
def test_what_its_hours_said_to_a_run_that_waits_for_them_is_answered(
    verdicts: tuple[Verdict, ...], for_hours: bool
) -> None:
    """It is told once more, should they hold it back once more."""
    before = after(started(), waiting(*verdicts))
    assert waits_for_hours(before.runs[0]) is for_hours
    (run,) = after(started(), waiting(*verdicts), SAID).runs
    assert run.verdicts == (() if for_hours else verdicts)
    assert run.waits_until == T0 + HOUR


def test_only_the_run_that_waits_for_its_hours_is_answered() -> None:
    first = (started(), f.Refused(run=1, step="cut", verdicts=(ROOM,)), f.RunEnded(run=1, result=Result.FAILED, why=""))
    two = after(*first, started(number=2, cause=Cause.RELAPSE), waiting(WAITS, run=2), SAID)
    assert [run.verdicts for run in two.runs] == [(ROOM,), ()]
    three = after(*first, started(number=2), f.RunEnded(run=2, result=Result.FAILED, why=""), started(number=3),
                  waiting(WAITS, run=3), SAID)  # fmt: skip
    assert [run.number for run in three.runs] == [1, 2, 3]
    over = after(started(), waiting(WAITS), f.RunStopped(run=1), f.RunEnded(run=1, result=Result.CANCELLED, why=""))
    assert not waits_for_hours(over.runs[0]), "it waits no more"
    going = after(started(), f.Refused(run=1, step="cut", verdicts=(WAITS,)))
    assert not waits_for_hours(going.runs[0]), "it has not begun to wait"
