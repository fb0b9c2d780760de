"""What a configuration takes from outside itself: `{env: NAME}` and `{file: PATH}`.

A secret is fetched whenever it is used, so that a rotated one counts without a restart (design 5.11); a file is read
again when it has changed. No message ever holds what was read, only where it was to come from.
"""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from responder.contracts import Secret
from responder.errors import BadConfig
from responder.mistakes import SECRET_HINT, element_of, holds_type

MAX_SECRET_BYTES: Final = 65_536
_SCALARS: Final = (str, int, float, bool)

Complaint = tuple[str, str]
"""Message and hint."""


class Environment:
    """The environment of a process, and the folder from which relative paths of its configuration start.

    `environ` is kept, not copied. With `check_secrets` false a secret may be missing until it is used: `lint` runs
    where no secrets are.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path, *, check_secrets: bool = True) -> None:
        self.environ = environ
        self.folder = folder
        self.check_secrets = check_secrets

    def default_store(self) -> str:
        """SQLite in the state directory (XDG base directories), or beside the configuration where there is no home."""
        if state := self.environ.get("XDG_STATE_HOME"):
            folder = Path(state) / "responder"
        elif home := self.environ.get("HOME"):
            folder = Path(home) / ".local" / "state" / "responder"
        else:
            folder = self.folder
        return f"sqlite:///{folder / 'responder.db'}"

    def resolve(self, value: Any, annotation: Any) -> tuple[Any, Complaint | None]:
        """What `value` stands for in a field of the type `annotation`, or why it stands for nothing.

        A reference becomes a Secret or text, other values come back as they are, a secret in plain text is refused.
        """
        secret = holds_type(annotation, Secret) or holds_type(element_of(annotation, tuple), Secret)
        if not _is_reference(value):
            refused = secret and isinstance(value, str | int | float)
            return value, ("a secret must not be written here", SECRET_HINT) if refused else None
        fetch = self._source(value)
        if secret:
            return self._secret(fetch)
        return self._text(fetch) if _is_scalar(annotation) else (value, None)

    def _source(self, reference: Mapping[str, str]) -> "_Variable | _File":
        if "env" in reference:
            return _Variable(reference["env"], self.environ)
        return _File(self.folder / reference["file"], reference["file"])

    def _secret(self, source: "_Variable | _File") -> tuple[Any, Complaint | None]:
        if self.check_secrets:
            _, complaint = self._text(source)
            if complaint is not None:
                return None, complaint
        return Secret(source.named, source), None

    def _text(self, source: "_Variable | _File") -> tuple[Any, Complaint | None]:
        try:
            return source(), None
        except BadConfig as error:
            message, _, hint = str(error).partition(": ")
            return None, (message, hint)


def _is_reference(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    ((key, named),) = value.items()
    return key in ("env", "file") and isinstance(named, str)


def _is_scalar(annotation: Any) -> bool:
    return any(holds_type(annotation, kind) for kind in _SCALARS) or (
        isinstance(annotation, type) and issubclass(annotation, Enum)
    )


class _Variable:
    """Reads an environment variable."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.named = f"env {name}"
        self._name = name
        self._environ = environ

    def __call__(self) -> str:
        text = self._environ.get(self._name, "")
        if not text:
            raise BadConfig(f"the environment variable {self._name} is not set: set it before the start")
        return _usable(text, f"the environment variable {self._name}")


class _File:
    """Reads a file, again when it has changed."""

    def __init__(self, path: Path, shown: str) -> None:
        self.named = f"file {shown}"
        self._path = path
        self._shown = shown
        self._version: tuple[int, int, int] | None = None
        self._text = ""

    def __call__(self) -> str:
        try:
            found = os.stat(self._path)
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version != self._version:
                self._text = _usable(self._read(), f"the file {self._shown}")
                self._version = version
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise BadConfig(f"the file {self._shown} cannot be read ({why}): check its path and permissions") from None
        return self._text

    def _read(self) -> str:
        with self._path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
        if len(raw) > MAX_SECRET_BYTES:
            raise BadConfig(f"the file {self._shown} is larger than {MAX_SECRET_BYTES:,} bytes: check its path")
        return raw.decode("utf-8")


def _usable(text: str, where: str) -> str:
    """Without the line break that editors add; one inside would end a header early."""
    text = text.rstrip("\r\n")
    if not text:
        raise BadConfig(f"{where} is empty: write the value into it")
    if not text.isprintable():
        raise BadConfig(f"{where} holds a line break or another invisible character: remove it")
    return text
