"""Other people's words inside a Markdown document: shown as they are, never read as heading, table, link or HTML.

What alerts, services and people wrote ends up in post-mortems, which are pasted into wikis and issue trackers. Only
what Markdown (CommonMark with GitHub's extensions) would read is escaped, so that the source stays readable. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

LONGEST: Final = 600
"""Characters of one text; the whole of it is in the journal."""

_ALWAYS = re.compile(r"[\\`*\[\]|~$]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_ADDRESS = re.compile(r"://|(?<=www)\.", re.IGNORECASE)
_MENTION = re.compile(r"(?<!\w)@(?=\w)")
_BEGINS_A_BLOCK = re.compile(r"^([#>+=-]|\d+(?=[.)](?:\s|$)))")
_ENDS_A_HEADING = re.compile(r"(?<=\s)#(?=#*$)")
_URL = re.compile(r"https?://\S{1,2000}", re.IGNORECASE).fullmatch


def escaped(value: object) -> str:
    """One line of text that means nothing to Markdown, wherever in a line it stands."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(value).split()))
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    line = _ALWAYS.sub(r"\\\g<0>", line)
    line = _UNDERSCORE.sub(r"\\_", line)
    line = _TAG.sub(r"\\<", line)
    line = _ENTITY.sub(r"\\&", line)
    line = _ADDRESS.sub(lambda found: found[0].replace(":", r"\:").replace(".", r"\."), line)
    line = _MENTION.sub("@<!-- -->", line)  # an escaped @ still calls people on GitHub, an interrupted one does not
    return _ENDS_A_HEADING.sub(r"\\\g<0>", _BEGINS_A_BLOCK.sub(_not_a_block, line))


def _not_a_block(found: re.Match[str]) -> str:
    """A list number is escaped behind its digits, everything else before."""
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def link(title: str, url: str) -> str:
    """A link to a web address, or both as text when it is none."""
    if not _URL(url):
        return f"{escaped(title)}: {escaped(url)}"
    return f"[{escaped(title)}](<{quote(url, safe=_IN_URLS)}>)"


_IN_URLS: Final = ":/?#@!$&'*+,;=%~-._"


def escaped_tree(value: Any) -> Any:
    """A tree of values with every text in it escaped; names of values, numbers and None stay."""
    match value:
        case str():
            return escaped(value)
        case list() | tuple():
            return [escaped_tree(one) for one in value]
        case dict():
            return {name: escaped_tree(one) for name, one in value.items()}
        case _:
            return value
