"""What Sentinels say about a master and its replicas, and what follows from it: who agrees, whom they would promote,
why a failover must not be sent. Pure.

Names and rules of Redis are those of its `sentinel.c` (7.0): a Sentinel that is told to fail over asks nobody, so
quorum, majority and patience are looked at here (contracts.md G).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from responder.redis_replies import Reply, list_of, pairs_of, text_of
from responder.timing import MILLISECOND, SECOND, humanize

_PING: Final = 1_000
"""How often a Sentinel pings, in milliseconds; without an answer for five times this a replica is not chosen."""
_INFO: Final = 10_000
"""How often it reads INFO, in milliseconds; three times this old (or five pings, of a master that is down) is too old.
"""


@dataclass(frozen=True, slots=True)
class MasterView:
    """The master as one Sentinel sees it (SENTINEL MASTER). All times are µs ago."""

    sentinel: str
    address: str
    epoch: int
    """The configuration epoch: it rises with every failover."""
    flags: frozenset[str]
    others: int
    """How many other Sentinels it knows."""
    down_after: int
    failover_timeout: int
    down_for: int
    """For how long it has called the master down, 0 when it does not."""
    silent_for: int
    """Since the last good answer to a ping."""
    role_for: int
    """For how long it has seen the master in its role. A failover begins it anew, and so does the Sentinel's own start:
    the last failover that it knows of was no later than this."""

    @property
    def down(self) -> bool:
        """Whether it calls the master down, by itself or with others."""
        return not self.flags.isdisjoint({"s_down", "o_down"})

    @property
    def in_progress(self) -> bool:
        """Whether it is failing over at present."""
        return "failover_in_progress" in self.flags


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """A replica as one Sentinel sees it (SENTINEL REPLICAS). All times are µs ago."""

    address: str
    runid: str
    flags: frozenset[str]
    priority: int
    offset: int
    silent_for: int
    info_age: int
    link_down_for: int
    follows: bool
    """It has said itself that it is a replica. A Sentinel takes an old master for one before it has asked it."""

    @property
    def gone(self) -> bool:
        """Whether it is called down, or is silent for as long as bars it from being chosen (sentinelSelectSlave)."""
        # Every entry begins as disconnected; after a ping's time it is none.
        cut_off = "disconnected" in self.flags and self.silent_for > _PING * MILLISECOND
        down = not self.flags.isdisjoint({"s_down", "o_down"})
        return down or cut_off or self.silent_for > 5 * _PING * MILLISECOND


def master_view(sentinel: str, reply: Reply) -> MasterView:
    """One Sentinel's answer to SENTINEL MASTER. What an answer lacks counts as 0."""
    found = _fields(reply)
    return MasterView(
        sentinel=sentinel,
        address=address_of(found),
        epoch=_number(found, "config-epoch"),
        flags=_flags(found),
        others=_number(found, "num-other-sentinels"),
        down_after=_time(found, "down-after-milliseconds"),
        failover_timeout=_time(found, "failover-timeout"),
        down_for=max(_time(found, "s-down-time"), _time(found, "o-down-time")),
        silent_for=_time(found, "last-ok-ping-reply"),
        role_for=_time(found, "role-reported-time"),
    )


def replica_views(reply: Reply) -> tuple[ReplicaView, ...]:
    """One Sentinel's answer to SENTINEL REPLICAS."""
    return tuple(
        ReplicaView(
            address=address_of(found),
            runid=found.get("runid", ""),
            flags=_flags(found),
            priority=_number(found, "slave-priority"),
            offset=_number(found, "slave-repl-offset"),
            silent_for=_time(found, "last-ok-ping-reply"),
            info_age=_time(found, "info-refresh"),
            link_down_for=_time(found, "master-link-down-time"),
            follows=found.get("role-reported") == "slave" and found.get("master-host", "?") not in {"", "?"},
        )
        for found in map(_fields, list_of(reply))
    )


def address_of(found: Mapping[str, str]) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    return joined(found.get("ip", ""), found.get("port", ""))


def joined(host: str, port: str) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fields(reply: Reply) -> dict[str, str]:
    return {text_of(name): text_of(value) for name, value in pairs_of(list_of(reply))}


def _flags(found: Mapping[str, str]) -> frozenset[str]:
    return frozenset(found.get("flags", "").split(","))


def _number(found: Mapping[str, str], name: str) -> int:
    text = found.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _time(found: Mapping[str, str], name: str) -> int:
    return _number(found, name) * MILLISECOND


# --- what they say together -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Views:
    """What the Sentinels say: `heard` in the order of the configuration; `silent`: why the others said nothing."""

    heard: tuple[MasterView, ...]
    silent: Mapping[str, str]

    @property
    def total(self) -> int:
        """How many Sentinels there are, also those that nobody has configured here."""
        return max([len(self.heard) + len(self.silent), *(view.others + 1 for view in self.heard)])

    @property
    def needed(self) -> int:
        """How many are a majority."""
        return self.total // 2 + 1

    @property
    def address(self) -> str:
        """The master's address by a majority, "" without one."""
        address, count = _most([view.address for view in self.heard])
        return address if count >= self.needed else ""

    @property
    def epoch(self) -> int:
        """The highest configuration epoch among those that agree on the address."""
        return max((view.epoch for view in self.heard if view.address == self.address), default=0)

    @property
    def down(self) -> int:
        """How many call the master down."""
        return sum(view.down for view in self.heard)

    @property
    def in_progress(self) -> tuple[str, ...]:
        """Those that are failing over."""
        return tuple(view.sentinel for view in self.heard if view.in_progress)

    @property
    def down_for(self) -> int:
        """For how long a majority has called the master down, µs; 0 when it does not."""
        return _agreed_on([view.down_for if view.down else 0 for view in self.heard], self.needed)

    @property
    def down_after(self) -> int:
        """How long a master is silent until a majority calls it down, µs; 0 where too few answer."""
        times = sorted(view.down_after for view in self.heard)
        return times[self.needed - 1] if len(times) >= self.needed else 0

    @property
    def quiet_for(self) -> int:
        """The time for which a majority knows of no failover, µs. It may have been longer."""
        return _agreed_on([view.role_for for view in self.heard], self.needed)

    @property
    def failover_timeout(self) -> int:
        """The longest that is configured, µs."""
        return max((view.failover_timeout for view in self.heard), default=0)

    def by(self, sentinel: str) -> MasterView | None:
        """What this Sentinel says, None when it says nothing."""
        return next((view for view in self.heard if view.sentinel == sentinel), None)

    def missing(self) -> str:
        """Why there is no majority, for people."""
        said = ", ".join(f"{view.sentinel} says {view.address}" for view in self.heard) or "none answers"
        silent = "; ".join(f"{name}: {why}" for name, why in self.silent.items())
        return f"{self.needed} of {self.total} Sentinels must agree: {said}{f' ({silent})' if silent else ''}"


def _most(texts: Sequence[str]) -> tuple[str, int]:
    return Counter(texts).most_common(1)[0] if texts else ("", 0)


def _agreed_on(times: Sequence[int], needed: int) -> int:
    """The time that `needed` of them reach; 0 where they are too few."""
    return sorted(times, reverse=True)[needed - 1] if len(times) >= needed else 0


# --- whom they would promote ------------------------------------------------------------------------------------------


def unfit(replica: ReplicaView, master: MasterView) -> str:
    """Why a Sentinel would not promote this replica, "" when it would (sentinelSelectSlave)."""
    old = (5 * _PING if master.down else 3 * _INFO) * MILLISECOND
    longest = 10 * master.down_after + master.down_for
    found = (
        (not replica.flags.isdisjoint({"s_down", "o_down", "disconnected"}), "it is down"),
        (replica.silent_for > 5 * _PING * MILLISECOND, f"no answer for {humanize(replica.silent_for)}"),
        (replica.priority == 0, "its replica-priority is 0"),
        (replica.info_age > old, f"nothing is known of it for {humanize(replica.info_age)}"),
        (replica.link_down_for > longest, f"its link was down {humanize(replica.link_down_for)}"),
    )
    return next((why for holds, why in found if holds), "")


def expected_choice(replicas: Sequence[ReplicaView], master: MasterView) -> ReplicaView | None:
    """The replica that the Sentinel would promote: lowest priority, then highest offset, then lowest run id."""
    fit = [replica for replica in replicas if not unfit(replica, master)]
    return min(fit, key=lambda one: (one.priority, -one.offset, one.runid), default=None)


def nobody_fit(replicas: Sequence[ReplicaView], master: MasterView) -> str:
    """Why none of them would be promoted, for people."""
    said = ", ".join(f"{replica.address}: {unfit(replica, master)}" for replica in replicas)
    return said or "the Sentinel knows no replica"


# --- why it must not be sent ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a failover must not be sent now. `wait`: after how long it may, µs, 0 when nobody knows."""

    why: str
    wait: int = 0


def obstacle(views: Views, *, planned: bool, patience: int, apart: int | None) -> Obstacle | None:
    """What the Sentinels' views say against a failover, None for nothing. `patience`: how long they have for their own;
    `apart`: the least time between two (µs), by default twice their failover-timeout."""
    if not views.address:
        return Obstacle(f"{views.missing()}; start those that are down, and name all under `sentinels`")
    if views.in_progress:
        return Obstacle(f"a failover is in progress ({', '.join(views.in_progress)}); wait for its end")
    if not planned and not views.down:
        said = f"no Sentinel calls {views.address} down yet, which they do {humanize(views.down_after)} after its last"
        return Obstacle(f"{said} answer (down-after-milliseconds); if that is over, look whether only we miss it")
    if not planned and views.down < views.needed:
        said = f"only {views.down} of {views.total} Sentinels call {views.address} down, {views.needed} must"
        return Obstacle(f"{said}; look at the network between them and the master")
    if not planned and views.down_for < patience:
        said = f"a majority has called {views.address} down for {humanize(views.down_for)}"
        return Obstacle(f"{said}; the Sentinels have {humanize(patience)} for their own", patience - views.down_for)
    least = 2 * views.failover_timeout if apart is None else apart
    if views.epoch and views.quiet_for < least:
        said = f"the last failover (epoch {views.epoch}) may be only {humanize(views.quiet_for)} old"
        return Obstacle(f"{said}; two are {humanize(least)} apart: look why it is down again", least - views.quiet_for)
    return None


# --- whether the old master is out of the way -------------------------------------------------------------------------


def yielded(old: str, views: Views, known: Mapping[str, Sequence[ReplicaView]]) -> int:
    """How many Sentinels see that the server at `old` takes no writes any more: it has said that it is a replica, or is
    gone for them too. `known`: the replicas by the Sentinel that tells of them. One that still names it as the master
    counts when it calls it down."""
    as_replica = sum(any(r.address == old and (r.follows or r.gone) for r in told) for told in known.values())
    return as_replica + sum(view.address == old and view.down for view in views.heard)


# --- what it costs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Behind:
    """How far the replica is behind. `offset`: what it compares with, and `master` whether that is the master itself
    rather than the farthest replica."""

    bytes: int
    lag: int
    master: bool

    def said(self) -> str:
        """For people, in a preview."""
        if self.master:
            return f"{self.bytes} bytes behind the master, heard of it {humanize(self.lag)} ago"
        cut_off = f"cut off {humanize(self.lag)} before the master went silent"
        alone = f"{self.bytes} bytes behind the farthest replica, {cut_off}"
        return f"{alone}; the master does not answer, so what it had not sent yet is lost and cannot be told"


def behind(
    info: Mapping[str, object], master: MasterView, master_offset: int | None, replicas: Sequence[ReplicaView]
) -> Behind:
    """How far a replica is behind, by its own INFO (`replication`), the master's offset where it answers, else the
    offset of the farthest replica. `lag` in µs: since it heard of the master, or lost its link, less the time for which
    a master that is down has not answered the Sentinel: the outage itself is no lag, also where the master hangs and
    its links stay up."""
    own = _int(info, "slave_repl_offset")
    farthest = max([own, *(replica.offset for replica in replicas)])
    missing = max(0, (farthest if master_offset is None else master_offset) - own)
    linked = info.get("master_link_status") == "up"
    since = _int(info, "master_last_io_seconds_ago" if linked else "master_link_down_since_seconds") * SECOND
    outage = 0 if linked and not master.down else master.silent_for
    return Behind(missing, max(0, since - outage), master_offset is not None)


def _int(info: Mapping[str, object], name: str) -> int:
    value = info.get(name)
    return int(value) if isinstance(value, int | float) and value > 0 else 0
