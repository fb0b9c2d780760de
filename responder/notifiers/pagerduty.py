"""PagerDuty: pages, their ends and changes as events, and words about its own incident by REST (contracts.md C).

How an event gets there is `pagerduty_events`. REST (`pagerduty_rest`) needs a token; without one there are no notes, no
moves to another escalation policy, and nobody to ask. What PagerDuty tells us is `pagerduty_words`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue, PrivateAttr, model_validator

from responder import facts as f
from responder.contracts import Bucket, Message, Notifier, PagerState, Render, Secret, Secrets, SecureUrl
from responder.errors import BadConfig, Permanent, ResponderError, Temporary
from responder.incident import Attempt, Incident
from responder.pagerduty_events import PagerDutyEvents
from responder.pagerduty_rest import ApiUrl, Found, PagerDutyRest
from responder.story import links, shown
from responder.timing import SECOND, format_time

MAX_SUMMARY = 1_024
MAX_KEY = 255
MAX_DETAIL = 4_000
"""Characters of one custom detail, which keeps the whole event far below 512 KB."""
PATIENCE: Final = 6
"""Tries after which a note is given up: its page has made no incident, or none that this token may see."""
MOVED_WITHIN: Final = 8
"""Tries after which a move is given up, whatever keeps it back: some two minutes, after which a person must do it."""

LOG = logging.getLogger("responder.notifiers.pagerduty")
_BY_REST: Final = frozenset({"move", "note"})
_SEVERITIES: Mapping[str | None, str] = {"critical": "critical", "high": "error", "warning": "warning", "info": "info"}


class PagerDuty(Notifier):
    """Pages through a PagerDuty service. `routing_key` is the integration key of an "Events API v2" integration."""

    kind: Literal["pagerduty"] = "pagerduty"
    routing_key: Secret
    """The integration key."""
    base_url: SecureUrl = "https://events.pagerduty.com"
    """The EU region has a host of its own."""
    api_token: Secret | None = None
    """A REST API key: for notes, `escalation_policy` of a level, and asking who has acknowledged."""
    from_email: Annotated[str, Field(pattern=r"^[!-?A-~]{1,64}@[!-?A-~]{1,190}$")] | None = None
    """The address of a user, in whose name is noted and moved; needed when `api_token` is the key of an account."""
    api_url: ApiUrl = "https://api.pagerduty.com"
    """Where the REST API is; the EU region has a host of its own."""
    webhook_secret: Secrets = ()
    """What PagerDuty signs its webhooks with; two while it is being rotated."""
    timeout: float = Field(default=10, gt=0, le=30)
    """Seconds for one call."""

    pages: ClassVar[bool] = True
    family: ClassVar[str] = "pagerduty"
    takes: ClassVar[frozenset[str]] = frozenset({"acknowledge", "change", "move", "note"})
    pace: ClassVar[int] = 6 * SECOND // 10
    burst: ClassVar[int] = 20
    _sender: PagerDutyEvents | None = PrivateAttr(default=None)
    _rest: PagerDutyRest | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _in_whose_name(self) -> PagerDuty:
        if self.from_email is not None and self.api_token is None:
            raise ValueError("from_email is the sender of what is done with an api_token: write both, or neither")
        return self

    @property
    def answers(self) -> bool:
        """Only with a token."""
        return self.api_token is not None

    def passes_over(self, template: str, sent: bool) -> bool:
        """True for notes and moves without a token, beside what is for chats."""
        return (template in _BY_REST and self.api_token is None) or super().passes_over(template, sent)

    def bucket(self, name: str, incident: Incident, template: str, *, sent: bool) -> Bucket:
        """Its limit counts the events of a routing key, whatever they are about and however many notifiers have it;
        what goes by REST is counted apart, by token."""
        by_rest = template in _BY_REST and self.api_token is not None
        counted = self.api_token if by_rest and self.api_token is not None else self.routing_key
        return Bucket(f"{self.kind} {'rest' if by_rest else 'events'}", counted.digest(), self.pace, self.burst)

    async def start(self) -> None:
        """Say what will not work as it may be meant."""
        if self.api_token is not None and self.from_email is None:
            LOG.warning(
                "%s: without `from_email` PagerDuty takes no notes and moves when it is the key of an account; "
                "for a user's own token this is well",
                self.api_token.named,
            )
        with suppress(BadConfig):  # told when it is used
            if self._events().is_ruleset:
                said = "%s is the key of a ruleset, for which PagerDuty takes no change events: they are passed over"
                LOG.warning(said, self.routing_key.named)

    async def stop(self) -> None:
        """Close the connections."""
        opened: tuple[PagerDutyEvents | PagerDutyRest | None, ...] = (self._sender, self._rest)
        self._sender = self._rest = None
        for api in opened:
            if api is not None:
                await api.close()

    def compose(self, kind: str, values: Mapping[str, object], render: Render) -> JsonValue:
        """Summary and details of a trigger, from templates/pagerduty. Everything else is text, or says nothing."""
        if kind != "page":
            return None
        summary = " ".join(render("pagerduty/summary.txt.j2", values).split())
        return {"summary": summary, "details": details(render("pagerduty/details.txt.j2", values))}

    async def send(self, message: Message) -> str:
        """Page, resolve, acknowledge, record a change, leave a note, or move the incident to `level`. All may be
        repeated: a deduplication key makes events one, and a note is looked for first; only a change may stand twice.
        """
        key = dedup_key(message.key)
        match message.kind:
            case "page":
                await self._events().trigger(key, event(message))
            case "resolve":
                await self._events().resolve(key)
            case "acknowledge":
                await self._events().acknowledge(key)
            case "change" | "note" | "move":
                await self._record(message)
        return ""

    async def _record(self, message: Message) -> None:
        """What can wait is put off alone: a wait that PagerDuty asks for would hold up this destination's pages."""
        try:
            if message.kind == "note":
                await self._note(message)
            elif message.kind == "move":
                await self._move(message)
            else:
                await self._events().change(change(message))
        except Temporary as error:
            raise Temporary(str(error)) from None

    # --- events -------------------------------------------------------------------------------------------------------

    def _events(self) -> PagerDutyEvents:
        if self._sender is None:
            self._sender = PagerDutyEvents(self.routing_key, self.base_url, self.timeout)
        return self._sender

    # --- its own incident ---------------------------------------------------------------------------------------------

    async def asked(self, key: str) -> PagerState | None:
        """What PagerDuty says about the incident of this key; None without a token, and where there is none (yet)."""
        if self.api_token is None:
            return None
        found = await self._api(self.api_token).incident(dedup_key(key))
        return None if found is None else found.state

    async def keys_of(self, incident: str) -> tuple[str, ...]:
        """The deduplication keys of the alerts in an incident of PagerDuty's, by its id there; none without a token."""
        return () if self.api_token is None else await self._api(self.api_token).keys(incident)

    def _api(self, token: Secret) -> PagerDutyRest:
        if self._rest is None:
            self._rest = PagerDutyRest(token, self.from_email, self.api_url, self.timeout)
        return self._rest

    async def _note(self, message: Message) -> None:
        if self.api_token is None:
            return
        rest = self._api(self.api_token)
        found = await _standing(rest, message)
        if found is not None:
            await rest.note(found.id, message.text, marker(message))
        elif message.attempt < PATIENCE:
            raise Temporary(f"PagerDuty has no incident of {dedup_key(message.key)} to note on yet")
        else:
            LOG.warning("note %s is left out: PagerDuty has no incident of %s", message.id, dedup_key(message.key))

    async def _move(self, message: Message) -> None:
        """Give the page's incident to the level's escalation policy. Raises Permanent when a person has to do it."""
        if self.api_token is None:
            return
        try:
            await _moved(self._api(self.api_token), dedup_key(message.key), message.level)
        except ResponderError as error:
            if isinstance(error, Permanent) or message.attempt >= MOVED_WITHIN:
                said = f"the incident of its page is not at the escalation policy {message.level}, move it by hand"
                raise Permanent(f"{said}: {error}") from None
            raise


async def _moved(rest: PagerDutyRest, key: str, policy: str) -> None:
    found = await rest.incident(key)
    if found is None:
        raise Temporary(f"PagerDuty has no incident of {key} to move yet")
    # Whoever has acknowledged it meanwhile would lose it.
    if found.status == "triggered" and found.policy != policy:
        await rest.move(found.id, policy)


async def _standing(rest: PagerDutyRest, message: Message) -> Found | None:
    """The incident for a note: a later page of the same destination may have replaced the one it was meant for."""
    place = message.key.rpartition("/")[0]
    later = [key for _, key in message.incident.paged if key.rpartition("/")[0] == place]
    last = None
    for key in dict.fromkeys([*later, message.key]):
        found = await rest.incident(dedup_key(key))
        if found is not None and found.open:
            return found
        last = last or found
    return last


def marker(message: Message) -> str:
    """What ends a note of ours: by it we know the note again, and tell it from a person's (`pagerduty_words`)."""
    seq = message.incident.seq if message.event is None else message.event.seq
    return f"(responder {message.incident.id}:{seq})"


def event(message: Message) -> dict[str, Any]:
    """The parts of a trigger. A missing or unknown severity pages like the highest (design 5.1)."""
    incident = message.incident
    body = message.body if isinstance(message.body, dict) else {}
    names = {e.labels.get("alertname", "") for e in incident.episodes.values()} - {""}
    payload = {
        "component": incident.target,
        "group": incident.labels.get("platform", "") or "responder",
        "class": ", ".join(sorted(names)) or incident.runbook or "incident",
    }
    return {
        "summary": _cut(str(body.get("summary") or message.text), MAX_SUMMARY),
        "source": incident.target or "responder",
        "severity": _SEVERITIES.get(incident.severity, "critical"),
        "payload": payload,
        "custom_details": body.get("details") or {"why you": message.text},
        "links": _links(incident),
    }


def change(message: Message) -> dict[str, Any]:
    """The parts of a change event: what was changed, from what to what, and for which incident."""
    incident, told = message.incident, message.event
    attempt = _last_attempt(message)
    known: dict[str, JsonValue] = {
        "incident": incident.id,
        "why": incident.title,
        "runbook": incident.runbook,
        "step": None if attempt is None else attempt.step,
        "before": None if attempt is None else _detail(attempt.plan.before),
        "after": None if attempt is None else _detail(attempt.plan.target),
    }
    summary = message.text or ("" if attempt is None else attempt.plan.preview)
    payload = {
        "summary": _cut(summary or "a change was made", MAX_SUMMARY),
        "source": incident.target or "responder",
        "custom_details": {name: value for name, value in known.items() if value is not None},
    }
    if told is not None:
        payload["timestamp"] = format_time(told.at)
    return {"payload": payload, "links": _links(incident)}


def _last_attempt(message: Message) -> Attempt | None:
    fact = None if message.event is None else message.event.fact
    if not isinstance(fact, f.StepEnded):
        return None
    run = next((r for r in message.incident.runs if r.number == fact.run), None)
    return None if run is None else next(iter(run.attempts_of(fact.step)[::-1]), None)


def _detail(value: JsonValue) -> JsonValue:
    seen = shown(value)
    return _cut(seen, MAX_DETAIL) if isinstance(seen, str) else seen


def _links(incident: Incident) -> list[dict[str, str]]:
    return [{"href": link["url"], "text": link["title"]} for link in links(incident)]


def details(rendered: str) -> dict[str, JsonValue]:
    """The lines `name: value` of a rendered template; a line without a name belongs to the one before it."""
    found: dict[str, str] = {}
    name = ""
    for line in rendered.splitlines():
        head, colon, rest = line.partition(": ")
        if colon and head == head.strip() and len(head) <= 40:
            name = head
            found[name] = rest.strip()
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return {k: _cut(v, MAX_DETAIL) for k, v in found.items()}


def dedup_key(key: str) -> str:
    """The key itself, or what stands for it when PagerDuty would refuse its length."""
    if len(key) <= MAX_KEY:
        return key
    return f"{key[:180]}#{hashlib.sha256(key.encode()).hexdigest()}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
