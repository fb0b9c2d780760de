"""What happened, as people are told it: the values that message templates see, and the sentence of every event.

One vocabulary for the console, `responder incident`, the Slack thread and the page, so that nobody reads two versions
of one story. Pure: an event, the incident's state and `now` in, plain values out; wording lives in templates/. Nothing
here knows a destination or its limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import JsonValue

from responder import facts as f
from responder.incident import Attempt, Episode, Incident, Run, StepState
from responder.messages import TemplateError, number
from responder.recorded import Answer, Effect, EvidenceItem, Observation, Outcome, Result, StepStatus, Trigger, Verdict
from responder.timing import MINUTE

Render = Callable[[str, Mapping[str, object]], str]
"""`MessageTemplates.render`: template name and values -> text; raises TemplateError."""

LONGEST = 1_500
"""Characters of one sentence; the rest of a long label or answer is in the journal."""
LONGEST_VALUE = 500
"""Characters of one text within a message about the present state."""
ITEMS = 5
"""Readings that the line of the evidence holds; the others are in the journal, and where there is room, in a file."""
LONGEST_ITEM = 120
"""Characters of one of them."""
COMING = 3
"""Things to come that a message about the present state names."""

KINDS: frozenset[str] = frozenset(t.model_fields["kind"].default for t in f.Fact.__origin__.__args__)  # type: ignore[attr-defined]
"""Every kind of fact."""

# --- one event -------------------------------------------------------------------------------------------------------


def sentence(event: f.Event, incident: Incident, render: Render) -> str:
    """One line that says what happened. Raises TemplateError when its template cannot be rendered."""
    text = " ".join(render(f"story/{event.fact.kind}.txt.j2", event_values(event, incident)).split())
    return _cut(text, LONGEST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def describe(event: f.Event, incident: Incident, render: Render) -> str:
    """One line that says what happened, without any failure: a broken template costs the wording, not the news."""
    try:
        return sentence(event, incident, render)
    except TemplateError:
        return plain_sentence(event)


def plain_sentence(event: f.Event) -> str:
    """What is said of an event when its template is broken: its kind and its short text fields."""
    known = event.fact.model_dump(mode="json", exclude={"kind"})
    said = ", ".join(
        f"{k} {v}" for k, v in known.items() if isinstance(v, str | int | float) and not isinstance(v, bool) and str(v)
    )
    return f"{event.fact.kind.replace('_', ' ')}: {said}"[:LONGEST]


def event_values(event: f.Event, incident: Incident) -> dict[str, object]:
    """What the templates of templates/story see. All names are always there; None where they do not apply."""
    fact = event.fact
    attempt = _attempt_of(fact, incident)
    known = fact.model_dump(mode="json")
    if isinstance(fact, f.EvidenceGathered):
        known["items"] = [_short(item) for item in known["items"][:ITEMS]]
    return {
        "at": event.at,
        "actor": event.actor,
        "fact": known,
        "incident": {
            "id": incident.id,
            "title": incident.title,
            "target": incident.target,
            "alerts": len(incident.episodes),
            "status": incident.status,
            "owner": "" if incident.somebody is None else incident.somebody.actor,
        },
        "stands": _stands(event, incident) if isinstance(fact, f.StillOpen | f.Closed) else None,
        "more": max(0, len(fact.items) - ITEMS) if isinstance(fact, f.EvidenceGathered) else 0,
        "approval": _answer_of(fact, event, incident),
        "since_opening": max(0, event.at - incident.opened_at),
        "summary": _summary(incident) if isinstance(fact, f.Closed) else None,
        "cause": _cause_of(fact, incident),
        "attempt": _attempt_values(attempt, event),
        "news": news("" if attempt is None else attempt.plan.preview, _said_of(fact)),
        "gate": _gate_of(fact),
        "alert": _alert_of(fact, incident),
        "checks": [_check_text(o) for o in observations_of(fact)],
        "reasons": reasons(getattr(fact, "verdicts", ())),
    }


def _short(item: Mapping[str, Any]) -> dict[str, object]:
    """A reading as it stands in a line."""
    value = shown(item["value"])
    return {
        **item,
        "value": _cut(number(value) if isinstance(value, float) else str(value), LONGEST_ITEM),
        "error": _cut(item["error"] or "", LONGEST_ITEM),
    }


def folded(items: tuple[EvidenceItem, ...]) -> bool:
    """The line of the evidence does not hold all of it."""
    texts = [one for item in items for one in (str(shown(item.value)), item.error or "")]
    return len(items) > ITEMS or any(len(text) > LONGEST_ITEM for text in texts)


def _answer_of(fact: f.Fact, event: f.Event, incident: Incident) -> dict[str, object] | None:
    """What a person's yes or no is about, and the how-manieth yes it is."""
    run = next((r for r in incident.runs if r.number == getattr(fact, "run", None)), None)
    if not isinstance(fact, f.Approved | f.Denied) or run is None or run.approval is None:
        return None
    asked = run.approval
    if asked.plan != fact.plan:
        return None
    given = sum(person.at <= event.at for person in asked.approved)
    return {"preview": asked.preview, "people": asked.people, "given": given}


def _stands(event: f.Event, incident: Incident) -> dict[str, object]:
    """How an incident stands, for who does not follow it: what stakeholders are told (trading-operations, P4)."""
    run = incident.run
    helped = run is not None and run.result in (Result.FIXED, Result.CONTAINED)
    steps = [(run, step) for run in incident.runs for step in run.steps if step.status is StepStatus.DONE]
    done = [str(_step_values(run, step)["text"]) for run, step in steps if _changed(run, step)]
    return {
        "severity": urgency(incident),
        "status": "resolved" if incident.closed else "identified" if helped else "investigating",
        "impact": _cut(" ".join(incident.impact.split()), LONGEST_VALUE),
        "done": [_cut(text, LONGEST_ITEM) for text in done[-COMING:]],
        "result": None if run is None or run.result is None else run.result.value,
        "under_way": incident.active_run is not None,
        "next": next(iter(_coming_values(incident, event.at)), None),
    }


def _changed(run: Run, step: StepState) -> bool:
    """It changed something, or a person did."""
    attempts = run.attempts_of(step.id)
    return not attempts or any(a.happened and a.plan.effect is not Effect.READ for a in attempts)


def _summary(incident: Incident) -> dict[str, object]:
    """What is worth knowing of an incident that is over: its runs' results, and who was paged."""
    ran = [{"runbook": r.runbook, "result": r.result.value, "put_back": put_back(r)} for r in incident.runs if r.result]
    return {"runs": ran[-3:], "paged": list(dict.fromkeys(to for to, _ in incident.paged))}


def _cause_of(fact: f.Fact, incident: Incident) -> str | None:
    """Why the run that a fact is about was started."""
    number = getattr(fact, "run", None)
    return next((run.cause.value for run in incident.runs if run.number == number), None)


def _attempt_of(fact: f.Fact, incident: Incident) -> Attempt | None:
    """The attempt that a fact is about; for a step's end its last one."""
    if isinstance(fact, f.StepEnded):
        run = next((r for r in incident.runs if r.number == fact.run), None)
        return None if run is None else next(iter(run.attempts_of(fact.step)[::-1]), None)
    found = incident.attempt(getattr(fact, "attempt", ""))
    return None if found is None else found[1]


def _said_of(fact: f.Fact) -> str:
    """What the service, or what judged it, said about an attempt or step."""
    return str(getattr(fact, "detail", "") or getattr(fact, "why", ""))


def news(known: str, said: str) -> str:
    """What `said` adds to `known`: `PUT /a on oms` and `PUT /a on oms: 200` are `200`."""
    head, colon, rest = said.partition(": ")
    if said == known or known.endswith(f": {said}"):
        return ""
    return rest if head and colon and known.endswith(head) else said


def _gate_of(fact: f.Fact) -> str | None:
    """What the last gate answered, which decides."""
    verdicts: tuple[Verdict, ...] = getattr(fact, "verdicts", ())
    return verdicts[-1].answer.value if verdicts else None


def _attempt_values(attempt: Attempt | None, event: f.Event) -> dict[str, object] | None:
    if attempt is None:
        return None
    ended = event.at if attempt.ended_at is None else attempt.ended_at
    return {
        "preview": attempt.plan.preview,
        "step": attempt.step,
        "number": attempt.number,
        "detail": attempt.detail,
        "took": max(0, ended - attempt.intended_at),
        "nothing_to_do": attempt.plan.nothing_to_do,
    }


def _alert_of(fact: f.Fact, incident: Incident) -> str | None:
    match fact:
        case f.AlertFired():
            return alert_text(fact.labels)
        case f.AlertResolved():
            episode = incident.episodes.get(fact.fingerprint)
            return fact.fingerprint if episode is None else alert_text(episode.labels)
        case _:
            return None


def alert_text(labels: Mapping[str, str]) -> str:
    """The alert's name with the labels that tell it from its siblings: `VaRBreach (symbol BTC-USD)`."""
    usual = {"alertname", "severity", "platform", "env", "job", "instance", "prometheus", "team"}
    own = ", ".join(f"{k} {v}" for k, v in sorted(labels.items()) if k not in usual)
    name = labels.get("alertname", "an alert without a name")
    return f"{name} ({own})" if own else name


def observations_of(fact: f.Fact) -> tuple[Observation, ...]:
    """What checks answered, by the fact that recorded it; empty for every other fact."""
    match fact:
        case f.Gathered():
            return fact.observations
        case f.MachineGathered() | f.Watched():
            return (fact.observation,)
        case _:
            return ()


def _check_text(seen: Observation) -> dict[str, object]:
    age = None if seen.observed_at is None else max(0, seen.asked_at - seen.observed_at)
    return {"name": seen.check, "value": shown(seen.value), "error": seen.error, "missing": seen.missing, "age": age}


def shown(value: JsonValue) -> JsonValue:
    """A value that can stand in a sentence: lists and objects as compact JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def reasons(verdicts: tuple[Verdict, ...]) -> str:
    """Why a gate did not simply let it pass, in numbers: all but plain permissions."""
    return "; ".join(v.reason for v in verdicts if v.answer is not Answer.ALLOW or v.warn)


# --- the present state -----------------------------------------------------------------------------------------------


def state_values(incident: Incident, now: int) -> dict[str, object]:
    """What root messages and pages see: the incident as it is now. Times are µs since the epoch, `now` included."""
    return {name: _one_line(value) for name, value in _state(incident, now).items()}


def _one_line(value: Any) -> Any:
    """Line breaks come from templates only, so that no label begins a paragraph of its own; and long texts are cut."""
    match value:
        case str():
            return _cut(" ".join(value.split()), LONGEST_VALUE)
        case list():
            return [_one_line(one) for one in value]
        case dict():
            return {name: one if name == "url" else _one_line(one) for name, one in value.items()}
        case _:
            return value


def _state(incident: Incident, now: int) -> dict[str, object]:
    run = incident.run
    return {
        "now": now,
        "id": incident.id,
        "title": incident.title,
        "impact": incident.impact,
        "target": incident.target,
        "severity": incident.severity,
        "urgency": urgency(incident),
        "runbook": incident.runbook,
        "mode": incident.mode.value,
        "status": incident.status,
        "light": light(incident),
        "opened_at": incident.opened_at,
        "closed_at": incident.closed_at,
        "lasted": max(0, (incident.closed_at or now) - incident.opened_at),
        "closed_why": incident.closed_why,
        "result": None if incident.result is None else incident.result.value,
        "why": "" if run is None else run.why,
        "urgent": incident.urgent,
        "problems": list(incident.problems),
        "alerts": [_episode_values(e) for e in incident.episodes.values()],
        "firing": len(incident.firing),
        "runs": [_run_values(r) for r in incident.runs],
        "next": next(iter(_coming_values(incident, now)), None),
        "coming": _coming_values(incident, now),
        "approval": _approval_values(incident, now),
        "snoozed": _snooze_values(incident, now),
        "storm": _storm_values(incident),
        "storm_of": incident.storm,
        "unsettled": [{"step": a.step, "text": a.plan.preview} for a in incident.unsettled],
        "owner": _owner_values(incident),
        "begun": _begun_values(incident),
        "paged": list(dict.fromkeys(destination for destination, _ in incident.paged)),
        "replay": not incident.live,
        "links": links(incident),
    }


_WEB = re.compile(r"https?://[^\s<>|]{1,1500}").fullmatch
"""An address that neither ends the link it stands in nor fills the message."""


_BEGUN: Final = {Trigger.PERSON: "by hand", Trigger.SCHEDULE: "by schedule"}


def urgency(incident: Incident) -> str:
    """The severity, or in its place what began an incident that has none because no alert opened it."""
    return incident.severity or _BEGUN.get(incident.trigger, "no severity")


def light(incident: Incident) -> str:
    """One word for the colour of the whole: good, working, bad. What nobody knows is bad."""
    if incident.result in (Result.FIXED, Result.OBSERVED) and not incident.unsettled:
        return "good"
    if incident.closed and incident.urgent is None and not incident.unsettled:
        return "good"
    run = incident.active_run
    return "working" if run is not None and not incident.unsettled else "bad"


def links(incident: Incident) -> list[dict[str, str]]:
    """Title and address of every link, the graph of the first alert last; only web addresses."""
    graphs = [e.generator_url for e in incident.episodes.values() if e.generator_url]
    pairs = [*incident.links.items(), *(("graph", url) for url in graphs[:1])]
    return [{"title": title, "url": url} for title, url in pairs if _WEB(url)]


def _episode_values(episode: Episode) -> dict[str, object]:
    return {
        "text": alert_text(episode.labels),
        "summary": episode.annotations.get("summary", ""),
        "firing": episode.firing,
        "since": episode.since,
        "ended": episode.ended,
    }


def _run_values(run: Run) -> dict[str, object]:
    return {
        "number": run.number,
        "runbook": run.runbook,
        "mode": run.mode.value,
        "cause": run.cause.value,
        "put_back": put_back(run),
        "phase": run.phase.value,
        "result": None if run.result is None else run.result.value,
        "why": run.why,
        "waits_until": run.waits_until if run.active else None,
        "waits_why": reasons(run.verdicts) if run.active and run.waits_until is not None else "",
        "steps": [_step_values(run, s) for s in run.steps],
        "evidence": [{**i.model_dump(mode="json"), "value": shown(i.value)} for i in run.evidence or ()],
    }


def put_back(run: Run) -> bool:
    """It took a change back, which is no word about the alert: never to be called fixed."""
    return run.takes_back and run.result is Result.FIXED


def _step_values(run: Run, step: StepState) -> dict[str, object]:
    attempts = run.attempts_of(step.id)
    last = attempts[-1] if attempts else None
    known = last is not None and last.outcome is Outcome.OK and last.ended_at is not None
    return {
        "id": step.id,
        "status": step.status.value,
        "text": step.id.replace("_", " ") if last is None else last.plan.preview,
        "why": step.why or ("" if last is None else last.detail),
        "took": last.ended_at - last.intended_at if known and last is not None and last.ended_at is not None else None,
        "attempts": len(attempts),
        "waits": step.why if step.status is StepStatus.RUNNING and step.retry_at is not None else "",
    }


def _coming_values(incident: Incident, now: int) -> list[dict[str, object]]:
    """What comes by time alone, soonest first."""
    dues = [] if incident.closed else sorted((d for d in incident.agenda if d.what), key=lambda d: d.due)
    return [{"what": due.what, "at": due.due, "left": max(0, due.due - now)} for due in dues[:COMING]]


def _approval_values(incident: Incident, now: int) -> dict[str, object] | None:
    """What people are asked to approve now."""
    run = incident.active_run
    asked = None if run is None else run.approval
    if run is None or asked is None or run.step(asked.step).status is not StepStatus.APPROVAL:
        return None
    return {
        "step": asked.step,
        "preview": asked.preview,
        "role": asked.role,
        "people": asked.people,
        "approved": [person.actor for person in asked.approved],
        "until": asked.until,
        "left": max(0, asked.until - now),
        "why": asked.why,
    }


def _snooze_values(incident: Incident, now: int) -> dict[str, object] | None:
    snooze = incident.snoozed
    if snooze is None or incident.closed:
        return None
    return {"name": snooze.actor, "until": snooze.until, "left": max(0, snooze.until - now), "note": snooze.note}


def _storm_values(incident: Incident) -> dict[str, object] | None:
    """Of an incident that stands for many: how many they are, and what the first of them are about."""
    if not incident.members:
        return None
    return {"incidents": incident.members, "open": incident.members_open, "targets": list(incident.member_names)}


_DOES = {"taken_over": "has taken over", "acknowledged": "has acknowledged", "snoozed": "has snoozed it"}


def _begun_values(incident: Incident) -> dict[str, object] | None:
    """Who began it and why, where a person's run opened it and no alert."""
    first = next(iter(incident.runs), None)
    if first is None or incident.trigger is not Trigger.PERSON:
        return None
    return {"name": first.actor, "why": first.reason}


def _owner_values(incident: Incident) -> dict[str, object] | None:
    person = incident.somebody
    if person is None:
        return None
    does = next(does for name, does in _DOES.items() if getattr(incident, name) is person)
    return {"name": person.actor, "does": does, "at": person.at, "note": person.note}


def plain_state(incident: Incident, now: int) -> str:
    """The state in one line of plain text, when the templates for it are broken."""
    minutes = max(0, now - incident.opened_at) // MINUTE
    return f"[{urgency(incident)}] {incident.title}: {incident.target} is {incident.status}, opened {minutes} min ago"


def why_of(event: f.Event | None) -> str:
    """The reason that an event itself gives, or nothing."""
    given: Any = getattr(event.fact, "why", "") if event is not None else ""
    return str(given or "")
