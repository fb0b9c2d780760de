"""What Slack refuses of a message, and whom it wakes by one (contracts.md D1, and the reference of Block Kit).

What it would take and show otherwise than it was meant, such as an escape that was forgotten, it takes here too, and
counts as somebody who was woken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_BOTH: Final = {"channel", "text", "blocks", "metadata", "parse", "unfurl_links", "unfurl_media"}
POST: Final = _BOTH | {"thread_ts", "reply_broadcast"}
UPDATE: Final = _BOTH | {"ts"}


def refusal(body: dict[str, Any], known: set[str] = POST) -> str | None:
    """The error that Slack answers to a message of this form, or None."""
    blocks = body.get("blocks", [])
    if not body.get("text") and not blocks:
        return "no_text"
    if body.keys() - known:
        return "invalid_arguments"
    if body.get("reply_broadcast") and not body.get("thread_ts"):
        return "cannot_broadcast_unthreaded_message"
    if len(body.get("text", "")) > 40_000:
        return "msg_too_long"
    if not _good_metadata(body.get("metadata", {"event_type": "none", "event_payload": {}})):
        return "invalid_metadata_format"
    if len(blocks) > 50 or any(not _good(block) for block in blocks) or _twice(blocks):
        return "invalid_blocks"
    return "msg_blocks_too_long" if len(json.dumps(blocks, ensure_ascii=False)) > 13_000 else None


def _good_metadata(metadata: Mapping[str, Any]) -> bool:
    payload = metadata.get("event_payload")
    flat = isinstance(payload, dict) and all(isinstance(value, str | int | bool) for value in payload.values())
    return set(metadata) == {"event_type", "event_payload"} and bool(metadata["event_type"]) and flat


def _twice(blocks: list[dict[str, Any]]) -> bool:
    """A block_id or action_id that stands for two."""
    own = [block["block_id"] for block in blocks if "block_id" in block]
    acts = [one["action_id"] for block in blocks if block["type"] == "actions" for one in block["elements"]]
    return len(set(own)) < len(own) or len(set(acts)) < len(acts)


def _good(block: dict[str, Any]) -> bool:
    check = _BLOCKS.get(block["type"])
    return check is not None and len(block.get("block_id", "")) <= 255 and check(block)


def _text(value: object, kind: str, longest: int) -> bool:
    extra = {"mrkdwn": "verbatim", "plain_text": "emoji"}[kind]
    if not isinstance(value, dict) or value.get("type") != kind or value.keys() - {"type", "text", extra}:
        return False
    # Counted as Slack does, where a character beyond the first 65,536 is two.
    return 0 < len(value["text"].encode("utf-16-le")) // 2 <= longest and value["text"].strip() != ""


def _section(block: dict[str, Any]) -> bool:
    known = block.keys() <= {"type", "block_id", "text", "expand"}
    return known and _text(block.get("text"), "mrkdwn", 3_000)


def _context(block: dict[str, Any]) -> bool:
    texts = block["elements"]
    return 0 < len(texts) <= 10 and all(_text(text, "mrkdwn", 3_000) for text in texts)


def _actions(block: dict[str, Any]) -> bool:
    elements = block["elements"]
    return 0 < len(elements) <= 25 and all(_element(one) for one in elements)


def _element(one: dict[str, Any]) -> bool:
    check = _ELEMENTS.get(one["type"])
    named = 0 < len(one.get("action_id", "")) <= 255
    return check is not None and named and check(one) and _confirm(one.get("confirm"))


def _button(one: dict[str, Any]) -> bool:
    known = one.keys() <= {"type", "action_id", "text", "value", "style", "confirm"}
    styled = one.get("style", "primary") in ("primary", "danger")
    return known and styled and _text(one.get("text"), "plain_text", 75) and 0 < len(one.get("value", "")) <= 2_000


def _overflow(one: dict[str, Any]) -> bool:
    known = one.keys() <= {"type", "action_id", "options", "confirm"}
    return known and 0 < len(one["options"]) <= 5 and all(_option(option) for option in one["options"])


def _select(one: dict[str, Any]) -> bool:
    known = one.keys() <= {"type", "action_id", "options", "confirm", "placeholder"}
    placed = _text(one.get("placeholder"), "plain_text", 150)
    return known and placed and 0 < len(one["options"]) <= 100 and all(_option(option) for option in one["options"])


def _option(option: dict[str, Any]) -> bool:
    known = set(option) == {"text", "value"}
    return known and _text(option["text"], "plain_text", 75) and 0 < len(option["value"]) <= 150


def _confirm(dialogue: object) -> bool:
    if dialogue is None:
        return True
    limits = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
    if not isinstance(dialogue, dict) or set(dialogue) != set(limits):
        return False
    return all(_text(dialogue[name], "plain_text", longest) for name, longest in limits.items())


_BLOCKS: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    "divider": lambda block: block.keys() <= {"type", "block_id"},
    "header": lambda block: _text(block.get("text"), "plain_text", 150),
    "section": _section,
    "context": _context,
    "actions": _actions,
}
_ELEMENTS: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    "button": _button,
    "overflow": _overflow,
    "static_select": _select,
}


# --- windows ----------------------------------------------------------------------------------------------------------


def view_refusal(body: dict[str, Any]) -> str | None:
    """The error that Slack answers to this body of `views.open`, whatever its trigger, or None (docs.slack.dev, modal
    views, input block and plain-text input element)."""
    view = body.get("view")
    if set(body) != {"trigger_id", "view"} or not isinstance(view, dict):
        return "invalid_arguments"
    if len(json.dumps(view)) > 250_000:
        return "view_too_large"
    return None if _good_view(view) else "invalid_arguments"


def _good_view(view: dict[str, Any]) -> bool:
    texts = {"title", "submit", "close"}
    blocks = view.get("blocks", [])
    inputs = [block for block in blocks if block["type"] == "input"]
    return (
        set(view) == {"type", "callback_id", "private_metadata", "blocks", *texts}
        and view["type"] == "modal"
        and all(_text(view[name], "plain_text", 24) for name in texts)
        and len(view["callback_id"]) <= 255
        and len(view["private_metadata"]) <= 3_000
        and 0 < len(blocks) <= 100
        and all(_input(block) if block["type"] == "input" else _good(block) for block in blocks)
        and len({block["block_id"] for block in inputs}) == len(inputs)
    )


def _input(block: dict[str, Any]) -> bool:
    named = 0 < len(block.get("block_id", "")) <= 255
    known = block.keys() <= {"type", "block_id", "label", "hint", "element", "optional"}
    texts = _text(block.get("label"), "plain_text", 2_000) and _text(block.get("hint"), "plain_text", 2_000)
    return named and known and texts and _line(block["element"])


def _line(one: dict[str, Any]) -> bool:
    known = one.keys() <= {"type", "action_id", "multiline", "initial_value", "max_length"}
    named = 0 < len(one.get("action_id", "")) <= 255
    longest = one.get("max_length", 3_000)
    fits = 0 < longest <= 3_000 and len(one.get("initial_value", "")) <= longest
    return known and named and one["type"] == "plain_text_input" and fits


# --- what Slack makes of a text ---------------------------------------------------------------------------------------

_MARK = re.compile(r"<([^<>]*)>")
_DATE = re.compile(r"!date\^\d+\^[^|]+\|.+").fullmatch
_LINK = re.compile(r"https?://[^|\s]+(\|.+)?").fullmatch


def mentioned(text: str, blocks: list[dict[str, Any]], parse: str = "none") -> Iterator[str]:
    """Whom a message wakes: by its blocks, or where it has none, by its text. What is neither link, date nor mention is
    an escape that was forgotten, and counts as somebody."""
    for piece in mrkdwn(blocks) if blocks else [(text, parse == "none")]:
        yield from _mentioned(*piece)


def _mentioned(text: str, verbatim: bool) -> Iterator[str]:
    for mark in _MARK.findall(text):
        if mark.startswith(("@", "!here", "!channel", "!everyone", "!subteam^")):
            yield mark.lstrip("@!").removeprefix("subteam^")
        elif not _DATE(mark) and not _LINK(mark):
            yield f"<{mark}>"
    if _MARK.sub("", text).count("<") or _MARK.sub("", text).count(">"):
        yield "<"
    if not verbatim:
        yield from re.findall(r"@(?:here|channel|everyone)", text)


def mrkdwn(blocks: list[dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Every formatted text of a message, with whether it is taken as it stands."""
    for block in blocks:
        for text in (block.get("text"), *block.get("elements", ())):
            if isinstance(text, dict) and text.get("type") == "mrkdwn":
                yield text["text"], bool(text.get("verbatim"))
