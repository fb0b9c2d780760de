"""Reads the alert rules that we ship and gives them times of seconds, so that the demo raises the very alerts that
production would, only sooner.

It understands the annotations that the shipped rules use, which print labels and the value, and refuses the rest by
name: this is no Prometheus. What a condition may say is `promql`'s matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from responder.demo.scaled_rules import scaled_ranges
from responder.errors import BadConfig
from responder.timing import format_duration, parse_duration

_placeholder = re.compile(r"\{\{(.*?)\}\}")
_label = re.compile(r"\s*\$labels\.([a-zA-Z_]\w*)\s*")
_value = re.compile(r"""\s*(?:printf\s+"(%\.\df%{0,2})"\s+)?\$value\s*""")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alert rule of a rule file; `holds_for` (its `for`) in microseconds."""

    name: str
    expr: str
    holds_for: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def shipped_alerting() -> Path:
    """The folder `alertmanager/`: package data of a wheel, or the one of the checkout. Raises BadConfig."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "packaged" / "alertmanager", package.parent / "alertmanager"):
        if (folder / "rules").is_dir():
            return folder
    raise BadConfig("the shipped alert rules are missing from this installation: install the package again")


def shortened(text: str, names: Sequence[str], holds_for: int) -> tuple[AlertRule, ...]:
    """The rules called `names` out of the rule file `text`: with a `for` of at most `holds_for` microseconds, and
    looking back less far, as everything in the story is shorter.

    Raises BadConfig when the file has no rule of a name.
    """
    groups = yaml.safe_load(text)["groups"]
    found = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    absent = [name for name in names if name not in found]
    if absent:
        raise BadConfig(f"no alert rule {', '.join(absent)} in the rule file: it has {', '.join(found)}")
    return tuple(_rule(found[name], holds_for) for name in names)


def rule_file(rules: Sequence[AlertRule], interval: int) -> str:
    """`rules` as a rule file for Prometheus, evaluated every `interval` microseconds."""
    listed = [
        {
            "alert": rule.name,
            "expr": rule.expr,
            "for": format_duration(rule.holds_for),
            "labels": dict(rule.labels),
            "annotations": dict(rule.annotations),
        }
        for rule in rules
    ]
    group = {"name": "demo", "interval": format_duration(interval), "rules": listed}
    return yaml.safe_dump({"groups": [group]}, sort_keys=False)


def expanded(rule: AlertRule, labels: Mapping[str, str], value: float) -> AlertRule:
    """`rule` with the placeholders of its labels and annotations filled in for one series."""

    def fill(text: str) -> str:
        return _placeholder.sub(lambda place: _filled(rule.name, place[1], labels, value), text)

    return replace(
        rule,
        labels={name: fill(text) for name, text in rule.labels.items()},
        annotations={name: fill(text) for name, text in rule.annotations.items()},
    )


def _rule(read: Mapping[str, object], holds_for: int) -> AlertRule:
    return AlertRule(
        name=str(read["alert"]),
        expr=scaled_ranges(str(read["expr"]).strip()),
        holds_for=min(holds_for, parse_duration(str(read.get("for", "0")))),
        labels=_texts(read.get("labels")),
        annotations=_texts(read.get("annotations")),
    )


def _texts(mapping: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in mapping.items()} if isinstance(mapping, Mapping) else {}


def _filled(rule: str, place: str, labels: Mapping[str, str], value: float) -> str:
    named, measured = _label.fullmatch(place), _value.fullmatch(place)
    if named is not None:
        return labels.get(named[1], "")
    if measured is not None:
        return (measured[1] or "%g") % value
    raise BadConfig(
        f"{rule}: the built-in evaluator fills in $labels.NAME and $value, not {place.strip()!r}: "
        "put prometheus on PATH"
    )
