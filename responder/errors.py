"""Every error that this package raises on purpose, so that a caller decides by type and never by reading a message.

    ResponderError
    ├── Temporary         an attempt that did nothing and may be tried again
    │   └── HeldBack      an attempt that was not sent, because a pause came before it
    ├── Permanent         an attempt that did nothing and never will
    ├── Unknown           an attempt that may have changed the world
    ├── BadSyntax         a matcher, pattern, duration or time that cannot be read
    ├── BadPayload        a webhook body that cannot be understood as a whole
    ├── BadRules          runbooks or policies that must not be loaded
    ├── BadConfig         a configuration that must not be used
    ├── Rejected          a request of a person or an operation that was refused
    └── StoreUnavailable  nothing can be recorded now

The first three are all that actions and notifiers raise; whoever performs them turns any other exception into one of
these. No class here formats anything secret: a message is shown to people as it is.
"""

from collections.abc import Mapping, Sequence


class ResponderError(Exception):
    """The root: what the package raises on purpose."""


class Temporary(ResponderError):
    """Nothing was changed and a later attempt may succeed; `retry_after` is the wait asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeldBack(Temporary):
    """Nothing was sent: a pause came between the intent of a change and its first byte. `why` tells which."""

    def __init__(self, why: str) -> None:
        super().__init__(f"nothing was sent: {why}")
        self.why = why


class Permanent(ResponderError):
    """Nothing was changed and the same attempt will be refused again."""


class Unknown(ResponderError):
    """A change that may or may not have happened; it is never repeated blindly."""


class BadSyntax(ResponderError):
    """A short text (matcher, pattern, duration, time) that cannot be read; `column` counts from 1."""

    def __init__(self, message: str, text: str, column: int, hint: str) -> None:
        shown = text if len(text) <= 120 else text[:117] + "..."
        super().__init__(f"{message} at column {column} of {shown!r}: {hint}")
        self.message = message
        self.text = text
        self.column = column
        self.hint = hint


class BadPayload(ResponderError):
    """A webhook body that cannot be understood as a whole; `at` is a JSON path or a line and column."""

    def __init__(self, message: str, at: str) -> None:
        super().__init__(f"{at}: {message}")
        self.message = message
        self.at = at


class BadRules(ResponderError):
    """Rules that must not be loaded; each of `problems` reads, as str, as one complete finding.

    `texts`: the files of the set, as far as they could be read, by the name that problems give them.
    """

    def __init__(self, problems: Sequence[object], texts: Mapping[str, str] | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        self.texts = dict(texts or {})


class BadConfig(ResponderError):
    """A configuration that must not be used; the message names the setting and the cure."""


class Rejected(ResponderError):
    """A request of a person or an operation that was refused; `reason` says why and what would be accepted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreUnavailable(ResponderError):
    """The store cannot record anything now, so nothing may be acknowledged or changed."""
