"""The destinations of messages: the table of what can be named in responder.yaml, and where their templates lie.

A notifier sends one rendered message; when, how often, in which order and what if not is `engine.delivery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from responder.contracts import Notifier
from responder.errors import BadConfig
from responder.messages import MessageTemplates, TemplateError
from responder.notifiers.console import Console
from responder.notifiers.email import Email
from responder.notifiers.opsgenie import Opsgenie
from responder.notifiers.pagerduty import PagerDuty
from responder.notifiers.slack import Slack
from responder.notifiers.webhook import Webhook

NOTIFIERS: Final[Mapping[str, type[Notifier]]] = {
    "console": Console,
    "email": Email,
    "opsgenie": Opsgenie,
    "pagerduty": PagerDuty,
    "slack": Slack,
    "webhook": Webhook,
}
"""Kind -> notifier. One line here, and schema, checks and contract tests know it."""

MAX_TEMPLATE_BYTES: Final = 262_144
"""A larger file is no message template."""


def shipped_templates() -> Path:
    """The folder of the product's own templates: package data in a wheel, the top-level folder in a source checkout.

    Raises BadConfig when neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "packaged" / "templates", package.parent / "templates"):
        if folder.is_dir():
            return folder
    raise BadConfig(f"the message templates are missing below {package}: install the package again")


def template_sources(folder: Path) -> dict[str, str]:
    """The templates below `folder`: name relative to it -> source. Raises BadConfig, naming the file."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.j2")):
        if path.stat().st_size > MAX_TEMPLATE_BYTES:
            raise BadConfig(f"{path}: larger than {MAX_TEMPLATE_BYTES} bytes; this is no message template")
        try:
            found[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"{path}: cannot be read ({type(error).__name__}); make it readable UTF-8 text") from None
    return found


def message_templates(own: Path | None) -> MessageTemplates:
    """The shipped templates, single files replaced by those of the folder `own` (responder.yaml `templates`).

    Raises BadConfig: a reload that would break messages never takes effect.
    """
    if own is not None and not own.is_dir():
        raise BadConfig(f"templates: there is no folder {own}; create it or remove the setting")
    folders = [template_sources(own)] if own is not None else []
    try:
        templates = MessageTemplates([*folders, template_sources(shipped_templates())])
        templates.check()
    except TemplateError as error:
        raise BadConfig(f"templates: {error}") from None
    return templates
