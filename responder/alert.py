"""What Alertmanager posts: one notification of payload version 4, read leniently where that is safe; or Grafana.

An alert is known by its fingerprint alone (design.md section 2). What cannot be understood of a batch is handed back
with its exact JSON while the rest goes on (design.md 5.1). The status and the common labels of the whole notification
are never read: they are computed after truncation and say nothing certain (contracts.md A5). Read by hand and not with
pydantic, which is no faster here and cannot keep the good alerts of a batch apart from the bad. Not here: whether an
alert is old, known or worth anything; what only Grafana sends (`grafana`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NoReturn

from responder import grafana
from responder.errors import BadPayload, BadSyntax
from responder.timing import parse_time

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_MAX_COUNT: Final = 2**31 - 1

_is_fingerprint = re.compile(r"[0-9a-f]{16}").fullmatch
_quoted_meta = re.compile(r"\\([\\.+*?()|\[\]{}^$])")
# What PostgreSQL refuses in TEXT: NUL, and surrogates without their other half, which have no UTF-8 form.
_unstorable = re.compile("[\x00\ud800-\udfff]")
_spaces = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one notification may hold. More alerts refuse it, a larger alert is bad, a longer annotation is cut.

    `max_label_bytes` counts names and values of one alert together in UTF-8, `max_text` characters of one annotation.
    """

    max_alerts: int = 10_000
    max_labels: int = 256
    max_label_bytes: int = 32_768
    max_text: int = 65_536


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification; times are microseconds since the epoch in UTC, None for Go's zero time.

    `starts_at` is a hint and no part of the identity: it changes under a firing alert (contracts.md A5).
    """

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    firing: bool
    starts_at: int | None
    ends_at: int | None
    generator_url: str

    @property
    def name(self) -> str:
        """The label `alertname`, or "" (Alertmanager does not demand one)."""
        return self.labels.get("alertname", "")

    @property
    def severity(self) -> str | None:
        """The label `severity` in lower case, None when missing or empty."""
        return self.labels.get("severity", "").lower() or None


@dataclass(frozen=True, slots=True)
class BadAlert:
    """An alert that cannot be understood: its place in `alerts`, why, and its exact JSON as it was sent."""

    index: int
    message: str
    json: str


class Dialect(StrEnum):
    """Whose webhook a notification has the form of."""

    ALERTMANAGER = "alertmanager"
    GRAFANA = "grafana"


@dataclass(frozen=True, slots=True)
class Notification:
    """One POST from Alertmanager or Grafana; each fingerprint occurs once in `alerts`, in the order they were sent.

    `receiver` is the configured name (the wire has it escaped), `truncated_alerts` the number left out by max_alerts,
    `reason` why Alertmanager sent it (since 0.32, else None), `route_labels` empty before 0.34.
    """

    receiver: str
    group_key: str
    external_url: str
    alerts: tuple[Alert, ...]
    truncated_alerts: int
    reason: str | None
    group_labels: Mapping[str, str]
    route_labels: Mapping[str, str]
    bad: tuple[BadAlert, ...]
    dialect: Dialect = Dialect.ALERTMANAGER


class _UnreadableError(Exception):
    """One alert cannot be understood; the message is shown to people."""


def fingerprint(labels: Mapping[str, str]) -> str:
    """16 hex digits: FNV-1a of 64 bits over name, 0xFF, value, 0xFF of the labels sorted by name (contracts.md A1).

    Labels must be encodable in UTF-8, as those of every Alert are. Sorted by bytes, as Go sorts.
    """
    pairs = sorted((name.encode(), value.encode()) for name, value in labels.items())
    digest = _FNV_OFFSET
    for byte in b"".join(b"%b\xff%b\xff" % pair for pair in pairs):
        digest = ((digest ^ byte) * _FNV_PRIME) & _MASK
    return f"{digest:016x}"


def parse_notification(body: bytes, limits: Limits) -> Notification:
    """The notification in a webhook body. Raises BadPayload, and nothing else, if it cannot be understood as a whole.

    The body itself tells the dialect. Only `version` and `alerts` are demanded (and one field that only Grafana has, of
    Grafana); any other top-level field that is missing or of a wrong type is empty, except `truncatedAlerts`, which
    then counts as 1: something may be missing, so the caller asks the API.
    """
    try:
        return _notification(_decoded(body), limits)
    except RecursionError:  # of the JSON reader, or of whoever walks a value that it only just managed to read
        raise BadPayload("nested too deeply; Alertmanager's payload has four levels", "body") from None


def _notification(text: str, limits: Limits) -> Notification:
    payload = _loaded(text)
    dialect = _dialect(payload)
    entries = _entries(payload, limits)
    # Only an escape can bring in what a database refuses, so nearly every body is spared the search.
    suspicious = "\\u0000" in text or "\\ud" in text or "\\uD" in text
    alerts, faults = [], {}
    for index, entry in enumerate(entries):
        try:
            alerts.append(_alert(entry, limits, suspicious, dialect))
        except _UnreadableError as fault:
            faults[index] = str(fault)
    return Notification(
        receiver=_quoted_meta.sub(r"\1", _text(payload.get("receiver"))),
        group_key=_text(payload.get("groupKey")),
        external_url=_text(payload.get("externalURL")),
        alerts=_distinct(alerts),
        truncated_alerts=_count(payload.get("truncatedAlerts", 0)),
        reason=_text(payload.get("notification_reason")) or None,
        group_labels=_texts(payload.get("groupLabels"), limits, suspicious),
        route_labels=_texts(payload.get("routeLabels"), limits, suspicious),
        bad=_bad_alerts(text, faults) if faults else (),
        dialect=dialect,
    )


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = "not UTF-8, so not sent by Alertmanager; look at what stands between it and the responder"
        raise BadPayload(message, f"byte {error.start + 1}") from None


def _loaded(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadPayload(f"not JSON: {error.msg}", f"line {error.lineno} column {error.colno}") from None
    except ValueError:
        raise BadPayload("a number of thousands of digits, which Alertmanager never sends", "body") from None
    if not isinstance(payload, dict):
        raise BadPayload(f"expected a JSON object, found {_kind(payload)}; {_CUSTOM}", "body")
    return payload


_CUSTOM: Final = (
    "if the webhook_config sets `payload`, or Grafana's contact point a custom payload, remove it: the responder reads"
    " the standard body"
)


def _refuse_constant(name: str) -> NoReturn:
    raise BadPayload(f"not JSON: {name} is no JSON number", "body")


def _dialect(payload: dict[str, Any]) -> Dialect:
    """Version "4" is Alertmanager's before anything else is looked at: no other dialect changes how it is read."""
    version = payload.get("version")
    if version in ("4", 4):
        return Dialect.ALERTMANAGER
    if grafana.recognised(payload):
        return Dialect.GRAFANA
    if grafana.legacy(payload):
        raise BadPayload("of Grafana's legacy alerting; upgrade Grafana, or send by its unified alerting", "version")
    if version is None:
        raise BadPayload(f"missing; {_CUSTOM}", "version")
    shown = repr(version)[:40] if isinstance(version, str | int) else _kind(version)
    known = 'payload version "4" of Alertmanager and "1" of Grafana, with its orgId, are understood'
    raise BadPayload(f"{known}, this is {shown}; look for a newer responder, or a custom payload to remove", "version")


def _entries(payload: dict[str, Any], limits: Limits) -> list[Any]:
    entries = payload.get("alerts")
    if not isinstance(entries, list):
        found = "missing" if "alerts" not in payload else f"expected a list, found {_kind(entries)}"
        raise BadPayload(f"{found}; {_CUSTOM}", "alerts")
    if len(entries) > limits.max_alerts:
        message = f"{len(entries)} alerts are above the limit of {limits.max_alerts}; raise it or group by more labels"
        raise BadPayload(message, "alerts")
    return entries


def _alert(entry: object, limits: Limits, suspicious: bool, dialect: Dialect) -> Alert:
    if not isinstance(entry, dict):
        raise _UnreadableError(f"an alert must be an object, not {_kind(entry)}")
    labels = _labels(entry.get("labels"), limits, suspicious)
    foreign = dialect is Dialect.GRAFANA
    annotations = grafana.annotations(entry) if foreign else entry.get("annotations")
    return Alert(
        fingerprint=_given(entry) or fingerprint({**(grafana.hidden_labels(entry) if foreign else {}), **labels}),
        labels=labels,
        annotations=_texts(annotations, limits, suspicious),
        firing=_firing(entry.get("status")),
        starts_at=_time(entry.get("startsAt"), "startsAt"),
        ends_at=_time(entry.get("endsAt"), "endsAt"),
        generator_url=_text(entry.get("generatorURL")),
    )


def _given(entry: Mapping[str, Any]) -> str | None:
    """The fingerprint that was sent: Grafana's covers labels that it does not send, so it cannot be computed anew."""
    given = entry.get("fingerprint")
    return given if isinstance(given, str) and _is_fingerprint(given) else None


def _labels(labels: object, limits: Limits, suspicious: bool) -> Mapping[str, str]:
    """Labels steer what is done, so nothing in them is repaired: a value that is no clean text makes the alert bad."""
    if not isinstance(labels, dict) or not labels:
        raise _UnreadableError(f"`labels` must be an object with at least one label, not {_kind(labels)}")
    if len(labels) > limits.max_labels:
        raise _UnreadableError(
            f"{len(labels)} labels are more than the limit of {limits.max_labels}; drop some or raise it"
        )
    size = 0
    for name, value in labels.items():
        if type(value) is not str:
            raise _UnreadableError(f"label {name[:80]!r} must be a text, not {_kind(value)}")
        size += len(name) + len(value)
        if suspicious and (_unstorable.search(name) or _unstorable.search(value)):
            raise _UnreadableError(f"label {name[:80]!r} holds a NUL or half a surrogate pair, which cannot be stored")
    # Four bytes is the longest a character can be: below a quarter of the limit nothing has to be counted.
    if size * 4 > limits.max_label_bytes and _bytes_of(labels) > limits.max_label_bytes:
        raise _UnreadableError(f"labels of more than {limits.max_label_bytes} bytes; shorten them or raise the limit")
    return labels


def _bytes_of(labels: Mapping[str, str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for pair in labels.items() for text in pair)


def _firing(status: object) -> bool:
    """A missing status is firing: a needless look costs less than an alert that is lost (design.md 5.2)."""
    if status in ("firing", None):
        return True
    if status == "resolved":
        return False
    shown = repr(status)[:40] if isinstance(status, str) else _kind(status)
    raise _UnreadableError(f'`status` must be "firing" or "resolved", not {shown}')


def _time(text: object, where: str) -> int | None:
    """Years 0000 and 0001 are Go's zero time in any offset (contracts.md A1)."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise _UnreadableError(f"`{where}` must be an RFC 3339 text, not {_kind(text)}")
    if text.startswith(("0001-", "0000-")):
        return None
    try:
        return parse_time(text)
    except BadSyntax as error:
        raise _UnreadableError(f"`{where}`: {error}") from None


def _text(value: object) -> str:
    """Text that informs people or names things: what a database refuses becomes U+FFFD, no text becomes empty."""
    return _unstorable.sub("\ufffd", value) if isinstance(value, str) else ""


def _texts(values: object, limits: Limits, suspicious: bool) -> Mapping[str, str]:
    """Annotations and the labels of group and route: shown to people, so repaired and cut rather than refused."""
    if not isinstance(values, dict):
        return {}
    if not suspicious and all(type(value) is str and len(value) <= limits.max_text for value in values.values()):
        return values
    return {_text(name): _shown(value, limits.max_text) for name, value in values.items()}


def _shown(value: object, longest: int) -> str:
    text = _text(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(value, _MAX_COUNT)
    return 1


def _distinct(alerts: list[Alert]) -> tuple[Alert, ...]:
    """Each fingerprint once. Alertmanager never repeats one, so two mean that bodies were merged on the way.

    Of two with the same labels the firing one stays, since a resolve is only a hint and a lost firing is worse than a
    needless look; else the later one. Different labels under one fingerprint are different alerts with a wrong one.
    """
    if len({alert.fingerprint for alert in alerts}) == len(alerts):
        return tuple(alerts)
    labels = {alert.fingerprint: alert.labels for alert in alerts}
    wrong = {alert.fingerprint for alert in alerts if alert.labels != labels[alert.fingerprint]}
    chosen: dict[str, Alert] = {}
    for alert in alerts:
        mark = fingerprint(alert.labels) if alert.fingerprint in wrong else alert.fingerprint
        rival = chosen.get(mark)
        if rival is None or _weight(alert) >= _weight(rival):
            chosen[mark] = replace(alert, fingerprint=mark)
    return tuple(chosen.values())


def _weight(alert: Alert) -> tuple[bool, int]:
    return alert.firing, alert.starts_at or 0


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return "nothing" if value == {} else names.get(type(value), "a number")


def _bad_alerts(text: str, faults: Mapping[int, str]) -> tuple[BadAlert, ...]:
    exact = _exact_entries(text)
    return tuple(BadAlert(index, message, exact[index]) for index, message in faults.items())


def _exact_entries(text: str) -> list[str]:
    """The source text of each element of `alerts`; `text` has been parsed, so it is known to be well formed."""
    decoder = json.JSONDecoder()
    found: list[str] = []
    at = _after_spaces(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _after_spaces(text, _after_spaces(text, at) + 1)
        if key == "alerts" and text[at] == "[":
            found, at = _elements(text, at, decoder)  # of a repeated key the last counts, as in json.loads
        else:
            _, at = decoder.raw_decode(text, at)
        at = _after_comma(text, at)
    return found


def _elements(text: str, at: int, decoder: json.JSONDecoder) -> tuple[list[str], int]:
    elements = []
    at = _after_spaces(text, at + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        elements.append(text[at:end])
        at = _after_comma(text, end)
    return elements, at + 1


def _after_comma(text: str, at: int) -> int:
    at = _after_spaces(text, at)
    return _after_spaces(text, at + 1) if text[at] == "," else at


def _after_spaces(text: str, at: int) -> int:
    return found.end() if (found := _spaces.match(text, at)) else at
