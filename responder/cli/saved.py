"""A journal from the API or from a saved answer of it, as events and the incident that they fold to.

`GET …/journal` answers events as they were recorded; `responder incident ID --json` shows times and spans as people
read them (`web.shapes.shown`), which is taken back here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from responder.cli.client import Failed
from responder.timing import SECOND, parse_time

if TYPE_CHECKING:
    from responder.facts import Event
    from responder.incident import Due, Incident

_AS_IT_CAME: Final = frozenset(
    {"params", "output", "value", "before", "target", "labels", "annotations", "inputs", "links"}
)
"""Fields whose content is somebody else's: nothing in them is a time of ours."""


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with its journal. `named`: what a message calls it."""

    named: str
    incident: Incident
    events: tuple[Event, ...]

    @property
    def now(self) -> int:
        """When it is looked at: after its last event."""
        return self.events[-1].at

    @property
    def when_paged(self) -> Story:
        """As it was when somebody was paged last; all of it when nobody was."""
        from responder.journal import fold

        paging = [number for number, event in enumerate(self.events, 1) if getattr(event.fact, "page", ())]
        if not paging:
            return self
        events = self.events[: paging[-1]]
        return Story(self.named, fold(list(events)), events)


def story_of(content: Any, named: str) -> Story:
    """Fold an answer of either form. Raises Failed."""
    from pydantic import ValidationError

    from responder.errors import BadSyntax
    from responder.facts import Event
    from responder.journal import fold

    try:
        events = [Event.model_validate(_recorded(one, content, n)) for n, one in enumerate(content["events"], 1)]
        incident = fold(events)
        agenda = tuple(_due(one) for one in content.get("agenda", ()))
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError, BadSyntax):
        cure = "write one with `responder incident ID --json > FILE`"
        raise Failed(f"{named} holds no whole journal of an incident: {cure}") from None
    return Story(named, incident.model_copy(update={"agenda": agenda}), tuple(events))


def _recorded(event: dict[str, Any], content: dict[str, Any], number: int) -> dict[str, Any]:
    if isinstance(event["at"], int):
        return event
    known = {"id": f"{content['id']}:{number}", "incident": content["id"]}
    return {**known, **{name: event[name] for name in ("seq", "actor")}, "at": parse_time(event["at"]),
            "fact": _unshown(event["fact"])}  # fmt: skip


def _unshown(value: Any, name: str = "") -> Any:
    """The opposite of `shapes.shown`."""
    from responder.web.shapes import DURATIONS, TIMES

    if name in _AS_IT_CAME:
        return value
    if isinstance(value, dict):
        return {field: _unshown(one, field) for field, one in value.items()}
    if isinstance(value, list):
        return [_unshown(one) for one in value]
    if name in TIMES and isinstance(value, str):
        return parse_time(value)
    return round(value * SECOND) if name in DURATIONS and isinstance(value, int | float) else value


def _due(one: dict[str, Any]) -> Due:
    from responder.incident import Due

    due = one["due"] if "due" in one else parse_time(one["at"])
    return Due(kind=one["kind"], round=one["round"], due=due, what=one["what"])
