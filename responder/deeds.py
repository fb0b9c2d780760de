"""What an incident's journal says was done, by whom, how it ended, and what the checks said before and after.

Read from the events as the API tells them, so that a run which the folded state has forgotten still counts. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from responder.timing import SECOND, parse_time

Json = Mapping[str, Any]

_ITSELF: Final = "responder"


def actions(events: Sequence[Json]) -> list[dict[str, Any]]:
    """Changes, manual steps, and what was not done, in the order of time. `attempt` is "" for all but changes."""
    actors = {e["fact"]["number"]: e["actor"] for e in events if e["kind"] == "run_started"}
    found: list[dict[str, Any]] = []
    for event in events:
        begin = _BEGINS.get(event["kind"])
        row = None if begin is None else begin(event, actors)
        if row is not None:
            found.append(row)
        _end(event, found)
    return found


def _row(event: Json, by: str, what: str, **changes: Any) -> dict[str, Any]:
    known = {"at": event["at"], "by": by, "what": what, "attempt": "", "step": event["fact"]["step"]}
    nothing = {"run": event["fact"]["run"], "before": None, "target": None, "took": None}
    return {**known, **nothing, "outcome": "", "detail": "", **changes}


def _change(event: Json, actors: Mapping[int, str]) -> dict[str, Any] | None:
    fact, plan = event["fact"], event["fact"]["plan"]
    if plan["effect"] == "read":
        return None
    by = actors.get(fact["run"], _ITSELF)
    known = {"attempt": fact["attempt"], "before": plan["before"], "target": plan["target"]}
    return _row(event, by, plan["preview"], **known, outcome="under way", detail=plan["nothing_to_do"] or "")


_BEGINS: Final[Mapping[str, Callable[[Json, Mapping[int, str]], dict[str, Any] | None]]] = {
    "attempt_intended": _change,
    "manual_asked": lambda e, by: _row(e, "", e["fact"]["instruction"], outcome="asked"),
    "previewed": lambda e, by: _row(e, _ITSELF, e["fact"]["preview"], outcome="only observed"),
    "step_failed": lambda e, by: _row(e, _ITSELF, e["fact"]["step"], outcome="failed", detail=e["fact"]["why"]),
    "refused": lambda e, by: _row(e, _ITSELF, e["fact"]["step"], outcome="refused", detail=_reasons(e)),
}


def _reasons(event: Json) -> str:
    return "; ".join(v["reason"] for v in event["fact"]["verdicts"] if v["answer"] == "deny")


def _end(event: Json, rows: Sequence[dict[str, Any]]) -> None:
    """What an event says about something that was begun before."""
    kind, fact = event["kind"], event["fact"]
    if kind == "manual_done":
        mine = [r for r in rows if (r["run"], r["step"], r["outcome"]) == (fact["run"], fact["step"], "asked")]
        changes = {"outcome": "done", "by": event["actor"], "detail": fact["note"]}
    elif kind in ("attempt_ended", "probed", "settled"):
        mine = [r for r in rows if r["attempt"] == fact["attempt"]]
        changes = _ended(event)
    else:
        return
    for row in mine[-1:]:
        row.update(changes)
        row["took"] = _took(row, event) if kind == "attempt_ended" else row["took"]


def _took(row: Json, event: Json) -> float:
    return max(0, parse_time(event["at"]) - parse_time(row["at"])) / SECOND


def _ended(event: Json) -> dict[str, Any]:
    kind, fact = event["kind"], event["fact"]
    if kind == "attempt_ended":
        return {"outcome": fact["outcome"], "detail": fact["detail"]}
    if kind == "probed":
        said = {"applied": "ok", "not_applied": "did not happen"}.get(fact["answer"], "unknown")
        return {"outcome": said, "detail": fact["detail"]}
    happened = "it happened" if fact["applied"] else "it did not happen"
    return {"outcome": f"settled by {event['actor']}: {happened}", "detail": fact["reason"]}


def checks(events: Sequence[Json], actions: Sequence[Json]) -> list[dict[str, Any]]:
    """Each check as it was before the first change (else at first) and at last."""
    acted = next((parse_time(a["at"]) for a in actions if a["attempt"]), None)
    seen: dict[str, list[tuple[int, Any]]] = {}
    for event in events:
        for one in _observations(event["fact"]):
            if one["value"] is not None and one["error"] is None:
                seen.setdefault(one["check"], []).append((parse_time(event["at"]), one["value"]))
    return [{"check": check, **_first_last(values, acted)} for check, values in seen.items()]


def _observations(fact: Json) -> Sequence[Json]:
    one = fact.get("observation")
    return fact.get("observations") or ([one] if one else [])


def _first_last(values: list[tuple[int, Any]], acted: int | None) -> dict[str, Any]:
    before = [value for at, value in values if acted is not None and at <= acted]
    return {"first": before[-1] if before else values[0][1], "last": values[-1][1], "readings": len(values)}
