"""Where a page goes that its destination does not take."""

from __future__ import annotations

import pytest

from responder.outbox import next_channel
from responder.policies import Level, Policy
from responder.records import Lane, MessageRow


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
