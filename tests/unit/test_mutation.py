"""The tool that changes the guards: which changes it makes, and how it judges what became of them."""

from __future__ import annotations

import ast
from enum import Enum

import pytest

from tests.mutation.__main__ import ALONE, CHECKOUT, MODULES, STORIES, UNIT, count, not_surviving, told
from tests.mutation.mutants import Mutant, Source, mutants
from tests.mutation.running import Outcome


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


def test_constants_of_a_module_and_what_a_table_misses() -> None:
    assert changes("A = 5 * S") == ["5 * S -> 5 // S", "5 * S -> 6 * S", "5 * S -> 4 * S"]
    assert changes("B: tuple = (f, g)") == ["f -> left out", "g -> left out"]


def test_the_same_change_twice_has_two_names() -> None:
    source = Source(
        "responder.sample", "sample.py", ast.parse("class C:\n    def f(self):\n        return g(not a, not a)")
    )
    names = [m.name for m in mutants(source, {}) if " -> a" in m.name]
    assert names == ["sample.C.f: not a -> a", "sample.C.f: not a -> a #2"]


def outcome(name: str, by: str | None) -> Outcome:
    """Of a mutant of `responder.guards`."""
    (mutant, *_) = mutants(Source("responder.guards", "", ast.parse("def f():\n    return a")), {})
    return Outcome(
        Mutant(name, *(getattr(mutant, f) for f in ("module", "function", "first", "last", "line", "edit"))), by, 1
    )


def test_what_is_explained_counts_for_nothing_and_must_survive() -> None:
    outcomes = [outcome("guards.f: a", "a test"), outcome("guards.f: b", None), outcome("guards.f: c", None)]
    counted = count("guards", outcomes, {"guards.f: c": "because"})
    assert (counted.killed, [o.mutant.name for o in counted.survived], counted.explained) == (1, ["guards.f: b"], 1)
    assert counted.share == 0.5
    assert "guards.f: b" in told([counted], 3, 1.0)
    assert "no time was left for 3 mutants" in told([counted], 3, 1.0)
    assert not_surviving(outcomes, {"guards.f: c": "because"}, ["guards"]) == []
    (killed,) = not_surviving(outcomes, {"guards.f: a": "because"}, ["guards"])
    assert "a test kills" in killed
    (gone,) = not_surviving(outcomes, {"guards.f: z": "because"}, ["guards"])
    assert "there no more" in gone
    assert not_surviving(outcomes, {"guards.f: z": "because"}, ()) == []


def test_the_modules_and_the_tests_that_judge_them_are_there() -> None:
    assert all((CHECKOUT / "responder" / f"{name}.py").exists() for name in MODULES)
    assert all((CHECKOUT / UNIT.format(name)).exists() for tests in MODULES.values() for name in tests)
    assert all((CHECKOUT / "tests" / "acceptance" / f"{name}.py").exists() for name in STORIES)
    assert set(ALONE) < set(MODULES)
