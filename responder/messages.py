"""Message templates: what people read in Slack, PagerDuty, mail and on pages (design.md 5.8).

They are the product's own (or its operator's), so loops and includes are allowed; still sandboxed and strict, because
the values in them come from alerts. The ending of a name says how values are written: `.html.j2` as HTML, `.mrkdwn.j2`
with the three characters that Slack gives a meaning escaped (contracts.md D: a label must not mention a channel),
`.txt.j2` without invisible characters, `.json.j2` as they are (write `| tojson`). Reading files is the loader's work.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from traceback import walk_tb
from types import CodeType

from jinja2 import (
    BaseLoader,
    DictLoader,
    StrictUndefined,
    Template,
    TemplateRuntimeError,
    TemplateSyntaxError,
    Undefined,
)
from jinja2 import TemplateError as JinjaError
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from responder.errors import ResponderError
from responder.positions import clean
from responder.timing import SECOND, format_time, humanize

MAX_MESSAGE_BYTES = 65_536
"""Bytes of UTF-8 that one message may have unless the caller says otherwise."""

TreePath = tuple[str | int, ...]


class TemplateError(ResponderError):
    """A template that must not be loaded or could not be rendered; never shows a value.

    `line` and `column` count from 1 within the template's own source; `path` leads to it inside the given tree.
    """

    def __init__(self, message: str, hint: str, line: int = 1, column: int = 1, path: TreePath = ()) -> None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        super().__init__(f"{place + ': ' if place else ''}{message} (line {line}, column {column}); {hint}")
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column
        self.path = path

    def below(self, path: TreePath) -> "TemplateError":
        """The same error at a place of a tree."""
        return TemplateError(self.message, self.hint, self.line, self.column, (*path, *self.path))


class _Compiled(BytecodeCache):
    """The code of each template's newest source, kept in the process: a reload compiles what has changed.

    The name says the environment (its ending does), so the code of one fits every later environment of that ending.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, CodeType]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """See BytecodeCache."""
        checksum, code = self._kept.get(bucket.key, (None, None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        """See BytecodeCache."""
        if bucket.code is not None:
            self._kept[bucket.key] = (bucket.checksum, bucket.code)


_COMPILED = _Compiled()


class _Environment(ImmutableSandboxedEnvironment):
    """Repeating a text or raising to a power is refused: both make much of little before any limit can count it."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if operator == "**" or not all(isinstance(side, int | float | Undefined) for side in (left, right)):
            raise TemplateRuntimeError(f"`{operator}` is not allowed here")
        return super().call_binop(context, operator, left, right)


class MessageTemplates:
    """Templates by name. An earlier folder (name → source) wins, so that an operator replaces single files."""

    def __init__(self, folders: Sequence[Mapping[str, str]]) -> None:
        """Raises TemplateError for a name whose ending does not say how values are written."""
        self._sources = ChainMap(*(dict(folder) for folder in folders))
        loader = DictLoader(self._sources)
        self._environments = {ending: _build(ending, loader) for ending in _FINALIZERS}
        for name in self._sources:
            self._environment(name)

    def names(self) -> frozenset[str]:
        """The names that can be rendered."""
        return frozenset(self._sources)

    def check(self) -> None:
        """Compile every template, as a reload does before it swaps; TemplateError for the first that cannot be."""
        for name in sorted(self._sources):
            self._template(name)

    def render(self, name: str, context: Mapping[str, object], limit_bytes: int = MAX_MESSAGE_BYTES) -> str:
        """The message `name` over `context`; TemplateError when anything is undefined or it passes `limit_bytes`."""
        template = self._template(name)
        kept, size = [], 0
        try:
            for chunk in template.generate(dict(context)):
                size += len(chunk.encode(errors="replace"))
                if size > limit_bytes:
                    raise TemplateError(
                        f"{name}: the message has more than {limit_bytes} bytes", "shorten the template"
                    )
                kept.append(chunk)
        except (JinjaError, *_AT_RENDERING) as error:
            raise TemplateError(
                f"{name}: {_reason(error)}", "correct the template, or what it is given", _line(error)
            ) from None
        return "".join(kept)

    def _template(self, name: str) -> Template:
        if name not in self._sources:
            raise TemplateError(
                f"no message template is called {name}", f"the templates are {', '.join(sorted(self._sources))}"
            )
        try:
            return self._environment(name).get_template(name)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{name}: {error.message}", "correct the template", error.lineno) from None
        except (JinjaError, RecursionError) as error:
            raise TemplateError(f"{name}: {_reason(error)}", "correct the template") from None

    def _environment(self, name: str) -> _Environment:
        for ending, environment in self._environments.items():
            if name.endswith(ending):
                return environment
        raise TemplateError(f"{name} does not say how values are written", f"let it end in {', '.join(_FINALIZERS)}")


_AT_RENDERING = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


def _reason(error: Exception) -> str:
    """What went wrong; the text of an error that is not Jinja's own may hold a value and is left out."""
    return str(error.message) if isinstance(error, JinjaError) else f"a value does not fit ({type(error).__name__})"


def _line(error: Exception) -> int:
    """The last line of a template in the traceback, which Jinja has rewritten to lines of the source."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == "<template>"]
    return lines[-1] if lines else 1


# ----------------------------------------------------------------------------------------------------- values in text


def number(value: object) -> str:
    """A number as people write it: six significant digits, no exponent between a millionth and a quadrillion."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    if isinstance(value, int) or not math.isfinite(value):
        return str(value).replace("nan", "NaN")
    size = abs(value)
    if not size or not 1e-6 <= size < 1e15:
        return f"{value:.6g}"
    digits = max(0, 5 - math.floor(math.log10(size)))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time(us: int) -> str:
    """`14:05:07 UTC` for microseconds since the epoch."""
    return f"{format_time(us - us % SECOND)[11:19]} UTC"


def _shown(value: object) -> object:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return number(value)
    return value


def _in_text(value: object) -> object:
    shown = _shown(value)
    return clean(shown) if isinstance(shown, str) and not isinstance(shown, Markup) else shown


def _in_mrkdwn(value: object) -> Markup:
    """Escaped as Slack wants it; what a macro or include wrote is Markup and stays as it is."""
    if isinstance(value, Markup):
        return value
    text = str(_in_text(value))
    return Markup(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


_FINALIZERS: Mapping[str, Callable[[object], object]] = {
    ".html.j2": _in_text,
    ".mrkdwn.j2": _in_mrkdwn,
    ".txt.j2": _in_text,
    ".json.j2": lambda value: value,
}
_ESCAPED = frozenset({".html.j2", ".mrkdwn.j2"})
# They read attributes, choose at random, or switch escaping off; a range could count for minutes and write nothing.
_REMOVED_FILTERS = ("attr", "format", "pprint", "random", "safe", "urlize", "xmlattr")
_REMOVED_GLOBALS = ("lipsum", "range")


def _build(ending: str, loader: BaseLoader) -> _Environment:
    environment = _Environment(
        loader=loader,
        bytecode_cache=_COMPILED,
        undefined=StrictUndefined,
        autoescape=ending in _ESCAPED,
        finalize=_FINALIZERS[ending],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _REMOVED_FILTERS:
        del environment.filters[name]
    for name in _REMOVED_GLOBALS:
        del environment.globals[name]
    environment.filters.update(duration=humanize, number=number, time=_time)
    return environment
