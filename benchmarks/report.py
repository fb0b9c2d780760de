"""What a measurement says: figures, each beside its floor and its target, as a table and as JSON."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `most`, `least`: the target; `floor` is of the same run, in the same unit."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    @property
    def target(self) -> str:
        """The target in words."""
        if self.most is not None:
            return f"≤ {_shown(self.most)}"
        return "" if self.least is None else f"≥ {_shown(self.least)}"

    @property
    def ratio(self) -> str:
        """How it compares with the floor."""
        return f"{self.value / self.floor:.2f} ×" if self.floor else ""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table."""
    words = {True: "met", False: "**missed**", None: ""}
    lines = ["| what | responder | floor | ratio | target | |", "|---|---:|---:|---:|---:|---|"]
    for figure in figures:
        floor = "" if figure.floor is None else _shown(figure.floor)
        value = f"{_shown(figure.value)} {figure.unit}"
        cells = (figure.name, value, floor, figure.ratio, figure.target, words[figure.met])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine(cores: int) -> str:
    """What it ran on."""
    return f"{cores} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()}"


def write_json(path: Path, ran_on: str, figures: Iterable[Figure]) -> None:
    """For comparing runs."""
    path.write_text(json.dumps({"machine": ran_on, "figures": [asdict(f) for f in figures]}, indent=1) + "\n")
