"""E-mail: every message that the product can send, to a server that takes only what the standards allow."""

from __future__ import annotations

import json
import logging
import ssl
from dataclasses import replace
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from responder import facts as f
from responder import story
from responder.config import read_config
from responder.contracts import Catalogue, Notifier, Secret
from responder.environment import Environment
from responder.errors import BadConfig, Permanent, Temporary, Unknown
from responder.incident import Incident
from responder.notifiers import NOTIFIERS
from responder.notifiers.email import IMPORTANT, PATIENCE, Email
from responder.recorded import Outcome, StepStatus
from tests.builders import ended, intended, opened, started, told
from tests.contract.told_messages import (
    HOSTILE,
    KINDS,
    NEWS_AT,
    STATES,
    fixed,
    hostile,
    message,
    renamed,
    secret,
    unfixed,
    without_template,
)
from tests.fakes.smtp import PASSWORD, USER, FakeSmtp
from tests.hostile_values import HOSTILE as VALUES

ONE, TWO, COPY = "desk@example.com", "second@example.com", "boss@example.com"
SENDER = "Rësponder <responder@trading.example>"


def email(server: FakeSmtp | None = None, **more: Any) -> Email:
    port = {} if server is None else {"port": server.port}
    return Email(**{"host": "127.0.0.1", "from": SENDER, "to": [ONE], **port, **more})


async def sent(notifier: Email, kind: str, about: Incident, **more: Any) -> str:
    return await notifier.send(message(notifier, kind, about, **more))


def parts(mail: EmailMessage) -> tuple[str, str]:
    """Text and HTML of a mail that has both, in this order, and nothing else."""
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    text, html = (part.get_content() for part in mail.iter_parts())
    return text, html


class Elements(HTMLParser):
    """Names and addresses of what a mail program would draw."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str | None] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src", "background")]


DRAWN = {
    "html", "head", "meta", "title", "style", "body", "div", "table", "tr", "td", "h1", "p", "b", "i", "br", "span",
    "code", "a",
}  # fmt: skip


# --- what a mail is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES)
async def test_every_message_is_a_mail_that_says_how_it_stands(kind: str, state: str) -> None:
    async with FakeSmtp() as server:
        about = STATES[state]()
        kept = json.loads(await sent(email(server, cc=[COPY]), kind, about))
        [mail] = server.mails
        text, html = parts(mail.message)
        assert (mail.sender, mail.recipients) == ("responder@trading.example", (ONE, COPY))
        assert mail.message["Message-ID"] == kept["message_id"]
        for answer in (about.title, "WHAT FIRED", "WHAT WAS DONE", "DID IT HELP?", f"responder incident {about.id}"):
            assert answer in text
        for answer in (about.title, "What fired", "What was done", "Did it help?"):
            assert answer in html
        assert ("WHO IS NEXT" in text) == ("CLOSED" not in text) == (not about.closed)
        assert Elements(html).names <= DRAWN
        assert set(Elements(html).links) <= set(about.links.values())


def test_a_mail_never_says_that_is_checked_what_nobody_knows_to_be_done() -> None:
    run = opened(runbook="var-breach"), started(), intended(), ended(Outcome.UNKNOWN, detail="no answer")
    about = told(*run, f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why="no answer"), f.Verifying(run=1))
    mail = Email.model_validate({"host": "127.0.0.1", "from": "r@example.com", "to": ["a@example.com"]})
    body: Any = message(mail, "thread", about).body
    for text in (body["text"], body["html"]):
        assert "A person must look: nobody knows what was changed" in text
        assert "hecking whether it helped" not in text
        assert "Being checked" not in text
        assert "responder settle i1" in text


async def test_the_headers_are_those_of_an_automatic_message() -> None:
    async with FakeSmtp() as server:
        await sent(email(server), "thread", unfixed())
        [mail] = server.mails
        told = dict(mail.message.items())
        assert set(told) == {
            "From", "To", "Message-ID", "In-Reply-To", "References", "Subject", "Date", "List-Id", "Auto-Submitted",
            "Precedence", "X-Auto-Response-Suppress", "X-Responder-Incident", "X-Responder-Message", "MIME-Version",
            "Content-Type",
        }  # fmt: skip
        assert told["From"] == SENDER
        assert told["Subject"] == "Re: [CRITICAL] VaR above 90 % of its limit: risk-api/kelly_fraction"
        assert mail.message["Date"].datetime.timestamp() == NEWS_AT // 1_000_000
        assert (told["Auto-Submitted"], told["Precedence"]) == ("auto-generated", "bulk")
        assert told["List-Id"] == "<responder.trading.example>"
        assert (told["X-Responder-Incident"], told["X-Responder-Message"]) == ("i1", "thread")


async def test_a_page_stands_out() -> None:
    async with FakeSmtp() as server:
        await sent(email(server), "page", unfixed())
        [mail] = server.mails
        assert mail.message["Subject"].startswith("PAGE: [CRITICAL] VaR above")
        assert (mail.message["Importance"], mail.message["X-Priority"]) == ("high", "1")


async def test_all_mails_of_an_incident_are_one_conversation() -> None:
    async with FakeSmtp() as server:
        notifier = email(server)
        kept = await sent(notifier, "root", unfixed())
        await sent(notifier, "thread", unfixed(), previous=kept)
        await sent(notifier, "page", unfixed())  # pages are not handed the root's answer
        await sent(notifier, "resolve", fixed())
        root, *others = (mail.message for mail in server.mails)
        assert root["In-Reply-To"] is None
        assert {m["In-Reply-To"] for m in others} == {m["References"] for m in others} == {root["Message-ID"]}
        assert len({m["Message-ID"] for m in (root, *others)}) == 4


async def test_a_mail_that_is_sent_again_is_the_same_mail() -> None:
    async with FakeSmtp() as server:
        for kind in KINDS:
            again = message(email(server), kind, unfixed())
            await email(server).send(again)
            await email(server).send(again)
        pairs = [mail.raw for mail in server.mails]
        assert pairs[::2] == pairs[1::2]
        assert len(set(pairs)) == 4


async def test_two_notifiers_that_tell_one_person_send_two_mails() -> None:
    async with FakeSmtp() as server:
        await sent(email(server), "root", unfixed())
        await sent(email(server, cc=[COPY]), "root", unfixed())
        assert len({mail.message["Message-ID"] for mail in server.mails}) == 2


async def test_the_root_is_sent_once_and_small_news_waits_for_the_next_mail() -> None:
    async with FakeSmtp() as server:
        notifier = email(server)
        kept = await sent(notifier, "root", unfixed())
        assert await sent(notifier, "root", fixed(), previous=kept) == kept
        small = f.StepSkipped(run=1, step="cut", why="when is false")
        assert await sent(notifier, "thread", unfixed(), fact=small) == ""
        assert len(server.mails) == 1
        await sent(email(server, events="all"), "thread", unfixed(), fact=small)
        other = '{"channel": "C1", "ts": "1.2"}'  # the name was a Slack channel yesterday
        await sent(notifier, "root", unfixed(), previous=other)
        assert len(server.mails) == 3


async def test_what_is_passed_over_is_known_before_it_is_sent() -> None:
    async with FakeSmtp() as server:
        notifier = email(server)
        assert [notifier.passes_over("root", before) for before in (False, True)] == [False, True]
        assert notifier.passes_over("story/step_skipped", sent=False)
        assert not email(server, events="all").passes_over("story/step_skipped", sent=False)
        assert not any(notifier.passes_over(template, sent=True) for template in ("story/refused", "page", "resolve"))


def test_the_events_that_matter_exist() -> None:
    assert IMPORTANT <= story.KINDS
    assert {"opened", "gathered", "attempt_ended", "verifying"} & IMPORTANT == set()


async def test_a_broken_template_costs_the_form_only() -> None:
    async with FakeSmtp() as server:
        notifier = email(server)
        given_ = without_template(
            message(notifier, "page", unfixed()), "VaR\r\nBcc: x@evil.example\n.\nis\ud800 \u202ehigh"
        )
        await notifier.send(given_)
        [mail] = server.mails
        assert mail.message.get_content_type() == "text/plain"
        assert mail.message["Subject"] == "VaR Bcc: x@evil.example . is high"
        assert mail.message.get_content().splitlines() == ["VaR", "Bcc: x@evil.example", ".", "is high"]


# --- hostile values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [*HOSTILE, *VALUES])
async def test_a_hostile_value_is_shown_and_does_nothing(named: str, kind: str) -> None:
    text = {**HOSTILE, **VALUES}[named]
    async with FakeSmtp() as server:
        notifier = email(server)
        await notifier.send(renamed(message(notifier, kind, hostile(text)), text))
        harmless = email(server)
        await harmless.send(renamed(message(harmless, kind, hostile("harmless")), "harmless"))
        mail, usual = (m.message for m in server.mails)
        assert list(mail) == list(usual)
        assert server.mails[0].recipients == (ONE,)
        assert (mail["Bcc"], mail["From"]) == (None, SENDER)
        _, html = parts(mail)
        assert Elements(html).names <= DRAWN
        assert not {name for name in Elements(html).attributes if name.startswith("on")}
        assert Elements(html).links == [link["url"] for link in story.links(hostile(text))]


async def test_a_long_domain_does_not_break_the_conversation() -> None:
    async with FakeSmtp() as server:
        notifier = email(server, **{"from": f"r@{'a-long-department.' * 9}example"})
        for kind in KINDS:
            await sent(notifier, kind, unfixed())
        root, *others = (mail.message for mail in server.mails)
        assert {m["References"] for m in others} == {root["Message-ID"]}
        assert root["List-Id"].isascii()
        assert len(root["List-Id"]) < 60


# --- what the server's answer means -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer", "expected", "said"),
    [
        ("connect", "421 too busy", Temporary, "421 too busy"),
        ("connect", "554 no service", Permanent, "554 no service"),
        ("MAIL", "451 try later", Temporary, "451 try later"),
        ("MAIL", "550 not from you", Permanent, "550 not from you"),
        ("MAIL", "421 going down", Temporary, "421 going down"),
        ("RCPT", "450 greylisted", Temporary, "450 greylisted"),
        ("RCPT", "550 nobody here", Permanent, "550 nobody here"),
        ("DATA", "452 disk full", Temporary, "452 disk full"),
        (".", "451 cannot scan", Temporary, "451 cannot scan"),
        (".", "554 looks like spam", Permanent, "554 looks like spam"),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    command: str, answer: str, expected: type[Exception], said: str
) -> None:
    async with FakeSmtp() as server:
        server.fail(command, answer)
        with pytest.raises(expected, match=said):
            await sent(email(server), "root", unfixed())
        assert server.mails == []
        assert server.commands.count("MAIL") <= 1, "the library must not try again by itself"


async def test_a_lost_answer_to_the_mail_is_unknown_and_one_before_it_is_not() -> None:
    async with FakeSmtp() as server:
        server.hang_up_after_data = True
        with pytest.raises(Unknown, match="may have been sent"):
            await sent(email(server), "root", unfixed())
        for silent, expected in (("DATA", Unknown), ("MAIL", Temporary), ("EHLO", Temporary)):
            server.silent_on = silent
            with pytest.raises(expected, match=r"in time|not ready"):
                await sent(email(server, timeout=0.3), "root", unfixed())


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    with pytest.raises(Temporary, match="cannot be reached"):
        await sent(email(port=9), "root", unfixed())


async def test_a_farewell_that_fails_does_not_send_twice() -> None:
    async with FakeSmtp() as server:
        server.fail("QUIT", "421 too late")
        assert await sent(email(server), "root", unfixed())
        assert len(server.mails) == 1


async def test_one_refused_address_does_not_take_the_mail_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeSmtp() as server:
        server.refuses[TWO] = "550 nobody here"
        assert await sent(email(server, to=[ONE, TWO]), "root", unfixed())
        assert server.mails[0].recipients == (ONE,)
    assert f"{TWO} goes without a mail: 127.0.0.1 refuses it with 550 nobody here" in caplog.text


async def test_who_is_put_off_is_tried_again_alone_and_not_for_ever() -> None:
    async with FakeSmtp() as server:
        notifier = email(server, to=[ONE, TWO])
        server.refuses[TWO] = "450 greylisted"
        given_ = message(notifier, "thread", unfixed())
        for _ in range(2):
            with pytest.raises(Temporary, match=f"put off {TWO}"):
                await notifier.send(given_)
        server.refuses.clear()
        await notifier.send(given_)
        assert [mail.recipients for mail in server.mails] == [(ONE,), (TWO,)]
        assert len({mail.message["Message-ID"] for mail in server.mails}) == 1


@pytest.mark.parametrize(
    ("kind", "answer", "attempt", "goes_on"),
    [
        ("root", "450 greylisted", PATIENCE, True),
        ("page", "450 greylisted", PATIENCE, False),
        ("root", "550 nobody here", 2, True),
    ],
)
async def test_one_address_never_holds_up_the_story(kind: str, answer: str, attempt: int, goes_on: bool) -> None:
    async with FakeSmtp() as server:
        notifier = email(server, to=[ONE, TWO])
        server.refuses[TWO] = "450 greylisted"
        first = message(notifier, kind, unfixed())
        with pytest.raises(Temporary):
            await notifier.send(first)
        server.refuses[TWO] = answer
        again = replace(first, attempt=attempt)
        if goes_on:
            assert await notifier.send(again)
        else:
            with pytest.raises(Temporary):
                await notifier.send(again)
        assert [mail.recipients for mail in server.mails] == [(ONE,)]


# --- credentials and encryption ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1; who signed it stands beside it, in `.crt`."""
    made = tmp_path_factory.mktemp("tls") / "server.pem"
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(made)
    authority.cert_pem.write_to_path(made.with_suffix(".crt"))
    return made


def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_credentials_go_over_an_encrypted_connection(certificate: Path, tls: str) -> None:
    async with FakeSmtp(context(certificate), implicit=tls == "tls", auth=True) as server:
        login = {"username": USER, "password": secret(PASSWORD), "ca_file": str(certificate.with_suffix(".crt"))}
        notifier = email(server, tls=tls, **login)
        await sent(notifier, "root", unfixed())
        [mail] = server.mails
        assert (mail.encrypted, mail.user) == (True, USER)


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path, tls: str) -> None:
    async with FakeSmtp(context(certificate), implicit=tls == "tls") as server:
        with pytest.raises(Temporary, match="certificate"):
            await sent(email(server, tls=tls), "root", unfixed())
        assert server.mails == []


async def test_a_server_without_starttls_gets_nothing() -> None:
    async with FakeSmtp(auth=True) as server:
        with pytest.raises(Permanent, match=r"STARTTLS.*see `tls`"):
            await sent(email(server, tls="starttls", username=USER, password=secret(PASSWORD)), "root", unfixed())
        assert set(server.commands) == {"EHLO"}


async def test_a_wrong_password_is_final_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeSmtp(auth=True) as server:
        notifier = email(server, username=USER, password=secret("hunter2hunter2"))
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(Permanent, match="refuses username and password") as raised,
        ):
            await sent(notifier, "root", unfixed())
        assert "hunter2" not in str(raised.value) + repr(notifier) + caplog.text
        assert "aHVudGVyM" not in str(raised.value)


async def test_a_rotated_password_counts_at_once() -> None:
    values = iter(["old", PASSWORD])
    async with FakeSmtp(auth=True) as server:
        notifier = email(server, username=USER, password=Secret("env P", lambda: next(values)))
        with pytest.raises(Permanent):
            await sent(notifier, "root", unfixed())
        await sent(notifier, "root", unfixed())
        assert len(server.mails) == 1


async def test_an_authority_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadConfig, match=r"ca_file '/nowhere\.pem' cannot be read"):
        await sent(email(tls="tls", ca_file="/nowhere.pem"), "root", unfixed())


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "mail.example", "tls": "none", "username": "u", "password": secret("p")}, "never travels in clear"),
        ({"username": "u"}, "belong together"),
        ({"to": []}, "to"),
        ({"to": ["no address"]}, "no address of a mailbox"),
        ({"to": ["a@example.com\r\nBcc: b@example.com"]}, "no address of a mailbox"),
        ({"cc": ["a@exämple.com"]}, "no address of a mailbox"),
        ({"from": "Responder"}, "no address of a mailbox"),
        ({"host": "mail.example/x"}, "host"),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        email(**changes)


@pytest.mark.parametrize(
    ("settings_", "security"),
    [
        ({"host": "mail.example"}, "starttls"),
        ({"host": "localhost"}, "none"),
        ({"host": "mail.example", "tls": "none"}, "none"),
        ({"host": "localhost", "tls": "tls"}, "tls"),
    ],
)
def test_a_connection_is_in_clear_only_on_this_machine_or_when_it_is_written_out(
    settings_: dict[str, Any], security: str
) -> None:
    assert email(**settings_).security == security


def test_it_is_read_from_the_configuration() -> None:
    text = """
notifiers:
  desk:
    kind: email
    host: smtp.example.com
    username: responder
    password: {env: SMTP_PASSWORD}
    from: Responder <responder@example.com>
    to: [desk@example.com, Boss <boss@example.com>]
"""
    environment = Environment({"SMTP_PASSWORD": "p"}, Path())
    config = read_config("responder.yaml", text, Catalogue({}, NOTIFIERS, {}), environment)
    found: Notifier = config.notifiers["desk"]
    assert isinstance(found, Email)
    assert (found.security, found.pages, found.chats) == ("starttls", False, True)
