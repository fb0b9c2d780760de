"""Many incidents at once are one page: the storm is an incident of its own, which climbs the ladder for all.

A storm begins with the n-th incident of a policy and an env within its window, takes in further ones until half as many
come, and is over when all of them are. Those that began before it keep their own pages. Not here: a gate that stops
automation.
"""

from __future__ import annotations

from responder import facts as f
from responder.draft import Draft
from responder.incident import Incident
from responder.policies import Storm, severity_rank
from responder.recorded import LIVE, Mode
from responder.records import open_key
from responder.scopes import STORM, Storming, env_of, legible, storm_name, told_apart
from responder.scoping import ScopeChange

OWN = "responder:"
"""What the targets of incidents about the responder itself begin with: they are never one of many."""


def join_storm(draft: Draft, incident_id: str, storm_id: str) -> str | None:
    """Count an incident that has just begun, and let it join a storm if there is one. Answers the storm's id then.

    `storm_id` is the id that a storm gets which begins with it.
    """
    incident = draft.incident(incident_id)
    limit = draft.policy_of(incident).storm
    if limit is None or not incident.live or incident.target.startswith(OWN):
        return None
    since = draft.now - limit.within
    body = legible(Storming, draft.scope(storm_name(incident.policy))) or Storming()
    env, envs = told_apart(env_of(incident.labels), body.envs, lambda own: any(at > since for at in own.openings))
    own = envs.get(env, Storming()) if env else body
    openings = (*(at for at in own.openings if at > since), draft.now)[-limit.incidents :]
    storm = _open_storm(draft, own)
    if not _rages(limit, openings, storm):
        storm = None  # calm: what breaks out after it is another storm, though this one may still be open
    elif storm is None:
        storm = _began(draft, incident, env, storm_id)
    counted = Storming(openings=openings, storm=None if storm is None else storm.id)
    after = body if env else counted
    others = {**envs, env: counted} if env else envs
    draft.set_scope(ScopeChange(storm_name(incident.policy), after.model_copy(update={"envs": others})))
    if storm is not None:
        _joined(draft, incident, storm)
    return None if storm is None else storm.id


def _open_storm(draft: Draft, body: Storming) -> Incident | None:
    known = None if body.storm is None else draft.incident(body.storm)
    return known if known is not None and not known.closed else None


def _rages(limit: Storm, openings: tuple[int, ...], storm: Incident | None) -> bool:
    """It begins at the limit and ends below half of it, so that it does not come and go."""
    return len(openings) >= (limit.incidents if storm is None else max(2, limit.incidents // 2))


def _began(draft: Draft, incident: Incident, env: str, storm_id: str) -> Incident:
    target = f"{STORM}{incident.policy}{f':{env}' if env else ''}"
    if draft.open_incident(open_key(LIVE, None, target)) is not None:
        target = f"{target}:{storm_id}"  # an earlier one is still open
    fact = f.Opened(
        id=storm_id,
        runbook=None,
        rules_hash=draft.book.current.hash,
        policy=incident.policy,
        target=target,
        title=f"Many incidents at once: {incident.policy}{f', env {env}' if env else ''}",
        impact="One page for all of them; look for what they have in common",
        severity=incident.severity,
        mode=Mode.OBSERVE,
        labels={"env": env} if env else {},
        inputs={},
        channel=incident.channel,
    )
    draft.open(fact)
    return draft.incident(storm_id)


def _joined(draft: Draft, incident: Incident, storm: Incident) -> None:
    draft.record(incident.id, f.StormJoined(storm=storm.id))
    draft.record(storm.id, f.StormGrew(incident=incident.id, title=incident.title, target=incident.target))
    if severity_rank(incident.severity) > severity_rank(storm.severity):
        rise = f.SeverityRose(before=storm.severity, severity=incident.severity, policy=storm.policy)
        draft.record(storm.id, rise)
