"""Which variables a template or condition of a runbook may name, and where a template may stand.

Names only: the values are made by `view.values_of`, and written at their place by `render`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from responder.contracts import Action
from responder.mistakes import closest
from responder.problems import Path
from responder.render import Position

VARIABLES: Final[Mapping[str, frozenset[str]]] = {
    "incident": frozenset({"id", "severity", "target"}),
    "run": frozenset({"number", "runbook", "cause"}),
}
"""What every template and condition of a step may name beside inputs, steps and checks (view.values_of)."""
_STEP_FIELDS: Final = frozenset({"status", "output"})
_LITERAL: Final = "literal"


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables of one place: inputs, earlier steps and checks by name; `open` lists further roots of any shape.

    `told`: incident and run are known there; the answer of a check is judged without them.
    """

    inputs: frozenset[str]
    steps: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    told: bool = True

    def unknown(self, path: str) -> str | None:
        """The hint for a dotted path that does not exist here, None for one that may."""
        root, *rest = path.split(".")
        if root in self.open or (root in self.inputs and not rest):
            return None
        known = self._known().get(root)
        if known is None or not rest:
            return closest(root, self._roots()) if known is None else f"write {root}.{_any(known)}"
        if rest[0] not in known:
            return (
                f"a step sees the steps before it: {closest(rest[0], known)}"
                if root == "steps"
                else closest(rest[0], known)
            )
        if root == "steps" and (len(rest) == 1 or rest[1] not in _STEP_FIELDS):
            return f"a step has status and output: {root}.{rest[0]}.output"
        return None

    def _known(self) -> Mapping[str, frozenset[str]]:
        return {"steps": self.steps, "checks": self.checks, **VARIABLES} if self.told else {}

    def _roots(self) -> frozenset[str]:
        return self.inputs | self.open | {name for name, known in self._known().items() if known}


def _any(known: Collection[str]) -> str:
    return min(known, default="…")


def position_of(action: type[Action], path: Path) -> Position | None:
    """Where a string at `path` of an action's parameters stands, None where no template may stand."""
    names = [str(part) for part in path if isinstance(part, str)]
    for length in range(len(names), 0, -1):
        found = action.positions.get(".".join(names[:length]))
        if found is not None:
            return None if found == _LITERAL else Position(found)
    return None if names and names[0] in ("service", "parameter") else Position.JSON
