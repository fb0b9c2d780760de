"""A replay on a running server: recordings are posted into a namespace of their own, then its incidents are read.

The server does the rest as if they had come from Alertmanager, and sees to it that nothing is touched and nobody is
told (`web.replays`). Not here: how it is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from responder.cli.client import Failed, Said, Server, find_server, incident_path
from responder.timing import SECOND

if TYPE_CHECKING:
    from responder.recordings import Recording

QUIET: Final = 2.0
"""Seconds without a change after which nothing more is waited for: what is still open waits for time or people."""
LOOK: Final = 0.25
"""Seconds between two looks."""
LONGEST: Final = 60.0
"""Seconds after which it is told as it stands, whatever still changes."""
PAGE: Final = 500
"""Incidents asked for at a time."""


class Pace(NamedTuple):
    """Real time, in seconds: what it is now, and how to wait."""

    now: Callable[[], float]
    wait: Callable[[float], None]


def drive(
    config: Path | None, url: str | None, name: str, recordings: Sequence[Recording], speed: float | None
) -> list[dict[str, Any]]:
    """Replay recordings in their order; answers each incident as GET /api/v1/incidents/{id} tells it, oldest first.

    Between two recordings their distance in time, divided by `speed`, is waited for; nothing when it is None. Raises
    Failed.
    """
    server = find_server(Said(config, url, None), os.environ)
    return Drive(server, name, Pace(time.monotonic, time.sleep)).play(recordings, speed)


@dataclass(frozen=True, slots=True)
class Drive:
    """One replay on one server. Methods raise Failed."""

    server: Server
    name: str
    pace: Pace

    def play(self, recordings: Sequence[Recording], speed: float | None) -> list[dict[str, Any]]:
        """See `drive`. Incidents that had closed before under the same name are another replay's."""
        before = {i["id"] for i in self._listed() if i["closed_at"] is not None}
        waits = [0.0] if speed is None else [0.0, *_waits(recordings, speed)]
        for index, recording in enumerate(recordings):
            self.pace.wait(waits[min(index, len(waits) - 1)])
            self._post(recording)
        return self._told(before)

    def _post(self, recording: Recording) -> None:
        try:
            self.server.post_as_it_is(f"/replays/{quote(self.name, safe='')}/notifications", recording.body)
        except Failed as failed:
            raise Failed(f"{recording.name}: {failed}", failed.exit_status) from None

    def _told(self, before: set[str]) -> list[dict[str, Any]]:
        began = changed = self.pace.now()
        seen = self._incidents(before)
        while not _rests(seen) and changed + QUIET > self.pace.now() and began + LONGEST > self.pace.now():
            self.pace.wait(LOOK)
            found = self._incidents(before)
            if list(map(_state, found)) != list(map(_state, seen)):
                changed = self.pace.now()
            seen = found
        return seen

    def _incidents(self, before: set[str]) -> list[dict[str, Any]]:
        listed = [incident["id"] for incident in self._listed() if incident["id"] not in before]
        return [self.server.get(incident_path(incident))[0] for incident in reversed(listed)]

    def _listed(self) -> list[dict[str, Any]]:
        """All of the namespace, newest first."""
        found: list[dict[str, Any]] = []
        before: str | None = None
        while True:
            answer, _ = self.server.get("/incidents", namespace=f"replay/{self.name}", limit=str(PAGE), before=before)
            found += answer["incidents"]
            before = answer["next"]
            if before is None:
                return found


def _waits(recordings: Sequence[Recording], speed: float) -> list[float]:
    """Seconds before each recording but the first; none where either does not say when it came."""
    times = [recording.at for recording in recordings]
    return [0.0 if a is None or b is None else max(0, b - a) / SECOND / speed for a, b in pairwise(times)]


def _rests(incidents: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing more can come by itself: all of them are closed."""
    return bool(incidents) and all(incident["closed_at"] is not None for incident in incidents)


def _state(incident: dict[str, Any]) -> tuple[str, int, str]:
    events = incident["events"]
    return incident["id"], events[-1]["seq"] if events else 0, incident["status"]
