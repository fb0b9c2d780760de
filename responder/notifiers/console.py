"""The console: the timeline as lines of plain text, for `responder demo` and a `serve` that has nobody else to tell."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import JsonValue

from responder.contracts import Message, Notifier, Render


class Console(Notifier):
    """Prints the story to standard output, one line an event, pages marked PAGE.

    It wakes nobody: it is the last resort of a page that no pager took, and the only destination of replays.
    """

    kind: Literal["console"] = "console"
    pages: ClassVar[bool] = True
    chats: ClassVar[bool] = True
    family: ClassVar[str] = "console"
    replays: ClassVar[bool] = True

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """One line, from templates/console."""
        return " ".join(render(f"console/{kind}.txt.j2", values).rstrip().splitlines())

    async def send(self, message: Message) -> str:
        """Print it. The root message is printed once: what follows is told by the lines of the thread."""
        if message.kind == "root" and message.previous:
            return message.previous
        line = message.body if isinstance(message.body, str) else message.text
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        return json.dumps({"printed": True})
