"""The small JSON bodies with which people ask for something: read within limits, or refused with the cure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from responder.contracts import Strict
from responder.web.access import Refusal
from responder.web.bodies import Disconnected, TooLarge, read_body

LARGEST: Final = 65_536
"""Bytes of a request's body."""
LONGEST: Final = 4_000
"""Characters of one text in it."""

_unstorable: Final = re.compile("[\x00\ud800-\udfff]")

Asked = TypeVar("Asked", bound=Strict)


async def asked_body(request: Request, model: type[Asked], longest: str, hint: str = "") -> Asked:
    """The body, or the model's defaults where there is none. `longest` is what people shorten; `hint` follows mistakes.

    Raises Refusal 400 and 413.
    """
    try:
        raw = await read_body(request.scope, request.receive, LARGEST)
        asked = model.model_validate_json(raw) if raw.strip() else model()
    except TooLarge:
        raise Refusal(413, f"a body of more than {LARGEST} bytes; shorten the {longest}") from None
    except Disconnected:
        raise Refusal(400, "the body did not arrive") from None
    except ValidationError as error:
        fields = ", ".join(model.model_fields)
        raise Refusal(400, f"{_mistakes(error)}; the body is a JSON object of {fields}{hint}") from None
    if any(len(text) > LONGEST or _unstorable.search(text) for text in _texts(asked.model_dump())):
        raise Refusal(400, f"a text has more than {LONGEST} characters, or a NUL in it; shorten or correct it")
    return asked


def _mistakes(error: ValidationError) -> str:
    """Which fields are wrong; never their values."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_input=False))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
