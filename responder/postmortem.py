"""The draft of a post-mortem: what the journal of an incident already knows, so that people write what it cannot know.

Everything is computed from the API's answer about one incident (`GET /api/v1/incidents/{id}`) and about what stands
(`GET /api/v1/status`). Pure. The wording of the document is templates/report/postmortem.txt.j2; times in the values are
RFC 3339, spans are seconds, as everywhere in the API.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from responder.deeds import Json, actions, checks
from responder.markdown import escaped, escaped_tree, link
from responder.timing import SECOND, format_time, humanize, parse_time

TEMPLATE: Final = "report/postmortem.txt.j2"
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a document."""
TOGETHER: Final = 4
"""Alerts that fired, or ended, one after the other: so many or more are one line of the timeline."""

_SMALL: Final = frozenset({"gathered", "attempt_intended", "machine_gathered", "verifying", "paged"})
"""Events that another line tells: readings, intents, and pages, which have a table of their own."""
_ALERTS: Final = frozenset({"alert_fired", "alert_resolved"})
_ANSWERS: Final = frozenset({"acknowledged", "taken_over", "snoozed"})
_TAKES_BACK: Final = frozenset({"restore", "undo"})
"""Causes of runs that put a change back, which is no word about the alert."""
_ITSELF: Final = "responder"
_LIVE: Final = "live"


def postmortem(incident: Json, standing: Json, now: int) -> dict[str, Any]:
    """What is known. `standing` is the status, of which `in_force` and `locks` count; `now` is µs."""
    events: Sequence[Json] = incident["events"]
    opened = _us(incident["opened_at"])
    ended = now if incident["closed_at"] is None else _us(incident["closed_at"])
    done = actions(events)
    return {
        **{name: incident[name] for name in _TAKEN},
        "lasted": _seconds(ended - opened),
        "as_of": format_time(now - now % SECOND),
        "replay": incident["namespace"] != _LIVE,
        "alerts": _alerts(events),
        "measures": _measures(events, opened, done),
        "timeline": list(_timeline(events, opened)),
        "actions": [_with_offset(action, opened) for action in done],
        "checks": checks(events, done),
        "evidence": _evidence(events),
        "pages": [_with_offset(page, opened) for page in _pages(events)],
        "people": [_with_offset(word, opened) for word in _people(events)],
        "in_force": _in_force(incident["id"], standing),
        "unsettled": [a for a in done if a["attempt"] in set(incident["unsettled"])],
        "locks": [lock["target"] for lock in standing["locks"] if lock["incident"] == incident["id"]],
    }


_TAKEN: Final = (
    "id", "title", "severity", "status", "result", "impact", "target", "runbook", "mode", "policy",
    "opened_at", "closed_at", "closed_why", "problems", "links",
)  # fmt: skip


def _us(at: str) -> int:
    return parse_time(at)


def _seconds(us: int | None) -> float | None:
    return None if us is None else max(0, us) / SECOND


def _with_offset(row: Json, opened: int) -> dict[str, Any]:
    return {**row, "after": _seconds(_us(row["at"]) - opened)}


# --- measures ---------------------------------------------------------------------------------------------------------


def _measures(events: Sequence[Json], opened: int, done: Sequence[Json]) -> dict[str, Any]:
    """Spans in seconds, None for what did not happen. An acknowledgement counts from the first page before it."""
    answered = _first(events, _ANSWERS)
    paged = _first(events, {"paged"})
    from_page = answered is not None and paged is not None and paged <= answered
    since = paged if from_page and paged is not None else opened
    acted = next((_us(a["at"]) for a in done if a["attempt"]), None)
    fixed, contained = _good(events)
    closed = _first(events, {"closed"})
    began = [_us(e["fact"]["starts_at"]) for e in events if e["kind"] == "alert_fired" and e["fact"]["starts_at"]]
    return {
        "to_open": _seconds(opened - min(began)) if began and min(began) <= opened else None,
        "to_first_page": _since(paged, opened),
        "to_acknowledge": _since(answered, since),
        "acknowledge_from": "first page" if from_page else "opening",
        "to_first_action": _since(acted, opened),
        "to_contain": _since(contained, opened),
        "to_fix": _since(fixed, opened),
        "to_close": _since(closed, opened),
        "relapses": sum(e["kind"] == "relapsed" for e in events),
    }


def _first(events: Iterable[Json], kinds: Iterable[str]) -> int | None:
    wanted = frozenset(kinds)
    return next((_us(e["at"]) for e in events if e["kind"] in wanted), None)


def _since(at: int | None, begin: int) -> float | None:
    return None if at is None else _seconds(at - begin)


def _good(events: Sequence[Json]) -> tuple[int | None, int | None]:
    """When it became fixed for good, and when it was first contained: a relapse takes both back."""
    causes = {e["fact"]["number"]: e["fact"]["cause"] for e in events if e["kind"] == "run_started"}
    fixed: int | None = None
    contained: int | None = None
    for event in events:
        fact = event["fact"]
        if event["kind"] == "relapsed":
            fixed = contained = None
        elif event["kind"] == "machine_fired" and fact["good"]:
            fixed = fixed or _us(event["at"])
        elif event["kind"] == "run_ended" and causes.get(fact["run"]) not in _TAKES_BACK:
            fixed = fixed or (_us(event["at"]) if fact["result"] == "fixed" else None)
            contained = contained or (_us(event["at"]) if fact["result"] == "contained" else None)
    return fixed, contained


# --- the story --------------------------------------------------------------------------------------------------------


def _alerts(events: Sequence[Json]) -> list[dict[str, Any]]:
    """Every fingerprint that fired, as it fired first."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        fact = event["fact"]
        if event["kind"] == "alert_fired":
            summary = fact["annotations"].get("summary", "")
            name = fact["labels"].get("alertname", "an alert without a name")
            known = {"name": name, "labels": dict(fact["labels"]), "summary": summary, "since": event["at"]}
            found.setdefault(fact["fingerprint"], {**known, "graph": fact["generator_url"]})
    return list(found.values())


def _timeline(events: Sequence[Json], opened: int) -> Iterator[dict[str, Any]]:
    """One line for an event that matters, with who did it ("": the responder itself)."""
    for group in _grouped(_told(events)):
        first, more = group[0], len(group) - 1
        what = f"{first['text']}, and {more} more like it until {group[-1]['at'][11:19]}" if more else first["text"]
        who = "" if first["actor"] == _ITSELF else first["actor"]
        yield _with_offset({"at": first["at"], "by": who, "kind": first["kind"], "what": what}, opened)


def _told(events: Sequence[Json]) -> Iterator[Json]:
    attempt = ""
    for event in events:
        if event["kind"] == "step_ended" and attempt.startswith(event["text"]):
            continue  # a step's only attempt and the step itself end with the same sentence, or its beginning
        attempt = event["text"] if event["kind"] == "attempt_ended" else attempt
        if event["kind"] == "evidence_gathered":
            yield {**event, "text": f"Evidence gathered: {len(event['fact']['items'])} readings, below"}
        elif event["kind"] not in _SMALL:
            yield event


def _grouped(events: Iterable[Json]) -> Iterator[list[Json]]:
    """Many alerts that fired or ended one after the other are one group; every other event is one by itself."""
    group: list[Json] = []
    for event in events:
        if group and event["kind"] != group[0]["kind"]:
            yield from _many_or_each(group)
            group = []
        group.append(event)
    yield from _many_or_each(group)


def _many_or_each(group: list[Json]) -> list[list[Json]]:
    if len(group) >= TOGETHER and group[0]["kind"] in _ALERTS:
        return [group]
    return [[event] for event in group]


def _pages(events: Sequence[Json]) -> list[dict[str, Any]]:
    """Each page with when its destination accepted it (None: never), and why not."""
    pages: list[dict[str, Any]] = []
    for event in events:
        fact = event["fact"]
        if event["kind"] == "paged":
            page = {"at": event["at"], "destination": fact["destination"], "why": fact["why"]}
            pages.append({**page, "accepted_at": None, "error": ""})
        elif event["kind"] == "page_accepted" or _refused(event):
            _answered(pages, event)
    return pages


def _refused(event: Json) -> bool:
    """A page was; its end may be, too, which says nothing about the page."""
    fact = event["fact"]
    return event["kind"] == "message_dead" and fact["lane"] == "page" and not fact.get("by_hand")


def _answered(pages: list[dict[str, Any]], event: Json) -> None:
    """The oldest page to that destination that has no answer yet has it now."""
    waiting = (p for p in pages if p["accepted_at"] is None and not p["error"])
    page = next((p for p in waiting if p["destination"] == event["fact"]["destination"]), None)
    if page is None:
        return
    if event["kind"] == "page_accepted":
        page["accepted_at"] = event["at"]
    else:
        page["error"] = event["fact"]["error"]


def _people(events: Sequence[Json]) -> Iterator[dict[str, Any]]:
    """All that people said and did."""
    for event in events:
        if event["actor"] != _ITSELF:
            yield {"at": event["at"], "by": event["actor"], "kind": event["kind"], "what": event["text"]}


def _evidence(events: Sequence[Json]) -> list[dict[str, Any]]:
    return [
        {"at": event["at"], "title": item["title"], "value": item["value"], "error": item["error"]}
        for event in events
        if event["kind"] == "evidence_gathered"
        for item in event["fact"]["items"]
    ]


def _in_force(incident: str, standing: Json) -> list[dict[str, Any]]:
    """The changes of this incident that nobody has put back, those beneath a later change too."""
    found = []
    for top in standing["in_force"]:
        change = top
        while change is not None:
            if change["incident"] == incident:
                kept = ("target", "preview", "before", "value", "since")
                found.append({name: change[name] for name in kept})
            change = change["beneath"]
    return found


# --- as Markdown ------------------------------------------------------------------------------------------------------


def markdown_values(known: Json) -> dict[str, Any]:
    """The same for the template: texts escaped, spans and times as people read them, values as one text."""
    date = known["opened_at"][:10]
    links = [link(title, url) for title, url in known["links"].items()]
    graphs = dict.fromkeys(alert["graph"] for alert in known["alerts"] if alert["graph"])
    shown = {name: _shown(value, name, date) for name, value in known.items() if name not in ("links", "alerts")}
    return {
        **shown,
        "date": date,
        "alerts": [_alert(alert, date) for alert in known["alerts"]],
        "links": [*links, *(link("graph", url) for url in list(graphs)[:1])],
    }


_TIMES: Final = frozenset({"at", "as_of", "opened_at", "closed_at", "accepted_at", "since"})
_SPANS: Final = frozenset({"after", "lasted", "took"})
_VALUES: Final = frozenset({"before", "target", "value", "first", "last"})
"""What services answered: numbers, texts or whole trees."""


def _shown(value: Any, name: str, date: str) -> Any:
    if value is None:
        return None
    if name == "measures":
        return {one: _shown(item, "took" if one.startswith("to_") else one, date) for one, item in value.items()}
    if isinstance(value, dict) and name not in _VALUES:
        return {one: _shown(item, one, date) for one, item in value.items()}
    if isinstance(value, list) and name not in _VALUES:
        return [_shown(item, "", date) for item in value]
    if name in _TIMES:
        return _clock(value, date)
    return _text(value, name)


def _text(value: Any, name: str) -> Any:
    if name in _SPANS and isinstance(value, int | float):
        return humanize(round(value * SECOND))
    if isinstance(value, dict | list):
        return escaped(json.dumps(value, ensure_ascii=False))
    return escaped_tree(value)


def _clock(at: str, date: str) -> str:
    """`17:02:42`, with the date when it is not that of the opening."""
    return at[11:19] if at[:10] == date else f"{at[:10]} {at[11:19]}"


def _alert(alert: Json, date: str) -> dict[str, Any]:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert["labels"].items()) if name != "alertname")
    said = {"name": alert["name"], "labels": labels, "summary": alert["summary"]}
    return {**escaped_tree(said), "since": _clock(alert["since"], date)}
