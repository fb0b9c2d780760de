"""What Alertmanager sends and when, for the times when no Alertmanager is there: one group, its payload, its timing.

Pure: bytes and decisions from alerts and `now` (microseconds since the epoch). The payload is that of version "4" as
Alertmanager 0.25 writes it, byte for byte (contracts.md A1): order of fields, sorted maps, Go's HTML escaping, the zero
time, the closing newline. When a group is told again follows Alertmanager's own deduplication (contracts.md A4).
Silences, inhibition and clustering are left to the real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from responder.alert import fingerprint
from responder.timing import format_time

ZERO_TIME = "0001-01-01T00:00:00Z"

_ESCAPED = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_quote_meta = re.compile(r"([\\.+*?()|\[\]{}^$])")
_trailing_zeros = re.compile(r"(\.\d*?)0+Z$")


@dataclass(frozen=True, slots=True)
class SentAlert:
    """An alert as Alertmanager knows it; `ended` is None while it fires. Times in microseconds since the epoch."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started: int
    ended: int | None
    generator_url: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.labels)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a group goes and how it is named; `group_by` are label names."""

    receiver: str
    group_by: tuple[str, ...]
    external_url: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the receiver has accepted last: fingerprints, and when."""

    firing: frozenset[str]
    resolved: frozenset[str]
    at: int


def told_by(alerts: Collection[SentAlert], now: int) -> Told:
    """What the receiver knows once it accepts a notification of `alerts`."""
    firing = frozenset(alert.fingerprint for alert in alerts if alert.ended is None)
    return Told(firing, frozenset(alert.fingerprint for alert in alerts) - firing, now)


def worth_telling(told: Told | None, alerts: Collection[SentAlert], now: int, repeat_interval: int) -> bool:
    """Whether a flush of the group sends anything (Alertmanager's `needsUpdate`)."""
    present = told_by(alerts, now)
    if told is None:
        return bool(present.firing)
    if not present.firing <= told.firing:
        return True
    if not present.firing:
        return bool(told.firing)
    return not present.resolved <= told.resolved or told.at < now - repeat_interval


def payload(route: Route, alerts: Sequence[SentAlert]) -> bytes:
    """The webhook body of a group that holds at least one alert."""
    ordered = sorted(alerts, key=_order)
    grouping = {name: ordered[0].labels.get(name, "") for name in route.group_by if name in ordered[0].labels}
    return _go_json(
        {
            "receiver": _quote_meta.sub(r"\\\1", route.receiver),
            "status": "firing" if any(alert.ended is None for alert in ordered) else "resolved",
            "alerts": [_alert(alert) for alert in ordered],
            "groupLabels": _sorted(grouping),
            "commonLabels": _common([alert.labels for alert in ordered]),
            "commonAnnotations": _common([alert.annotations for alert in ordered]),
            "externalURL": route.external_url,
            "version": "4",
            "groupKey": "{}:" + _label_set(grouping),
            "truncatedAlerts": 0,
        }
    )


def _alert(alert: SentAlert) -> dict[str, object]:
    return {
        "status": "firing" if alert.ended is None else "resolved",
        "labels": _sorted(alert.labels),
        "annotations": _sorted(alert.annotations),
        "startsAt": _go_time(alert.started),
        "endsAt": ZERO_TIME if alert.ended is None else _go_time(alert.ended),
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
    }


def _order(alert: SentAlert) -> tuple[str, str, int, list[tuple[str, str]]]:
    labels = alert.labels
    return labels.get("job", ""), labels.get("instance", ""), len(labels), sorted(labels.items())


def _sorted(mapping: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(mapping.items()))


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return _sorted({name: text for name, text in first.items() if all(other.get(name) == text for other in others)})


def _label_set(labels: Mapping[str, str]) -> str:
    pairs = (f"{name}={json.dumps(text, ensure_ascii=False)}" for name, text in sorted(labels.items()))
    return "{" + ", ".join(pairs) + "}"


def _go_time(us: int) -> str:
    """RFC3339Nano as Go prints it: no zeros at the end of a fraction."""
    return _trailing_zeros.sub(lambda end: end[1].rstrip(".") + "Z", format_time(us))


def _go_json(document: Mapping[str, object]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPED).encode() + b"\n"
