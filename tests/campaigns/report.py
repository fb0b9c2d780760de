"""What a campaign says: its figures and what was wrong, as a table for people and as JSON for comparing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import responder
from benchmarks.report import machine


@dataclass(frozen=True, slots=True)
class Result:
    """One campaign in one setting. `seconds` it took; `failures` are empty when all is well."""

    campaign: str
    setting: str
    seed: int
    seconds: float
    figures: dict[str, Any]
    failures: list[str] = field(default_factory=list)


def table(results: Iterable[Result]) -> str:
    """A Markdown table, a line a figure."""
    lines = ["| campaign | what | |", "|---|---|---:|"]
    for one in results:
        verdict = f"{len(one.failures):,} failures" if one.failures else "passed"
        lines.append(f"| {one.campaign} | {one.setting}; seed {one.seed}; {one.seconds:.0f} s | **{verdict}** |")
        lines += [f"| | {name} | {_shown(value)} |" for name, value in one.figures.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def as_json(results: Iterable[Result], cores: int) -> str:
    """With versions and machine."""
    whole = {"responder": responder.__version__, "machine": machine(cores), "results": [asdict(one) for one in results]}
    return json.dumps(whole, indent=1)
