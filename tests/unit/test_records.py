"""What a group's state shows to the operations of the group."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from responder.incident import Due, Incident
from responder.records import (
    EpisodeRow,
    IncidentRow,
    Keys,
    Lane,
    MessageRow,
    NotLoaded,
    ScopeRow,
    Sending,
    State,
    Writes,
    agenda_rows,
    open_key,
    renewed,
)

INCIDENT = IncidentRow(
    id="i1",
    open_key="k1",
    fold=Incident(
        id="i1",
        runbook=None,
        rules_hash="h",
        policy="p",
        target="t",
        title="T",
        severity=None,
        opened_at=1,
        ladder_from=1,
        clock_from=1,
    ),
    owner=None,
    epoch=0,
    lease_until=0,
)
EPISODE = EpisodeRow("live", "f1", "i1", firing=True, since=1, starts_at=None, ended_at=None, severity=None)
SCOPE = ScopeRow("lock:t", "{}", 1)
MESSAGE = MessageRow("m1", "i1", 1, Lane.ROOT, "slack", "root", "order", created_at=1, next_at=5)

ASKS: dict[str, tuple[Callable[[State], object], Keys]] = {
    "incidents": (lambda s: s.incident("i1"), Keys(incidents=frozenset({"i1"}))),
    "episodes": (lambda s: s.episode("live", "f1"), Keys(episodes=frozenset({("live", "f1")}))),
    "open keys": (lambda s: s.open_incident("k1"), Keys(open_keys=frozenset({"k1"}))),
    "scopes": (lambda s: s.scope("lock:t"), Keys(scopes=frozenset({"lock:t"}))),
    "messages": (lambda s: s.message("m1"), Keys(messages=frozenset({"m1"}))),
}


@pytest.mark.parametrize("asked", ASKS)
def test_what_is_not_loaded_is_asked_for_by_its_key(asked: str) -> None:
    ask, keys = ASKS[asked]
    with pytest.raises(NotLoaded) as raised:
        ask(State(now=1))
    assert raised.value.keys == keys


def test_what_is_loaded_and_absent_is_none() -> None:
    state = State(1, {"i1": None}, {("live", "f1"): None}, {"k1": None}, {"lock:t": None}, {"m1": None})
    assert [ask(state) for ask, _ in ASKS.values()] == [None] * len(ASKS)


def test_writes_are_visible_to_the_next_operation() -> None:
    state = State(now=1)
    state.take(Writes(incidents=(INCIDENT,), episodes=(EPISODE,), scopes=(SCOPE,), messages=(MESSAGE,)))
    assert [ask(state) for ask, _ in ASKS.values()] == [INCIDENT, EPISODE, INCIDENT, SCOPE, MESSAGE]


def test_an_incident_that_closes_frees_its_open_key() -> None:
    state = State(now=1)
    state.take(Writes(incidents=(INCIDENT,)))
    over = replace(INCIDENT, open_key=None)
    state.take(Writes(incidents=(over,)))
    assert state.open_incident("k1") is None
    assert state.incident("i1") == over
    assert over.closed


def test_closing_one_and_opening_another_leaves_the_key_with_the_other() -> None:
    state = State(now=1)
    state.take(Writes(incidents=(INCIDENT,)))
    other = replace(INCIDENT, id="i2")
    state.take(Writes(incidents=(replace(INCIDENT, open_key=None), other)))
    assert state.open_incident("k1") == other


def test_keys_add_up() -> None:
    every = Keys()
    for _, keys in ASKS.values():
        every |= keys
    assert every == Keys(
        frozenset({"i1"}), frozenset({("live", "f1")}), frozenset({"k1"}), frozenset({"lock:t"}), frozenset({"m1"})
    )
    assert not Keys()
    assert all(keys for _, keys in ASKS.values())


def test_an_open_key_tells_runbook_and_target_apart() -> None:
    keys = {
        open_key("live", "a", "b"),
        open_key("live", None, "b"),
        open_key("replay", "a", "b"),
        open_key("live", "b", "a"),
    }
    assert len(keys) == 4


def test_only_what_changed_of_an_agenda_is_written() -> None:
    kept, moved, gone = (Due(kind=kind, round=0, due=1) for kind in ("kept", "moved", "gone"))
    later, new = moved.model_copy(update={"due": 2}), Due(kind="kept", round=1, due=1)
    rows = list(agenda_rows("i1", (kept, moved, gone), (kept, later, new)))
    assert [(row.subject, row.due, row.gone) for row in rows] == [
        ("i1", gone, True),
        ("i1", later, False),
        ("i1", new, False),
    ]
    assert rows[2].key == ("i1", "kept", 1)


def test_a_renewed_message_may_leave_at_once_and_keeps_what_the_destination_answered() -> None:
    sent = replace(MESSAGE, state=Sending.SENT, attempts=4, sent_at=6, provider='{"ts": "1"}', error="slow")
    after = renewed(sent, replace(MESSAGE, next_at=9, event_seq=7, rank=3, created_at=8))
    assert after == replace(MESSAGE, next_at=9, event_seq=7, rank=3, sent_at=6, provider='{"ts": "1"}')


def test_a_renewed_message_is_shown_to_the_next_operation() -> None:
    state = State(1, messages={"m1": replace(MESSAGE, state=Sending.SENT)})
    state.take(Writes(renewed=(replace(MESSAGE, next_at=9), replace(MESSAGE, id="unread"))))
    assert state.message("m1") == replace(MESSAGE, next_at=9)
    with pytest.raises(NotLoaded):
        state.message("unread")
