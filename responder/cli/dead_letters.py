"""`responder dead-letters [show ID]`: what could not be understood, and the messages that no destination took."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from responder.cli.client import Asked, Failed, asks
from responder.cli.output import SHORT, ago, count, heading, moment, now_of, paper, plain, print_json, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType


class State(StrEnum):
    """Which are listed."""

    OPEN = "open"
    ALL = "all"


Show = Annotated[str | None, typer.Argument(metavar="[show", help="`show`: print the body of one of them.")]
Letter = Annotated[str | None, typer.Argument(metavar="ID]", help="Which; its beginning is enough.")]
Which = Annotated[State, typer.Option("--state", help="open: those that still matter; all: whatever became of them.")]


@asks
def command(asked: Asked, show: Show = None, letter: Letter = None, state: Which = State.OPEN) -> int:
    """List what could not be understood, and messages that their destination refused for good.

    \b
    responder dead-letters
    responder dead-letters show 7d3k

    `open` leaves out dead messages of closed incidents. Printing a body needs the role responder or operator.
    """
    if show is None:
        return _listed(asked, state)
    if show != "show" or letter is None:
        raise Failed("write `responder dead-letters show ID`; `responder dead-letters --state all` lists the ids")
    return _shown(asked, letter)


def _listed(asked: Asked, state: State) -> int:
    answer, date = asked.server.get("/dead-letters", state=state.value)
    if asked.json:
        print_json(answer)
        return 0
    out = paper()
    for part in told(answer, now_of(date)):
        out.print(part)
    return 0


def told(answer: dict[str, Any], now: int) -> Iterator[RenderableType]:
    """Both lists, and what can be done about them."""
    letters, messages = answer["dead_letters"], answer["messages"]
    yield heading(f"{count(len(letters), 'dead letter')}")
    if letters:
        rows = [
            (text(one["id"]), text(ago(moment(one["received_at"]) or now, now)), text(f"{one['bytes']} bytes"),
             text(f"{one['source']}: {one['reason']}"))
            for one in letters
        ]  # fmt: skip
        yield table(("ID", "RECEIVED", "SIZE", "FROM, AND WHY"), rows)
        yield text("its body: responder dead-letters show ID; mend what sends it", "dim")
    yield text("")
    yield heading(f"{count(len(messages), 'dead message')}")
    if messages:
        yield table(("TO", "SINCE", "INCIDENT", "WHAT, AND WHY"), [_message(one, now) for one in messages])
        yield text("mend the destination in responder.yaml; the next message goes there again", "dim")


def _message(one: dict[str, Any], now: int) -> tuple[RenderableType, ...]:
    since = text(ago(moment(one["since"]) or now, now))
    return text(one["destination"]), since, text(one["incident"][:SHORT]), text(f"{one['template']}: {one['error']}")


def _shown(asked: Asked, letter: str) -> int:
    answer, _ = asked.server.get(f"/dead-letters/{quote(letter, safe='')}")
    if asked.json:
        print_json(answer)
        return 0
    out = paper()
    out.print(text(f"{answer['id']}, received {answer['received_at']} from {answer['source']}", "bold"))
    out.print(text(answer["reason"]))
    if answer["encoding"] != "utf-8":
        out.print(text("the body is no text; in base64:", "dim"))
    print("\n".join(plain(line) for line in answer["body"].split("\n")))
    return 0
