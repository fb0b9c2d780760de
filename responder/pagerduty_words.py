"""What a webhook of PagerDuty's says about one of our incidents: any body becomes a word, or nothing (contracts.md C3).

Only what a person did there counts as done: our own events, which come back as their integration's, would answer
themselves. A resolve there ends nothing here, since the alert may still fire. Pure; whether a body is PagerDuty's at
all is `security`'s to say, and what becomes of a word is `web.pagerduty`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.positions import clean

AGENT: Final = "PagerDuty"
"""Who says what no person has done, such as an acknowledgement that ran out there."""
LONGEST_NAME: Final = 80
LONGEST: Final = 1_000
"""Characters of what somebody wrote there; the rest stands there."""
NAMES: Final = 5

_our_note = re.compile(r"\(responder [^\s()]{1,200}:\d{1,12}\)\s*$").search
"""How notes end that a responder left there: they come back, and are no news."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is said about the incident: a verb of `commands.PAGERS_SAY`, and its note."""

    verb: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """One webhook. `place` is PagerDuty's id of its incident, `key` its deduplication key, empty where it is left out.

    `id` is the same however often it is delivered.
    """

    id: str
    kind: str
    place: str
    key: str
    actor: str
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Whose page a deduplication key is: our incident and the destination, empty where the key was cut before it."""

    incident: str
    destination: str


def word(body: bytes) -> Word | None:
    """What a body says; None where it says nothing about any incident, whatever it is."""
    event = _object(_parsed(body), "event")
    kind, data = _text(event.get("event_type"), LONGEST_NAME), _object(event, "data")
    if not kind.startswith("incident."):
        return None
    about = data if data.get("type") == "incident" else _object(data, "incident")
    place, key = _text(about.get("id"), LONGEST_NAME), about.get("incident_key")
    known = _text(event.get("id"), LONGEST_NAME) or hashlib.sha256(body).hexdigest()[:40]
    agent = _object(event, "agent")
    hear = _HEARD.get(kind)
    said = () if hear is None else hear(data, _is_person(agent))
    return Word(known, kind, place, key if isinstance(key, str) else "", _actor(agent), said)


def page_of(key: str, instance: str) -> Page | None:
    """Whose page it is, by its key; None for what is not ours, another instance's too (ADR 0008)."""
    head = f"responder/{instance}/"
    incident, slash, rest = key.removeprefix(head).partition("/")
    if not key.startswith(head) or not incident or not slash:
        return None
    destination, whole, _ = rest.partition("/")
    return Page(incident, destination if whole else "")


# --- what each event says ---------------------------------------------------------------------------------------------

_RESOLVED: Final = "resolved in PagerDuty; it goes on here until the alert is over"


def _acknowledged(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return (Said("ack"),) if person else ()


def _unacknowledged(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return (Said("unack"),)


def _resolved(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return (Said("note", _RESOLVED), Said("ack")) if person else ()


def _reassigned(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return _note("reassigned to", _assignees(data))


def _escalated(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return _note("escalated to", _assignees(data))


def _delegated(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return _note("moved to the escalation policy", _summary(data, "escalation_policy"))


def _annotated(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    written = data.get("content")
    if not isinstance(written, str) or _our_note(written[-300:]):
        return ()
    return _note("", _text(written, LONGEST))


def _responder_added(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    message = _text(data.get("message"), LONGEST)
    asked = _note("asks for help of", _summary(data, "user") or _summary(data, "escalation_policy"))
    return (Said("note", f"{asked[0].note}: {message}"),) if asked and message else asked


def _status_update(data: Mapping[str, Any], person: bool) -> tuple[Said, ...]:
    return _note("tells stakeholders:", _text(data.get("message"), LONGEST))


_HEARD: Final[Mapping[str, Callable[[Mapping[str, Any], bool], tuple[Said, ...]]]] = {
    "incident.acknowledged": _acknowledged,
    "incident.unacknowledged": _unacknowledged,
    "incident.resolved": _resolved,
    "incident.reassigned": _reassigned,
    "incident.escalated": _escalated,
    "incident.delegated": _delegated,
    "incident.annotated": _annotated,
    "incident.responder.added": _responder_added,
    "incident.status_update_published": _status_update,
}


def _note(does: str, what: str) -> tuple[Said, ...]:
    return (Said("note", f"{does} {what}".strip()),) if what else ()


# --- reading ----------------------------------------------------------------------------------------------------------


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _object(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: Any, longest: int) -> str:
    """One line for people; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(clean(value[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _summary(data: Mapping[str, Any], name: str) -> str:
    return _text(_object(data, name).get("summary"), LONGEST_NAME)


def _assignees(data: Mapping[str, Any]) -> str:
    given = data.get("assignees")
    people = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    names = [name for one in people[: 2 * NAMES] if (name := _text(one.get("summary"), LONGEST_NAME))]
    return ", ".join(names[:NAMES]) + (" …" if len(names) > NAMES else "")


def _is_person(agent: Mapping[str, Any]) -> bool:
    return agent.get("type") == "user_reference"


def _actor(agent: Mapping[str, Any]) -> str:
    name = _text(agent.get("summary"), LONGEST_NAME)
    return f"{name} ({AGENT})" if name else AGENT
