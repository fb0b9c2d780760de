"""Which rule files there are: the texts behind the entries of `rules:` in responder.yaml.

The one place of the loader that reads files. What the texts mean is `loader`'s matter; texts and not folders are what
it takes, because the store keeps the last good set as texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from responder.documents import MAX_BYTES, decode
from responder.errors import BadConfig, BadRules
from responder.mistakes import closest
from responder.problems import Problem

_SUFFIXES = (".yaml", ".yml")
_ALWAYS = "policies.yaml"
"""Of the shipped rules, what every set begins with: whom alerts without a runbook reach."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where entries are looked for: names among the shipped catalogues, paths beside the configuration file."""

    shipped: Path
    beside: Path


def shipped_rules() -> Path:
    """The shipped rules: package data of a wheel, or the folder of the checkout. Raises BadConfig."""
    package = Path(__file__).resolve().parent
    for folder in (package / "packaged" / "rules", package.parent / "rules"):
        if (folder / _ALWAYS).is_file():
            return folder
    raise BadConfig("the shipped rules are missing from this installation: install the package again")


def read_sources(entries: Sequence[str], folders: Folders) -> Mapping[str, str]:
    """The text of every rule file by the name that messages give it.

    An entry without a slash names a shipped catalogue ("edge-risk"); any other is a file, or a folder with all below it
    (`./my-rules`). Folders called `tests` and those that begin with `_` or `.` are passed over, and so are files that
    begin with `_` other than `_defaults.yaml`. Raises BadRules with everything that could not be read.
    """
    found: dict[str, Path] = {f"rules/{_ALWAYS}": folders.shipped / _ALWAYS}
    reached = {path.resolve() for path in found.values()}
    problems: list[Problem] = []
    for entry in entries:
        place = _place(entry, folders)
        if isinstance(place, Problem):
            problems.append(place)
            continue
        for name, path in _files(*place):
            _add(found, reached, name, path)
    texts = {name: _read(name, path, problems) for name, path in found.items()}
    if problems:
        raise BadRules(problems)
    return dict(sorted(texts.items()))


def _place(entry: str, folders: Folders) -> tuple[str, Path] | Problem:
    """What an entry stands for: the name to show and the path."""
    if "/" not in entry and not entry.startswith(".") and not entry.endswith(_SUFFIXES):
        folder = folders.shipped / entry
        if _is_catalogue(folder):
            return f"rules/{entry}", folder
        known = [path.name for path in folders.shipped.iterdir() if _is_catalogue(path)]
        hint = f"{closest(entry, known)}; a folder of your own is written ./{entry}"
        return Problem(entry, 1, 1, "", f"there is no shipped catalogue {entry!r}", hint)
    path = folders.beside / entry
    if not path.exists():
        return Problem(entry, 1, 1, "", "there is no such file or folder", f"paths are relative to {folders.beside}")
    return Path(entry).as_posix(), path


def _is_catalogue(folder: Path) -> bool:
    """Whether a folder of the shipped rules holds rules; schemas stand there too."""
    return folder.is_dir() and folder.name[0] not in "_." and any(_files(folder.name, folder))


def _files(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """The rule files at a path, each with the name to show."""
    if path.is_file():
        yield name, path
        return
    for inner in sorted(path.iterdir()):
        shown = inner.name if name == "." else f"{name}/{inner.name}"
        if inner.is_dir():
            if inner.name != "tests" and inner.name[0] not in "_.":
                yield from _files(shown, inner)
        elif inner.suffix in _SUFFIXES and (inner.name[0] not in "_." or inner.stem == "_defaults"):
            yield shown, inner


def _add(found: dict[str, Path], reached: set[Path], name: str, path: Path) -> None:
    """Add a file once, also when two entries reach it; another file of the same name gets its whole path as name."""
    real = path.resolve()
    if real in reached:
        return
    reached.add(real)
    found[name if name not in found else real.as_posix()] = path


def _read(name: str, path: Path, problems: list[Problem]) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(Problem(name, 1, 1, "", f"the file cannot be read: {error.strerror}", "check its permissions"))
        return ""
    text, found = decode(name, raw)
    problems.extend(found)
    return text
