"""`responder preview TEMPLATE`: a message as it would look about a real incident, a saved journal, or a sample.

The values are those that delivery gives (`engine.delivery`). Nothing is sent, and a sample or a file needs no server.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.client import Asked, Failed, Server, asks, incident_path
from responder.cli.output import plain, print_json
from responder.cli.saved import Story, story_of

if TYPE_CHECKING:
    from responder.facts import Event
    from responder.messages import MessageTemplates, TemplateError

SAMPLES: Final = "fixed, unfixed or unknown"
DESTINATION: Final = "preview"
"""What the destination is called in the message."""
_unknown_name = re.compile(r"'(\w+)' is undefined").search

Named = Annotated[
    str, typer.Argument(metavar="TEMPLATE", help="Such as slack/root.mrkdwn.j2, or a kind: root, page, thread …")
]
About = Annotated[
    str | None,
    typer.Option("--incident", metavar="ID|FILE", help="An incident, or a file of `responder incident ID --json`."),
]
Sample = Annotated[str | None, typer.Option(metavar="NAME", help=f"A shipped journal instead: {SAMPLES}.")]
Folder = Annotated[Path | None, typer.Option("--templates", metavar="DIR", help="Your own templates.")]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="KIND", help="As a notifier of this kind composes it; slack: for Block Kit Builder."),
]


@asks
def command(
    asked: Asked,
    template: Named,
    incident: About = None,
    sample: Sample = None,
    templates: Folder = None,
    composed: As = None,
) -> int:
    """Render a message template, exactly as it would be sent.

    \b
    responder preview root --sample unfixed --as slack
    responder preview email/page.txt.j2 --incident 7d3k --templates my-templates

    A kind alone means each template of that kind. Exit status 1 when a template cannot be rendered.
    """
    story = _story(asked.server, incident, sample)
    preview = Preview(_templates(templates), templates, story)
    if composed is not None:
        print_json(preview.composed(template, composed))
        return 0
    names = preview.named(template)
    rendered = [{"template": name, "text": preview.rendered(name)} for name in names]
    if asked.json:
        print_json({"incident": story.incident.id, "messages": rendered})
        return 0
    for one in rendered:
        if len(rendered) > 1:
            print(f"--- {one['template']}")
        print("\n".join(plain(line) for line in one["text"].split("\n")))
    return 0


def _story(server: Server, incident: str | None, sample: str | None) -> Story:
    """The one that is named. Raises Failed."""
    from responder import samples

    if (incident is None) == (sample is None):
        raise Failed(f"say about what: --incident ID, --incident FILE or --sample NAME ({SAMPLES})")
    if sample is not None:
        if sample not in samples.NAMES:
            raise Failed(f"no sample is called {sample!r}; there are {SAMPLES}")
        return story_of({"events": [e.model_dump(mode="json") for e in samples.journal(sample)]}, f"sample {sample}")
    path = Path(str(incident))
    if path.is_file():
        return _from_file(path)
    answer, _ = server.get(f"{incident_path(str(incident))}/journal")
    return story_of(answer, f"incident {incident}")


def _from_file(path: Path) -> Story:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not JSON"
        raise Failed(f"{path} cannot be read ({why}): write it with `responder incident ID --json > FILE`") from None
    return story_of(content, str(path))


def _templates(own: Path | None) -> MessageTemplates:
    """Not all of them are checked, as a reload does: one may be under work while another is looked at."""
    from responder.errors import BadConfig
    from responder.messages import MessageTemplates, TemplateError
    from responder.notifiers import shipped_templates, template_sources

    if own is not None and not own.is_dir():
        raise Failed(f"there is no folder {own}: name the one that `templates` in responder.yaml names")
    try:
        folders = [template_sources(own)] if own is not None else []
        return MessageTemplates([*folders, template_sources(shipped_templates())])
    except (BadConfig, TemplateError) as error:
        raise Failed(str(error), 1) from None


@dataclass(frozen=True, slots=True)
class Preview:
    """Templates over one story. Raises Failed, with file, line, cause and cure."""

    templates: MessageTemplates
    own: Path | None
    story: Story

    def named(self, name: str) -> list[str]:
        """The template of this name, or every one of this kind."""
        known = self.templates.names()
        if name in known:
            return [name]
        found = sorted(one for one in known if _kind(one) == name)
        if found:
            return found
        near = difflib.get_close_matches(name, [*known, *map(_kind, known)], 1)
        guess = f"did you mean {near[0]}? " if near else ""
        kinds = "root, page, thread, resolve"
        raise Failed(f"no template is called {name!r}: {guess}Kinds are {kinds}; names are like slack/root.mrkdwn.j2")

    def rendered(self, name: str) -> str:
        """The text of one template."""
        from responder.messages import TemplateError

        values = self._story_values(name) if name.startswith("story/") else self.values(_kind(name))
        try:
            return self.templates.render(name, values)
        except TemplateError as error:
            raise self._failed(error, name, values) from None

    def composed(self, name: str, notifier: str) -> Any:
        """What a notifier of this kind makes of it. Slack's is wrapped as Block Kit Builder takes it."""
        from responder.messages import TemplateError
        from responder.notifiers import NOTIFIERS

        if notifier not in NOTIFIERS:
            raise Failed(f"no notifier is of kind {notifier!r}; there are {', '.join(NOTIFIERS)}")
        kind = _kind(self.named(name)[0])
        values = self.values(kind)
        try:
            body = NOTIFIERS[notifier].model_construct(kind=notifier).compose(kind, values, self.templates.render)
        except TemplateError as error:
            raise self._failed(error, name, values) from None
        if body is None:
            raise Failed(f"a notifier of kind {notifier} has no form of its own for {kind}: leave --as out")
        return {"blocks": body} if isinstance(body, list) else body

    def values(self, kind: str) -> dict[str, object]:
        """What delivery gives a message of this kind."""
        from responder import story
        from responder.choices import choices
        from responder.policies import Policy

        told = self.story.when_paged if kind == "page" else self.story
        incident, event = told.incident, _latest(told)
        said = story.describe(event, incident, self.templates.render)
        return {
            **story.state_values(incident, told.now),
            "destination": DESTINATION,
            "choices": [choice.values() for choice in choices(incident, Policy())],
            "broadcast": False,
            "mentions": [],
            "message": kind,
            "sentence": said,
            "at": event.at,
            "kind": event.fact.kind,
            "lines": [{"kind": event.fact.kind, "sentence": said, "at": event.at}],
        }

    def _story_values(self, name: str) -> Mapping[str, object]:
        """Of the latest event of the kind that the template tells."""
        from responder import story

        kind = _kind(name)
        of_kind = [event for event in self.story.events if event.fact.kind == kind]
        if not of_kind:
            raise Failed(f"{self.story.named} has no event {kind}: name another incident or sample")
        return story.event_values(of_kind[-1], self.story.incident)

    def _failed(self, error: TemplateError, name: str, values: Mapping[str, object]) -> Failed:
        """`FILE:LINE: cause`, the line itself, and the cure."""
        head, colon, cause = error.message.partition(": ")
        where, cause = (head, cause) if colon and head in self.templates.names() else (name, error.message)
        path = self._file(where)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        line = plain(lines[error.line - 1].rstrip()) if 0 < error.line <= len(lines) else ""
        return Failed(f"{path}:{error.line}: {cause}\n    {line}\n{_cure(error, values)}", 1)

    def _file(self, name: str) -> Path:
        from responder.notifiers import shipped_templates

        mine = None if self.own is None else self.own / name
        return mine if mine is not None and mine.is_file() else shipped_templates() / name


def _latest(told: Story) -> Event:
    """The latest news that has a line of its own."""
    from responder.telling import has_line

    return ([event for event in told.events if has_line(event.fact)] or list(told.events))[-1]


def _kind(name: str) -> str:
    """`root` of slack/root.mrkdwn.j2."""
    return name.rpartition("/")[2].partition(".")[0]


def _cure(error: TemplateError, values: Mapping[str, object]) -> str:
    return "\n".join(_cures(error, values))


def _cures(error: TemplateError, values: Mapping[str, object]) -> Iterator[str]:
    """A missing name: the one that was probably meant, and all there are."""
    missing = _unknown_name(error.message)
    if missing is None:
        yield error.hint
        return
    near = difflib.get_close_matches(missing[1], list(values), 1)
    if near:
        yield f"did you mean {near[0]}?"
    yield f"a template sees {', '.join(sorted(values))}"
