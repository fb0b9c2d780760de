"""What is made for Slack is never refused by it, and catches only whom it should."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.block_kit import (
    BUTTONS,
    MAX_BLOCKS,
    MAX_LABEL,
    MAX_OVERFLOW,
    Field,
    Offer,
    actions,
    blocks,
    fallback_text,
    mention,
    window,
)
from responder.slack_words import quoted
from tests.fakes.slack_limits import mentioned, refusal, view_refusal
from tests.hostile_values import HOSTILE

TOKEN = "i" * 50 + "|snooze|0123456789ab"


def offer(number: int = 0, **parts: str) -> Offer:
    known = {"verb": "snooze", "label": f"Do {number}", "token": f"i{number}|snooze|0", "style": "", "confirm": ""}
    return {**known, **parts}


def made(markup: str, offers: int = 0, mentions: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return list(blocks(markup, [offer(n) for n in range(offers)], mentions))


def rows(offers: list[Offer]) -> list[Any]:
    return list(actions(offers))


def refused(given: list[dict[str, Any]]) -> str | None:
    return refusal({"text": "t", "blocks": given})


@pytest.mark.parametrize(
    "markup",
    [
        "# " + "t" * 400,
        "# " + "🟢" * 100,
        "\n\n".join(f"paragraph {n}" for n in range(200)),
        "\n\n".join(["[buttons]", *(f"paragraph {n}" for n in range(200))]),
        "&amp;" * 2_000,
        "-# " + "small " * 1_000,
        "\n".join(["<https://example.com/a|link>" * 40] * 20),
        "---\n\n---",
        "x" * 50_000,
    ],
)
@pytest.mark.parametrize("offers", [0, 12])
def test_blocks_never_pass_a_limit_of_slack(markup: str, offers: int) -> None:
    found = made(markup, offers)
    assert refused(found) is None
    assert len(found) <= MAX_BLOCKS
    assert sum(block["type"] == "actions" for block in found) == (1 if offers else 0), "buttons are never left out"


def test_what_is_left_out_is_said() -> None:
    found = made("\n\n".join(["x" * 2_900] * 9))
    assert "shortened" in found[-1]["elements"][0]["text"]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("markup", "kinds"),
    [
        ("a\n\n[buttons]\n\n-# b", ["section", "actions", "context"]),
        ("a\n\n-# b", ["section", "context", "actions"]),
        ("a\n\n[buttons]\n\n[buttons]", ["section", "actions"]),
        ("a [buttons]\n\n# b", ["section", "header", "actions"]),
    ],
)
def test_the_template_says_where_the_buttons_stand(markup: str, kinds: list[str]) -> None:
    assert [block["type"] for block in made(markup, 2)] == kinds
    assert [block["type"] for block in made(markup)] == [kind for kind in kinds if kind != "actions"]


# --- text -------------------------------------------------------------------------------------------------------------


def test_a_cut_text_ends_in_no_half_entity() -> None:
    assert fallback_text("&" * 5_000).endswith("&amp;…")
    assert fallback_text("") == "…"


@pytest.mark.parametrize(
    ("who", "written"),
    [
        ("U012AB3CD", "<@U012AB3CD>"),
        ("W012AB3CD", "<@W012AB3CD>"),
        ("S012AB3CD", "<!subteam^S012AB3CD>"),
        ("here", "<!here>"),
        ("channel", "<!channel>"),
    ],
)
def test_people_are_caught_in_the_line_and_in_the_text_of_the_notification(who: str, written: str) -> None:
    assert mention(who) == written
    assert fallback_text("a <b>", (who,)) == f"{written} a &lt;b&gt;"
    (section,) = made("⚠️ it is bad", mentions=(who,))
    assert section["text"]["text"] == f"{written} ⚠️ it is bad"
    assert list(mentioned("", [section])) == [who]


def test_nobody_is_caught_in_a_header_so_the_mention_stands_above_it() -> None:
    above, header = made("# it is bad", mentions=("here",))
    assert (above["text"]["text"].strip(), header["type"]) == ("<!here>", "header")


@given(st.text(), st.booleans())
def test_no_plain_text_catches_anybody(text: str, hostile: bool) -> None:
    said = f"<!channel> <@U1> {text}" if hostile else text
    assert list(mentioned(fallback_text(said), [])) == []


def test_a_text_is_taken_as_it_stands() -> None:
    (section,) = made("@here see example.com")
    assert section["text"]["verbatim"] is True
    assert list(mentioned("", [section])) == []


# --- buttons ----------------------------------------------------------------------------------------------------------


def test_nothing_on_offer_is_no_row_of_buttons() -> None:
    assert list(actions([])) == []


@pytest.mark.parametrize("count", range(1, 13))
def test_the_first_few_are_buttons_and_what_needs_no_question_is_in_one_menu(count: int) -> None:
    (row,) = rows([offer(n) for n in range(count)])
    assert refused([row]) is None
    buttons = [one for one in row["elements"] if one["type"] == "button"]
    menus = [one for one in row["elements"] if one["type"] != "button"]
    assert [b["value"] for b in buttons] == [f"i{n}|snooze|0" for n in range(min(count, BUTTONS))]
    rest = [option["value"] for menu in menus for option in menu["options"]]
    assert rest == [f"i{n}|snooze|0" for n in range(BUTTONS, count)]
    kinds = {0: [], 1: ["overflow" if count - BUTTONS <= MAX_OVERFLOW else "static_select"]}
    assert [menu["type"] for menu in menus] == kinds[min(1, len(rest))]


def test_a_button_says_what_it_does_and_asks_before_what_cannot_be_taken_back() -> None:
    (row,) = rows([offer(verb="takeover", label="Take over", style="danger", confirm="Automation stops.")])
    (button,) = row["elements"]
    assert (button["action_id"], button["text"]["text"], button["style"]) == (
        "responder:takeover:0", "Take over", "danger"
    )  # fmt: skip
    dialogue = {name: text["text"] for name, text in button["confirm"].items()}
    assert dialogue == {
        "title": "Take over", "text": "Automation stops.", "confirm": "Take over", "deny": "Not now"
    }  # fmt: skip


def test_each_question_is_about_what_was_pressed_and_nothing_else() -> None:
    stop, pause = (
        offer(n, label=label, confirm=said)
        for n, label, said in ((3, "Stop", "No step follows."), (5, "Pause", "All."))
    )
    first, below = rows([offer(0), offer(1, confirm="It is yours."), offer(2), stop, offer(4), pause, offer(6)])
    assert [one["type"] for one in first["elements"]] == ["button", "button", "button", "overflow"]
    menu = first["elements"][-1]
    assert [one["text"]["text"] for one in menu["options"]] == ["Do 4", "Do 6"], "what is harmless is not asked for"
    assert "confirm" not in menu
    asked = {one["text"]["text"]: one["confirm"]["text"]["text"] for one in below["elements"]}
    assert asked == {"Stop": "No step follows.", "Pause": "All."}


def test_further_buttons_stand_below_and_the_last_of_very_many_stays() -> None:
    offers = [offer(n, label=f"Do {n}", confirm="Sure?", style="danger") for n in range(20)]
    found = list(blocks("above\n\n[buttons]\n\nbelow", offers))
    assert [block["type"] for block in found] == ["section", "actions", "actions", "context", "section"]
    below: Any = found[2]
    assert [one["value"].split("|")[0] for one in below["elements"]] == ["i3", "i4", "i5", "i6", "i7", "i19"]
    assert "style" not in str(below), "what is pressed first catches the eye"
    assert "responder --help" in str(found[3])


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("count", [1, 6, 12])
def test_whatever_a_label_holds_it_is_a_button(text: str, count: int) -> None:
    made = rows([offer(n, label=text, confirm=text * 3 * (n % 3), token=TOKEN) for n in range(count)])
    assert refused(made) is None
    json.dumps(made).encode()
    assert list(mentioned("", made)) == []
    texts = [one["text"]["text"] for row in made for one in row.get("elements", ()) if one["type"] == "button"]
    assert all(0 < len(one) <= MAX_LABEL and "\n" not in one for one in texts)


def test_no_two_actions_of_a_message_have_one_name() -> None:
    made = rows([offer(n, verb="settle", confirm="Sure?" if n % 2 else "") for n in range(9)])
    names = [one["action_id"] for row in made for one in row["elements"]]
    assert all(a != b for a, b in itertools.combinations(names, 2))


@pytest.mark.parametrize("count", range(4))
def test_what_opens_a_form_stays_in_the_menu_however_little_else_there_is(count: int) -> None:
    (row,) = rows([offer(9, verb="override", label="Override hours…"), *(offer(n) for n in range(count))])
    assert [one["text"]["text"] for one in row["elements"][:-1]] == [f"Do {n}" for n in range(count)]
    assert row["elements"][-1]["options"][0]["text"]["text"] == "Override hours…"


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_a_window_holds_slack_takes_it(text: str) -> None:
    fields = [Field("a", text, text), Field("b", text * 99, text * 99, value="1h", lines=True)]
    made = window("ours", text, f"*{quoted(text)}*", fields, (text, text * 9), "k" * 3_000)
    assert view_refusal({"trigger_id": "1", "view": made}) is None
    inputs: Any = made["blocks"]
    assert [one["element"].get("initial_value") for one in inputs[-2:]] == [None, "1h"]
    assert list(mentioned("", inputs)) == []
