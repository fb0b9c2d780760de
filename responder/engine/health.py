"""Whether the program and its way to people are well: heartbeats both ways, and the self-audit, as one part of the app.

What each of them does is in its own module; here they are put together, and what is known is told to the status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from responder.alert import Alert, Notification
from responder.connections import OpenTransport
from responder.desk import Desk
from responder.engine.audit import LOOP, Audit, Audited
from responder.engine.heartbeat import Heartbeats, Pings
from responder.engine.loops import Loop
from responder.errors import BadConfig
from responder.heartbeat_settings import Expected, HeartbeatSettings
from responder.heartbeats import Beat, Hearing, missing_from
from responder.rules import Rules
from responder.timing import SECOND, format_time

POLL: Final = 30 * SECOND


class Gauges(Protocol):
    """What the metrics are told."""

    def audited(self, *, clean: bool) -> None:
        """An audit is done."""

    def heartbeats_seen(self, ages: Mapping[str, float]) -> None:
        """Name -> seconds since it was last seen, NaN for never."""

    def pinged(self, result: str) -> None:
        """An outside switch was called: `taken`, `failed` or `withheld`."""


class Health:
    """See the module. `take` is for whoever receives notifications, `status` for whoever shows it."""

    def __init__(
        self,
        desk: Desk,
        settings: HeartbeatSettings,
        loops: Callable[[], Sequence[Loop]],
        gauges: Gauges,
        opener: OpenTransport,
    ) -> None:
        self._desk = desk
        self._gauges = gauges
        self.hearing = Hearing(settings.expected, desk.now())
        self.heartbeats = Heartbeats(desk, self.hearing)
        self.audit = Audit(desk, loops, self._audited)
        self.pings = Pings(settings.send, self.audit.proven, gauges.pinged, opener)
        self.loops = (
            Loop("heartbeats", self._look, desk.now, POLL),
            Loop(LOOP, self.audit.work, desk.now, POLL),
            Loop("pings", self.pings.work, desk.now, POLL),
        )
        self.hearing.wake = self.loops[0].wake

    def use(self, settings: HeartbeatSettings) -> None:
        """After a reload: these heartbeats."""
        self.hearing.expect(settings.expected, self._desk.now())
        self.pings.replace(settings.send)
        for loop in self.loops:
            loop.wake()

    def take(self, notification: Notification) -> Notification:
        """Note the heartbeats in it; answers the rest."""
        return self.hearing.take(notification, self._desk.now())

    def expects(self, alert: Alert) -> bool:
        """It is a heartbeat, whose firing means that nothing is wrong."""
        return self.hearing.expects(alert)

    async def _look(self, now: int) -> int | None:
        due = await self.heartbeats.work(now)
        seen = {name: beat.seen for name, beat in self.heartbeats.beats.items()}
        ages = {name: float("nan") if at is None else max(0, now - at) / SECOND for name, at in seen.items()}
        self._gauges.heartbeats_seen(ages)
        return due

    def _audited(self, audited: Audited) -> None:
        self._gauges.audited(clean=audited.clean)

    # --- showing ------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """For the API: `audit`, `heartbeats` that are expected, and `switches` that are called."""
        now, last = self._desk.now(), self.audit.last
        audit: dict[str, Any] = {"clean": None, "at": None, "reasons": []}
        if last is not None:
            audit = {"clean": last.clean, "at": format_time(last.at), "reasons": list(last.reasons)}
        switches = [
            {"name": name, "taken_at": _moment(state.taken), "wrong": state.wrong}
            for name, state in self.pings.state.items()
        ]
        return {
            "audit": audit,
            "heartbeats": [self._shown(e, now) for e in self.hearing.expected],
            "switches": switches,
        }

    def _shown(self, expected: Expected, now: int) -> dict[str, Any]:
        beat = self.heartbeats.beats.get(expected.name, Beat()).after(self.hearing.heard(expected.name))
        missing = now >= missing_from(expected, beat, self.hearing.since(expected.name))
        return {
            "name": expected.name,
            "alert": expected.alertname,
            "within": expected.within / SECOND,
            "seen_at": _moment(beat.seen),
            "missing": missing,
            "incident": beat.incident,
        }


def _moment(at: int | None) -> str | None:
    return None if at is None else format_time(at)


def check_policies(settings: HeartbeatSettings, rules: Rules | None) -> None:
    """Raises BadConfig when the incident of a missing heartbeat is to follow a policy that does not exist.

    None for rules that are not today's: a start goes on with them, and the default policy stands in.
    """
    if rules is None:
        return
    for expected in settings.expect:
        if expected.policy is not None and expected.policy not in rules.policies:
            known = ", ".join(sorted(rules.policies))
            raise BadConfig(f"heartbeats: {expected.name} names the policy {expected.policy!r}; there are {known}")
