"""What Slack says was pressed, and the words in which the presser is answered (contracts.md D2).

A payload is believed in two things only: which Slack user pressed, by id, and which token stood behind the button.
Names in it are anybody's, and what has become of an incident its own state tells. Answers are mrkdwn that one person
sees. Pure.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.choices import Choice, token_incident
from responder.commands import pending_approval
from responder.incident import Incident, Override
from responder.positions import clean
from responder.scopes import Pause
from responder.timing import SECOND, format_time
from responder.words import Approval, Person, Snooze

NOTHING_DONE: Final = "Nothing was done."
LONGEST: Final = 300
"""Characters of one quotation in an answer."""

is_user = re.compile(r"[UW][A-Z0-9]{2,20}").fullmatch
_token = re.compile(r"[A-Za-z0-9._-]{1,64}\|[a-z]{1,20}\|[0-9a-f]{12}").fullmatch
_moment = re.compile(r"[0-9]{1,12}\.[0-9]{1,8}").fullmatch


@dataclass(frozen=True, slots=True)
class Form:
    """What was written into a window before it was sent."""

    reason: str
    lasts: str


@dataclass(frozen=True, slots=True)
class Press:
    """One button that was pressed: by whose Slack user ("" for none), and which.

    `answer_to` is where Slack takes an answer for the presser; whether it is Slack's own is the caller's to check.
    `thread` is the thread in which the button stands, "" for the channel. `trigger` opens one window, within three
    seconds; `form` is what came of the window that the button had opened (`slack_windows`).
    """

    user: str
    token: str
    incident: str
    answer_to: str = ""
    thread: str = ""
    trigger: str = ""
    channel: str = ""
    form: Form | None = None

    @property
    def verb(self) -> str:
        """What the button was for."""
        return self.token.split("|")[1]


def pressed(payload: Mapping[str, Any]) -> Press | None:
    """What was pressed, or None when that is nothing of ours: another kind of payload, a link, another app's button."""
    if payload.get("type") != "block_actions":
        return None
    token = next(_tokens(payload), None)
    incident = None if token is None else token_incident(token)
    if token is None or incident is None:
        return None
    user = _text(payload, "user", "id")
    message, thread = _text(payload, "message", "ts"), _text(payload, "message", "thread_ts")
    return Press(
        user=user if is_user(user) else "",
        token=token,
        incident=incident,
        answer_to=_text(payload, "response_url"),
        thread=thread if _moment(thread) and thread != message else "",
        trigger=_text(payload, "trigger_id"),
        channel=_text(payload, "channel", "id"),
    )


def sent(payload: Mapping[str, Any], window: str) -> Press | None:
    """The form that was filled in, in a window of this name, or None when that is nothing of ours."""
    view = payload.get("view")
    if payload.get("type") != "view_submission" or _text(view, "callback_id") != window:
        return None
    kept = _kept(_text(view, "private_metadata"))
    token, user = _text(kept, "token"), _text(payload, "user", "id")
    incident = token_incident(token) if _token(token) else None
    if incident is None:
        return None
    answer_to, thread = _text(kept, "answer_to"), _text(kept, "thread")
    values = ("state", "values")
    reason, lasts = (_text(view, *values, name, name, "value") for name in ("reason", "lasts"))
    return Press(
        user if is_user(user) else "", token, incident, answer_to, thread, form=Form(reason.strip(), lasts.strip())
    )


def _kept(text: str) -> Any:
    """What a window was opened with; only Slack has had it since."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _tokens(payload: Mapping[str, Any]) -> Iterator[str]:
    """A button has its token as `value`, a menu as that of the entry that was chosen."""
    actions = payload.get("actions")
    for action in actions if isinstance(actions, list) else ():
        for path in (("value",), ("selected_option", "value")):
            found = _text(action, *path)
            if _token(found):
                yield found


def _text(value: Any, *path: str) -> str:
    """The text at this place of a JSON value, "" where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


# --- nothing was done -------------------------------------------------------------------------------------------------


def unknown(user: str) -> str:
    """To somebody whom the configuration does not name."""
    shown = user or "U…"
    return (
        f"The responder does not know who you are. {NOTHING_DONE} Ask an operator to write `slack: {shown}` below your"
        " name in responder.yaml, at `auth: people:`."
    )


def not_allowed(name: str, label: str, roles: Iterable[str]) -> str:
    """To somebody without the role."""
    needed = " or ".join(sorted(roles))
    return f"“{quoted(label)}” needs the role {quoted(needed)}, which {quoted(name)} has not. {NOTHING_DONE}"


def refused(reason: str) -> str:
    """To somebody whose wish makes no sense now."""
    return f"{NOTHING_DONE} {quoted(reason)}."


def not_stored() -> str:
    """While the store is gone."""
    return f"{NOTHING_DONE} The responder can record nothing now; press it again in a minute."


def failed() -> str:
    """After a mistake of ours, of which the log says more."""
    return "This went wrong, and what became of it is not known; look at the incident before you press it again."


def no_window(why: str, incident: str) -> str:
    """To somebody for whom no window has opened."""
    return f"No window could be opened: {quoted(why)}. {NOTHING_DONE} {_by_command(incident)}"


def late_window(incident: str) -> str:
    """To somebody whose window came too late: Slack opens it within three seconds of the press alone."""
    return f"That took too long for a window to open. {NOTHING_DONE} {_by_command(incident)}"


def perhaps_window(incident: str) -> str:
    """To somebody for whom a window has opened or not: another try might open a second one."""
    return f"Slack has not said whether a window has opened. If no window has opened, {_by_command(incident, 'press')}"


def _by_command(incident: str, press: str = "Press") -> str:
    return f"{press} again, or use `responder override {quoted(incident)} --reason …`."


def plain(said: str) -> str:
    """An answer as plain text, as the errors of a window are."""
    return html.unescape(_date.sub(r"\1", said))


_date = re.compile(r"<!date\^[^|>]*\|([^>]*)>")


def old(incident: Incident, verb: str, presser: str) -> str:
    """To somebody who pressed what is not on offer any more: what the state is now."""
    return f"This button is old: {_since(incident, verb, presser)}. {NOTHING_DONE}"


def _since(incident: Incident, verb: str, presser: str) -> str:
    if incident.closed_at is not None:
        return f"the incident was closed at {_at(incident.closed_at)}, {quoted(incident.closed_why)}"
    found = _NOW.get(verb, _nothing)(incident, presser)
    if not found and incident.taken_over is not None:
        found = _did(incident.taken_over, "took it over", presser)
    return found or "what it was for has changed since; the message shows what can be done now"


def _nothing(incident: Incident, presser: str) -> str:
    return ""


def _has_it(incident: Incident, presser: str) -> str:
    if incident.taken_over is None and incident.acknowledged is not None:
        return _did(incident.acknowledged, "acknowledged it", presser)
    return ""


def _asleep(incident: Incident, presser: str) -> str:
    snoozed = incident.snoozed
    if snoozed is None or incident.taken_over is not None:
        return ""
    return f"{_did(snoozed, 'snoozed it', presser)}, until {_at(snoozed.until)}"


def _stopped(incident: Incident, presser: str) -> str:
    run = incident.run
    if run is not None and run.stopped is not None:
        return _did(run.stopped, "stopped the run", presser)
    return "" if incident.active_run is not None else "the run has ended"


def _decided(incident: Incident, presser: str) -> str:
    """What became of the question; a new one is told by what it asks."""
    asked = incident.run.approval if incident.run is not None else None
    if asked is None:
        return "nothing waits for an approval"
    if asked.denied is not None:
        return _did(asked.denied, "denied it", presser)
    waits = pending_approval(incident) is not None
    if asked.approved:
        said = _did(asked.approved[-1], "approved it", presser)
        return said if asked.granted or not waits else f"{said}, {_counted(asked)}, and it waits for more"
    return f"it now asks for {quoted(asked.preview)}" if waits else "nothing waits for an approval any more"


def _settled(incident: Incident, presser: str) -> str:
    return "" if incident.unsettled else "what was unknown has been settled"


def _by_hand(incident: Incident, presser: str) -> str:
    return "the step waits for nobody any more"


def _let_act(incident: Incident, presser: str) -> str:
    if incident.override is not None:
        return _did(incident.override, "let a run act outside its hours", presser)
    return "its hours hold it back no more" if incident.taken_over is None else ""


_NOW: Final[Mapping[str, Callable[[Incident, str], str]]] = {
    "ack": _has_it,
    "snooze": _asleep,
    "cancel": _stopped,
    "approve": _decided,
    "deny": _decided,
    "settle": _settled,
    "done": _by_hand,
    "override": _let_act,
}
"""Verb -> what the incident is at with respect to it, "" when only something else can tell."""


# --- something was done -----------------------------------------------------------------------------------------------


def done(choice: Choice, before: Incident, after: Incident) -> str:
    """What the presser is told, where the message does not show it by itself; "" for what everybody sees at once."""
    match choice.verb:
        case "approve":
            asked, now = pending_approval(before), pending_approval(after)
            more = f"; {_counted(now)}" if now is not None and not now.granted else ""
            return f"Done: you have approved {_what(asked)}{more}."
        case "deny":
            return f"Done: you have denied {_what(pending_approval(before))}. It is not done, and the run ends."
        case "settle":
            happened = "it happened" if choice.said["applied"] else "it did not happen"
            return f"Done: you have settled {_tried(before, choice.said['attempt'])}: {happened}."
        case "override" if after.override is not None:
            let = f"one run of {quoted(after.override.runbook)} may act outside its hours"
            return f"Done: {let}, if it begins by {_at(after.override.until)}. Every other limit holds."
        case _:
            return ""


def paused(found: Pause, presser: str, now: int) -> str:
    """After a wish that all automation stops, which somebody may have had before."""
    if (found.actor, found.at) == (presser, now):
        return "Done: all automation is paused. Paging goes on. `responder resume` lets it act again."
    return f"{_did(Person(actor=found.actor, at=found.at), 'paused all automation', presser)}; it stays so."


def _what(asked: Approval | None) -> str:
    return "it" if asked is None else quoted(asked.preview)


def _tried(incident: Incident, attempt: str) -> str:
    return next((quoted(one.plan.preview) for one in incident.unsettled if one.id == attempt), "it")


def _counted(asked: Approval) -> str:
    return f"{len(asked.approved)} of {asked.people} people have approved"


# --- parts of sentences -----------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """Somebody else's words on one line, in which nothing mentions anybody or makes a link."""
    line = " ".join(clean(text).split())
    return html.escape(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…", quote=False)


def _did(person: Person | Snooze | Override, what: str, presser: str) -> str:
    who = "you" if person.actor == presser else quoted(person.actor)
    return f"{who} {what} at {_at(person.at)}"


def _at(us: int) -> str:
    """In the reader's own time zone, and in UTC where that cannot be shown."""
    return f"<!date^{us // SECOND}^{{time}}|{format_time(us - us % SECOND)[11:16]} UTC>"
