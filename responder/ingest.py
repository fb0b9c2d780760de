"""The transactions of the edge: a notification becomes episodes and incidents, an unreadable one a dead letter.

Content decides, never the group or the time of sending: a running episode starts nothing new, however often and by
however many Alertmanagers it is told (design 5.2, contracts.md A4). What is absent from a list means nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from responder import facts as f
from responder.alert import Alert, BadAlert, Dialect, Notification
from responder.draft import Book, Draft, Turn, Worker, scopes_of
from responder.incident import Incident
from responder.policies import severity_rank
from responder.recorded import LIVE, Mode, Trigger
from responder.records import (
    Change,
    DeadLetterRow,
    EpisodeRow,
    Keys,
    NotificationRow,
    State,
    open_key,
)
from responder.rules import Route
from responder.runbook import Runbook
from responder.scopes import OPENINGS, storm_name
from responder.storms import join_storm
from responder.telling import AUTHOR

FOUND = "alertmanager's api"
"""The source of what nobody told us: Alertmanager was asked (engine/reconcile)."""

NEWS_KEPT = 20
"""Problems that one incident about ourselves lists; the rest is in the log and among the dead letters."""


class Doubtful(Exception):
    """Some firing alerts look older than their known end; only Alertmanager's API can tell (design 5.2)."""

    def __init__(self, fingerprints: frozenset[str]) -> None:
        super().__init__("some firing alerts look older than their known end")
        self.fingerprints = fingerprints


@dataclass(frozen=True, slots=True)
class Received:
    """What a notification led to: the incidents that have something to do now, and the counts for the answer."""

    turns: tuple[Turn, ...]
    opened: int
    fired: int
    resolved: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Ingest:
    """Store a notification and all that follows from it. `gone`: fingerprints that Alertmanager says do not fire.

    Raises Doubtful for firings that look older than their known end, unless they are in `asked`.
    """

    id: str
    notification: Notification
    raw: NotificationRow
    book: Book
    by: Worker | None
    asked: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()

    def reads(self) -> Keys:
        """The episodes: whether more is needed they alone can tell, and for most notifications nothing is."""
        return Keys(episodes=frozenset((self.raw.namespace, a.fingerprint) for a in self.notification.alerts))

    def apply(self, state: State) -> Change[Received]:
        """See the class."""
        taking = _Taking(self, Draft(self.id, state, self.book, self.by))
        taking.draft.keep(notification=replace(self.raw, received_at=state.now))
        taking.check_doubts()
        taking.load_ahead()
        for alert in self.notification.alerts:
            taking.take(alert)
        for bad in self.notification.bad:
            taking.bury(bad)
        turns = tuple(taking.draft.advance(i) for i in taking.touched)
        answer = Received(turns, taking.opened, taking.fired, taking.resolved, taking.repeated)
        return Change(taking.draft.writes(), answer)


def _name(runbook: Runbook | None) -> str | None:
    return None if runbook is None else runbook.runbook


@dataclass(slots=True)
class _Taking:
    """One notification being taken in, alert by alert."""

    op: Ingest
    draft: Draft
    touched: dict[str, None] = field(default_factory=dict)
    seen: dict[str, EpisodeRow] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    opened: int = 0
    fired: int = 0
    resolved: int = 0
    repeated: int = 0

    def _known(self, alert: Alert) -> EpisodeRow | None:
        """The fingerprint's episode as this notification has left it so far."""
        if alert.fingerprint in self.seen:
            return self.seen[alert.fingerprint]
        return self.draft.state.episode(self.op.raw.namespace, alert.fingerprint)

    def _keep(self, episode: EpisodeRow) -> None:
        self.seen[episode.fingerprint] = episode
        self.draft.keep(episode=episode)

    def _route(self, alert: Alert) -> Route:
        found = self.routes.get(alert.fingerprint)
        if found is None:
            found = self.routes[alert.fingerprint] = self.op.book.current.route(alert.labels)
        return found

    def load_ahead(self) -> None:
        """Name everything that beginnings and ends will ask for, so that it is loaded in one round."""
        namespace, begins, ends = self.op.raw.namespace, [], set()
        for alert in self.op.notification.alerts:
            known = self._known(alert)
            if known is not None and known.firing and not alert.firing:
                ends.add(known.incident)
            elif alert.firing and (known is None or not known.firing):
                begins.append(self._route(alert))
        scopes = [scopes_of(self.op.book, r.runbook, r.target) for r in begins if r.runbook is not None]
        scopes.append(frozenset(self._storms(begins)))
        keys = frozenset(open_key(namespace, _name(r.runbook), r.target) for r in begins)
        self.draft.state.want(Keys(frozenset(ends), open_keys=keys, scopes=frozenset().union(*scopes)))

    def _storms(self, begins: list[Route]) -> Iterator[str]:
        """The scopes in which those that begin may be counted; a severity's own policy is seen when it comes up."""
        rules = self.op.book.current
        names = {rules.policy_for(r.runbook, None, self.draft.now) for r in begins}
        yield from (storm_name(name) for name in names if rules.policy(name).storm is not None)
        if begins and self.op.book.automation.storm is not None:
            yield OPENINGS

    def check_doubts(self) -> None:
        doubtful = {a.fingerprint for a in self.op.notification.alerts if a.firing and _outdated(a, self._known(a))}
        if doubtful - self.op.asked:
            raise Doubtful(frozenset(doubtful))

    def take(self, alert: Alert) -> None:
        known = self._known(alert)
        if not alert.firing:
            self._end(alert, known)
        elif alert.fingerprint in self.op.gone:
            self.repeated += 1
        elif known is not None and known.firing:
            self.repeated += 1  # told again: the severity is a label, so another one is another fingerprint
        else:
            self._begin(alert)

    def _rise(self, incident_id: str, severity: str | None) -> None:
        incident = self.draft.incident(incident_id)
        if severity_rank(severity) <= severity_rank(incident.severity):
            return
        rules = self.op.book.rules(incident.rules_hash) or self.op.book.current
        runbook = self.draft.runbook_of(incident, None)
        policy = rules.policy_for(runbook, severity, self.draft.now, incident.labels)
        self._risen(incident, severity, policy)
        storm = None if incident.storm is None else self.draft.incident(incident.storm)
        if storm is not None and severity_rank(severity) > severity_rank(storm.severity):
            # People hear of it through the storm, on the ladder that is the incident's own by now, where the rules that
            # the storm began with have it.
            known = self.op.book.rules(storm.rules_hash) or self.op.book.current
            self._risen(storm, severity, policy if policy in known.policies else storm.policy)

    def _risen(self, incident: Incident, severity: str | None, policy: str) -> None:
        self.draft.record(incident.id, f.SeverityRose(before=incident.severity, severity=severity, policy=policy))
        self.touched[incident.id] = None

    def _begin(self, alert: Alert) -> None:
        self.fired += 1
        route = self._route(alert)
        key = open_key(self.op.raw.namespace, _name(route.runbook), route.target)
        found = self.draft.open_incident(key)
        incident_id = found.id if found is not None else self._open(alert, route)
        joined = found is not None
        self.draft.record(incident_id, self._firing(alert, joined))
        if joined:
            self._rise(incident_id, alert.severity)
        else:
            self._count(incident_id)
            self._problems(incident_id, alert, route)
            self._not_loaded(incident_id, alert, route)
        for problem in route.each_problems:
            # A value that only evidence needs: people are told, the run goes on (design 4).
            self.draft.record(incident_id, f.ProblemFound(problem=problem, urgent=True))
        self._remember(alert, incident_id)
        self.touched[incident_id] = None

    def _firing(self, alert: Alert, joined: bool) -> f.AlertFired:
        return f.AlertFired(
            fingerprint=alert.fingerprint,
            labels=dict(alert.labels),
            annotations=dict(alert.annotations),
            severity=alert.severity,
            starts_at=alert.starts_at,
            generator_url=alert.generator_url,
            joined=joined,
            found=self.op.raw.source == FOUND,
            elsewhere=self.op.notification.dialect is Dialect.GRAFANA,
        )

    def _count(self, incident_id: str) -> None:
        storm = join_storm(self.draft, incident_id, digest_id(f"{self.op.id}\nstorm\n{incident_id}"))
        if storm is not None:
            self.touched[storm] = None

    def _problems(self, incident_id: str, alert: Alert, route: Route) -> None:
        if route.problem is None:
            return
        # Without a runbook the severity's own policy says how urgent it is; everything else wakes people.
        quiet = route.runbook is None and "no runbook" in route.problem and alert.severity is not None
        self.draft.record(incident_id, f.ProblemFound(problem=route.problem, urgent=not quiet, blocks=True))

    def _not_loaded(self, incident_id: str, alert: Alert, route: Route) -> None:
        """Today's file of its runbook is broken: people are needed, whatever an older version does (design 4)."""
        for broken in self.op.book.broken:
            if not broken.answers(_name(route.runbook), alert.labels):
                continue
            instead = "none answers" if route.runbook is None else f"the last good {route.runbook.runbook} answers"
            name = broken.name or broken.file
            problem = f"runbook {name} could not be loaded, {instead}: {broken.problem}"
            self.draft.record(incident_id, f.ProblemFound(problem=problem))

    def _open(self, alert: Alert, route: Route) -> str:
        self.opened += 1
        fact = opening(self.op, alert, route, self.draft.now)
        self.draft.open(fact)
        return fact.id

    def _end(self, alert: Alert, known: EpisodeRow | None) -> None:
        if known is None or not known.firing:
            self.repeated += 1
            return
        self.resolved += 1
        found = self.op.raw.source == FOUND
        fact = f.AlertResolved(fingerprint=alert.fingerprint, ends_at=alert.ends_at, found=found)
        self.draft.record(known.incident, fact)
        ended = alert.ends_at if alert.ends_at is not None else self.draft.now
        self._keep(replace(known, firing=False, ended_at=ended))
        self.touched[known.incident] = None

    def _remember(self, alert: Alert, incident_id: str) -> None:
        row = EpisodeRow(
            namespace=self.op.raw.namespace,
            fingerprint=alert.fingerprint,
            incident=incident_id,
            firing=True,
            since=self.draft.now,
            starts_at=alert.starts_at,
            ended_at=None,
            severity=alert.severity,
        )
        self._keep(row)

    def bury(self, bad: BadAlert) -> None:
        """An alert that cannot be understood: kept, told, and the rest of its batch goes on (design 5.1).

        Who replays it has it, and reads the count of the unreadable in the answer; nobody else is told (design 5.2).
        """
        if self.op.raw.namespace != LIVE:
            return
        row = DeadLetterRow(
            id=f"{self.op.id}.{bad.index}",
            received_at=self.draft.now,
            source=self.op.raw.source,
            reason=bad.message,
            body=bad.json.encode("utf-8", "replace"),
        )
        self.touched[tell_unreadable(self.draft, row)] = None


def _outdated(alert: Alert, known: EpisodeRow | None) -> bool:
    """A firing that began before an end that is known already (contracts.md A5: order across peers is not given)."""
    if known is None or known.firing or known.ended_at is None or alert.starts_at is None:
        return False
    return alert.starts_at < known.ended_at


def opening(op: Ingest, alert: Alert, route: Route, now: int) -> f.Opened:
    """The first fact of a new incident, which begins at `now` (µs)."""
    rules, runbook = op.book.current, route.runbook
    namespace = op.raw.namespace
    links = dict(runbook.links) if runbook else {}
    for name in ("runbook_url", "dashboard_url", "panel_url", "silence_url"):
        if alert.annotations.get(name):
            links.setdefault(name.removesuffix("_url"), alert.annotations[name])
    return f.Opened(
        id=incident_id(op.id, namespace, _name(runbook), route.target),
        namespace=namespace,
        runbook=_name(runbook),
        rules_hash=rules.hash,
        policy=rules.policy_for(runbook, alert.severity, now, alert.labels),
        target=route.target,
        title=runbook.title if runbook else alert.annotations.get("summary", alert.name),
        impact=runbook.impact if runbook else alert.annotations.get("description", ""),
        severity=alert.severity,
        mode=runbook.mode if runbook else Mode.OBSERVE,
        labels={n: alert.labels[n] for n in ("alertname", "platform", "env", "service") if n in alert.labels},
        inputs=dict(route.inputs),
        links=links,
        channel=runbook.channel if runbook else None,
    )


def open_uncalled(
    draft: Draft, runbook: Runbook, target: str, inputs: Mapping[str, str], trigger: Trigger, actor: str = AUTHOR
) -> str:
    """Begin the incident of a run that no alert called for. Answers its id."""
    rules = draft.book.current
    fact = f.Opened(
        id=incident_id(draft.id, LIVE, runbook.runbook, target),
        runbook=runbook.runbook,
        rules_hash=rules.hash,
        policy=rules.policy_for(runbook, None, draft.now),
        target=target,
        title=runbook.title,
        impact=runbook.impact,
        severity=None,
        mode=runbook.mode,
        labels={},
        inputs=dict(inputs),
        links=dict(runbook.links),
        channel=runbook.channel,
        trigger=trigger,
    )
    draft.open(fact, actor)
    return fact.id


def incident_id(op_id: str, namespace: str, runbook: str | None, target: str) -> str:
    """Twelve letters and digits that a person can read out: a hash, so that doing it again gives the same."""
    return digest_id(f"{op_id}\n{open_key(namespace, runbook, target)}")


def digest_id(text: str) -> str:
    """An id that follows from `text` alone."""
    digest = hashlib.blake2s(text.encode(), digest_size=8).digest()
    return base64.b32encode(digest).decode().lower()[:12]


@dataclass(frozen=True, slots=True)
class News:
    """What the responder has to say about itself: one open incident for each `target`, closed by a person's word."""

    target: str
    title: str
    impact: str


UNREADABLE = News(
    "responder:unreadable",
    "A notification cannot be understood",
    "Alerts may be missed until this is mended",
)


def tell_news(draft: Draft, news: News, problem: str) -> str:
    """Open the incident for this news, or add to it, and page about it. Answers its id."""
    found = draft.open_incident(open_key(LIVE, None, news.target))
    if found is None:
        rules = draft.book.current
        fact = f.Opened(
            id=incident_id(draft.id, LIVE, None, news.target),
            runbook=None,
            rules_hash=rules.hash,
            policy=rules.default_policy,
            target=news.target,
            title=news.title,
            impact=news.impact,
            severity=None,
            mode=Mode.OBSERVE,
            labels={},
            inputs={},
        )
        draft.open(fact)
        found = draft.incident(fact.id)
    if len(found.problems) < NEWS_KEPT and problem not in found.problems:
        draft.record(found.id, f.ProblemFound(problem=problem), AUTHOR)
    return found.id


def tell_unreadable(draft: Draft, letter: DeadLetterRow) -> str:
    """Keep a dead letter and page about it. Answers the incident's id."""
    draft.keep(dead_letter=letter)
    return tell_news(draft, UNREADABLE, f"dead letter {letter.id} from {letter.source}: {letter.reason}")


@dataclass(frozen=True, slots=True)
class Bury:
    """Keep a body that cannot be understood as a whole, and page about it (design 5.1)."""

    id: str
    source: str
    reason: str
    body: bytes
    book: Book

    def reads(self) -> Keys:
        """The incident that tells about all of them."""
        return Keys(open_keys=frozenset({open_key(LIVE, None, UNREADABLE.target)}))

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        row = DeadLetterRow(self.id, state.now, self.source, self.reason, self.body)
        turn = draft.advance(tell_unreadable(draft, row))
        return Change(draft.writes(), turn)


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell people about the responder itself (rules that could not be loaded)."""

    id: str
    news: News
    problem: str
    book: Book

    def reads(self) -> Keys:
        """The incident about this."""
        return Keys(open_keys=frozenset({open_key(LIVE, None, self.news.target)}))

    def apply(self, state: State) -> Change[Turn]:
        """See the class."""
        draft = Draft(self.id, state, self.book)
        turn = draft.advance(tell_news(draft, self.news, self.problem))
        return Change(draft.writes(), turn)
