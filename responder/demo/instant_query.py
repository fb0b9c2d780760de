"""Prometheus' query API over what the built-in evaluator has scraped: instant queries, answered as Prometheus does.

What can be asked is `promql`'s matter; what it refuses is answered as Prometheus answers what it cannot parse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from responder.demo.promql import Moment, Sample, Scrape, Value, parse
from responder.errors import BadSyntax
from responder.timing import SECOND, parse_time


def create_query_api(scrapes: Callable[[], Sequence[Scrape]], clock: Callable[[], int]) -> Starlette:
    """`/api/v1/query` (GET and POST) and `/-/ready`. `scrapes`: oldest first; `clock`: µs since the epoch."""

    async def query(request: Request) -> Response:
        # Not request.form(), which wants a package for multipart bodies that Prometheus does not take either.
        asked = dict(request.query_params) | dict(parse_qsl((await request.body()).decode(errors="replace")))
        try:
            at = _instant(asked["time"]) if "time" in asked else clock()
            result = parse(asked.get("query", ""))(Moment(scrapes(), at))
        except BadSyntax as error:
            return JSONResponse({"status": "error", "errorType": "bad_data", "error": str(error)}, 400)
        return JSONResponse({"status": "success", "data": _data(result, at)})

    async def ready(_request: Request) -> Response:
        return PlainTextResponse("the built-in evaluator is ready\n")

    routes = [Route("/api/v1/query", query, methods=["GET", "POST"]), Route("/-/ready", ready)]
    return Starlette(routes=routes, max_body_size=64 * 1024)


def number(value: float) -> str:
    """A sample's value as Prometheus writes it: shortest decimal, never an exponent, `NaN`, `+Inf`, `-Inf`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


def _instant(text: str) -> int:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return round(Decimal(text) * SECOND)
    return parse_time(text)


def _data(result: Value, at: int) -> dict[str, object]:
    if isinstance(result, float):
        return {"resultType": "scalar", "result": [at / SECOND, number(result)]}
    return {"resultType": "vector", "result": [_element(sample, at) for sample in result]}


def _element(sample: Sample, at: int) -> dict[str, object]:
    named = {"__name__": sample.name} if sample.name else {}
    return {"metric": named | dict(sorted(sample.labels.items())), "value": [at / SECOND, number(sample.value)]}
