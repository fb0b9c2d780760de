"""For any value of a label, the request differs from any other value's only in that value's place, or is not sent.

The real path from the templates of a step to the bytes: rendering, the action's model, its plan, the connection. The
reference value and the random one go the same way, and both requests are read back by tests/wire_forms.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from responder.actions import ACTIONS
from responder.connections import Connections
from responder.contracts import Parameter, ReadSpec, WriteSpec
from responder.errors import Permanent
from responder.patterns import compile_pattern
from responder.perform import Performer
from responder.positions import clean
from responder.recorded import Outcome
from responder.runbook import Check, Evidence, Runbook, Step
from responder.services import Endpoint, HttpService, PrometheusService
from responder.timing import SECOND
from tests.wire_forms import literals_of, promql, replaced, request_form

NOW = 1_700_000_000 * SECOND
MARKER = "MARKER-0"
KELLY = "risk-api/kelly_fraction"
RUNBOOK = Runbook(runbook="any", title="Any", target=KELLY)
PARAMETERS = {
    KELLY: Parameter(
        service="risk-api",
        read=ReadSpec(path="/api/status", value="kelly_fraction"),
        write=WriteSpec(
            path="/api/reduce", body={"to": "{{ value }}", "why": "{{ reason }}", "note": "r: {{ reason }}"}
        ),
        floor=0.05,
        total_per_day=0.3,
    )
}
SERVICES: Mapping[str, Endpoint] = {
    "risk-api": HttpService(url="http://risk:8080/base"),
    "metrics": PrometheusService(url="http://prometheus:9090"),
}
Values = Mapping[str, object]


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """Takes every request, and answers as the platform would."""

    requests: list[httpx.Request] = field(default_factory=list)
    kelly: float = 0.25

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/api/v1/query":
            found = {"metric": {}, "value": [NOW / SECOND, "2.13"]}
            return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": [found]}})
        if request.url.path == "/base/api/reduce":
            self.kelly = json.loads(request.content)["to"]
        return httpx.Response(200, json={"kelly_fraction": self.kelly})

    @property
    def forms(self) -> list[dict[str, Any]]:
        """The requests as their receivers read them."""
        return [request_form(request) for request in self.requests]

    def performer(self) -> Performer:
        """One whose connections all end here."""
        connections = Connections(SERVICES, lambda _: self)
        return Performer(ACTIONS, connections.connect, PARAMETERS, lambda: NOW, no_wait)


async def no_wait(_seconds: float) -> None:
    """Virtual time: everything is over at once."""


def acted(step: Mapping[str, Any], values: Values) -> list[dict[str, Any]]:
    """What is sent by a step; nothing when it is refused."""
    wire, use = Wire(), Step.model_validate({"id": "it", **step})

    async def run() -> None:
        performer = wire.performer()
        plan = await performer.prepare(RUNBOOK, use, values)
        ended = await performer.act(use.action or "", plan, "inc1.run1.it.1", 10 * SECOND)
        assert ended.outcome is Outcome.OK or not changing(wire), ended.detail

    try:
        asyncio.run(run())
    except Permanent:
        assert wire.requests == []
    return wire.forms if changing(wire) or use.action == "prometheus.query" else []


def changing(wire: Wire) -> bool:
    return any(request.method != "GET" for request in wire.requests)


def observed(check: Mapping[str, Any], values: Values) -> list[dict[str, Any]]:
    """What is asked by a check; nothing when it is refused."""
    wire = Wire()
    seen = asyncio.run(wire.performer().observe("it", Check.model_validate(check), values))
    assert (seen.error is None) is bool(wire.requests), seen.error
    return wire.forms


# --- values -----------------------------------------------------------------------------------------------------------

PATTERNS = (
    r"[A-Z0-9]{2,10}-[A-Z0-9]{2,10}",
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    r"[0-9]{1,12}",
    r"[!-~]+",
    r"[\x00-\x7f]*",
    r".*",
    r"(?s).*",
)
PIECES = (
    '"', "'", "\\", "\n", "\r", "\r\n", "`", "#", "{", "}", "{{ secret }}", "{%", "/", "..", "/../", "%2e", "%", "?",
    "&", "=", ";", "+", " ", "a", "é", "😀", "\x00", "\u2028", "\u202e", "\ud800", '"} or vector(1) #', '","a":"',
    "$(a)", "1e999",
)  # fmt: skip
VALUES = st.one_of(
    *(st.from_regex(pattern, fullmatch=True) for pattern in PATTERNS),
    st.text(),
    st.text(st.characters(codec=None, categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Po", "Ps", "Pe"])),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
)


def test_the_values_are_what_the_patterns_admit() -> None:
    widest = compile_pattern(PATTERNS[-1])
    assert all(widest.matches(piece) for piece in PIECES)


# --- requests ---------------------------------------------------------------------------------------------------------

PLACES: Mapping[str, Mapping[str, Any]] = {
    "path": {"path": "/v1/{{ x }}/limits/a-{{ x }}"},
    "query": {"path": "/v1?q={{ x }}&n=1&m=a-{{ x }}"},
    "path and query": {"path": "/v1/{{ x }}?q={{ x }}"},
    "params": {"path": "/v1", "params": {"q": "{{ x }}", "m": "a-{{ x }}", "n": 1, "t": True}},
    "json": {"path": "/v1", "json": {"a": "{{ x }}", "b": ["n={{ x }}", {"c": "{{ x }}", "d": 1.5}], "e": None}},
    "alone": {"path": "/v1", "json": "{{ x }}"},
    "headers": {"path": "/v1", "headers": {"X-Symbol": "{{ x }}", "X-Both": "a {{ x }}, {{ x }}."}, "json": 1},
    "all": {
        "path": "/v1/{{ x }}", "params": {"q": "{{ x }}"}, "json": ["{{ x }}"], "headers": {"X-Symbol": "is {{ x }}."},
    },
    "answer": {"path": "/v1", "json": {"a": "{{ steps.before.output.body }}", "b": "{{ steps.before.output.status }}"}},
}  # fmt: skip


def values_with(value: str) -> Values:
    answer = {"status": 200, "body": {"name": value, "list": [value, 1]}}
    return {"x": value, "secret": "hunter2", "steps": {"before": {"status": "done", "output": answer}}}


def only_in_its_place(send: Callable[[str], list[dict[str, Any]]], value: str, written: Callable[[str], str]) -> None:
    found, reference = send(value), send(MARKER)
    assert reference
    assert found in ([], replaced(reference, lambda text: text.replace(MARKER, written(value))))


@given(st.sampled_from(sorted(PLACES)), st.sampled_from(["POST", "PUT", "DELETE"]), VALUES)
@example("path", "POST", "%2e%2e")
@example("path", "DELETE", "..")
@example("headers", "POST", "a\r\nX-Evil: 1")
@example("headers", "POST", "a\r\n\r\n{}")
@example("json", "PUT", '", "admin": true, "a": "')
@example("params", "POST", "a&admin=1")
@example("query", "POST", "a&admin=1#b")
@example("path and query", "POST", "a?b=c&d")
@example("all", "POST", "😀")
@example("answer", "POST", "{{ secret }}")
def test_an_http_request_differs_only_in_the_values_place(place: str, method: str, value: str) -> None:
    step = {"action": "http.request", "with": {"service": "risk-api", "method": method, **PLACES[place]}}
    only_in_its_place(lambda text: acted(step, values_with(text)), value, lambda text: text)


@given(VALUES)
@example("a" * 600)
def test_a_reduced_parameter_differs_only_in_the_reason(value: str) -> None:
    step = {"action": "parameter.reduce", "with": {"parameter": KELLY, "to": 0.1, "reason": "risk of {{ x }}."}}
    only_in_its_place(lambda text: acted(step, values_with(text)), value, clean)


QUERY = 'max(var_pct{symbol="{{ x }}", desk!="a-{{ x }}"}) > 1.5 # it\'s'
REGEX = 'up{symbol=~"{{ x }}", desk!~"a{{ x }}"}'


def query_forms(forms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The queries as tokens; strings after a regular expression's sign as the one text that they match."""
    for form in forms:
        tokens = promql(dict(form["body"])["query"])
        pairs = zip([("", ""), *tokens], tokens, strict=False)
        form["body"] = [
            (kind, literals_of(text) if before[1] in ("=~", "!~") else text) for before, (kind, text) in pairs
        ]
    return forms


@given(st.sampled_from([QUERY, REGEX]), VALUES)
@example(QUERY, '"} or vector(1) #')
@example(QUERY, "\\")
@example(QUERY, "a\x00b\x7f\u2028")
@example(QUERY, "\ud800")
@example(REGEX, ".*|a-b^[c]$\\d")
def test_a_query_differs_only_in_the_values_place(query: str, value: str) -> None:
    freshness = query.removeprefix("max(").partition(")")[0]
    check = {"action": "prometheus.query", "with": {"service": "metrics", "query": query, "freshness": freshness}}
    only_in_its_place(lambda text: query_forms(observed(check, values_with(text))), value, lambda text: text)
    step = {"action": "prometheus.query", "with": check["with"]}
    only_in_its_place(lambda text: query_forms(acted(step, values_with(text))), value, lambda text: text)


@given(st.integers() | st.floats() | VALUES)
def test_a_number_in_a_query_is_one_number(value: object) -> None:
    check = {"action": "prometheus.query", "with": {"service": "metrics", "query": "up > {{ x }}"}}
    for form in observed(check, {"x": value}):
        tokens = promql(dict(form["body"])["query"])
        assert [kind for kind, text in tokens if text != "-"] == ["name", "sign", "number"]
        assert float("".join(text for _, text in tokens[2:])) == value


@settings(max_examples=50)
@given(VALUES)
def test_evidence_is_read_once_for_each_value_and_tells_it_on_one_line(value: str) -> None:
    wire = Wire()
    item = Evidence.model_validate(
        {
            "each": "x", "title": "of {{ x }}", "action": "prometheus.query",
            "with": {"service": "metrics", "query": 'up{symbol="{{ x }}"}'},
        }
    )  # fmt: skip
    found = asyncio.run(wire.performer().evidence(item, [{"x": value}, {"x": MARKER}]))
    assert len(wire.requests) == 1 + (found[0].error is None)
    assert all(len(one.title.splitlines()) <= 1 for one in found)
    assert found[1].title == f"of {MARKER}"


def test_a_url_that_grows_too_long_is_refused_before_anything_is_sent() -> None:
    params = dict.fromkeys("abc", "{{ x }}")
    step = {
        "action": "http.request",
        "with": {"service": "risk-api", "method": "POST", "path": "/v1", "params": params},
    }
    assert acted(step, {"x": "é" * 5_000}) == []
    assert len(acted(step, {"x": "é" * 500})) == 1
