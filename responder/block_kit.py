"""Block Kit: what a rendered template, the things on offer and the people to catch become in Slack.

Nothing that is made here passes a limit of Slack (contracts.md D1), and nothing that comes from an alert is more than
text: only `mention` catches anybody, by ids that the configuration has checked. Pure.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from responder.positions import clean

Block = dict[str, JsonValue]
Offer = Mapping[str, str]
"""One thing on offer, as `choices.Choice.values` gives it."""

MAX_BLOCKS: Final = 50
MAX_SECTION: Final = 3_000
MAX_HEADER: Final = 150
MAX_TEXT: Final = 4_000
"""Characters of `text`, the fallback for notifications; Slack cuts longer ones (contracts.md D1)."""
MAX_TOTAL: Final = 12_000
"""Characters of all blocks: Slack refuses messages near 13,000 with `msg_blocks_too_long`, undocumented."""
MAX_LABEL: Final = 75
"""Of a button and of a menu's entry alike."""
MAX_OVERFLOW: Final = 5
"""Entries of the menu behind `…`; a select menu takes more."""
MAX_TITLE: Final = 24
"""Of a window, and of the buttons that send and close it (docs.slack.dev, modal views)."""
MAX_KEPT: Final = 3_000
"""Characters that a window keeps for us."""
MAX_INPUT: Final = 1_000
"""Characters that somebody may write into a field; Slack lets through 3,000."""
MAX_INPUT_LABEL: Final = 2_000
BUTTONS: Final = 3
"""Buttons beside each other: a phone shows three, and who has just woken up chooses among no more."""
FURTHER: Final = 6
"""Buttons in the row below, of what is rarer and asked for once more; with all their questions they take room."""
FORMS: Final = frozenset({"override"})
"""Verbs that ask for something in a window of their own."""
_CONFIRM: Final = {"title": 100, "text": 300, "confirm": 30}

BUTTONS_HERE: Final = "[buttons]"
"""The paragraph of a template where the buttons stand; without it they are the last."""
_SHORTENED: Final = "_shortened; the whole story is in `responder incident`_"
_NOT_ALL: Final = "_more can be done on the command line: `responder --help`_"


# --- text -------------------------------------------------------------------------------------------------------------


def mention(who: str) -> str:
    """What catches a user (`U…`, `W…`), a user group (`S…`), `here` or `channel`."""
    if who in ("here", "channel"):
        return f"<!{who}>"
    return f"<!subteam^{who}>" if who.startswith("S") else f"<@{who}>"


def fallback_text(text: str, mentions: Sequence[str] = ()) -> str:
    """Plain text as Slack takes it, never empty: what would mention a channel or make a link is escaped."""
    caught = "".join(f"{mention(who)} " for who in mentions)
    return caught + (_cut(html.escape(text, quote=False), MAX_TEXT - len(caught)) or "…")


def _cut(text: str, longest: int) -> str:
    """At most so many characters, never ending within an escaped character or a link."""
    if _length(text) <= longest:
        return text
    kept = _first(text, longest - 1)
    for begins, ends in (("&", ";"), ("<", ">")):
        at = kept.rfind(begins)
        if at > kept.rfind(ends):
            kept = kept[:at]
    return f"{kept}…"


def _length(text: str) -> int:
    """As Slack counts: a character beyond the first 65,536 is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _first(text: str, longest: int) -> str:
    return text.encode("utf-16-le", "surrogatepass")[: 2 * longest].decode("utf-16-le", "ignore")


def _mrkdwn(text: str) -> Block:
    # Verbatim: Slack makes no link of what looks like an address, and no mention of `@here`.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _plain(text: str, longest: int) -> Block:
    """Plain text, in which nothing has a meaning and nothing is escaped."""
    line = " ".join(clean(text).split())
    return {
        "type": "plain_text",
        "text": (line if _length(line) <= longest else f"{_first(line, longest - 1)}…") or "…",
    }


# --- a message --------------------------------------------------------------------------------------------------------


def blocks(markup: str, offers: Iterable[Offer] = (), mentions: Sequence[str] = ()) -> Iterator[Block]:
    """The blocks of a rendered template, with buttons for what is on offer, within Slack's limits.

    A paragraph is a section; `# ` begins a header, `-# ` small print, `---` alone is a line across, and `[buttons]`
    alone the place of the buttons. What is too long ends in small print that says so; buttons are never left out.
    """
    rows = list(actions(tuple(offers)))
    caught = "".join(f"{mention(who)} " for who in mentions)
    left, room = MAX_TOTAL - len(caught) - sum(_size(row) for row in rows), MAX_BLOCKS - 1 - len(rows)
    for block in _all_blocks(_in_front(caught, markup)):
        if block is None:
            yield from rows
            rows = []
            continue
        left, room = left - _size(block), room - 1
        if left < 0 or room <= 0:
            yield small_print(_SHORTENED)
            break
        yield block
    yield from rows


def _in_front(caught: str, markup: str) -> str:
    """Before the first line, or above it where it is no text that can catch anybody."""
    begins = markup.lstrip()
    apart = caught and begins.startswith(("# ", "---", BUTTONS_HERE))
    return f"{caught}\n\n{begins}" if apart else f"{caught}{begins}"


def small_print(text: str) -> Block:
    """A line in small, grey letters."""
    return {"type": "context", "elements": [_mrkdwn(_cut(text, MAX_SECTION))]}


def _size(block: Block) -> int:
    return len(json.dumps(block, ensure_ascii=False))


def _all_blocks(markup: str) -> Iterator[Block | None]:
    """None stands for the buttons."""
    for paragraph in _paragraphs(markup):
        if paragraph == BUTTONS_HERE:
            yield None
        elif paragraph == "---":
            yield {"type": "divider"}
        elif paragraph.startswith("# "):
            yield {"type": "header", "text": {**_plain(html.unescape(paragraph[2:]), MAX_HEADER), "emoji": True}}
        elif paragraph.startswith("-# "):
            yield small_print(paragraph[3:])
        else:
            for part in _parts(paragraph):
                yield {"type": "section", "text": _mrkdwn(part), "expand": True}


def _paragraphs(markup: str) -> Iterator[str]:
    lines: list[str] = []
    for line in [*markup.splitlines(), ""]:
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield "\n".join(lines)
            lines = []


def _parts(paragraph: str) -> Iterator[str]:
    """A paragraph in pieces that a section holds, divided between lines."""
    part = ""
    for line in paragraph.split("\n"):
        fitting = _cut(line, MAX_SECTION)
        if part and _length(part) + 1 + _length(fitting) > MAX_SECTION:
            yield part
            part = fitting
        else:
            part = f"{part}\n{fitting}" if part else fitting
    yield part


# --- windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """A line to fill in; `lines` for several. `value` stands there already."""

    name: str
    label: str
    hint: str
    value: str = ""
    lines: bool = False


def window(name: str, title: str, markup: str, fields: Iterable[Field], said: tuple[str, str], kept: str) -> Block:
    """A window (`views.open`) with a text and fields to fill in. `said` stands on the buttons that send and close it,
    and `kept` comes back with what was filled in, at most MAX_KEPT characters."""
    shown: list[JsonValue] = [*blocks(markup), *map(_input, fields)]
    submit, close = (_plain(text, MAX_TITLE) for text in said)
    texts: Block = {"title": _plain(title, MAX_TITLE), "submit": submit, "close": close}
    return {"type": "modal", "callback_id": name, "private_metadata": kept, "blocks": shown, **texts}


def _input(field: Field) -> Block:
    element: Block = {"type": "plain_text_input", "action_id": field.name, "max_length": MAX_INPUT}
    element |= {"multiline": True} if field.lines else {}
    element |= {"initial_value": field.value} if field.value else {}
    label, hint = _plain(field.label, MAX_INPUT_LABEL), _plain(field.hint, MAX_INPUT_LABEL)
    return {"type": "input", "block_id": field.name, "label": label, "hint": hint, "element": element}


# --- buttons ----------------------------------------------------------------------------------------------------------


def actions(offers: Sequence[Offer]) -> Iterator[Block]:
    """Buttons for the first few with a menu beside them, then a quiet row of further ones; nothing for nothing.

    Slack asks one question for a whole menu, whichever entry was chosen, so only what needs no question is in it:
    whoever presses anything else reads what exactly happens, and nothing about what does not. What opens a form stays
    in the menu, however little else there is: it is rare, and the buttons are what is nearest at hand.
    """
    numbered = tuple(enumerate(offers))
    first = [one for one in numbered if one[1]["verb"] not in FORMS][:BUTTONS]
    others = [one for one in numbered if one not in first]
    harmless = [offer for _, offer in others if not offer["confirm"]]
    row: list[JsonValue] = [*(_button(*one) for one in first), *([_menu(harmless)] if harmless else [])]
    if row:
        yield {"type": "actions", "elements": row}
    asked = [one for one in others if one[1]["confirm"]]
    if asked:
        # The last one stays whatever there is: it stops everything (`choices`).
        shown = asked if len(asked) <= FURTHER else [*asked[: FURTHER - 1], asked[-1]]
        further: list[JsonValue] = [_button(number, {**offer, "style": ""}) for number, offer in shown]
        yield {"type": "actions", "elements": further}
        if len(shown) < len(asked):
            yield small_print(_NOT_ALL)


def _button(number: int, offer: Offer) -> Block:
    button: Block = {
        "type": "button",
        "action_id": f"responder:{offer['verb']}:{number}",
        "text": _plain(offer["label"], MAX_LABEL),
        "value": offer["token"],
    }
    if offer["style"]:
        button["style"] = offer["style"]
    if offer["confirm"]:
        button["confirm"] = _confirm(offer["label"], offer["confirm"], offer["label"])
    return button


def _menu(offers: Sequence[Offer]) -> Block:
    options: list[JsonValue] = [{"text": _plain(one["label"], MAX_LABEL), "value": one["token"]} for one in offers]
    menu: Block = {"type": "overflow", "action_id": "responder:menu:0", "options": options}
    if len(offers) > MAX_OVERFLOW:
        menu |= {"type": "static_select", "placeholder": _plain("More …", MAX_LABEL)}
    return menu


def _confirm(title: str, text: str, yes: str) -> Block:
    said = {"title": title, "text": text, "confirm": yes}
    texts: Block = {name: _plain(said[name], longest) for name, longest in _CONFIRM.items()}
    return {**texts, "deny": _plain("Not now", _CONFIRM["confirm"])}
