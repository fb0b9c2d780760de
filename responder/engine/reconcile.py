"""Reconciliation: every minute what fires here is compared with what fires in Alertmanager (contracts.md A5, A6).

Notifications get lost for good: a group that changed its key, an alert that was silenced when it ended, a list that was
cut. What fires there and was never told comes in as if it had been; what fires here and no Alertmanager lists any more
ends here, and what somebody has silenced is told, once. Where an Alertmanager does not answer, or has just started and
knows nothing yet, nothing is concluded from what is absent: no list is empty enough to be believed alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final, Protocol

from responder.alert import Alert, Limits, Notification, parse_notification
from responder.alertmanagers import Alertmanagers, Peer, judged, payload
from responder.config import Reconciling
from responder.desk import Desk
from responder.errors import Temporary
from responder.incident import Episode
from responder.ingest import FOUND, Ingest
from responder.recorded import LIVE, AlertState, AlertView
from responder.records import EpisodeRow, NotificationRow
from responder.silences import MarkSilences
from responder.timing import DAY

LOG = logging.getLogger("responder.engine")

OURS: Final = 7 * DAY
"""A receiver by whose name something came within this time is us."""
TOGETHER: Final = 200
"""Alerts of one transaction."""
PATIENCE: Final = 10.0
"""Seconds for everything that an Alertmanager lists: nobody waits for it."""
PAGE: Final = 200
"""Incidents that are read at once."""

Views = Mapping[str, AlertView]


class Counts(Protocol):
    """What the metrics are told."""

    def reconciled(self, *, fired: int, ended: int) -> None:
        """So many alerts were found to fire, or to have ended, without having been told."""

    def alertmanagers_unsure(self, count: int) -> None:
        """From what so many Alertmanagers do not list nothing can be concluded now."""


class Uncounted:
    """Where there are no metrics."""

    def reconciled(self, *, fired: int, ended: int) -> None:
        """See Counts."""

    def alertmanagers_unsure(self, count: int) -> None:
        """See Counts."""


class Reconcile:
    """See the module. `asked` answers the Alertmanagers of today; `expected` knows heartbeats, which are no incidents.

    What it remembers may be forgotten: after a restart everything is found again, a few minutes later.
    """

    def __init__(
        self,
        desk: Desk,
        asked: Callable[[], Alertmanagers],
        settings: Reconciling,
        expected: Callable[[Alert], bool],
        counts: Counts,
    ) -> None:
        self.settings = settings
        self.limits = Limits()
        """As the webhook's, for what comes in the same way."""
        self._desk = desk
        self._asked = asked
        self._expected = expected
        self._counts = counts
        self._untold: dict[str, int] = {}
        """Fires there and not here: fingerprint -> since which pass."""
        self._tried: frozenset[str] = frozenset()
        """Was taken in, and did not become an episode: not tried again as long as it is listed."""
        self._gone: dict[str, int] = {}
        """Fires here and is not listed: fingerprint -> since which pass."""
        self._theirs: frozenset[str] = frozenset()
        """Fires here, and no Alertmanager could ever know of it."""
        self._silenced: set[str] | None = None
        """Told to be silenced."""
        self._wrong: tuple[str, ...] = ()

    async def work(self, now: int) -> int | None:
        """One pass. Answers when the next is due (µs)."""
        alertmanagers = self._asked()
        if alertmanagers.configured:
            await self._compare(alertmanagers, now)
        return now + self.settings.every

    async def _compare(self, alertmanagers: Alertmanagers, now: int) -> None:
        # Read before they are asked: what was told in between is listed by them.
        episodes = {e.fingerprint: e for e in await self._desk.store.firing_episodes()}
        peers = await alertmanagers.peers(patience=PATIENCE)
        self._tell_wrong(tuple(peer.wrong for peer in peers if peer.wrong))
        views = {mark: judged(peers, mark) for mark in episodes}
        receivers = frozenset(await self._desk.store.receivers(now - OURS)) - {""}
        firing = frozenset(_firing_for(peers, receivers)) - episodes.keys()
        await self._take_in(alertmanagers, self._untold_for_long(firing, now), receivers)
        await self._end(views, episodes, now)
        await self._tell_silences(alertmanagers, peers, views, episodes)

    def _tell_wrong(self, wrong: tuple[str, ...]) -> None:
        """Once for each change: while it lasts the log says nothing new."""
        self._counts.alertmanagers_unsure(len(wrong))
        known = tuple(text.partition(": started")[0] for text in wrong)  # its age changes at every look
        if known != self._wrong:
            said = "; ".join(wrong) or "every Alertmanager can be believed again"
            new = all(": started " in text for text in wrong)  # as after every restart
            LOG.log(logging.INFO if new else logging.WARNING, "reconciliation: %s", said)
        self._wrong = known

    # --- what was not told --------------------------------------------------------------------------------------------

    def _untold_for_long(self, firing: frozenset[str], now: int) -> frozenset[str]:
        """What fires there for us, and has not been told for a while; a notification may still be on its way."""
        self._tried &= firing
        self._untold = {mark: self._untold.get(mark, now) for mark in firing - self._tried}
        return frozenset(mark for mark, since in self._untold.items() if now - since >= self.settings.settle)

    async def _take_in(self, alertmanagers: Alertmanagers, wanted: frozenset[str], receivers: frozenset[str]) -> None:
        """As if it had been told, but for what a route mutes at this hour: its groups tell that."""
        if not wanted:
            return
        try:
            firing = await alertmanagers.firing(receivers)
        except Temporary as error:
            LOG.info(
                "reconciliation: %d alerts fire that were not told, and their groups do not: %s", len(wanted), error
            )
            return
        alerts = [a for a in firing if a.fingerprint in wanted and not self._expected(a)]
        for alert in alerts:
            LOG.warning(
                "%s (%s) fires in Alertmanager and was never told: it is taken in now", alert.name, alert.labels
            )
        await self._ingest(alerts)
        self._tried |= {a.fingerprint for a in firing if a.fingerprint in wanted}
        self._counts.reconciled(fired=len(alerts), ended=0)

    async def _ingest(self, alerts: Sequence[Alert]) -> None:
        """By the way of every notification, with its limits. A bad one is not buried: that happens when it is told."""
        desk = self._desk
        for start in range(0, len(alerts), TOGETHER):
            body = payload(Notification("", FOUND, "", tuple(alerts[start : start + TOGETHER]), 0, None, {}, {}, ()))
            notification = replace(parse_notification(body, self.limits), bad=())
            marks = frozenset(a.fingerprint for a in notification.alerts)
            row = NotificationRow(desk.new_id(), LIVE, desk.now(), FOUND, "", FOUND, len(marks), 0, body)
            received = await desk.submit(
                lambda shelf: Ingest(row.id, notification, row, shelf, desk.worker, marks)  # noqa: B023
            )
            desk.take(received.turns)

    # --- what has ended -----------------------------------------------------------------------------------------------

    async def _end(self, views: Views, episodes: Mapping[str, EpisodeRow], now: int) -> None:
        """In two passes in succession every one had answered, knew everything again, and did not list it."""
        self._theirs &= episodes.keys()
        gone = {mark for mark, view in views.items() if view.state is AlertState.GONE} - self._theirs
        self._gone = {mark: self._gone.get(mark, now) for mark in gone}
        due = [mark for mark, since in self._gone.items() if now - since >= self.settings.every]
        listed = await self._listed(dict.fromkeys(episodes[mark].incident for mark in due))
        self._theirs |= {mark for mark in due if mark not in listed}
        ended = [_ended(listed[mark]) for mark in due if mark in listed]
        for alert in ended:
            LOG.warning("%s (%s) is not listed by any Alertmanager, and its end was not told", alert.name, alert.labels)
        if ended:
            await self._ingest(ended)
            self._counts.reconciled(fired=0, ended=len(ended))

    async def _listed(self, incidents: Iterable[str]) -> Mapping[str, Episode]:
        """The firing episodes of these incidents that an Alertmanager can know of, by fingerprint."""
        rows = [await self._desk.store.incident(incident) for incident in incidents]
        return {e.fingerprint: e for row in rows if row is not None for e in row.fold.listed}

    # --- what is silenced ---------------------------------------------------------------------------------------------

    async def _tell_silences(
        self,
        alertmanagers: Alertmanagers,
        peers: Sequence[Peer],
        views: Views,
        episodes: Mapping[str, EpisodeRow],
    ) -> None:
        if self._silenced is None:
            self._silenced = await self._told_before()
        states = {mark: view.state for mark, view in views.items()}
        fresh = {m for m, state in states.items() if state is AlertState.SILENCED} - self._silenced
        back = {m for m, state in states.items() if state is AlertState.FIRING} & self._silenced
        named = await alertmanagers.silences(peers, [views[mark] for mark in fresh])
        whys = {mark: named.get(views[mark].why, views[mark].why) for mark in fresh}
        changed = sorted(fresh | back, key=lambda mark: episodes[mark].incident)
        for incident, marks in groupby(changed, key=lambda mark: episodes[mark].incident):
            await self._mark(incident, frozenset(marks), whys)
        self._silenced = ((self._silenced & episodes.keys()) | fresh) - back

    async def _mark(self, incident: str, marks: frozenset[str], whys: Mapping[str, str]) -> None:
        desk = self._desk
        silenced = {mark: whys[mark] for mark in marks if mark in whys}
        firing = marks - silenced.keys()
        turn = await desk.submit(
            lambda shelf: MarkSilences(desk.new_id(), incident, silenced, firing, shelf, desk.worker)
        )
        desk.take(() if turn is None else (turn,))

    async def _told_before(self) -> set[str]:
        """What an earlier process has told."""
        told: set[str] = set()
        before: str | None = None
        while rows := await self._desk.store.incidents("open", None, PAGE, before, namespace=LIVE):
            told.update(e.fingerprint for row in rows for e in row.fold.firing if e.silenced)
            before = rows[-1].id
        return told


def _ended(episode: Episode) -> Alert:
    return Alert(
        fingerprint=episode.fingerprint,
        labels=episode.labels,
        annotations=episode.annotations,
        firing=False,
        starts_at=None,
        ends_at=None,
        generator_url=episode.generator_url,
    )


def _firing_for(peers: Sequence[Peer], receivers: frozenset[str]) -> Iterator[str]:
    for peer in peers:
        for mark, one in peer.listed.items():
            if one.state is AlertState.FIRING and not receivers.isdisjoint(one.receivers):
                yield mark
