"""The little of Prometheus' query API that runbooks' checks need, over the latest scrape of the built-in evaluator.

`max(...)`, `min(...)`, `timestamp(...)` and plain selectors with `=`; anything else is answered as Prometheus answers
what it cannot parse, so that a check fails loudly instead of being told something made up. No ranges, no arithmetic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from responder.errors import BadSyntax
from responder.timing import SECOND, parse_time

LOOKBACK = 300 * SECOND
"""How old a sample may be and still answer, in microseconds: Prometheus' own default."""

_aggregate = re.compile(r"\s*(max|min)\s*\((.*)\)\s*", re.DOTALL)
_timestamp = re.compile(r"\s*timestamp\s*\((.*)\)\s*", re.DOTALL)
_selector = re.compile(r"\s*([a-zA-Z_:][\w:]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_matcher = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\["\\])*)"\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value; `labels` without its name."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one scrape brought, at `at` microseconds since the epoch. A failed one brings only `up` 0, as a stale marker
    ends every other series at once."""

    at: int
    samples: tuple[Sample, ...]


NOTHING = Scrape(0, ())


def create_query_api(latest: Callable[[], Scrape], clock: Callable[[], int]) -> Starlette:
    """`/api/v1/query` (GET and POST) and `/-/ready` over what `latest` gives; `clock` gives µs since the epoch."""

    async def query(request: Request) -> Response:
        # Not request.form(), which wants a package for multipart bodies that Prometheus does not take either.
        asked = dict(request.query_params) | dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            at = _instant(asked["time"]) if "time" in asked else clock()
            result = evaluate(asked.get("query", ""), latest(), at)
        except BadSyntax as error:
            return JSONResponse({"status": "error", "errorType": "bad_data", "error": str(error)}, 400)
        return JSONResponse({"status": "success", "data": {"resultType": "vector", "result": _vector(result, at)}})

    async def ready(_request: Request) -> Response:
        return PlainTextResponse("the built-in evaluator is ready\n")

    routes = [Route("/api/v1/query", query, methods=["GET", "POST"]), Route("/-/ready", ready)]
    return Starlette(routes=routes, max_body_size=64 * 1024)


def evaluate(query: str, scrape: Scrape, at: int) -> tuple[Sample, ...]:
    """The instant vector that `query` gives at `at`. Raises BadSyntax for what is not supported.

    A sample newer than `at` or older than the lookback is not seen.
    """
    aggregate = _aggregate.fullmatch(query)
    inner = _reading(aggregate[2] if aggregate else query, query)
    seen = inner(scrape) if 0 <= at - scrape.at < LOOKBACK else ()
    if aggregate is None or not seen:
        return seen
    values = [sample.value for sample in seen if not math.isnan(sample.value)]
    chosen = math.nan if not values else max(values) if aggregate[1] == "max" else min(values)
    return (Sample("", {}, chosen),)


def number(value: float) -> str:
    """A sample's value as Prometheus writes it: shortest decimal, never an exponent, `NaN`, `+Inf`, `-Inf`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


def _reading(text: str, query: str) -> Callable[[Scrape], tuple[Sample, ...]]:
    stamped = _timestamp.fullmatch(text)
    if stamped is None:
        return _selecting(text, query)
    selecting = _selecting(stamped[1], query)
    return lambda scrape: tuple(Sample("", s.labels, scrape.at / SECOND) for s in selecting(scrape))


def _selecting(text: str, query: str) -> Callable[[Scrape], tuple[Sample, ...]]:
    read = _selector.fullmatch(text)
    if read is None:
        raise _unsupported(query, text)
    wanted = _matchers(read[2] or "", query)
    return lambda scrape: tuple(
        sample
        for sample in scrape.samples
        if sample.name == read[1] and all(sample.labels.get(name, "") == value for name, value in wanted.items())
    )


def _matchers(text: str, query: str) -> dict[str, str]:
    wanted: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        read = _matcher.match(text, at)
        if read is None:
            raise _unsupported(query, text[at:])
        wanted[read[1]] = re.sub(r"\\(.)", r"\1", read[2])
        at = read.end()
    return wanted


def _unsupported(query: str, part: str) -> BadSyntax:
    return BadSyntax(
        "the built-in evaluator cannot evaluate this",
        query,
        query.find(part) + 1,
        "it knows max(), min(), timestamp() and selectors with =; put prometheus on PATH for the rest",
    )


def _instant(text: str) -> int:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return round(Decimal(text) * SECOND)
    return parse_time(text)


def _vector(samples: tuple[Sample, ...], at: int) -> list[dict[str, object]]:
    return [
        {
            "metric": ({"__name__": sample.name} if sample.name else {}) | dict(sorted(sample.labels.items())),
            "value": [at / SECOND, number(sample.value)],
        }
        for sample in samples
    ]
