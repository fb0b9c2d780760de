"""A mail is what it says, whatever a label holds."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from responder.mails import MAX_SUBJECT, address, subject, written_mail
from responder.notifiers.console import Console
from tests.contract.told_messages import message, unfixed, without_template

SPACES = "@:@@ b@éé @é:b,éκκaa@ éa,κ,:aéκ: κ"
"""A subject in which the standard library loses a space, up to Python 3.12."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(SPACES)
@given(st.text(st.characters(), max_size=400) | st.text("=?utf-8BQ\r\n: <>@é試", max_size=300))
def test_any_title_is_one_line_that_reads_as_it_was_meant(title: str) -> None:
    written = written_for(title)
    head = written.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert all(len(line) <= 998 and line.isascii() for line in head)
    names = [line.partition(b":")[0] for line in head if not line.startswith((b" ", b"\t"))]
    assert names == [line.partition(b":")[0] for line in _usual_head()]
    parsed = message_of(written)
    assert parsed["Subject"] == subject(title)
    assert parsed.defects == []
    assert parsed["Subject"].defects == ()


def _usual_head() -> list[bytes]:
    lines = written_for("usual").partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line for line in lines if not line.startswith((b" ", b"\t"))]


def written_for(title: str) -> bytes:
    bare = without_template(message(Console(), "root", unfixed()), title)
    return written_mail(bare, {"Message-ID": "<a@b>"}, {"From": (address("Rësponder <r@example.com>"),)})


def message_of(written: bytes) -> EmailMessage:
    parsed = message_from_bytes(written, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_a_subject_is_short_and_never_empty() -> None:
    assert len(subject("x" * 1_000)) == MAX_SUBJECT
    assert subject("\u200b\r\n") == "(no subject)"
    assert subject("=?utf-8?q?a?=") == "= ?utf-8?q?a?="
