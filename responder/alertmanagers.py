"""What the configured Alertmanagers say is firing, where a notification alone cannot tell (contracts.md A5, A6).

Only configured addresses are asked: the `externalURL` of a notification is the sender's claim. Whatever one of them
lists as active fires. An end is only ever concluded from what none of them lists, and from none that has just started:
the API lists what has not ended, and its `endsAt` is a prediction.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from responder.alert import Alert, Notification, fingerprint
from responder.connections import HttpConnection
from responder.contracts import Clock
from responder.errors import BadSyntax, Permanent, ResponderError, Temporary
from responder.http_calls import HttpCall
from responder.recorded import AlertsSeen, AlertState, AlertView
from responder.timing import MINUTE, SECOND, format_duration, format_time, parse_time

PATIENCE: Final = 2.0
"""Seconds for all questions together: a notification waits for the answer."""
SETTLED: Final = 5 * MINUTE
"""One that started later may not have heard of everything again: its alerts are not kept (contracts.md A6)."""
NAMES: Final = 8
"""Alert names that are asked for one by one; for more, one list of everything is less work."""

NOBODY: Final = "no Alertmanager is configured to be asked"
SILENCES: Final = 3
"""Silences whose author and comment are asked for; others are told by their id."""
LONGEST_COMMENT: Final = 200

Wanted = Callable[[Mapping[str, Any]], bool]
"""Whether a group of the API's answer is asked for."""

# What Go's QuoteMeta escapes; re.escape also escapes blanks, which RE2 refuses.
_meta = re.compile(r"[\\.+*?()|\[\]{}^$]")


class Labelled(Protocol):
    """An alert, or an incident's episode of it."""

    @property
    def fingerprint(self) -> str:
        """What it is known by."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """An alert as one Alertmanager lists it: firing, silenced or inhibited, and the receivers that it goes to."""

    alert: Alert
    state: AlertState
    silences: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """What one Alertmanager lists, by fingerprint. `wrong`: why nothing follows from what it does not list."""

    name: str
    listed: Mapping[str, Listed] = field(default_factory=dict)
    wrong: str = ""


def judged(peers: Sequence[Peer], fingerprint: str) -> AlertView:
    """What follows from all of them: whoever lists it as active is right, and an end needs every one's word."""
    found = [peer.listed[fingerprint] for peer in peers if fingerprint in peer.listed]
    for state in (AlertState.FIRING, AlertState.SILENCED, AlertState.INHIBITED):
        those = [one for one in found if one.state is state]
        if those:
            silence = next((f"silence {one.silences[0]}" for one in those if one.silences), "")
            return AlertView(fingerprint=fingerprint, state=state, why=silence)
    wrong = [peer.wrong for peer in peers if peer.wrong]
    if wrong or not peers:
        why = "; ".join(wrong) or NOBODY
        return AlertView(fingerprint=fingerprint, state=AlertState.UNCLEAR, why=why)
    return AlertView(fingerprint=fingerprint, state=AlertState.GONE)


class Alertmanagers:
    """The configured Alertmanagers of one cluster; with none, nothing can be asked and everything stays unclear.

    `settled` (µs): one that started later may not have heard of everything again.
    """

    def __init__(self, connections: Sequence[HttpConnection], now: Clock, settled: int = SETTLED) -> None:
        self._connections = connections
        self._now = now
        self._settled = settled

    @property
    def configured(self) -> bool:
        """There is somebody to be asked."""
        return bool(self._connections)

    async def peers(self, alerts: Collection[Labelled] = (), patience: float = PATIENCE) -> tuple[Peer, ...]:
        """What every one lists, silenced and inhibited alerts too: of the names of these alerts, or everything."""
        names = sorted({a.labels.get("alertname", "") for a in alerts})
        filters = [f"alertname={_quoted(n)}" for n in names] if 0 < len(names) <= NAMES else [""]
        return tuple(await asyncio.gather(*(self._peer(c, filters, patience) for c in self._connections)))

    async def views(self, alerts: Collection[Labelled]) -> Mapping[str, AlertView]:
        """Fingerprint -> what they say about it; a silence is named with its author and comment. Never raises."""
        peers = await self.peers(alerts) if alerts else ()
        views = {a.fingerprint: judged(peers, a.fingerprint) for a in alerts}
        named = await self.silences(peers, views.values())
        return {mark: _named(view, named) for mark, view in views.items()}

    async def seen(self, alerts: Collection[Labelled]) -> AlertsSeen:
        """The same as a value for a journal."""
        asked_at = self._now()
        if not self.configured:
            return AlertsSeen(observed_at=asked_at, nobody=NOBODY)
        views = await self.views(alerts)
        others = tuple(view for view in views.values() if view.state is not AlertState.FIRING)
        return AlertsSeen(observed_at=asked_at, asked=len(views), others=others)

    async def gone(self, alerts: Collection[Alert]) -> frozenset[str]:
        """The fingerprints among `alerts` that surely do not fire: every Alertmanager answered and none lists them."""
        if not self._connections or not alerts:
            return frozenset()
        peers = await self.peers(alerts)
        return frozenset(a.fingerprint for a in alerts if judged(peers, a.fingerprint).state is AlertState.GONE)

    async def group(self, notification: Notification) -> tuple[Alert, ...]:
        """The firing alerts of the notification's group, from whoever has it; raises Temporary when nobody has.

        The API tells groups by receiver and labels only, so two routes with equal ones give the alerts of both.
        """
        receiver = {"receiver": _meta.sub(r"\\\g<0>", notification.receiver)}
        return await self._collected(receiver, lambda group: _same_group(group, notification))

    async def firing(self, receivers: Collection[str]) -> tuple[Alert, ...]:
        """Every firing alert of the groups that go to one of `receivers`; raises Temporary when nobody has any."""
        return await self._collected({}, lambda group: _receiver(group) in receivers)

    async def _collected(self, query: Mapping[str, str], wanted: Wanted) -> tuple[Alert, ...]:
        if not self._connections:
            raise Temporary("no Alertmanager is configured to be asked; add it under `alertmanagers`")
        try:
            async with asyncio.timeout(PATIENCE):
                asked = (self._groups(c, query, wanted) for c in self._connections)
                answers = await asyncio.gather(*asked, return_exceptions=True)
        except TimeoutError:
            raise Temporary(f"Alertmanager did not answer within {PATIENCE:.0f} s; check `alertmanagers`") from None
        found: dict[str, Alert] = {}
        for answer in answers:
            if isinstance(answer, dict):
                found.update(answer)
        if not found:
            raise Temporary(_why_nothing(answers))
        return tuple(found.values())

    async def _peer(self, connection: HttpConnection, filters: Sequence[str], patience: float) -> Peer:
        """Its start is asked for last: one that was started in between is seen to be new."""
        name = connection.name
        try:
            async with asyncio.timeout(patience):
                queries: list[dict[str, str]] = [{"filter": f} if f else {} for f in filters]
                asked = (self._get(connection, "/api/v2/alerts", query, patience) for query in queries)
                pages = await asyncio.gather(*asked)
                status = await self._get(connection, "/api/v2/status", {})
            age = self._now() - _started(status)
            mutes = _mutes(status)
            listed = {_mark(entry): _listed(entry, mutes) for page in pages for entry in _objects(page)}
        except TimeoutError:
            return Peer(name, wrong=f"{name}: no answer within {patience:.0f} s")
        except ResponderError as error:
            return Peer(name, wrong=str(error))
        if age < self._settled:
            since = format_duration(max(SECOND, age // SECOND * SECOND))
            return Peer(name, listed, f"{name}: started {since} ago and does not know every alert yet")
        return Peer(name, listed)

    async def silences(self, peers: Sequence[Peer], views: Collection[AlertView]) -> Mapping[str, str]:
        """`silence ID` -> the same with its author and comment, for the first few; what fails stays the bare id."""
        wanted = dict.fromkeys(view.why for view in views if view.state is AlertState.SILENCED and view.why)
        asked = [self._silence(bare, peers) for bare in list(wanted)[:SILENCES]]
        return dict(zip(wanted, await asyncio.gather(*asked), strict=False))

    async def _silence(self, bare: str, peers: Sequence[Peer]) -> str:
        mark = bare.removeprefix("silence ")
        holders = [p.name for p in peers if any(mark in one.silences for one in p.listed.values())]
        connection = next(c for c in self._connections if c.name in holders)
        try:
            async with asyncio.timeout(PATIENCE):
                told = await self._get(connection, f"/api/v2/silence/{quote(mark, safe='')}", {})
        except (TimeoutError, ResponderError):
            return bare
        return f"{bare}{_signed(told)}"

    async def _groups(self, connection: HttpConnection, query: Mapping[str, str], wanted: Wanted) -> dict[str, Alert]:
        shown = {"silenced": "false", "inhibited": "false", "muted": "false"}
        groups = _objects(await self._get(connection, "/api/v2/alerts/groups", {**query, **shown}))
        entries = (e for g in groups if wanted(g) for e in _objects(g.get("alerts")))
        alerts = (_alert(e) for e in entries if _active(e))
        return {a.fingerprint: a for a in alerts}

    async def _get(
        self, connection: HttpConnection, path: str, query: Mapping[str, str], patience: float = PATIENCE
    ) -> Any:
        call = HttpCall("GET", f"{path}?{urlencode(query)}" if query else path)
        answer = (await connection.send(call, patience)).checked(self._now())
        if isinstance(answer.body, str):
            raise Permanent(f"{answer.place}: the answer is no JSON; check the address under `alertmanagers`")
        return answer.body


def _why_nothing(answers: Sequence[dict[str, Alert] | BaseException]) -> str:
    errors = [e for e in answers if isinstance(e, BaseException)]
    for error in errors:
        if not isinstance(error, ResponderError):
            raise error
    if errors:
        return "; ".join(str(e) for e in errors)
    return "no configured Alertmanager has a firing alert there; check `alertmanagers`"


def _started(status: Any) -> int:
    try:
        return parse_time(status["uptime"])
    except (KeyError, TypeError, BadSyntax):
        raise Permanent("an Alertmanager's /api/v2/status has no uptime; check the address") from None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _objects(listed: Any) -> list[dict[str, Any]]:
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise Permanent("an Alertmanager's API answered something else than a list; check the address")
    return listed


def _labels(entry: Mapping[str, Any], field: str) -> dict[str, str]:
    given = entry.get(field)
    return {str(n): str(v) for n, v in given.items()} if isinstance(given, dict) else {}


def _mark(entry: Mapping[str, Any]) -> str:
    given = entry.get("fingerprint")
    return given if isinstance(given, str) else fingerprint(_labels(entry, "labels"))


def _receiver(group: Mapping[str, Any]) -> str | None:
    receiver = group.get("receiver")
    return receiver.get("name") if isinstance(receiver, dict) else None


def _same_group(group: Mapping[str, Any], notification: Notification) -> bool:
    return _receiver(group) == notification.receiver and _labels(group, "labels") == dict(notification.group_labels)


def _mutes(status: Mapping[str, Any]) -> bool:
    """Some of its routes are mute at some hours."""
    config = status.get("config")
    return isinstance(config, dict) and "_time_intervals:" in str(config.get("original"))


def _listed(entry: Mapping[str, Any], mutes: bool) -> Listed:
    """One entry of /api/v2/alerts. What is only muted at this hour fires: it says nothing about the alert.

    Before 0.28 nobody can tell what is muted; where routes are, such an alert counts as one that goes to nobody.
    """
    silences, inhibitors = tuple(_names(entry, "silencedBy")), tuple(_names(entry, "inhibitedBy"))
    state = AlertState.SILENCED if silences else AlertState.INHIBITED if inhibitors else AlertState.FIRING
    untold = mutes and "mutedBy" not in (entry.get("status") or {})
    given = None if untold else entry.get("receivers")
    receivers = (r.get("name") for r in given if isinstance(r, dict)) if isinstance(given, list) else ()
    return Listed(_alert(entry), state, silences, tuple(name for name in receivers if isinstance(name, str)))


def _names(entry: Mapping[str, Any], field_name: str) -> Iterator[str]:
    status = entry.get("status")
    given = status.get(field_name) if isinstance(status, dict) else None
    yield from (str(one) for one in given if isinstance(one, str)) if isinstance(given, list) else ()


def _signed(silence: Any) -> str:
    """` by anna: maintenance`, as far as it is told."""
    if not isinstance(silence, dict):
        return ""
    author, comment = (" ".join(str(silence.get(key) or "").split()) for key in ("createdBy", "comment"))
    return (f" by {author[:LONGEST_COMMENT]}" if author else "") + (f": {comment[:LONGEST_COMMENT]}" if comment else "")


def _named(view: AlertView, named: Mapping[str, str]) -> AlertView:
    """The view with its silence told as `named` says."""
    return view.model_copy(update={"why": named[view.why]}) if view.why in named else view


def _active(entry: Mapping[str, Any]) -> bool:
    """Old versions do not know every filter: what is silenced, inhibited or muted is no part of a notification."""
    status = entry.get("status")
    held = ("silencedBy", "inhibitedBy", "mutedBy")
    return not isinstance(status, dict) or not any(status.get(name) for name in held)


def _alert(entry: Mapping[str, Any]) -> Alert:
    return Alert(
        fingerprint=_mark(entry),
        labels=_labels(entry, "labels"),
        annotations=_labels(entry, "annotations"),
        firing=True,
        starts_at=_time(entry.get("startsAt")),
        ends_at=None,
        generator_url=str(entry.get("generatorURL") or ""),
    )


def _time(text: Any) -> int | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except BadSyntax:
        return None


def payload(notification: Notification) -> bytes:
    """What Alertmanager would have sent of fetched alerts, so that they can be taken in again like others."""
    alerts = [
        {
            "status": "firing" if a.firing else "resolved",
            "labels": dict(a.labels),
            "annotations": dict(a.annotations),
            "startsAt": None if a.starts_at is None else format_time(a.starts_at),
            "generatorURL": a.generator_url,
            "fingerprint": a.fingerprint,
        }
        for a in notification.alerts
    ]
    head = {"version": "4", "receiver": notification.receiver, "groupKey": notification.group_key}
    return json.dumps({**head, "groupLabels": dict(notification.group_labels), "alerts": alerts}).encode()
