"""Heartbeats that must come in: an alert that always fires is told again and again, which proves that alerts arrive.

While it comes it opens no incident; when it is missing for `within`, or is told as resolved, people hear that alerts
may not arrive (reliability.md S19). What was heard is in memory at once and in a scope row seconds later, so that a
restart knows it and several replicas open one incident. Pure: see `engine.heartbeat` for the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from responder import facts as f
from responder.alert import Alert, Notification
from responder.draft import Book, Draft, Turn
from responder.heartbeat_settings import Expected
from responder.ingest import incident_id
from responder.recorded import LIVE, Mode, Recorded
from responder.records import Change, Keys, State, open_key
from responder.scopes import legible
from responder.scoping import ScopeChange
from responder.telling import AUTHOR
from responder.timing import SECOND, format_duration, format_time

SCOPE: Final = "heartbeat:"
"""What the scope of a heartbeat begins with."""
FLUSH: Final = 5 * SECOND
"""How often what was heard is written, however often it comes."""
SEVERITY: Final = "critical"
ALERTNAME: Final = "HeartbeatMissing"
"""The alert that the incident holds: it fires until the heartbeat is back, so an acknowledgement ends nothing."""
IMPACT: Final = "Until it is back, nobody can say that an alert reaches anybody"
CURE: Final = (
    "Look whether Prometheus is up and evaluates its rules, whether Alertmanager is up and routes it here, at the"
    " network between them, and for a silence or an inhibition of it: a silenced heartbeat looks the same"
)


class Beat(Recorded):
    """What is known of one heartbeat: the body of its scope. `ended`: when it was last told as resolved."""

    seen: int | None = None
    ended: int | None = None
    missing: int | None = None
    """Since when people know that it is missing."""
    incident: str | None = None
    """The incident that tells them."""

    @property
    def resolved(self) -> bool:
        """The last word about it was that it does not fire any more."""
        return self.ended is not None and self.ended >= (self.seen or 0)

    def after(self, other: Beat) -> Beat:
        """With what somebody else has heard."""
        latest = {"seen": _latest(self.seen, other.seen), "ended": _latest(self.ended, other.ended)}
        return self.model_copy(update=latest)


def _latest(one: int | None, other: int | None) -> int | None:
    return max((at for at in (one, other) if at is not None), default=None)


def missing_from(expected: Expected, beat: Beat, since: int) -> int:
    """When it counts as missing: `within` after it was last heard, but after `since`, when this process began to
    listen; at once when it was told as resolved."""
    if beat.resolved and beat.ended is not None:
        return beat.ended
    return max(beat.seen or 0, since) + expected.within


def why_missing(expected: Expected, beat: Beat, since: int, now: int) -> str:
    """One sentence for people, with the cure."""
    if beat.resolved:
        what = "is told as resolved, which an alert that always fires never is"
    elif beat.seen is None:
        what = f"has not come within {_lasted(now - since)}"
    else:
        what = f"is missing for {_lasted(now - beat.seen)}, last seen {format_time(beat.seen - beat.seen % SECOND)}"
    return f"{expected.title} {what}. {CURE}"


def _lasted(duration: int) -> str:
    return format_duration(max(SECOND, duration // SECOND * SECOND))


# --- hearing ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Ear:
    """What this process has heard of one heartbeat. `firing`: fingerprint -> when it came last."""

    since: int
    beat: Beat = field(default_factory=Beat)
    firing: dict[str, int] = field(default_factory=dict)


def _nobody() -> None:
    return


class Hearing:
    """What this process hears, between the webhook that calls `take` and the pass that writes it down."""

    def __init__(self, expected: Sequence[Expected], now: int) -> None:
        self.wake: Callable[[], None] = _nobody
        self.expected: tuple[Expected, ...] = ()
        self._ears: dict[str, _Ear] = {}
        self._named: dict[str, tuple[Expected, ...]] = {}
        self._woken = 0
        self.expect(expected, now)

    def expect(self, expected: Sequence[Expected], now: int) -> None:
        """From `now` on (µs) these; what is known of those that stay is kept."""
        self.expected = tuple(expected)
        self._ears = {e.name: self._ears.get(e.name) or _Ear(now) for e in expected}
        names = dict.fromkeys(e.alertname for e in expected)
        self._named = {name: tuple(e for e in expected if e.alertname == name) for name in names}

    def since(self, name: str) -> int:
        """Since when it is listened for."""
        return self._ears[name].since

    def heard(self, name: str) -> Beat:
        """What this process has heard of it."""
        return self._ears[name].beat

    def take(self, notification: Notification, now: int) -> Notification:
        """Note the heartbeats of a notification; answers it without those that fire, for they open no incident.

        One that is resolved stays: it may end an incident from before it was expected here.
        """
        if not any(alert.name in self._named for alert in notification.alerts):
            return notification
        beats = [(alert, found) for alert in notification.alerts if (found := self._found(alert))]
        for alert, found in sorted(beats, key=lambda beat: not beat[0].firing):
            for expected in found:
                self._hear(expected, alert, now)
        gone = {alert.fingerprint for alert, _ in beats if alert.firing}
        return replace(notification, alerts=tuple(a for a in notification.alerts if a.fingerprint not in gone))

    def expects(self, alert: Alert) -> bool:
        """It is a heartbeat."""
        return bool(self._found(alert))

    def _found(self, alert: Alert) -> tuple[Expected, ...]:
        candidates = self._named.get(alert.name, ())
        return tuple(e for e in candidates if all(m.matches(alert.labels) for m in e.matchers))

    def _hear(self, expected: Expected, alert: Alert, now: int) -> None:
        """Of two servers that send one heartbeat, the other's end says nothing while this one's still comes."""
        ear = self._ears[expected.name]
        ear.firing = {one: at for one, at in ear.firing.items() if now - at < expected.within}
        if alert.firing:
            ear.firing[alert.fingerprint] = now
            ear.beat = ear.beat.model_copy(update={"seen": now})
        else:
            ear.firing.pop(alert.fingerprint, None)
            if ear.firing:
                return
            ear.beat = ear.beat.model_copy(update={"ended": now})
        if not alert.firing or now - self._woken >= FLUSH:
            self._woken = now
            self.wake()


# --- operations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """Write down what was heard; when it is back, say so and close its incident. Answers what is known now."""

    id: str
    expected: Expected
    beat: Beat
    book: Book

    def reads(self) -> Keys:
        """The scope; its incident is loaded when there is one."""
        return Keys(scopes=frozenset({scope_name(self.expected.name)}))

    def apply(self, state: State) -> Change[Beat]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        known = _known(draft, self.expected.name)
        beat = known.after(self.beat)
        if beat.missing is not None and beat.seen is not None and beat.seen > beat.missing and not beat.resolved:
            last = _latest(known.seen, known.ended) or beat.missing
            _over(draft, beat, f"{self.expected.title} is back after {_lasted(beat.seen - last)}")
            beat = beat.model_copy(update={"missing": None, "incident": None})
        draft.set_scope(ScopeChange(scope_name(self.expected.name), beat))
        return Change(draft.writes(), beat)


@dataclass(frozen=True, slots=True)
class Missed:
    """It seems to be missing: tell people, unless another replica has heard it or has told them. `since` as in
    `missing_from`. Answers None when there was nothing to tell."""

    id: str
    expected: Expected
    beat: Beat
    since: int
    book: Book

    def reads(self) -> Keys:
        """The scope, and the incident that would be opened."""
        key = open_key(LIVE, None, _target(self.expected.name))
        return Keys(scopes=frozenset({scope_name(self.expected.name)}), open_keys=frozenset({key}))

    def apply(self, state: State) -> Change[Turn | None]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        beat = _known(draft, self.expected.name).after(self.beat)
        if beat.missing is not None or draft.now < missing_from(self.expected, beat, self.since):
            return Change(draft.writes(), None)
        incident = _told(draft, self.expected, why_missing(self.expected, beat, self.since, draft.now))
        known = beat.model_copy(update={"missing": draft.now, "incident": incident})
        draft.set_scope(ScopeChange(scope_name(self.expected.name), known))
        turn = draft.advance(incident)
        return Change(draft.writes(), turn)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A heartbeat that nobody expects any more: its incident has nothing to wait for."""

    id: str
    name: str
    book: Book

    def reads(self) -> Keys:
        """The scope."""
        return Keys(scopes=frozenset({scope_name(self.name)}))

    def apply(self, state: State) -> Change[None]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        _over(draft, _known(draft, self.name), f"the heartbeat {self.name} is not expected any more")
        draft.set_scope(ScopeChange(scope_name(self.name), None))
        return Change(draft.writes(), None)


def scope_name(name: str) -> str:
    """The scope of a heartbeat."""
    return f"{SCOPE}{name}"


def beats(bodies: Iterable[tuple[str, str]]) -> Mapping[str, Beat]:
    """Scope rows (name, body) by the heartbeat's name; what was forgotten is left out."""
    found = ((name.removeprefix(SCOPE), legible(Beat, body)) for name, body in bodies)
    return {name: beat for name, beat in found if beat is not None}


def _known(draft: Draft, name: str) -> Beat:
    return legible(Beat, draft.scope(scope_name(name))) or Beat()


def _target(name: str) -> str:
    return f"responder:heartbeat:{name}"


def _told(draft: Draft, expected: Expected, why: str) -> str:
    """Open the incident and page. Answers its id."""
    found = draft.open_incident(open_key(LIVE, None, _target(expected.name)))
    incident = _opened(draft, expected) if found is None else found.id
    labels = {"alertname": ALERTNAME, "heartbeat": expected.name}
    fact = f.AlertFired(
        fingerprint=scope_name(expected.name),
        labels=labels,
        annotations={"summary": f"{expected.title} is missing"},
        severity=SEVERITY,
        starts_at=draft.now,
        elsewhere=True,
    )
    draft.record(incident, fact, AUTHOR)
    draft.record(incident, f.ProblemFound(problem=why), AUTHOR)
    return incident


def _opened(draft: Draft, expected: Expected) -> str:
    rules, target = draft.book.current, _target(expected.name)
    fact = f.Opened(
        id=incident_id(draft.id, LIVE, None, target),
        runbook=None,
        rules_hash=rules.hash,
        policy=expected.policy or rules.default_policy,
        target=target,
        title=f"Alerts may not arrive: {expected.title} is missing",
        impact=IMPACT,
        severity=SEVERITY,
        mode=Mode.OBSERVE,
        labels={"alertname": ALERTNAME},
        inputs={},
    )
    draft.open(fact)
    return fact.id


def _over(draft: Draft, beat: Beat, why: str) -> None:
    """End the alert of its incident and close it; nothing when it is closed already."""
    if beat.incident is None or draft.incident(beat.incident).closed:
        return
    for fingerprint in draft.incident(beat.incident).episodes:
        draft.record(beat.incident, f.AlertResolved(fingerprint=fingerprint, ends_at=draft.now), AUTHOR)
    draft.record(beat.incident, f.Closed(why=why), AUTHOR)
    draft.advance(beat.incident)
