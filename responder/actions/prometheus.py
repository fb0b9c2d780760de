"""The action `prometheus.query`: one number, and how old it is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

from responder.contracts import Action, Context, Output
from responder.errors import Permanent, Temporary
from responder.http_calls import HttpAnswer, HttpCall
from responder.recorded import Plan
from responder.timing import SECOND

_SELECTOR = re.compile(r"\s*(?:[A-Za-z_:][A-Za-z0-9_:]*\s*(?:\{.*\})?|\{.+\})\s*", re.DOTALL)
_NAMED = 5  # series that an error names
_LISTED = 100  # elements that `all` gives


_TEXTS = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*""")
_CLOSES: Mapping[str, str] = {")": "(", "]": "[", "}": "{"}


def unbalanced(query: str) -> str | None:
    """What of a PromQL query is opened or closed in vain, which no server would take; None when nothing is.

    No parser: functions and metrics are the server's to know.
    """
    rest = _TEXTS.sub("", query)
    opened: list[str] = []
    for char in rest:
        if char in "\"'`":
            return f"a text that begins with {char} does not end"
        if char in "([{":
            opened.append(char)
        elif char in _CLOSES and (not opened or opened.pop() != _CLOSES[char]):
            return f"{char} closes nothing"
    return f"{opened[-1]} is not closed" if opened else None


class PrometheusQuery(Action):
    """Ask a Prometheus server for one number now.

    - `service`: a service of kind `prometheus`.
    - `query`: PromQL whose answer is a scalar or has exactly one element; reduce several with `max(…)` or `sum(…)`. A
      placeholder stands inside a double-quoted label value, or where a number may stand. Every selector says its
      `env`: a server that knows prod and staging answers with both.
    - `freshness`: the selector of the samples behind it, such as `var_pct{symbol="BTC-USD"}`. The answer is then as
      old as the oldest of them. Without it the answer counts as fresh even when the exporter died minutes ago, so
      guards and verification should give it.
    - `all`: true gives the whole vector as a list of `{labels, value}`, at most 100 (for evidence). Default false.

    Effect class `read`. `expect` sees the number as `value`. Nothing found, NaN and infinity are missing values, never
    0. An answer with warnings counts as missing too: part of the data may not be in it.

    Needs of its credential: `POST /api/v1/query`.

    ```yaml
    checks:
      var:
        action: prometheus.query
        with: {service: metrics, query: 'max(var_pct{env="prod"})', freshness: 'var_pct{env="prod"}'}
        max_age: 30s
    ```
    """

    reads_only: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("prometheus",)
    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "query": "promql", "freshness": "promql", "all": "literal",
    }  # fmt: skip

    service: str
    query: Annotated[str, Field(min_length=1, max_length=8192)]
    freshness: Annotated[str, Field(max_length=2048)] | None = None
    all: bool = False

    @field_validator("query")
    @classmethod
    def _whole(cls, value: str) -> str:
        fault = unbalanced(value)
        if fault is not None:
            raise PydanticCustomError("promql", "{fault}", {"fault": fault, "hint": "close it, or take it out"})
        return value

    @field_validator("freshness")
    @classmethod
    def _selector(cls, value: str | None) -> str | None:
        if value is not None and not _SELECTOR.fullmatch(value):
            raise ValueError('freshness is a selector such as var_pct{symbol="BTC-USD"}, without functions or ranges')
        return value

    def preview(self) -> str:
        """See Action.preview."""
        return f"query {self.service}: {self.query}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when there is no usable number now, Permanent when the query is at fault."""
        # The age first: a scrape between the two questions makes the number younger than claimed, never older.
        oldest = None if self.freshness is None else await self._oldest(self.freshness, context)
        kind, elements = await self._ask(self.query, context)
        if self.all and kind == "vector":
            age = context.now() if oldest is None else oldest
            return Output(_listed(elements), f"{len(elements)} elements", age)
        evaluated, value = _single(elements, self.query)
        return Output(value, f"{value:g}", evaluated if oldest is None else oldest)

    async def _oldest(self, selector: str, context: Context) -> int:
        """The time in µs of the oldest sample that the selector finds."""
        _, elements = await self._ask(f"min(timestamp({selector}))", context)
        if not elements:
            raise Temporary(f"no data for freshness {selector}: the series is gone, or its target is not scraped")
        _, seconds = _single(elements, f"min(timestamp({selector}))")
        return round(seconds * SECOND)

    async def _ask(self, query: str, context: Context) -> tuple[str, list[Any]]:
        form = {"query": query, "timeout": f"{max(context.timeout, 0.001):.3f}"}
        call = HttpCall("POST", "/api/v1/query", form=form, reads=True)
        answer: HttpAnswer = await context.service(self.service).send(call, context.timeout)
        if answer.status in {400, 422}:
            raise Permanent(f"{answer.place}: {_said(answer.body)}; correct the query {_short(query)}")
        body = answer.checked(context.now()).body
        if not isinstance(body, dict) or body.get("status") != "success":
            raise Permanent(f"{answer.place}: {_said(body)}; check that the service is a Prometheus")
        if body.get("warnings"):
            raise Temporary(f"{answer.place}: part of the data may be missing: {_short(body['warnings'])}")
        return _elements(body.get("data"), query)


def _said(body: JsonValue) -> str:
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return f"{body.get('errorType')}: {_short(body['error'])}"
    return "this is not the answer of a query API"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _elements(data: object, query: str) -> tuple[str, list[Any]]:
    """The kind of result and its elements; a scalar as a vector of one without labels."""
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar" and isinstance(result, list):
        return "scalar", [{"metric": {}, "value": result}]
    if kind == "vector" and isinstance(result, list):
        return "vector", result
    got = f"a {kind}" if kind else "nothing"
    raise Permanent(f"the query {_short(query)} gives {got}, not numbers: a range needs a function around it")


def _single(elements: list[Any], query: str) -> tuple[int, float]:
    """The evaluation time in µs and the value of the only element."""
    if not elements:
        raise Temporary(f"no data for {_short(query)}: the series is gone, or its target is not scraped")
    if len(elements) > 1:
        names = ", ".join(_name(element) for element in elements[:_NAMED])
        more = f" and {len(elements) - _NAMED} more" if len(elements) > _NAMED else ""
        cure = "use max(…) or sum(…), or select one"
        raise Permanent(f"{_short(query)} gives {len(elements)} elements ({names}{more}) where one is needed: {cure}")
    at, value = _sample(elements[0])
    if value is None:
        raise Temporary(f"no number for {_short(query)}: it is NaN or infinite")
    return at, value


def _sample(element: object) -> tuple[int, float | None]:
    """Time in µs and value of an element; None for NaN and infinity."""
    try:
        seconds, text = element["value"]  # type: ignore[index]
        number = float(text)
        return round(float(seconds) * SECOND), number if math.isfinite(number) else None
    except (KeyError, TypeError, ValueError):
        raise Permanent("an element has no single number (a native histogram?): use histogram_quantile(…)") from None


def _name(element: object) -> str:
    labels = element.get("metric") if isinstance(element, dict) else None
    pairs = labels.items() if isinstance(labels, dict) else ()
    return "{" + _short(", ".join(f'{name}="{value}"' for name, value in pairs)) + "}"


def _listed(elements: list[Any]) -> JsonValue:
    return [{"labels": e.get("metric", {}), "value": _sample(e)[1]} for e in elements[:_LISTED] if isinstance(e, dict)]
