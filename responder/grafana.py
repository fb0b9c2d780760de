"""Grafana's alerting payload where it differs from Alertmanager's: how it is known, links and values, identity.

A superset of Alertmanager's body under another version (contracts.md A7), so `alert` reads both and asks here for the
rest. `state`, `title` and `message` are of the whole notification and are never read, like `status`: they are computed
after truncation. DatasourceError and DatasourceNoData are ordinary alerts: their labels already say which rule and
source. `embeddedImage` is not kept: a picture of megabytes helps nobody in a message. Not here: Alertmanager's fields,
signatures (`security`).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = "1"
RULE_UID: Final = "__alert_rule_uid__"
"""The label of a rule's UID: part of the fingerprint, and taken out of the labels before they are sent."""

_ONLY_HERE: Final = frozenset({"orgId", "state", "title"})
_LEGACY: Final = frozenset({"ruleId", "evalMatches"})
_KEPT: Final[Mapping[str, str]] = {
    "dashboardURL": "dashboard_url",
    "panelURL": "panel_url",
    "silenceURL": "silence_url",
    "imageURL": "image_url",
    "valueString": "value_string",
}
_is_uid = re.compile(r"[A-Za-z0-9_-]{1,40}").fullmatch
_rule_page = re.compile(r"/alerting/(?:grafana/)?([A-Za-z0-9_-]{1,40})/(?:view|edit)\b")


def recognised(payload: Mapping[str, Any]) -> bool:
    """Whether Grafana wrote this: version "1", and a field at the top that Alertmanager's version "1" never had.

    Nothing of version "4" ever is, whatever else it holds: Alertmanager adds fields under it (contracts.md A1).
    """
    return payload.get("version") == VERSION and not _ONLY_HERE.isdisjoint(payload)


def legacy(payload: Mapping[str, Any]) -> bool:
    """Whether it is of the alerting that Grafana had before version 8: one rule, no list of alerts, no version."""
    return "version" not in payload and "alerts" not in payload and not _LEGACY.isdisjoint(payload)


def annotations(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The alert's annotations with its links and values added, under names as runbooks and incidents know them.

    `dashboard_url`, `panel_url`, `silence_url`, `image_url`, `value_string` as they were sent, and `values` as
    "B=1.92, C=1". What the alert's own annotations say stays, unless it is empty.
    """
    own = entry.get("annotations")
    added = {name: value for field, name in _KEPT.items() if (value := entry.get(field)) and isinstance(value, str)}
    if values := _values(entry.get("values")):
        added["values"] = values
    if not isinstance(own, dict):
        return added
    return {**added, **{name: value for name, value in own.items() if value or name not in added}}


def hidden_labels(entry: Mapping[str, Any]) -> dict[str, str]:
    """What belongs to the identity of an alert besides its labels: the UID of its rule, "" when it is not told.

    Two rules may give equal labels, and so may a rule of Prometheus. With this a fingerprint that has to be computed
    is the one that Grafana itself computes of a plain rule, and never Alertmanager's for the same labels.
    """
    told = entry.get("ruleUID")
    if isinstance(told, str) and _is_uid(told):
        return {RULE_UID: told}
    page = entry.get("generatorURL")
    found = _rule_page.search(page) if isinstance(page, str) else None
    return {RULE_UID: found[1] if found else ""}


def _values(values: object) -> str:
    """Grafana sends null for all of them when one is NaN, which JSON cannot say."""
    if not isinstance(values, dict):
        return ""
    return ", ".join(f"{name}={_shown(value)}" for name, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
