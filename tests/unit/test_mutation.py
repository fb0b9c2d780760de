"""The tool that changes the guards: which changes it makes, and how it judges what became of them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import tomllib
from enum import Enum
from pathlib import Path

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation.__main__ import (
    CHECKOUT,
    EXPLAINED,
    MODULES,
    STORIES,
    UNIT,
    base_of,
    changed_lines,
    count,
    not_surviving,
    told,
)
from tests.mutation.mutants import Mutant, Source, mutants
from tests.mutation.running import Outcome, Plugin


class Colour(Enum):
    """Of the text below."""

    RED = 1
    BLUE = 2


def changes(text: str) -> list[str]:
    """What is made of a module, without the name of the owner."""
    source = Source("responder.sample", "sample.py", ast.parse(text))
    before = ast.unparse(source.tree)
    found = [m.name.split(": ", 1)[1] for m in mutants(source, {"Colour": Colour})]
    assert ast.unparse(source.tree) == before, "making them changes nothing"
    return found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a >= b", ["a >= b -> a > b", "a >= b -> a < b"]),
        ("x = a is None", ["a is None -> a is not None"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = not a", ["not a -> a"]),
        ("x = f(a, warn=True)", ["warn=True -> warn=False"]),
        ("x = a - 1", ["a - 1 -> a + 1", "a - 1 -> a - 2", "a - 1 -> a - 0"]),
        ("x = min(a)", ["min(a) -> max(a)"]),
        ("x = Colour.RED", ["Colour.RED -> Colour.BLUE"]),
        ("x = a == 'b'", ["a == 'b' -> a != 'b'", "a == 'b' -> a == 'b?'"]),
        ("f('said')", ["f('said') -> pass"]),
        ("return a", ["return a -> return None"]),
        ("return None", []),
        ("assert a < b", []),
        ("x: Colour.RED = a", []),
        ("x = lambda: a + b", ["a + b -> a - b"]),
    ],
)
def test_what_a_statement_becomes(body: str, expected: list[str]) -> None:
    assert changes(f"def f():\n    '''Text.'''\n    {body}\n") == expected


def test_conditions_and_what_ends_early() -> None:
    text = "def f():\n    if a:\n        return None\n    for b in c:\n        continue\n    return\n"
    assert changes(text) == ["a -> not a", "return None -> pass", "continue -> break", "continue -> pass"]


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("if a:\n        return None", False),
        ("if a:\n        b = c\n    else:\n        return None", False),
        ("try:\n        b = c\n    except E:\n        return None", False),
        ("try:\n        return None\n    except E:\n        b = c", False),
        ("try:\n        return None\n    except E:\n        b = c\n    else:\n        f()", True),
        ("for a in b:\n        return None", True),
        ("if a:\n        return None\n    b = c", True),
    ],
)
def test_a_return_that_changes_nothing_is_not_left_out(body: str, made: bool) -> None:
    assert ("return None -> pass" in changes(f"def f():\n    {body}\n")) is made


def test_constants_of_a_module_and_what_a_table_misses() -> None:
    assert changes("A = 5 * S") == ["5 * S -> 5 // S", "5 * S -> 6 * S", "5 * S -> 4 * S"]
    assert changes("B: tuple = (f, g)") == ["f -> left out", "g -> left out"]


def test_the_same_change_twice_has_two_names() -> None:
    source = Source(
        "responder.sample", "sample.py", ast.parse("class C:\n    def f(self):\n        return g(not a, not a)")
    )
    names = [m.name for m in mutants(source, {}) if " -> a" in m.name]
    assert names == ["sample.C.f: not a -> a", "sample.C.f: not a -> a #2"]


def outcome(name: str, by: str | None, *, tried: bool = True) -> Outcome:
    """Of a mutant of `responder.guards`."""
    (mutant, *_) = mutants(Source("responder.guards", "", ast.parse("def f():\n    return a")), {})
    known = (getattr(mutant, f) for f in ("module", "function", "first", "last", "line", "edit"))
    return Outcome(Mutant(name, *known), by, 1, tried)


def test_what_is_explained_counts_for_nothing_and_must_survive() -> None:
    outcomes = [outcome("guards.f: a", "a test"), outcome("guards.f: b", None), outcome("guards.f: c", None)]
    counted = count("guards", outcomes, {"guards.f: c": "because"})
    assert (counted.killed, [o.mutant.name for o in counted.survived], counted.explained) == (1, ["guards.f: b"], 1)
    assert counted.share == 0.5
    assert "guards.f: b" in told([counted], 1.0)
    assert "no time was left" not in told([counted], 1.0)
    assert not_surviving(outcomes, {"guards.f: c": "because"}, ["guards"]) == []
    (killed,) = not_surviving(outcomes, {"guards.f: a": "because"}, ["guards"])
    assert "a test kills" in killed
    (gone,) = not_surviving(outcomes, {"guards.f: z": "because"}, ["guards"])
    assert "there no more" in gone
    assert not_surviving(outcomes, {"guards.f: z": "because"}, ()) == []


def test_what_there_was_no_time_for_is_neither_killed_nor_survived() -> None:
    late = [outcome("guards.f: a", None, tried=False), outcome("guards.f: b", None, tried=False)]
    counted = count("guards", late, {"guards.f: b": "because"})
    assert (counted.killed, counted.survived, counted.explained, counted.untried) == (0, (), 0, 2)
    assert (counted.says, counted.enough) == ("not tried", False)
    assert "no time was left for 2 mutants" in told([counted], 1.0)
    some = count("guards", [*late, outcome("guards.f: c", "a test")], {})
    assert (some.says, some.enough, some.untried) == ("100.0%", True, 2)


@pytest.mark.parametrize(
    ("killed", "survived", "untried", "too_many"),
    [
        (0, 0, 0, False),
        (9, 1, 0, False),
        (8, 1, 0, True),
        (8, 1, 1, False),
        (0, 1, 8, True),
        (0, 1, 9, False),
        (0, 0, 9, False),
    ],
)
def test_what_was_not_tried_may_all_be_killed(killed: int, survived: int, untried: int, too_many: bool) -> None:
    """A slow machine tries fewer: what it has seen must be too much whatever it has not seen."""
    outcomes = [outcome(f"guards.f: k{n}", "a test") for n in range(killed)]
    outcomes += [outcome(f"guards.f: s{n}", None) for n in range(survived)]
    outcomes += [outcome(f"guards.f: u{n}", None, tried=False) for n in range(untried)]
    assert count("guards", outcomes, {}).too_many is too_many


FOUND = [outcome("guards.f: killed", "a test"), outcome("guards.f: survived", None)]


@pytest.mark.parametrize(
    ("options", "outcomes", "failing", "status"),
    [
        (["--changed"], FOUND, [], 1),
        (["--changed"], FOUND[:1], [], 0),
        (["--changed"], [*FOUND, *[outcome(f"guards.f: {n}", None, tried=False) for n in range(8)]], [], 0),
        (["--changed"], FOUND[:1], ["test_x"], 0),
        ([], FOUND, [], 1),
        ([], FOUND[:1], [], 0),
        ([], FOUND[:1], ["test_x"], 1),
    ],
)
def test_what_makes_it_fail(
    options: list[str],
    outcomes: list[Outcome],
    failing: list[str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ran(_: list[str], plugins: list[Plugin]) -> pytest.ExitCode:
        plugins[0].outcomes, plugins[0].failing = outcomes, failing
        return pytest.ExitCode.OK

    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(mutation, "base_of", lambda _: "a commit")
    monkeypatch.setattr(mutation, "changed_lines", lambda base, modules: {"guards": {1}})
    monkeypatch.setattr(mutation, "not_surviving", lambda *_: [])
    monkeypatch.setattr("pytest.main", ran)
    monkeypatch.setattr("sys.argv", ["mutation", *options, *([] if options else ["guards"])])
    assert mutation.main() == status
    said = capsys.readouterr().out
    assert ("Write a test" in said) is (bool(options) and status == 1)
    assert ("fails as it is" in said) is bool(failing)


def test_what_is_explained_is_there() -> None:
    """Of the code of today; whether a test kills it by now, `make mutation` finds out."""
    explained: dict[str, str] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivors"]
    known: set[str] = set()
    for name in {mutant.partition(".")[0] for mutant in explained}:
        module = importlib.import_module(f"responder.{name}")
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        known |= {m.name for m in mutants(Source(module.__name__, module.__file__, tree), vars(module))}
    assert explained.keys() <= known
    assert all(len(why) > 20 or why == "The same." for why in explained.values())


def git(folder: Path, *arguments: str) -> str:
    """What it says, in a repository without any setting of this machine."""
    person = ("-c", "user.name=al", "-c", "user.email=al@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *person, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESPONDER_BASE", raising=False)
    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    whole.mkdir()
    monkeypatch.setattr(mutation, "CHECKOUT", whole)
    assert base_of("") is None, "no repository"
    git(whole, "init", "--quiet")
    guards = whole / "responder" / "guards.py"
    guards.parent.mkdir()
    commits = []
    for text in ("one\ntwo\n", "one\nthree\n"):
        guards.write_text(text)
        git(whole, "add", ".")
        git(whole, "commit", "--quiet", "--message", "a")
        commits.append(git(whole, "rev-parse", "HEAD"))
    assert base_of("") == commits[0], "on the main branch: the commit before"
    assert changed_lines(commits[0], ["guards", "fuses"]) == {"guards": {2}}
    git(whole, "checkout", "--quiet", "-b", "other")
    git(whole, "commit", "--quiet", "--allow-empty", "--message", "b")
    assert base_of("") == commits[1], "where it left the main branch"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{whole}", "shallow")
    monkeypatch.setattr(mutation, "CHECKOUT", shallow)
    assert base_of("") is None
    assert base_of(commits[0]) is None
    assert base_of("HEAD") is not None


def test_a_fresh_clone_of_the_main_branch_is_compared_with_the_commit_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a merge with its first parent: all that the branch brought in has changed."""
    monkeypatch.delenv("RESPONDER_BASE", raising=False)
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init", "--quiet")
    for name in ("one", "two"):
        git(origin, "commit", "--quiet", "--allow-empty", "--message", name)
    before = git(origin, "rev-parse", "HEAD")
    git(origin, "checkout", "--quiet", "-b", "other", "HEAD^")
    git(origin, "commit", "--quiet", "--allow-empty", "--message", "three")
    git(origin, "checkout", "--quiet", "main")
    git(origin, "merge", "--quiet", "--no-ff", "--message", "merge", "other")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    monkeypatch.setattr(mutation, "CHECKOUT", clone)
    assert base_of("") == before
    git(clone, "checkout", "--quiet", "--detach")
    assert base_of("") == before, "as continuous integration checks it out"
    git(clone, "checkout", "--quiet", "-b", "mine")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "four")
    assert base_of("") == git(clone, "rev-parse", "origin/main"), "what is not pushed yet"
    monkeypatch.setenv("RESPONDER_BASE", before)
    assert base_of("") == before, "as continuous integration says"
    assert base_of("HEAD^") == git(clone, "rev-parse", "HEAD^"), "what is named goes before"


def test_without_history_it_says_so_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RESPONDER_BASE", raising=False)
    monkeypatch.setattr(mutation, "CHECKOUT", tmp_path)
    monkeypatch.setattr("sys.argv", ["mutation", "--changed"])
    assert mutation.main() == 0
    assert "fetch the history" in capsys.readouterr().out


def test_the_modules_and_the_tests_that_judge_them_are_there() -> None:
    assert all((CHECKOUT / "responder" / f"{name}.py").exists() for name in MODULES)
    assert all((CHECKOUT / UNIT.format(name)).exists() for tests in MODULES.values() for name in tests)
    assert all((CHECKOUT / "tests" / "acceptance" / f"{name}.py").exists() for name in STORIES)
