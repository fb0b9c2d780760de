"""Messages as Slack shows them, as HTML: the blocks that a Slack took, drawn close enough to judge them by eye."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.fakes.slack import Posted

STYLE: Final = """
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.47 Lato, "Liberation Sans", Arial, "Noto Color Emoji", sans-serif; color: #1d1c1d; }
.window { display: flex; align-items: stretch; width: 1260px; }
.column { padding: 0 20px 20px; }
.channel { width: 680px; }
.thread { width: 580px; border-left: 1px solid #ddd; }
.title { margin: 0 -20px 14px; padding: 13px 20px; border-bottom: 1px solid #ddd; font-weight: 900; font-size: 17px; }
.title small { font-weight: 400; font-size: 13px; color: #616061; margin-left: 6px; }
.message { display: flex; gap: 10px; margin-bottom: 14px; }
.face { flex: none; width: 36px; height: 36px; border-radius: 5px; background: #12355b; }
.face { color: #fff; font-weight: 900; text-align: center; line-height: 36px; }
.body { min-width: 0; flex: 1; overflow-wrap: break-word; }
.name { font-weight: 900; }
.app { font-size: 10px; font-weight: 700; background: #e8e8e8; color: #616061; border-radius: 2px; padding: 1px 3px; }
.app { margin: 0 4px; vertical-align: 1px; }
.at, .also, .replies { font-size: 12px; color: #616061; }
.replies { margin-left: 46px; }
.header { font-size: 18px; font-weight: 900; margin: 6px 0; }
.section { margin: 6px 0; white-space: pre-line; }
.context { font-size: 13px; color: #616061; margin: 6px 0; }
.divider { border-top: 1px solid #ddd; margin: 10px 0; }
code { font: 12px/1.5 "Liberation Mono", monospace; color: #e01e5a; background: #f6f6f6; padding: 1px 3px; }
code { border: 1px solid #ddd; border-radius: 3px; }
a { color: #1264a3; text-decoration: none; }
.who { color: #1264a3; background: #e8f5fa; border-radius: 3px; padding: 0 2px; }
.row { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0; }
.button { border: 1px solid #bbb; border-radius: 8px; padding: 4px 12px; font-weight: 700; font-size: 13px; }
.button { max-width: 260px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.primary { background: #007a5a; border-color: #007a5a; color: #fff; }
.danger { background: #e01e5a; border-color: #e01e5a; color: #fff; }
.file { border: 1px solid #ddd; border-radius: 8px; padding: 8px 12px; max-height: 110px; overflow: hidden; }
.file { font: 12px/1.4 "Liberation Mono", monospace; white-space: pre-wrap; }
"""


def window(channel: str, messages: Sequence[Posted], times: Mapping[str, int]) -> str:
    """The channel with its root message, and beside it the thread. `times`: when a message was sent, in seconds."""
    root = next(m for m in messages if m.thread_ts is None)
    replies = [m for m in messages if m.thread_ts == root.ts]
    left = f"{_message(root, times)}<div class='replies'><a>{len(replies)} replies</a></div>"
    right = "".join(_message(m, times) for m in replies)
    columns = (_column("channel", f"# {channel}", "", left), _column("thread", "Thread", f"# {channel}", right))
    return page(f'<div class="window">{"".join(columns)}</div>')


def _column(kind: str, title: str, small: str, content: str) -> str:
    head = f'<div class="title">{_safe(title)}<small>{_safe(small)}</small></div>'
    return f'<div class="column {kind}">{head}{content}</div>'


NAMES: Final = {"S0ONCALL": "trading-oncall"}
"""Ids of user groups, and how Slack shows them."""


def page(body: str, style: str = STYLE) -> str:
    """A document that says in its own root how high it is."""
    measure = "onload = () => { document.documentElement.dataset.height = document.body.scrollHeight }"
    head = f'<meta charset="utf-8"><style>{style}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{body}<script>{measure}</script></body></html>"


def _message(message: Posted, times: Mapping[str, int]) -> str:
    at = datetime.fromtimestamp(times[message.ts], UTC).strftime("%H:%M")
    also = '<div class="also">also sent to the channel</div>' if message.broadcast else ""
    if message.file is not None:
        blocks = f'<div class="file"><b>{_safe(message.title)}</b>\n{_safe(message.file)}</div>'
    else:
        blocks = "".join(_block(block) for block in message.blocks) or _mrkdwn(message.text)
    name = f'<span class="name">Responder</span><span class="app">APP</span><span class="at">{at}</span>'
    return f'<div class="message"><div class="face">R</div><div class="body">{also}{name}{blocks}</div></div>'


def _block(block: Mapping[str, Any]) -> str:
    return _DRAWN[block["type"]](block)


def _actions(block: Mapping[str, Any]) -> str:
    return f'<div class="row">{"".join(_element(one) for one in block["elements"])}</div>'


def _element(one: Mapping[str, Any]) -> str:
    if one["type"] == "overflow":
        return '<span class="button">⋯</span>'
    if one["type"] == "static_select":
        return f'<span class="button">{_safe(one["placeholder"]["text"])} ▾</span>'
    return f'<span class="button {one.get("style", "")}">{_safe(one["text"]["text"])}</span>'


_DRAWN: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "header": lambda block: f'<div class="header">{_safe(block["text"]["text"])}</div>',
    "section": lambda block: f'<div class="section">{_mrkdwn(block["text"]["text"])}</div>',
    "context": lambda block: (
        f'<div class="context">{" ".join(_mrkdwn(one["text"]) for one in block["elements"])}</div>'
    ),
    "divider": lambda block: '<div class="divider"></div>',
    "actions": _actions,
}


def _safe(text: str) -> str:
    return html.escape(text)


# --- mrkdwn -----------------------------------------------------------------------------------------------------------

_STYLED: Final[Iterable[tuple[str, str]]] = (
    (r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<b>\1</b>"),
    (r"(?<![\w_/])_([^_\n]+)_(?![\w_])", r"<i>\1</i>"),
)


def _mrkdwn(text: str) -> str:
    """Code is as it stands; marks become times, links and names; the rest may be bold or slanted."""
    pieces = re.split(r"(`[^`\n]+`|<[^<>]*>)", text)
    drawn = [_piece(piece) for piece in pieces]
    kept = [piece if n % 2 else "" for n, piece in enumerate(drawn)]
    joined = "".join(f"\0{n}\0" if n % 2 else piece for n, piece in enumerate(drawn))
    for pattern, replacement in _STYLED:
        joined = re.sub(pattern, replacement, joined)
    return re.sub("\0(\\d+)\0", lambda found: kept[int(found[1])], joined)


def _piece(piece: str) -> str:
    if piece.startswith("`"):
        return f"<code>{piece[1:-1]}</code>"
    return _mark(piece[1:-1]) if piece.startswith("<") else piece


def _mark(mark: str) -> str:
    target, _, label = mark.partition("|")
    if target.startswith("!date^"):
        seconds = int(target.split("^")[1])
        return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")
    if target.startswith(("@", "!")):
        return f'<span class="who">@{NAMES.get(who := target.lstrip("@!").removeprefix("subteam^"), who)}</span>'
    return f"<a>{label or target}</a>"
