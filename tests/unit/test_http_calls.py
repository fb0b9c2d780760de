"""What a status says about the world, and which paths stay on their host."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.errors import Permanent, ResponderError, Temporary, Unknown
from responder.http_calls import HttpAnswer, HttpCall, checked_path, retry_after
from responder.timing import SECOND

NOW = 1_700_000_000 * SECOND  # Tue, 14 Nov 2023 22:13:20 GMT


def answer(status: int, *, changes: bool = False, keyed: bool = False, text: str = "", cut: bool = False) -> HttpAnswer:
    return HttpAnswer("risk: GET /x", status, {"content-type": "application/json"}, text, changes, keyed, cut)


def refusal(given: HttpAnswer, expected: tuple[int, ...] = ()) -> type[ResponderError] | None:
    try:
        given.checked(NOW, expected)
    except ResponderError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("status", "question", "change", "keyed_change"),
    [
        (200, None, None, None),
        (204, None, None, None),
        (302, Permanent, Permanent, Permanent),
        (400, Permanent, Permanent, Permanent),
        (401, Permanent, Permanent, Permanent),
        (404, Permanent, Permanent, Permanent),
        (408, Temporary, Unknown, Unknown),
        (409, Permanent, Permanent, Unknown),
        (422, Permanent, Permanent, Permanent),
        (425, Temporary, Temporary, Temporary),
        (429, Temporary, Temporary, Temporary),
        (500, Temporary, Unknown, Unknown),
        (501, Permanent, Permanent, Permanent),
        (502, Temporary, Unknown, Unknown),
        (503, Temporary, Unknown, Unknown),
        (504, Temporary, Unknown, Unknown),
        (507, Permanent, Unknown, Unknown),
    ],
)
def test_the_table_of_statuses(status: int, question: object, change: object, keyed_change: object) -> None:
    assert refusal(answer(status)) is question
    assert refusal(answer(status, changes=True)) is change
    assert refusal(answer(status, changes=True, keyed=True)) is keyed_change


def test_expected_statuses_replace_the_2xx() -> None:
    assert refusal(answer(404), (200, 404)) is None
    assert refusal(answer(204), (200, 404)) is Permanent


def test_half_an_answer_is_no_answer_to_a_question_but_says_that_a_change_was_done() -> None:
    assert refusal(answer(200, cut=True)) is Permanent
    assert refusal(answer(200, cut=True, changes=True)) is None


def test_a_refusal_says_what_was_answered_and_the_cure() -> None:
    with pytest.raises(Permanent, match=r"risk: GET /x: answered 401 \(no\): check the service's credentials"):
        answer(401, text=" no\n").checked(NOW)
    with pytest.raises(Permanent, match="redirects are not followed"):
        answer(301).checked(NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("999999999999", 3600.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_retry_after_reaches_the_error() -> None:
    refused = HttpAnswer("p", 429, {"retry-after": "7"}, "", changes=True)
    with pytest.raises(Temporary) as caught:
        refused.checked(NOW)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("text", "body"),
    [('{"a": 1}', {"a": 1}), ("[1e999]", "[1e999]"), ('{"a": NaN}', '{"a": NaN}'), ("[" * 9999, "[" * 9999), ("", "")],
)
def test_a_body_is_json_that_can_be_kept_or_else_text(text: str, body: object) -> None:
    assert answer(200, text=text).body == body


def test_text_is_not_taken_for_json() -> None:
    assert HttpAnswer("p", 200, {"content-type": "text/plain"}, "12", changes=False).body == "12"


@pytest.mark.parametrize(
    "path", ["x", "", "//evil", "http://evil/", "/a b", "/a#b", "/a\\b", "/../a", "/a/%2e%2E/b", "/a\n", "/ä", "/."]
)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"path"):
        checked_path(path)


@given(st.text(max_size=30))
def test_an_accepted_path_never_leaves_its_host(tail: str) -> None:
    try:
        path = checked_path("/" + tail)
    except ValueError:
        return
    assert httpx.URL("http://risk:8080/base" + path).netloc == b"risk:8080"
    assert httpx.URL("http://risk:8080/base" + path).path.startswith("/base/")


def test_a_post_that_only_asks_changes_nothing() -> None:
    assert not HttpCall("POST", "/api/v1/query", reads=True).changes
    assert HttpCall("POST", "/x").changes
    assert not HttpCall("GET", "/x").changes
