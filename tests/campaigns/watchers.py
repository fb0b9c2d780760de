"""The Alertmanagers of a simulated world: what each lists at which time, over its real API, without a network.

They hear of alerts whether the process lives or not, forget everything when they are restarted and hear of it again a
while later, are silenced, and cannot be reached. Not here: what must follow from that (`listed`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from responder.alert import fingerprint
from responder.alertmanagers import Alertmanagers
from responder.connections import HttpConnection
from responder.contracts import Clock
from responder.errors import Temporary
from responder.http_calls import HttpAnswer, HttpCall
from responder.last_look import Clear, always_clear
from responder.services import Endpoint
from responder.timing import DAY, SECOND, format_time

SETTLED = 40 * SECOND
"""One that started later knows nothing for certain; `alertmanagers.SETTLED` is five minutes, longer than a world."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one Alertmanager said from `at` on. `sure`: from what it does not list, something follows."""

    at: int
    active: frozenset[str]
    silenced: frozenset[str]
    sure: bool


class Watcher:
    """One Alertmanager. `history` is what it said, for who judges."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        self.history: list[Look] = []
        self.unexpected: list[str] = []
        self._clock = clock
        self._started = clock() - DAY
        self._reachable = True
        self._alerts: dict[str, dict[str, str]] = {}
        self._forgotten: set[str] = set()
        self._silenced: set[str] = set()
        self._texts: dict[str, str] = {}
        self.looks()

    # --- what happens -------------------------------------------------------------------------------------------------

    def fires(self, labels: Mapping[str, str]) -> None:
        """It hears that this fires."""
        self._alerts[fingerprint(labels)] = dict(labels)
        self._forgotten.discard(fingerprint(labels))
        self.looks()

    def ends(self, labels: Mapping[str, str]) -> None:
        """It hears that this does not fire any more."""
        self._alerts.pop(fingerprint(labels), None)
        self.looks()

    def ends_all(self) -> None:
        """Nothing fires any more."""
        self._alerts.clear()
        self.looks()

    def silences(self, name: str) -> None:
        """Somebody silences the alerts of a name."""
        self._silenced.add(name)
        self.looks()

    def ends_silence(self, name: str) -> None:
        """That silence is over."""
        self._silenced.discard(name)
        self.looks()

    def has_heard(self, labels: Mapping[str, str]) -> bool:
        """It fires, as far as Prometheus has told it since its beginning."""
        return fingerprint(labels) in self._alerts

    def restarts(self) -> None:
        """It is there at once, and has forgotten every alert until Prometheus sends it again."""
        self._started = self._clock()
        self._forgotten = set(self._alerts)
        self.looks()

    def hears_again(self) -> None:
        """Prometheus has sent everything again."""
        self._forgotten.clear()
        self.looks()

    def reachable(self, *, yes: bool) -> None:
        """Whether anybody can ask it."""
        self._reachable = yes
        self.looks()

    def heals(self) -> None:
        """All goes well, and nobody silences anything."""
        self._silenced.clear()
        self._reachable = True
        self.hears_again()

    def looks(self) -> None:
        """Remember what it says from now on."""
        self._texts.clear()
        now, shown = self._clock(), self._shown()
        silenced = frozenset(m for m in shown if self._alerts[m]["alertname"] in self._silenced)
        sure = self._reachable and now - self._started >= SETTLED
        self.history.append(Look(now, frozenset(shown) - silenced, silenced, sure))

    # --- how it is asked ----------------------------------------------------------------------------------------------

    def answer(self, path: str) -> str:
        """What its API says, as JSON. Raises Temporary when it cannot be reached."""
        if not self._reachable:
            raise Temporary(f"{self.name}: connection refused")
        if path not in self._texts:
            self._texts[path] = json.dumps(self._said(path))
        return self._texts[path]

    def _said(self, path: str) -> Any:
        """The same until something happens: an alert that goes on is told with one end for all this time."""
        asked = urlsplit(path)
        if asked.path == "/api/v2/status":
            return {"uptime": format_time(self._started), "config": {"original": "route: {receiver: responder}"}}
        if asked.path == "/api/v2/alerts":
            names = [f.removeprefix('alertname="').removesuffix('"') for f in parse_qs(asked.query).get("filter", [])]
            return [e for e in self._entries() if not names or e["labels"]["alertname"] in names]
        if asked.path == "/api/v2/alerts/groups":
            told = [e for e in self._entries() if not e["status"]["silencedBy"]]
            return [{"labels": {}, "receiver": {"name": "responder"}, "alerts": told}] if told else []
        if asked.path.startswith("/api/v2/silence/"):
            return {"id": asked.path.rpartition("/")[2], "createdBy": "anna", "comment": "planned"}
        self.unexpected.append(path)
        return {}

    def _shown(self) -> list[str]:
        return sorted(self._alerts.keys() - self._forgotten)

    def _entries(self) -> list[dict[str, Any]]:
        return [self._entry(mark, self._alerts[mark]) for mark in self._shown()]

    def _entry(self, mark: str, labels: Mapping[str, str]) -> dict[str, Any]:
        by = [f"s-{labels['alertname']}"] if labels["alertname"] in self._silenced else []
        times = {"startsAt": format_time(self._started), "endsAt": format_time(self._started + 2 * DAY)}
        return {
            "fingerprint": mark, "labels": dict(labels), "annotations": {}, "generatorURL": "", **times,
            "receivers": [{"name": "responder"}],
            "status": {"state": "suppressed" if by else "active", "silencedBy": by, "inhibitedBy": []},
        }  # fmt: skip


class Wire(HttpConnection):
    """A connection that ends at a watcher."""

    def __init__(self, watcher: Watcher, clock: Clock) -> None:
        super().__init__(watcher.name, Endpoint(kind="alertmanager", url="http://watcher"), _never, clock)
        self._watcher = watcher

    async def send(self, call: HttpCall, timeout: float, clear: Clear = always_clear) -> HttpAnswer:
        """See HttpConnection."""
        body = self._watcher.answer(call.path)
        return HttpAnswer(call.path, 200, {"content-type": "application/json"}, body, changes=False)


def _never(endpoint: Endpoint) -> Any:
    raise AssertionError("nothing of a simulated world goes out")


class Watchers:
    """Two of them, told the same by Prometheus; each forgets, and is out of reach, for itself."""

    def __init__(self, clock: Clock, later: Callable[[int, Callable[[], None]], None]) -> None:
        """`later` calls something so many µs from now."""
        self.all = (Watcher(clock, "am-0"), Watcher(clock, "am-1"))
        self._clock = clock
        self._later = later

    def asked(self) -> Alertmanagers:
        """As the engine asks them."""
        return Alertmanagers([Wire(one, self._clock) for one in self.all], self._clock, SETTLED)

    def hear(self, fires: Iterable[Mapping[str, str]], ends: Iterable[Mapping[str, str]]) -> None:
        """Prometheus says it to both."""
        for one in self.all:
            for labels in ends:
                one.ends(labels)
            for labels in fires:
                one.fires(labels)

    def fires_now(self, labels: Mapping[str, str]) -> bool:
        """Whether Prometheus has said last that it fires."""
        return self.all[0].has_heard(labels)

    def silence(self, name: str, lasts: int) -> None:
        """Both know a silence, for a while."""
        for one in self.all:
            one.silences(name)
            self._later(lasts, lambda one=one: one.ends_silence(name))  # type: ignore[misc]

    def restart(self, which: int, back: int) -> None:
        """One of them is restarted; Prometheus sends everything again after `back` µs."""
        one = self.all[which]
        one.restarts()
        self._later(back, one.hears_again)
        self._later(SETTLED, one.looks)

    def cut(self, which: int, lasts: int) -> None:
        """One of them is out of reach for a while."""
        one = self.all[which]
        one.reachable(yes=False)
        self._later(lasts, lambda: one.reachable(yes=True))

    def heal(self) -> None:
        """All goes well from now on."""
        for one in self.all:
            one.heals()
