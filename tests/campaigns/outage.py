"""C10: PagerDuty and Slack are down for hours while thousands of incidents open, resolve and are acknowledged.

Judged by what arrived: during the outage the second route has every page within a minute and one try; afterwards each
incident that is still open and that nobody has is told once for each destination, however many levels came due there,
and what is closed wakes nobody. All within the pace that the destinations allow.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from responder.contracts import Bucket
from responder.engine.outages import LONGEST
from responder.facts import Event, LevelReached
from responder.incident import Incident
from responder.policies import severity_rank
from responder.records import HAND_OVER
from responder.timing import HOUR, MINUTE, SECOND, format_duration
from tests.acceptance.stage import START
from tests.campaigns.virtual import Arrival, Played, Wire, gateway, loaded, spread

TICK = 10 * SECOND
"""Alerts of so long come in one notification."""
LATENCY = SECOND // 5
PAGERS, SECOND_ROUTE, CHAT = ("first", "second"), "other", "room"
PAGERDUTY_MOST, PAGERDUTY_SPAN = 120, MINUTE
SLACK_BURST, SLACK_PACE, SLACK_CHANGES = 3, SECOND, 50
SLACK = 2 * SECOND
"""What a page may be later than a minute and one try."""
PATIENCE = 12 * HOUR
ORDERED_FROM = 100
"""Incidents from which on some pages must wait for their turn after the outage."""
SEVERITIES = ("warning", "warning", "high", "critical")


@dataclass(frozen=True, slots=True)
class Setting:
    """One outage (µs). `storm`: from how many on the policy has one page for all (0: never); `hangs`: how long a call
    takes to fail. Incidents open within `opening`, early enough for every level to come due in the outage."""

    incidents: int = 5_000
    lasts: int = 6 * HOUR
    opening: int = 5 * HOUR
    storm: int = 0
    hangs: int = 0
    seed: int = 1
    chat: bool = True
    """Whether a chat is told as well, and down too: its lines are nine of ten messages that wait."""

    def __str__(self) -> str:
        fails = f"calls hang {format_duration(self.hangs)}" if self.hangs else "calls are refused"
        storm = f"storm from {self.storm} on" if self.storm else "no storm"
        alone = "" if self.chat else ", pagers alone"
        return f"{self.incidents:,} incidents, {format_duration(self.lasts)}, {fails}, {storm}{alone}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one incident; None: it does not."""

    number: int
    severity: str
    opens: int
    resolves: int | None
    acknowledged: int | None


def fates(setting: Setting) -> list[Fate]:
    """Three of ten resolve during the outage, two of ten are acknowledged."""
    chance = random.Random(setting.seed)
    found = []
    for number in range(setting.incidents):
        opens = chance.randrange(setting.opening)
        becomes, when = chance.random(), chance.randrange(opens, setting.lasts)
        resolves, acknowledged = (when if low <= becomes < high else None for low, high in ((0, 0.3), (0.3, 0.5)))
        found.append(Fate(number, chance.choice(SEVERITIES), opens, resolves, acknowledged))
    return found


@dataclass(slots=True)
class Judged:
    """What was counted, and what was wrong."""

    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def holds(self, ok: bool, said: str) -> None:
        """Something that must be so."""
        if not ok:
            self.failures.append(said)


class Outage:
    """One outage, played and judged."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        down: dict[str, Any] = {"down_from": START, "down_until": START + setting.lasts, "hangs": setting.hangs}
        wires = {name: Wire(latency=LATENCY, **down) for name in (*PAGERS, CHAT)}
        policy = {
            "chat": [CHAT] if setting.chat else [],
            "grace": "2m",
            "acknowledgement": 0,
            "levels": [
                {"name": "L1", "after": 0, "page": "first", "fallback": SECOND_ROUTE},
                {"name": "L2", "after": "15m", "page": "second", "fallback": SECOND_ROUTE},
                {"name": "L3", "after": "30m", "page": "first", "fallback": SECOND_ROUTE},
            ],
        }
        storm = {"storm": {"incidents": setting.storm, "within": "5m"}} if setting.storm else {}
        rules = loaded({"ladder": policy | storm}, {})
        self.played = Played(*rules, {**wires, SECOND_ROUTE: Wire(latency=LATENCY)})

    @property
    def back(self) -> int:
        """When the destinations answer again (µs since the epoch)."""
        return START + self.setting.lasts

    def run(self) -> Judged:
        """Play it, and judge."""
        try:
            self._during()
            before = {i.id: i for i in self.played.incidents()}
            self._afterwards()
            return self._judged(before)
        finally:
            self.played.close()

    # --- playing ------------------------------------------------------------------------------------------------------

    def _during(self) -> None:
        ticks: dict[int, list[tuple[str, Fate]]] = defaultdict(list)
        for fate in fates(self.setting):
            ticks[fate.opens // TICK].append(("opens", fate))
            for what in ("resolves", "acknowledged"):
                at = getattr(fate, what)
                if at is not None:
                    ticks[max(at, fate.opens + TICK) // TICK].append((what, fate))
        for tick in sorted(ticks):
            self.played.advance_to(tick * TICK)
            self._tick(ticks[tick])
        self.played.advance_to(self.setting.lasts)

    def _tick(self, happens: Sequence[tuple[str, Fate]]) -> None:
        for said, tell in (("opens", self.played.fires), ("resolves", self.played.resolves)):
            alerts = [gateway(f"g{fate.number}", fate.severity) for what, fate in happens if what == said]
            if alerts:
                tell(*alerts)
        for what, fate in happens:
            if what == "acknowledged":
                self.played.person("ack", incident=self.played.incident_of(f"desk/g{fate.number}"))

    def _afterwards(self) -> None:
        """Until nothing waits any more."""
        end = self.back + PATIENCE
        while self.played.clock() < end and (self.played.busy or self.played.waits):
            self.played.advance(MINUTE)

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judged(self, before: dict[str, Incident]) -> Judged:
        judged = Judged()
        arrivals = self.played.arrivals
        pages = [a for a in arrivals if a.kind == "page"]
        judged.figures["open at the end"] = sum(not i.closed for i in before.values())
        judged.figures["failed tries"] = sum(wire.tries for wire in self.played.wires.values())
        _second_route(judged, self.setting, pages, [*self._levels(before)])
        _once_each(judged, self.back, pages, before)
        _in_order(judged, [a for a in pages if a.at > self.back + LONGEST + SECOND], self.setting.incidents)
        _within_pace(judged, arrivals)
        _chat(judged, self.back, [a for a in arrivals if a.destination == CHAT])
        judged.failures += self.played.violations() + self.played.failing
        return judged

    def _levels(self, before: dict[str, Incident]) -> Iterator[tuple[Incident, Event]]:
        """Every level that came due while the pagers were down, of what was open and free for long enough then."""
        for incident in before.values():
            over = min(at for at in (incident.closed_at, _acknowledged_at(incident), self.back) if at is not None)
            for event in self.played.events(incident):
                if isinstance(event.fact, LevelReached) and event.at + _most(self.setting) < over:
                    yield incident, event


def _acknowledged_at(incident: Incident) -> int | None:
    return None if incident.acknowledged is None else incident.acknowledged.at


def _most(setting: Setting) -> int:
    """The longest that a page may take to the second route: a minute, and one try."""
    return HAND_OVER + setting.hangs + SLACK


def _second_route(
    judged: Judged, setting: Setting, pages: Sequence[Arrival], levels: Sequence[tuple[Incident, Event]]
) -> None:
    arrived = {(a.incident, a.created_at): a.at for a in pages if a.destination == SECOND_ROUTE}
    took = [arrived[i.id, e.at] - e.at for i, e in levels if (i.id, e.at) in arrived]
    late = sum(one > _most(setting) for one in took)
    judged.figures |= {"pages owed during the outage": len(levels), "by the second route": len(took), "late": late}
    judged.figures |= {f"second route {name}": value for name, value in spread(took).items()}
    judged.holds(len(took) == len(levels), f"{len(levels) - len(took)} pages of the outage took no second route")
    judged.holds(not late, f"{late} of {len(took)} pages took the second route too late")


def owed(incident: Incident) -> set[str]:
    """The pagers that must hear of it after the outage."""
    if incident.closed or incident.somebody is not None or incident.storm is not None:
        return set()
    levels = {int(key.partition(":")[2]) for key in incident.levels_reached}
    return {("first", "second", "first")[level] for level in levels}


def _once_each(judged: Judged, back: int, pages: Sequence[Arrival], before: dict[str, Incident]) -> None:
    after = [a for a in pages if a.at >= back and a.destination in PAGERS]
    told = Counter((a.incident, a.destination) for a in after)
    wanted = {(i.id, to) for i in before.values() for to in owed(i)}
    missing, twice = wanted - told.keys(), [one for one, count in told.items() if count > 1]
    closed, held = sum(a.closed for a in after), sum(a.held for a in after)
    judged.figures |= {"pages owed afterwards": len(wanted), "told": len(after), "missing": len(missing)}
    judged.figures |= {"twice": len(twice), "of closed incidents": closed, "of acknowledged incidents": held}
    judged.figures["until the last page, s"] = round((max((a.at for a in after), default=back) - back) / SECOND, 1)
    judged.holds(not missing, f"{len(missing)} owed pages never arrived")
    judged.holds(not twice, f"{len(twice)} incidents were told twice at one destination")
    judged.holds(not closed, f"{closed} pages of closed incidents")


def _in_order(judged: Judged, pages: Sequence[Arrival], incidents: int) -> None:
    """The most severe first, from when the return is surely noticed on. So few that all leave at once have no order."""
    inversions = 0
    for name in PAGERS:
        ranks = [severity_rank(a.severity) for a in pages if a.destination == name]
        inversions += sum(before < after for before, after in pairwise(ranks))
    judged.figures |= {"pages judged in order": len(pages), "severe after less severe": inversions}
    judged.holds(bool(pages) or incidents < ORDERED_FROM, "no page was late enough to judge the order by")
    judged.holds(not inversions, f"{inversions} pages came after less severe ones")


def _within_pace(judged: Judged, arrivals: Sequence[Arrival]) -> None:
    counted: dict[Bucket, list[int]] = defaultdict(list)
    for a in arrivals:
        counted[a.counted].append(a.at)
    events = [times for bucket, times in counted.items() if bucket.limit == "pagerduty events"]
    most = max((densest(times, PAGERDUTY_SPAN) for times in events), default=0)
    judged.figures |= {"routing keys": len(events), "most events in a minute under one": most}
    judged.holds(most <= PAGERDUTY_MOST, f"{most} events within a minute under one routing key")
    channels = [times for bucket, times in counted.items() if bucket.limit == "slack posts"]
    over = sum(overflows(times, SLACK_PACE, SLACK_BURST) for times in channels)
    changes = [times for bucket, times in counted.items() if bucket.limit == "slack changes"]
    changed = max((densest(times, MINUTE) for times in changes), default=0)
    judged.figures |= {"chat messages beyond the pace": over, "most changes in a minute": changed}
    judged.holds(not over, f"{over} messages came faster than the chat allows")
    judged.holds(changed <= SLACK_CHANGES, f"{changed} messages were changed within a minute")


def densest(times: Sequence[int], span: int) -> int:
    """The most of these (sorted) within any `span`."""
    most, window = 0, deque[int]()
    for at in times:
        window.append(at)
        while window[0] <= at - span:
            window.popleft()
        most = max(most, len(window))
    return most


def overflows(times: Sequence[int], pace: int, burst: int) -> int:
    """How many of these (sorted) came while the bucket was empty."""
    free_at, over = 0, 0
    for at in times:
        over += max(0, free_at - (burst - 1) * pace - at) > 0
        free_at = max(free_at, at) + pace
    return over


def _chat(judged: Judged, back: int, arrivals: Sequence[Arrival]) -> None:
    after = [a for a in arrivals if a.at >= back]
    replies = [a for a in after if a.kind == "thread"]
    judged.figures |= {
        "chat messages afterwards": len(after),
        "replies": len(replies),
        "lines in them": sum(a.lines for a in replies),
        "until the first chat message, s": round((min((a.at for a in after), default=back) - back) / SECOND, 1),
        "until the last chat message, s": round((max((a.at for a in after), default=back) - back) / SECOND, 1),
    }
