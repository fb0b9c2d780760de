"""Recorded notifications as files: what `responder record` writes and `responder replay` reads.

The format and nothing else: no file is opened here, and whether a payload makes sense is for `alert` to say, which
judges a replayed notification exactly as it judges a live one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.alert import Limits, parse_notification
from responder.errors import BadPayload, BadSyntax
from responder.timing import format_time, parse_time

_FORMS: Final = (
    "write a payload of Alertmanager or Grafana, what `responder record` writes, a list of these, or one on each line"
)


@dataclass(frozen=True, slots=True)
class Recording:
    """One notification to be replayed: `at` is when it came in (µs), None for a payload that does not say."""

    name: str
    at: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recorded notification came from, and when (µs)."""

    at: int
    id: str
    source: str
    receiver: str


def read_recordings(name: str, text: str | bytes) -> list[Recording]:
    """Everything that a file holds, in its order. `name` is what messages and recordings are called by.

    Understood are a recorded file, a bare payload, a JSON list of either, and JSON lines of either. Raises BadPayload.
    """
    entries = _entries(name, _decoded(name, text))
    several = len(entries) > 1
    return [_recording(f"{name}{place}" if several else name, entry) for place, entry in entries]


def write_recording(origin: Origin, notification: Mapping[str, Any]) -> bytes:
    """The file of one notification: JSON that people can read and edit. Raises ValueError for a time without a year."""
    head = {"at": format_time(origin.at), "id": origin.id, "source": origin.source, "receiver": origin.receiver}
    # Escaped: half a surrogate pair is possible in an annotation, and has no UTF-8 form.
    return (json.dumps({"recorded": head, "notification": notification}, indent=2) + "\n").encode()


def with_fingerprints(notification: Mapping[str, Any]) -> dict[str, Any]:
    """The payload in which every alert names its fingerprint, so that its identity outlives a redacted label."""
    alerts = notification.get("alerts")
    if not isinstance(alerts, list):
        return dict(notification)
    return {**notification, "alerts": [_named(notification, alert) for alert in alerts]}


def _named(notification: Mapping[str, Any], alert: Any) -> Any:
    """Read by itself, in its dialect; what cannot be understood has no identity to keep."""
    try:
        read = parse_notification(_body({**notification, "alerts": [alert]}), Limits()).alerts
    except BadPayload:
        return alert
    return {**alert, "fingerprint": read[0].fingerprint} if read else alert


# --- reading ----------------------------------------------------------------------------------------------------------


def _decoded(name: str, text: str | bytes) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPayload("not UTF-8; save it as UTF-8 text", f"{name}: byte {error.start + 1}") from None


def _entries(name: str, text: str) -> list[tuple[str, Any]]:
    """Each value with its place: `[2]` in a list, `:3` the line; a list on a line counts as its elements."""
    if not text.strip():
        raise BadPayload(f"empty; {_FORMS}", name)
    try:
        return list(_spread("", _loaded(text)))
    except json.JSONDecodeError as whole:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) < 2 or not _complete(lines[0][1]):
            raise BadPayload(f"not JSON: {whole.msg}; {_FORMS}", f"{name}:{whole.lineno}:{whole.colno}") from None
        return [entry for number, line in lines for entry in _of_line(name, number, line)]
    except (RecursionError, ValueError):
        raise BadPayload(f"nested too deeply, or a number of thousands of digits; {_FORMS}", name) from None


def _complete(line: str) -> bool:
    """Whether a line is JSON by itself: only then is the file JSON lines, and its mistake in another line."""
    try:
        _loaded(line)
    except (RecursionError, ValueError):
        return False
    return True


def _of_line(name: str, number: int, line: str) -> list[tuple[str, Any]]:
    try:
        return list(_spread(f":{number}", _loaded(line)))
    except json.JSONDecodeError as error:
        said = f"not JSON: {error.msg}; the lines before it are, so each line must be one notification"
        raise BadPayload(said, f"{name}:{number}:{error.colno}") from None
    except (RecursionError, ValueError):
        raise BadPayload("nested too deeply, or a number of thousands of digits", f"{name}:{number}") from None


def _loaded(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is no JSON number", name, 0)


def _spread(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((f"{place}[{index}]", element) for index, element in enumerate(value, start=1))
    else:
        yield place, value


def _recording(name: str, entry: Any) -> Recording:
    if not isinstance(entry, dict):
        raise BadPayload(f"no notification; {_FORMS}", name)
    if "recorded" not in entry:
        return Recording(name, None, _body(entry))
    notification = entry.get("notification")
    if not isinstance(notification, dict):
        raise BadPayload("`notification` is missing: it holds the payload that was received", name)
    return Recording(name, _recorded_at(name, entry["recorded"]), _body(notification))


def _recorded_at(name: str, head: Any) -> int:
    at = head.get("at") if isinstance(head, dict) else None
    if not isinstance(at, str):
        raise BadPayload("`recorded.at` is missing: write when it was received, as 2026-11-20T17:02:42Z", name)
    try:
        return parse_time(at)
    except BadSyntax as error:
        raise BadPayload(str(error), f"{name}: recorded.at") from None


def _body(notification: Mapping[str, Any]) -> bytes:
    return json.dumps(notification).encode()
