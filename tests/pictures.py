"""The pictures in docs/images, of real messages: incidents are played in virtual time, sent, and drawn by Chromium.

`python -m tests.pictures` writes them all. Whoever changes a template runs it and looks at them as somebody who has
just been woken.
"""

from __future__ import annotations

import asyncio
import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from responder.contracts import Notifier, Secret
from responder.notifiers.email import Email
from responder.notifiers.slack import Slack
from responder.policies import Policy
from responder.tales import Sent
from tests.acceptance.stage import ALERT, Stage, breach, playing, shipped
from tests.fakes.slack import TOKEN, FakeSlack, Posted
from tests.provision import CHECKOUT
from tests.slack_drawing import page, window

IMAGES: Final = CHECKOUT / "docs" / "images"
CHANNEL: Final = "trading-alerts"
GROUP: Final = "S0ONCALL"
"""The user group that each level mentions; `slack_drawing` shows its name."""
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
QUIET: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


# --- stories ----------------------------------------------------------------------------------------------------------


def fixed(stage: Stage) -> None:
    """The cut helps, and the alert ends."""
    breach(stage, var=1.92)
    stage.fires(ALERT, summary="VaR is 1.92 % of equity, its limit 2 %")
    stage.at("2:00")
    stage.resolves(ALERT)
    stage.at("2:05")


def unfixed(stage: Stage) -> None:
    """The cut does not help, so people are paged, and trading is about to be halted."""
    breach(stage, helps=False, var=1.94)
    stage.fires(ALERT, summary="VaR is 1.94 % of equity, its limit 2 %")
    stage.at("4:02")


def unknown(stage: Stage) -> None:
    """The answer to the cut is lost, and nothing tells whether it happened."""
    breach(stage, helps=False, var=1.92)
    stage.world.lost, stage.world.slow = "applied", 1.0
    stage.fires(ALERT, summary="VaR is 1.92 % of equity, its limit 2 %")
    stage.world.blind = True
    stage.at("0:40")


STORIES: Final[dict[str, Callable[[Stage], None]]] = {"fixed": fixed, "unfixed": unfixed, "unknown": unknown}


def mentioning(policy: Policy) -> Policy:
    """Its levels catch their people in the chat too, as policies of one's own would."""
    return policy.model_copy(
        update={"levels": tuple(one.model_copy(update={"mention": (GROUP,)}) for one in policy.levels)}
    )


def played(story: Callable[[Stage], None], chat: Notifier | None = None) -> list[Sent]:
    """What was told in the chat, in order; in `chat` where another one tells it."""
    rules, config = shipped()
    rules = replace(rules, policies={name: mentioning(policy) for name, policy in rules.policies.items()})
    notifiers = {**config.notifiers, **({CHANNEL: chat} if chat is not None else {})}
    with playing((rules, config.model_copy(update={"notifiers": notifiers}))) as stage:
        story(stage)
        return [sent for sent in stage.sent if sent.destination == CHANNEL]


async def posted(told: Sequence[Sent]) -> tuple[list[Posted], dict[str, int]]:
    """The messages as Slack has them in the end, and when each was sent."""
    times: dict[str, int] = {}
    async with FakeSlack(**{CHANNEL: "C0TRADING"}) as server:
        room = Slack(token=Secret("-", lambda: TOKEN), channel=f"#{CHANNEL}", base_url=server.base_url)
        kept = ""
        for sent in told:
            answer = await room.send(replace(sent.message, previous=kept))
            kept = answer if sent.message.kind == "root" else kept
            times |= {one.ts: sent.at // 1_000_000 for one in server.messages if one.ts not in times}
        await room.stop()
        return server.messages, times


# --- drawing ----------------------------------------------------------------------------------------------------------


def browser() -> str:
    """Where Chromium is. Ends the program where there is none."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        sys.exit("the pictures are drawn by Chromium, which is not installed (Debian: apt-get install chromium)")
    return found


def drawn(document: str, width: int, to: Path) -> None:
    """The document as a picture, as high as it is."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(document, encoding="utf-8")
        command = [browser(), *QUIET, f"--user-data-dir={folder}/profile", f"--window-size={width},400"]
        dom = subprocess.run(
            [*command, "--dump-dom", source.as_uri()], capture_output=True, text=True, check=True
        ).stdout
        height = re.search(r'data-height="(\d+)"', dom)
        assert height is not None, "the page did not say how high it is"
        command[-1] = f"--window-size={width},{height[1]}"
        subprocess.run([*command, f"--screenshot={to}", source.as_uri()], capture_output=True, check=True)


def slack_picture(name: str) -> None:
    """The channel and the thread of a story."""
    messages, times = asyncio.run(posted(played(STORIES[name])))
    drawn(window(CHANNEL, messages, times), 1260, IMAGES / f"slack-{name}.png")


def mail_picture() -> None:
    """The last mail of each story, beside each other."""
    settings: Any = {"host": "127.0.0.1", "from": "Responder <responder@example.com>", "to": ["desk@example.com"]}
    mail = Email(**settings)
    bodies: list[Any] = [_last_mail(mail, played(story, mail)) for story in STORIES.values()]
    whole = "this.style.height = this.contentDocument.documentElement.scrollHeight + 'px'"
    frames = "".join(f'<iframe onload="{whole}" srcdoc="{html.escape(body["html"])}"></iframe>' for body in bodies)
    style = "body { margin: 0; background: #f6f8fa; } .row { display: flex; }"
    style += "iframe { border: 0; width: 500px; height: 0; }"
    drawn(page(f'<div class="row">{frames}</div>', style), 1500, IMAGES / "email.png")


def _last_mail(mail: Email, told: Sequence[Sent]) -> Any:
    """What people have in front of them: the last message that is a mail at all."""
    kinds = [(f"story/{one.message.event.fact.kind}" if one.message.event else one.message.kind, one) for one in told]
    return [one.message.body for kind, one in kinds if not mail.passes_over(kind, sent=True)][-1]


if __name__ == "__main__":
    for story in STORIES:
        slack_picture(story)
    mail_picture()
