"""What the configured Alertmanagers say is firing, where a notification alone cannot tell (contracts.md A5, A6).

Only configured addresses are asked: the `externalURL` of a notification is the sender's claim. Whatever stays unclear
counts as firing, for a needless look costs less than a lost alert. Resolved alerts are never learned here: the API
lists only what has not ended, and its `endsAt` is a prediction.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from responder.alert import Alert, Notification, fingerprint
from responder.connections import HttpConnection
from responder.contracts import Clock
from responder.errors import BadSyntax, Permanent, ResponderError, Temporary
from responder.http_calls import HttpCall
from responder.timing import MINUTE, parse_time

PATIENCE: Final = 2.0
"""Seconds for all questions together: a notification waits for the answer."""
SETTLED: Final = 5 * MINUTE
"""One that started later may not have heard of everything again: its alerts are not kept (contracts.md A6)."""
NAMES: Final = 8
"""Alert names that are asked for one by one; for more, one list of everything is less work."""

Wanted = Callable[[Mapping[str, Any]], bool]
"""Whether a group of the API's answer is asked for."""

# What Go's QuoteMeta escapes; re.escape also escapes blanks, which RE2 refuses.
_meta = re.compile(r"[\\.+*?()|\[\]{}^$]")


class Alertmanagers:
    """The configured Alertmanagers of one cluster; with none, nothing can be asked and everything stays unclear."""

    def __init__(self, connections: Sequence[HttpConnection], now: Clock) -> None:
        self._connections = connections
        self._now = now

    async def gone(self, alerts: Collection[Alert]) -> frozenset[str]:
        """The fingerprints among `alerts` that surely do not fire: every Alertmanager answered and none lists them."""
        if not self._connections or not alerts:
            return frozenset()
        try:
            async with asyncio.timeout(PATIENCE):
                listed = await asyncio.gather(*(self._listed(c, alerts) for c in self._connections))
        except (TimeoutError, ResponderError):
            return frozenset()
        return frozenset(a.fingerprint for a in alerts).difference(*listed)

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

    async def _listed(self, connection: HttpConnection, alerts: Collection[Alert]) -> frozenset[str]:
        """Fingerprints that one Alertmanager lists. Raises Temporary while it has not heard of everything again."""
        status = await self._get(connection, "/api/v2/status", {})
        if self._now() - _started(status) < SETTLED:
            raise Temporary(f"{connection.name}: started a moment ago and does not know every alert yet")
        names = {a.labels.get("alertname", "") for a in alerts}
        filters = [f"alertname={_quoted(n)}" for n in sorted(names)] if len(names) <= NAMES else [""]
        pages = await asyncio.gather(
            *(self._get(connection, "/api/v2/alerts", {"filter": f} if f else {}) for f in filters)
        )
        return frozenset(_mark(entry) for page in pages for entry in _objects(page))

    async def _groups(self, connection: HttpConnection, query: Mapping[str, str], wanted: Wanted) -> dict[str, Alert]:
        shown = {"silenced": "false", "inhibited": "false", "muted": "false"}
        groups = _objects(await self._get(connection, "/api/v2/alerts/groups", {**query, **shown}))
        entries = (e for g in groups if wanted(g) for e in _objects(g.get("alerts")))
        alerts = (_alert(e) for e in entries if _active(e))
        return {a.fingerprint: a for a in alerts}

    async def _get(self, connection: HttpConnection, path: str, query: Mapping[str, str]) -> Any:
        call = HttpCall("GET", f"{path}?{urlencode(query)}" if query else path)
        answer = (await connection.send(call, PATIENCE)).checked(self._now())
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
