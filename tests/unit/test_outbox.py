"""Where a page goes that its destination does not take, and which page a person's word answers."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.journal import apply
from responder.outbox import ACKNOWLEDGE, MOVE, PAGE, next_channel, useless
from responder.policies import Level, Policy
from responder.records import Lane, MessageRow
from responder.timing import HOUR, MINUTE
from tests.builders import T0, as_of_before, fired, opened, told


def page_row(name: str, to: str = "first") -> MessageRow:
    return MessageRow(name, "i1", 1, Lane.PAGE, to, "page", "k", 0, 0)


@pytest.mark.parametrize(
    ("name", "to", "expected"),
    [
        ("op1:0:page:first", "first", "second"),
        ("op1:0:page:first>second", "second", "third"),
        ("op1:0:page:first>second>third", "third", "last"),
        ("op1:0:page:first>second>third>last", "last", None),
        ("op1:0:page:boss", "boss", "second"),  # who is in no level: as at the first
    ],
)
def test_a_page_goes_from_channel_to_channel_each_once(name: str, to: str, expected: str | None) -> None:
    policy = Policy(levels=(Level(name="L1", after=0, page=("first",), fallback=("second", "third")),))
    assert next_channel(page_row(name, to), policy, "last") == expected


# --- who has answered which page --------------------------------------------------------------------------------------

PAGED = f.LevelReached(round=0, index=0, name="L1", page=("first",), why="nobody has it")
WORDS: dict[str, f.Fact] = {
    "acknowledged": f.Acknowledged(),
    "taken over": f.TakenOver(),
    "snoozed": f.Snoozed(until=T0 + HOUR),
}


def row_of(page_seq: int, template: str = PAGE, at: int = T0) -> MessageRow:
    key = "k#move" if template == MOVE else "k"
    return MessageRow(f"op:{template}:first", "i1", page_seq, Lane.PAGE, "first", template, key, at, at)


@pytest.mark.parametrize("word", WORDS.values(), ids=list(WORDS))
@pytest.mark.parametrize("at", [T0 - MINUTE, T0, T0 + MINUTE])
def test_a_word_answers_the_pages_before_it_in_the_journal_whatever_the_clocks_say(word: f.Fact, at: int) -> None:
    incident = told(opened(), fired(), PAGED, f.Paged(destination="first", key="k", why="w"), word)
    assert useless(row_of(3, at=at), incident, replays=False) == "responder has it by now"
    assert useless(row_of(3, MOVE, at=at), incident, replays=False) == "its page is answered, replaced or over"
    assert useless(row_of(6, at=at), incident, replays=False) is None, "it was paged after that word"
    assert useless(row_of(6, MOVE, at=at), incident, replays=False) is None


def test_the_latest_of_several_words_counts() -> None:
    incident = told(opened(), fired(), f.TakenOver(), PAGED, f.Acknowledged())
    assert useless(row_of(4), incident, replays=False) == "responder has it by now"
    incident = told(opened(), fired(), f.Acknowledged(), f.TakenOver(), PAGED)
    assert useless(row_of(5), incident, replays=False) is None


@pytest.mark.parametrize("template", [PAGE, ACKNOWLEDGE])
@pytest.mark.parametrize("at", [T0 - MINUTE, T0, T0 + MINUTE])
def test_what_was_decided_before_the_closing_is_not_sent_whatever_the_clocks_say(template: str, at: int) -> None:
    incident = told(opened(), fired(), PAGED, f.Closed(why="over"))
    assert useless(row_of(3, template, at), incident, replays=False) == (
        "the incident closed before the page could be sent"
    )
    assert useless(row_of(5, template, at), incident, replays=False) is None


@pytest.mark.parametrize("word", WORDS.values(), ids=list(WORDS))
def test_a_word_of_before_places_were_kept_answers_the_pages_before_it_by_the_clock(word: f.Fact) -> None:
    page = f.Paged(destination="first", key="k", why="w")
    incident = as_of_before(told(opened(), fired(), PAGED, page, MINUTE, word))
    for at in (T0, T0 + MINUTE):
        assert useless(row_of(3, at=at), incident, replays=False) == "responder has it by now"
        assert useless(row_of(3, MOVE, at=at), incident, replays=False) == "its page is answered, replaced or over"
    late = T0 + MINUTE + 1
    assert useless(row_of(6, at=late), incident, replays=False) is None, "it was paged after that word"
    assert useless(row_of(6, MOVE, at=late), incident, replays=False) is None


def test_of_several_words_of_before_the_latest_by_the_clock_counts() -> None:
    incident = as_of_before(told(opened(), fired(), f.TakenOver(), MINUTE, PAGED, MINUTE, f.Acknowledged()))
    assert useless(row_of(4, at=T0 + MINUTE), incident, replays=False) == "responder has it by now"


def test_a_word_with_a_place_is_later_than_one_of_before() -> None:
    before = as_of_before(told(opened(), fired(), MINUTE, f.TakenOver()))
    word = f.Event(id="e4", incident="i1", seq=4, at=T0, actor="bob", fact=f.Acknowledged())
    assert useless(row_of(3, at=T0 + HOUR), apply(before, word), replays=False) == "bob has it by now"


def test_a_closing_of_before_places_were_kept_follows_whatever_waits() -> None:
    closed = as_of_before(told(opened(), fired(), PAGED, f.Closed(why="over")))
    assert useless(row_of(3), closed, replays=False) == "the incident closed before the page could be sent"
