"""What can be found out about a notifier from here: by looking, which sends nothing, and by one marked test message.

It runs in the process of the command line, with the configuration that the server reads, so it also proves this
machine's network, names and certificates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from responder.checkups import Finding
from responder.contracts import Message, Notifier
from responder.errors import Permanent, ResponderError, Temporary
from responder.incident import Incident

if TYPE_CHECKING:
    import httpx

    from responder.notifiers.pagerduty import PagerDuty
    from responder.notifiers.slack import Slack

TEST: Final = "TEST, no action needed"


async def looked_at(name: str, notifier: Notifier) -> list[Finding]:
    """What is found about a notifier without sending anything."""
    look = _LOOKS.get(notifier.kind, _asked)
    return await _judged(f"notifier {name}", lambda: look(notifier))


async def tried(name: str, notifier: Notifier, instance: str, number: str, now: int) -> list[Finding]:
    """What becomes of one marked test: a page that is resolved at once, or a line where nobody is paged."""
    made = list(marked_messages(notifier, instance, f"{number}:{name}", now))

    async def send() -> Sequence[str]:
        missing = ""
        for message in made:
            await notifier.send(message)
            if message.kind == "page" and notifier.kind == "pagerduty" and notifier.answers:
                missing = await _missing(notifier, message.key)
        if missing:
            raise Permanent(missing)
        said = f"took {' and '.join(_KINDS[message.kind] for message in made)}"
        return (said if notifier.kind != "pagerduty" else f"{said}; {_PROVES[notifier.answers]}",)

    return await _judged(f"test to {name}", send)


async def _judged(what: str, look: Callable[[], Awaitable[Sequence[str]]]) -> list[Finding]:
    try:
        return [Finding(what, good=True, says=said) for said in await look()]
    except ResponderError as error:
        return [Finding(what, good=False, says=str(error))]
    except Exception as error:  # noqa: BLE001  one broken notifier must not keep the others from being looked at
        return [Finding(what, good=False, says=f"{type(error).__name__}: a mistake of the responder; report it")]


async def _asked(notifier: Notifier) -> Sequence[str]:
    return await notifier.doctor()


# --- tests ------------------------------------------------------------------------------------------------------------

_KINDS: Final[Mapping[str, str]] = {"page": "a page", "resolve": "its end", "thread": "a line"}


LOOKS: Final = (0.5, 0.5, 1.0, 2.0, 3.0, 4.0, 4.0)
"""Seconds before each look for the incident of a test: PagerDuty makes it a while after it has accepted the event."""
_NOWHERE: Final = (
    "PagerDuty has accepted the event (202) and made no incident within 15 s, so nobody would be woken: look whether "
    "the service is disabled or in maintenance, whether an orchestration drops it, and whether api_token sees its team"
)
_PROVES: Final[Mapping[bool, str]] = {
    True: "its incident appeared before it was resolved; whether somebody was woken only they can say",
    False: "202 says that it has the events, not that they became an incident or woke anybody: look there, or give an "
    "api_token, by which this is seen",
}


async def _missing(notifier: Notifier, key: str) -> str:
    """Why a page is not known to have become an incident, or nothing. Never raises: the page is to be resolved yet."""
    for wait in LOOKS:
        await asyncio.sleep(wait)
        try:
            if await notifier.asked(key) is not None:
                return ""
        except ResponderError as error:
            return f"PagerDuty has accepted the event (202); whether it became an incident cannot be asked: {error}"
    return _NOWHERE


def marked_messages(notifier: Notifier, instance: str, number: str, now: int) -> Iterator[Message]:
    """The messages of a test. The key is the test's own, so it touches no incident."""
    kinds = ("page", "resolve") if notifier.pages and notifier.kind != "console" else ("thread",)
    said = f"{TEST}: responder {instance} can reach this destination"
    for kind in kinds:
        yield Message(
            id=f"doctor:{number}:{kind}",
            lane="thread" if kind == "thread" else "page",
            kind=kind,
            key=f"responder/{instance}/doctor/{number}",
            text=said,
            body=None,
            incident=_incident(instance, said, now),
            event=None,
            previous="",
            resolves=kind == "resolve",
        )


def _incident(instance: str, title: str, now: int) -> Incident:
    """What a notifier reads severity and target from; it is in no store."""
    return Incident(
        id="doctor",
        runbook=None,
        rules_hash="",
        policy="",
        target=f"responder {instance}: test",
        title=title,
        severity="info",
        opened_at=now,
        ladder_from=now,
        clock_from=now,
    )


# --- what is looked at ------------------------------------------------------------------------------------------------


async def _pagerduty(notifier: PagerDuty) -> Sequence[str]:
    from responder.pagerduty_events import ROUTING_KEY

    length = len(notifier.routing_key.reveal().strip())
    if length != ROUTING_KEY:
        named = notifier.routing_key.named
        raise Permanent(f"the routing key in {named} has {length} characters instead of {ROUTING_KEY}: copy it again")
    key = "the routing key looks like one; only a test page shows whether it is"
    return (key, *(await notifier.doctor() if notifier.answers else ("no api_token: no notes, and nobody to ask",)))


async def _slack(notifier: Slack) -> Sequence[str]:
    """Whose token it is, what the app may do, and whether it can write into the channel."""
    import httpx

    from responder.slack_api import is_id

    # As the library does it: proxies of the environment, but never for plain http, which is this machine.
    remote = notifier.base_url.startswith("https://")
    async with httpx.AsyncClient(timeout=notifier.timeout, trust_env=remote) as client:
        whose, scopes = await _called(client, notifier, "auth.test", {})
        said = [f"the token is {whose.get('user')}'s in {whose.get('team')}"]
        if scopes and "chat:write" not in scopes:
            raise Permanent("the app may not write: give it the scope chat:write and install it again")
        if not is_id(notifier.channel):
            said.append(await _looked_up(notifier))
        elif scopes and not scopes & {"channels:read", "groups:read"}:
            said.append(f"nothing known of {notifier.channel}: with the scope channels:read it can be looked at")
        else:
            said.append(await _channel(client, notifier))
    lost = "" if scopes & {"channels:history", "groups:history"} else "out"
    said.append(f"with{lost} channels:history: a message whose answer is lost is {'posted twice' if lost else 'found'}")
    return said


async def _looked_up(notifier: Slack) -> str:
    """Whether a name leads to the channel's id, without which nothing can be looked for there."""
    from responder.slack_api import SlackApi

    api = SlackApi(notifier.token, notifier.base_url, notifier.timeout)
    try:
        return f"{notifier.channel} is {await api.id_of(notifier.channel)}"
    except Permanent as error:
        return f"{error}. Until then a message whose answer is lost may be posted twice"
    finally:
        await api.close()


async def _channel(client: httpx.AsyncClient, notifier: Slack) -> str:
    answer, _ = await _called(client, notifier, "conversations.info", {"channel": notifier.channel})
    found = answer.get("channel") or {}
    name = found.get("name", notifier.channel)
    if found.get("is_archived"):
        raise Permanent(f"#{name} is archived: unarchive it, or name another channel")
    if not found.get("is_member"):
        raise Permanent(f"the app is not in #{name}: invite it there")
    return f"the app is in #{name}"


async def _called(
    client: httpx.AsyncClient, notifier: Slack, method: str, query: Mapping[str, str]
) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The answer of a method that only looks, and the scopes of the token."""
    import httpx

    headers = {"authorization": f"Bearer {notifier.token.reveal()}"}
    url = f"{notifier.base_url.rstrip('/')}/{method}"
    try:
        answer = await client.get(url, params=dict(query), headers=headers)
    except httpx.HTTPError as error:
        raise Temporary(f"Slack cannot be reached ({type(error).__name__}); see the network and any proxy") from None
    try:
        body = answer.json()
    except ValueError:
        raise Temporary(f"Slack answers {method} with {answer.status_code} and no JSON") from None
    if not isinstance(body, dict) or body.get("ok") is not True:
        code = body.get("error", "no reason") if isinstance(body, dict) else "no reason"
        raise Permanent(f"Slack refuses {method}: {code}; see this error at docs.slack.dev")
    named = answer.headers.get("x-oauth-scopes", "").split(",")
    return body, frozenset(scope.strip() for scope in named) - {""}


_LOOKS: Mapping[str, Callable[[Any], Awaitable[Sequence[str]]]] = {"pagerduty": _pagerduty, "slack": _slack}
"""Kind -> how it is looked at; every other kind looks at itself (`Notifier.doctor`)."""
