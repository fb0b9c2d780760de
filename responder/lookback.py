"""How far a PromQL query looks into the past, so that a verification can be told to wait for as long.

A reader of brackets and of `offset`, no parser: whether the query is PromQL at all is for Prometheus to say, and what
cannot be read counts as looking back not at all, because a warning must be certain.
"""

import re
from typing import Final

from responder.errors import BadSyntax
from responder.timing import SECOND, parse_duration

_quoted = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*""")
_piece = re.compile(
    r"(?P<function>[A-Za-z_]\w*)?\s*(?P<opens>\()|(?P<closes>\))"
    r"|\[(?P<range>[^\]\[]*)\](?:\s*offset\s+(?P<back>\w+))?|\boffset\s+(?P<alone>\w+)"
)
_NEWEST: Final = frozenset({"irate", "idelta", "last_over_time", "present_over_time", "absent_over_time"})
"""Functions of a range whose value follows the newest samples, however long the range is."""


def lookback(query: str) -> int:
    """How long before its time a PromQL query still looks, in µs: the longest range with its offset; 0 without any.

    Labels' values and comments are no part of it. What cannot be read counts as 0: nothing certain is known then.
    """
    functions: list[str] = []
    longest = 0
    for piece in _piece.finditer(_quoted.sub('""', query)):
        if piece["opens"]:
            functions.append(piece["function"] or "")
        elif piece["closes"]:
            del functions[-1:]
        else:
            newest = bool(functions) and functions[-1] in _NEWEST
            within = 0 if newest or piece["range"] is None else _span(piece["range"].partition(":")[0])
            longest = max(longest, within + _span(piece["back"] or piece["alone"] or ""))
    return longest


def _span(text: str) -> int:
    """A duration of PromQL, which may be a bare number of seconds."""
    text = text.strip()
    try:
        return int(text) * SECOND if text.isdecimal() and len(text) < 10 else parse_duration(text)
    except BadSyntax:
        return 0
