"""Secrets in what others wrote: found by their look or by the name beside them, and replaced so that people see it.

A last line of defence for recorded notifications and error texts. It knows forms, not values, so a secret that looks
like a word passes, and a harmless text that looks like one goes; neither is a reason to put secrets into labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

REDACTED: Final = "(redacted)"
HIDDEN: Final = "(hidden)"
"""What stands for a secret of ours that came back in an answer."""
_SHORTEST_KNOWN: Final = 8

KEPT: Final = frozenset({"fingerprint"})
"""Fields that are never looked at: an alert is known by its fingerprint alone (design 2)."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """A text or notification without its secrets, and what was taken out: `alerts[0].labels.password: …`, no values."""

    notification: JsonValue
    found: tuple[str, ...]


def redact(notification: JsonValue) -> Redaction:
    """The notification with every secret replaced by REDACTED. What is no text, and every name, stays as it is."""
    found: list[str] = []
    return Redaction(_walked(notification, "", found), tuple(found))


def hide(text: str, mark: str = REDACTED) -> tuple[str, tuple[str, ...]]:
    """The text with every credential in it replaced by `mark`, and the kinds that were found."""
    kinds = []
    for kind, find in _FORMS:
        after = find(text, mark)
        if after != text:
            kinds.append(kind)
        text = after
    return text, tuple(kinds)


def hide_known(text: str, secrets: Iterable[str]) -> str:
    """The text with each of these secrets replaced, also as JSON and URLs write them: whoever echoes what it was sent
    must not bring it into journal or messages (design 5.11). One below 8 characters would be found in innocent text."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_KNOWN:
            for form in dict.fromkeys((secret, json.dumps(secret)[1:-1], quote(secret, safe=""))):
                text = text.replace(form, HIDDEN)
    return text


# --- a notification ---------------------------------------------------------------------------------------------------


def _walked(value: JsonValue, place: str, found: list[str]) -> JsonValue:
    if isinstance(value, dict):
        return {name: _member(name, member, _below(place, name), found) for name, member in value.items()}
    if isinstance(value, list):
        return [_walked(member, f"{place}[{index}]", found) for index, member in enumerate(value)]
    if isinstance(value, str):
        text, kinds = hide(value)
        found.extend(f"{place}: {kind}" for kind in kinds)
        return text
    return value


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _member(name: str, value: JsonValue, place: str, found: list[str]) -> JsonValue:
    if name in KEPT:
        return value
    if isinstance(value, str) and value not in ("", REDACTED) and names_secret(name, value):
        found.append(f"{place}: its name says that it is secret")
        return REDACTED
    return _walked(value, place, found)


# --- names ------------------------------------------------------------------------------------------------------------

_word = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_ALWAYS: Final = frozenset(
    {"password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "credential", "credentials", "apikey",
     "authorization", "cookie", "api key", "access key", "private key", "auth key", "signing key"}
)  # fmt: skip
_IF_LONG: Final = frozenset({"token", "tokens", "jwt", "auth", "session", "signature"})
_IN_QUERY: Final = frozenset({"key", "sig", "code"})
_NO_VALUE: Final = frozenset({"name", "file", "path", "type", "age", "expiry", "expires", "version", "count"})
"""Last words of names that speak about a secret without holding it: `secret_name`, `token_age`."""
_looks_generated = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])\S{16,}").fullmatch


def names_secret(name: str, value: str) -> bool:
    """Whether a label, annotation or field of this name holds a secret.

    A `token` may also be a coin on a trading platform: such names count only for values that look generated.
    """
    words = _words(name)
    return not words.isdisjoint(_ALWAYS) or (not words.isdisjoint(_IF_LONG) and bool(_looks_generated(value)))


def _words(name: str) -> frozenset[str]:
    """The words and pairs of words of a name in snake, kebab or camel case; none where it only speaks about one."""
    words = [word.lower() for word in _word.findall(name[:200])]
    if not words or words[-1] in _NO_VALUE:
        return frozenset()
    return frozenset((*words, *(f"{one} {two}" for one, two in pairwise(words))))


# --- forms ------------------------------------------------------------------------------------------------------------

_pair = re.compile(r"""(?<![\w.%-])([\w.%-]{1,80})(=["']?)(?!\((?:redacted|hidden)\))([^\s"'&,;#<>)}]+)""")
_member_pair = re.compile(r'"([\w.-]{1,80})"(\s{0,8}:\s{0,8}")(?!\((?:redacted|hidden)\))((?:[^"\\]|\\.)+)')


def _pairs(pattern: re.Pattern[str]) -> Callable[[str, str], str]:
    """Replaces the values of pairs whose name says that they are secret; in a query of a URL, of a few more names."""

    def replaced(text: str, mark: str) -> str:
        def one(match: re.Match[str]) -> str:
            name, between, value = match[1], match[2], match[3]
            query = text[match.start() - 1 : match.start()] in ("?", "&")
            secret = names_secret(name, value) or (query and not _words(name).isdisjoint(_IN_QUERY | _IF_LONG))
            opening = match[0][: len(match[0]) - len(value) - len(between)]
            return f"{opening}{between}{mark}" if secret else match[0]

        return pattern.sub(one, text)

    return replaced


def _looks(pattern: str) -> Callable[[str, str], str]:
    """Replaces what matches; a first group stays in front of the mark."""
    compiled = re.compile(pattern)
    return lambda text, mark: compiled.sub(lambda match: f"{(match[1] or '') if match.re.groups else ''}{mark}", text)


# Every run of characters begins where none of its kind stands before it, so that no text is walked twice.
_FORMS: Final[tuple[tuple[str, Callable[[str, str], str]], ...]] = (
    (
        "a private key",
        _looks(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|[\s\S]*)"
        ),
    ),
    ("a user and password in a URL", _looks(r"(?<=://)[^/\s\"'<>]+(?=@)")),
    ("a credential of HTTP", _looks(r"(?i)\b(?:bearer|basic)\s{1,8}[A-Za-z0-9._~+/=-]{16,}")),
    ("a JSON web token", _looks(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")),
    (
        "a token of a known kind",
        _looks(
            r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|glsa_\w{20,}"
            r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])"
            r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|sk-[\w-]{24,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hv[bs]\.[\w-]{20,}"
            r"|npm_[A-Za-z0-9]{36}|dop_v1_[0-9a-f]{64}|SG\.[\w-]{16,}\.[\w-]{16,})"
        ),
    ),
    (
        "the secret part of a webhook's address",
        _looks(r"(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"),
    ),
    ("a value whose name says that it is secret", _pairs(_pair)),
    ("a value whose name says that it is secret", _pairs(_member_pair)),
)
