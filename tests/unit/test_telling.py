"""What leaves because of a fact: pages with a key of their own, and no line where there is nothing to be read."""

from __future__ import annotations

import pytest

from responder import facts as f
from responder.policies import Policy
from responder.telling import has_line, told
from tests import builders
from tests.builders import T0, a_policy, fired, opened

POLICY = Policy.model_validate(a_policy())
PAGES: list[tuple[f.Fact, str]] = [
    (f.LevelReached(round=2, index=1, name="L2", page=("first",), why="late"), "l2.1"),
    (f.MachineFired(round=0, index=3, page=("first",)), "m0.3"),
    (f.AcknowledgementExpired(count=2, page=("first",)), "a2"),
    (f.UrgentTold(number=4, page=("first",), why="nobody knows"), "u4"),
]


def rows_of(fact: f.Fact, namespace: str = "live") -> list[tuple[str, str, str]]:
    incident = builders.told(opened(namespace=namespace), fired(), fact)
    event = f.Event(id="e", incident="i1", seq=3, at=T0, actor="responder", fact=fact)
    return [(m.lane.value, m.destination, m.order_key) for m in told(incident, event, POLICY, "test").messages]


@pytest.mark.parametrize(("fact", "occasion"), PAGES, ids=[o for _, o in PAGES])
def test_every_occasion_to_page_has_a_key_of_its_own(fact: f.Fact, occasion: str) -> None:
    pages = [row for row in rows_of(fact) if row[0] == "page"]
    assert pages == [("page", "first", f"responder/test/i1/first/{occasion}")]
    assert rows_of(fact, "replay") == []


def test_a_destination_that_is_named_twice_is_paged_once() -> None:
    twice = f.UrgentTold(number=1, page=("first", "second", "first"), why="")
    assert [to for lane, to, _ in rows_of(twice) if lane == "page"] == ["first", "second"]


def test_what_is_urgent_has_a_line_only_when_it_pages_somebody() -> None:
    assert has_line(f.UrgentTold(number=1, page=("first",), why="x"))
    assert not has_line(f.UrgentTold(number=1, page=(), why="x")), "the fact that is urgent has said it"
