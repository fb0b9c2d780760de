"""`responder handover`: what the next shift must know, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from responder.cli.client import Asked, asks
from responder.cli.output import (
    SHORT,
    ago,
    clock,
    count,
    counted_down,
    heading,
    held_by,
    moment,
    now_of,
    paper,
    plain,
    print_json,
    table,
    text,
    word,
)
from responder.timing import SECOND, humanize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.text import Text

Since = Annotated[
    str, typer.Option(metavar="TIME", help="When the shift began: a duration ago (12h), or RFC 3339; at most 7d.")
]


@asks
def command(asked: Asked, since: Since = "12h") -> int:
    """What is open and who has it, what nobody knows, what is changed still, what closed, and what comes next (UTC)."""
    answer, date = asked.server.get("/handover", since=since)
    if asked.json:
        print_json(answer)
        return 0
    out = paper()
    for part in told(answer, moment(answer["now"]) or now_of(date)):
        out.print(part)
    return 0


def told(answer: dict[str, Any], now: int) -> Iterator[RenderableType]:
    """The whole digest, most urgent first; sections without anything are left out, but for what is open and closed."""
    yield text(f"hand-over at {clock(now, now)} UTC, since {clock(moment(answer['since']) or now, now)}", "dim")
    for name in answer.get("unreadable", ()):
        yield text(f"CANNOT BE READ: the store's row {name}; what it says is missing below", "bold red")
    if answer["pause"] is not None:
        pause = answer["pause"]
        said = f"AUTOMATION IS PAUSED by {pause['actor']} {ago(moment(pause['at']) or now, now)}: {pause['reason']}"
        yield text(f"{said}. To go on: responder resume", "bold yellow")
    yield from _incidents(answer["open"], count(len(answer["open"]), "open incident"), now)
    yield from _unsettled(answer["unsettled"], now)
    yield from _in_force(answer["in_force"])
    yield from _locks(answer["locks"], now)
    yield from _incidents(answer["closed"], f"{len(answer['closed']) or 'nothing'} closed since", now)
    yield from _timers(answer["timers"], now)
    yield from _dead(answer)


def _incidents(incidents: list[dict[str, Any]], title: str, now: int) -> Iterator[RenderableType]:
    yield text("")
    yield heading(title)
    if incidents:
        rows = [
            (text(one["id"][:SHORT]), word(one["result"] if one["closed_at"] else one["status"]),
             word(one["severity"]), text(_span(one["lasted"])), _story(one, now))
            for one in incidents
        ]  # fmt: skip
        yield table(("ID", "STATUS", "SEVERITY", "LASTED", "INCIDENT"), rows)


def _story(one: dict[str, Any], now: int) -> Text:
    """Title and target; below who has it, what it waits for, and how it ended."""
    who = one["who"]
    note = f": {who['note']}" if who and who["note"] else ""
    below = [f"{one['target']}, {who['name']} {who['does']}{note}" if who else f"{one['target']}, nobody has it"]
    if one["closed_at"]:
        below = [f"{one['target']}, closed {clock(moment(one['closed_at']) or now, now)}: {one['closed_why']}"]
    below += [f"urgent: {one['urgent']}"] if one["urgent"] and not one["closed_at"] else []
    below += [f"waits: {counted_down(one['waits_for'], now)}"] if one.get("waits_for") else []
    said = text(one["title"], "bold")
    for line in below:
        said.append("\n").append(plain(line))
    return said


def _unsettled(unsettled: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    if not unsettled:
        return
    yield text("")
    yield heading("nobody knows whether these happened")
    for one in unsettled:
        yield text(f"{one['preview']} ({one['target']}), {ago(moment(one['since']) or now, now)}. Look, then:", "bold")
        short = one["incident"][:SHORT]
        yield text(f"  responder settle {short} --attempt {one['attempt']} --applied (or --not-applied) --reason '…'")


def _in_force(changes: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if not changes:
        return
    yield text("")
    yield heading("changes still in force")
    rows = []
    for one in changes:
        values = f"{value_told(one['value'])}, was {value_told(one['before'])}, {_span(one['lasted'])}"
        beneath = "; beneath a later change" if one["beneath_another"] else ""
        cure = f"responder restore {one['incident'][:SHORT]}{beneath}"
        rows.append((text(one["target"]), text(values), text(cure)))
    yield table(("TARGET", "VALUE", "TO PUT IT BACK"), rows)


def value_told(value: Any) -> str:
    """`0.1`; what is unknown as a question mark."""
    return "?" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _locks(locks: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    if not locks:
        return
    yield text("")
    yield heading("locked targets")
    rows = [
        (text(one["target"]), text(one["incident"][:SHORT]), text(ago(moment(one["since"]) or now, now)),
         word("unknown") if one["unknown"] else text(held_by(one)))
        for one in locks
    ]  # fmt: skip
    yield table(("TARGET", "INCIDENT", "SINCE", "WHY"), rows)


def _timers(timers: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    if not timers:
        return
    yield text("")
    yield heading("what comes by itself in 12 hours")
    rows = []
    for one in timers:
        at = moment(one["at"]) or now
        short = "" if one["incident"] is None else one["incident"][:SHORT]
        rows.append((text(clock(at, now)), text(ago(at, now)), text(short), text(f"{one['about']}: {one['what']}")))
    yield table(("AT", "IN", "INCIDENT", "WHAT"), rows)


def _dead(answer: dict[str, Any]) -> Iterator[RenderableType]:
    letters, messages = answer["dead_letters"], answer["dead_messages"]
    if letters or messages:
        yield text("")
        said = f"{count(len(letters), 'dead letter')} and {count(len(messages), 'dead message')}"
        yield text(f"{said}: responder dead-letters --state all", "bold yellow")


def _span(seconds: float) -> str:
    return humanize(round(seconds * SECOND))
