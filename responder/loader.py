"""Texts of rule files → one complete, consistent set of rules, or every problem of all of them at once.

A set is whole or not there: nothing is loaded from files of which one is wrong (design 4). Reading files is the matter
of `sources`; what a runbook names, of `references`; what several of them do together, of `conflicts`; what is only
unwise, of `lint`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from responder.calendars import Calendar, Calendars
from responder.conflicts import Entry, conflicts
from responder.contracts import Catalogue
from responder.documents import Document, parse_document
from responder.errors import BadRules
from responder.ladders import SHIPPED, Known, check_policies
from responder.lint import warnings
from responder.mistakes import closest, problems_of
from responder.policies import Policies, Policy
from responder.problems import Path, Problem
from responder.references import Configured, Surroundings, check_runbook, check_titles
from responder.rules import Broken, Rules
from responder.runbook import Runbook
from responder.soundness import check_soundness

DEFAULTS_MAY_HOLD: Final = (
    "match", "env", "channel", "owner", "links", "mode", "limits", "checks", "inputs", "evidence", "escalation",
)  # fmt: skip
_CONCATENATED: Final = ("match", "evidence")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A set that may be used. `sources` are the texts it was made of; `warnings` are what is risky about it."""

    rules: Rules
    sources: Mapping[str, str]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Files:
    """The documents by what they are; defaults by their folder."""

    runbooks: tuple[Document, ...]
    policies: tuple[Document, ...]
    calendars: tuple[Document, ...]
    defaults: Mapping[str, Document]


def load_rules(
    sources: Mapping[str, str], catalogue: Catalogue, configured: Configured, *, kept: bool = False
) -> Loaded:
    """The rules that `sources` (name of a file → its text) make up. `kept`: they were accepted once, and may say what
    is refused by now as long as it can be honoured as it was.

    Raises BadRules with every `documents.Problem` of all files.
    """
    documents = [parse_document(name, text) for name, text in sorted(sources.items())]
    problems = [problem for document in documents for problem in document.problems]
    files = _sorted_out([document for document in documents if not document.problems])
    calendars = _calendars(files.calendars, problems)
    policies = _policies(files.policies, configured, calendars, problems)
    entries = list(_entries(files, problems))
    names = {str(name) for d in files.runbooks if (name := d.get(("runbook",)))}
    unread = {PurePosixPath(document.file).stem for document in documents if document.problems}
    around = Surroundings(
        catalogue,
        configured,
        names,
        None if "policies" in unread else policies.policies,
        None if "calendars" in unread else calendars,
    )
    for entry in entries:
        problems.extend(check_runbook(entry.runbook, entry.document, around))
        if not kept:
            problems.extend(check_titles(entry.runbook, entry.document, around))
            problems.extend(check_soundness(entry.runbook, entry.document, around))
    problems.extend(conflicts([entry for entry in entries if entry.whole]))
    if problems:
        raise BadRules(in_order(problems), sources)
    rules = _rules(entries, policies, _hash(sources, configured), configured)
    rules = replace(rules, calendars=calendars)
    return Loaded(rules, dict(sources), warnings(entries, policies, around, files.policies))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, by file and line."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line, problem.column))


def _rules(entries: Iterable[Entry], policies: Policies, digest: str, configured: Configured) -> Rules:
    return Rules(
        hash=digest,
        runbooks={entry.runbook.runbook: entry.runbook for entry in entries},
        policies=policies.policies,
        by_severity=policies.by_severity,
        by_platform=policies.by_platform,
        by_env=policies.by_env,
        default_policy=policies.default or "default",
        types=dict(configured.types),
        ceiling=configured.mode,
    )


def _hash(sources: Mapping[str, str], configured: Configured) -> str:
    """What the set depends on: texts, named types, ceiling. Secrets and services are always today's (design 4)."""
    parts = [sorted(sources.items()), sorted(configured.types.items()), configured.mode.value]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


def _sorted_out(documents: Iterable[Document]) -> _Files:
    runbooks, policies, calendars, defaults = [], [], [], {}
    for document in documents:
        path = PurePosixPath(document.file)
        if path.stem == "policies":
            policies.append(document)
        elif path.stem == "calendars":
            calendars.append(document)
        elif path.stem == "_defaults":
            defaults[str(path.parent)] = document
        else:
            runbooks.append(document)
    return _Files(tuple(runbooks), tuple(policies), tuple(calendars), defaults)


# ------------------------------------------------------------------------------------------------------------- runbooks


def _entries(files: _Files, problems: list[Problem]) -> Iterator[Entry]:
    for document in files.defaults.values():
        problems.extend(_bad_defaults(document))
    for document in files.runbooks:
        if not isinstance(document.value, dict):
            problems.append(_not_a_runbook(document))
            continue
        folder = str(PurePosixPath(document.file).parent)
        entry = _entry(_with_defaults(document, files.defaults.get(folder)), problems)
        if entry is not None:
            yield entry


def _not_a_runbook(document: Document) -> Problem:
    message = "the file is empty" if document.value is None else "a runbook is written as `key: value` pairs"
    return document.at_value((), message, "begin with `runbook: name`, or remove the file")


def _bad_defaults(document: Document) -> Iterator[Problem]:
    if not isinstance(document.value, dict):
        if document.value is not None:
            yield document.at_value((), "defaults are written as `key: value` pairs", "see _defaults.yaml of edge-risk")
        return
    for key in document.value:
        if key not in DEFAULTS_MAY_HOLD:
            belongs = key in Runbook.model_fields
            hint = "write it in each runbook" if belongs else closest(key, DEFAULTS_MAY_HOLD)
            yield document.at_key((key,), "not a default" if belongs else "unknown key", hint)
    for index, text in enumerate(_listed(document.value.get("match"))):
        if isinstance(text, str) and not set("=!~") & set(text):
            hint = f'write a matcher, such as platform="{text}"; names of alerts belong to runbooks'
            yield document.at_value(("match", index), "a default matches labels, not names of alerts", hint)


def _listed(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _with_defaults(document: Document, defaults: Document | None) -> Document:
    """The document with what its folder adds; every mark leads to the file in which it is written.

    Lists of matchers and evidence: the folder's first. Pairs are joined by name, all else is used where the runbook
    says nothing. A runbook without a match of its own gets none: it would answer every alert of the platform.
    """
    if defaults is None or not isinstance(defaults.value, dict) or not isinstance(document.value, dict):
        return document
    own, value = document.value, dict(document.value)
    keys, marks = dict(document.keys), dict(document.values)
    for key, given in defaults.value.items():
        if key not in DEFAULTS_MAY_HOLD or (key == "match" and key not in own):
            continue
        if key in _CONCATENATED and isinstance(own.get(key), dict):
            continue  # pairs where a list belongs: that is told of the runbook's own value
        value[key], shift = _joined(key, given, own)
        _join_marks(keys, defaults.keys, key, shift)
        _join_marks(marks, defaults.values, key, shift)
    texts = {**document.texts, **defaults.texts}
    return Document(document.file, value, keys, marks, texts)


def _joined(key: str, given: JsonValue, own: Mapping[str, JsonValue]) -> tuple[JsonValue, int]:
    """The value of `key`, and by how many places the runbook's own entries move."""
    if key not in own:
        return given, 0
    if key in _CONCATENATED:
        first = _listed(given)
        return [*first, *_listed(own[key])], len(first)
    mine = own[key]
    return ({**given, **mine} if isinstance(given, dict) and isinstance(mine, dict) else mine), 0


def _join_marks(own: dict[Path, Any], added: Mapping[Path, Any], key: str, shift: int) -> None:
    if shift:
        moved = {path: own.pop(path) for path in [p for p in own if p[0:1] == (key,) and len(p) > 1]}
        if not moved and (key,) in own:
            own[key, shift] = own[(key,)]
        for path, mark in moved.items():
            own[(key, int(path[1]) + shift, *path[2:])] = mark
    for path, mark in added.items():
        if path[0:1] == (key,):
            own.setdefault(path, mark)
            if len(path) == 1 and shift and (key, 0) not in added:
                own.setdefault((key, 0), mark)


def _entry(document: Document, problems: list[Problem]) -> Entry | None:
    """The runbook of a document; with parts left out when they are wrong, so that the rest is checked all the same."""
    value: Any = json.loads(json.dumps(document.value))
    found: list[Problem] = []
    runbook = None
    for attempt in range(_ATTEMPTS):
        try:
            runbook = Runbook.model_validate(value, by_alias=True, by_name=False)
            break
        except ValidationError as error:
            if attempt == 0:
                found = list(problems_of(error, document, (), Runbook))
                problems.extend(found)
            for entry in error.errors(include_url=False):
                _leave_out(value, entry)
    return None if runbook is None else Entry(document, runbook, whole=not found)


_ATTEMPTS: Final = 4
_STAND_INS: Final[Mapping[str, str]] = {"runbook": "unnamed", "title": "-", "target": "-"}


def _leave_out(value: Any, error: Any) -> None:
    """Remove the smallest named part that contains the error; lists go as a whole, so that no index moves.

    What cannot be left out gets a stand-in, so that the rest is checked all the same: the set is refused anyway.
    """
    loc = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "missing" and len(loc) == 1 and loc[0] in _STAND_INS:
        value[loc[0]] = _STAND_INS[loc[0]]
        return
    if error["type"] == "missing":
        loc = loc[:-1]
    if len(loc) == 2 and loc[0] == "steps" and isinstance(value["steps"][loc[1]], dict):
        value["steps"][loc[1]] = {"id": f"unreadable_{loc[1]}", "manual": "-"}
        return
    holder, key = None, None
    inner = value
    for part in loc:
        if isinstance(inner, dict) and part in inner:
            holder, key = inner, part
            inner = inner[part]
        elif isinstance(inner, list) and isinstance(part, int) and part < len(inner):
            inner = inner[part]
        else:
            break
    if holder is not None:
        holder.pop(key, None)


# ------------------------------------------------------------------------------------------------------------- policies


def _policies(
    documents: Iterable[Document], configured: Configured, calendars: Mapping[str, Calendar], problems: list[Problem]
) -> Policies:
    """All policies of the set. The shipped file gives way to the others, which must not say a thing twice."""
    read: list[tuple[Document, Policies]] = []
    found: dict[str, Policy] = {}
    severities: dict[str, str] = {}
    platforms: dict[str, str] = {}
    envs: dict[str, str] = {}
    default: str | None = None
    said: dict[Path, Document] = {}
    for document in sorted(documents, key=lambda d: d.file != SHIPPED):
        given = _written_policies(document, problems)
        if given is None:
            # The names count as known all the same: what is wrong is told once, here.
            names = document.get(("policies",))
            found.update(dict.fromkeys(names, Policy()) if isinstance(names, dict) else {})
            continue
        problems.extend(_said_twice(document, given, said))
        found.update(given.policies)
        severities.update(given.by_severity)
        platforms.update(given.by_platform)
        envs.update(given.by_env)
        default = given.default or default
        read.append((document, given))
    known = Known(configured, found, calendars)
    problems.extend(problem for document, given in read for problem in check_policies(document, given, known))
    for path, document in said.items():
        name = document.get(path)
        if path[0] != "policies" and name not in found:
            problems.append(document.at_value(path, f"unknown policy {name!r}", closest(str(name), found)))
    named = said.get(("default",))
    if named is not None and named.file == SHIPPED and len(platforms) == 1:
        # A set that knows one platform calls its people for everything.
        (default,) = platforms.values()
    return Policies(policies=found, by_severity=severities, by_platform=platforms, by_env=envs, default=default)


def _written_policies(document: Document, problems: list[Problem]) -> Policies | None:
    try:
        return Policies.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        problems.extend(problems_of(error, document, (), Policies))
        return None


def _said_twice(document: Document, given: Policies, said: dict[Path, Document]) -> Iterator[Problem]:
    paths: list[Path] = [("policies", name) for name in given.policies]
    paths += [("by_severity", severity) for severity in given.by_severity]
    paths += [("by_platform", platform) for platform in given.by_platform]
    paths += [("by_env", env) for env in given.by_env]
    paths += [("default",)] if given.default is not None else []
    for path in paths:
        earlier = said.get(path)
        if earlier is not None and earlier.file != SHIPPED:
            where = f"{earlier.file}:{earlier.keys[path].line}"
            yield document.at_key(path, f"this stands in {where} already", "keep one of the two")
        said[path] = document


# ------------------------------------------------------------------------------------------------------------ calendars


def _calendars(documents: Iterable[Document], problems: list[Problem]) -> dict[str, Calendar]:
    """All calendars of the set; a name stands in one file."""
    found: dict[str, Calendar] = {}
    said: dict[str, Document] = {}
    for document in documents:
        try:
            given = Calendars.model_validate(document.value, by_alias=True, by_name=False)
        except ValidationError as error:
            problems.extend(problems_of(error, document, (), Calendars))
            # The names count as known all the same: what is wrong is told once, here.
            names = document.get(("calendars",))
            found.update(dict.fromkeys(names, Calendar.model_construct()) if isinstance(names, dict) else {})
            continue
        for name in given.calendars:
            if name in said:
                where = f"{said[name].file}:{said[name].keys['calendars', name].line}"
                message, path = f"this stands in {where} already", ("calendars", name)
                problems.append(document.at_key(path, message, "keep one of the two"))
            said[name] = document
        found.update(given.calendars)
    return found


# --------------------------------------------------------------------------------------------------------------- broken


def broken_runbooks(error: BadRules) -> tuple[Broken, ...]:
    """The runbooks that `error` kept from being loaded, as far as their texts say which alerts they answer."""
    first: dict[str, Problem] = {}
    for problem in error.problems:
        if isinstance(problem, Problem):
            first.setdefault(problem.file, problem)
    documents = {name: parse_document(name, text) for name, text in error.texts.items()}
    files = _sorted_out(documents.values())
    found = []
    for document in files.runbooks:
        folder = str(PurePosixPath(document.file).parent)
        defaults = files.defaults.get(folder)
        wrong = first.get(document.file) or (first.get(defaults.file) if defaults is not None else None)
        if wrong is not None:
            found.append(_broken(_with_defaults(document, defaults), error.texts[document.file], wrong))
    return tuple(found)


def _broken(document: Document, text: str, problem: Problem) -> Broken:
    """From the values where the file is YAML at all, else from the lines that begin with the keys."""
    match: Any = document.get(("match",))
    name: Any = document.get(("runbook",))
    if document.problems or not isinstance(document.value, dict):
        lines = dict(_TOP_LEVEL.findall(text))
        name, match = lines.get("runbook"), lines.get("match")
    matches = tuple(m for m in _listed(match) if isinstance(m, str))
    where = f"{problem.file}:{problem.line}:{problem.column}: {problem.message}"
    return Broken(document.file, name if isinstance(name, str) else None, matches, where)


_TOP_LEVEL: Final = re.compile(r"(?m)^(runbook|match):[ \t]*['\"]?([A-Za-z_:][\w:-]*)")
