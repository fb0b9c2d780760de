"""Who must be woken when, said a second time: a small model of one incident's ladder, for comparing.

Written from design 5.2 and 5.7 and the docstrings of `Level`, `Policy` and `Repeat`, not from `escalation`: it runs one
clock per incident, which counts only while nobody has the incident, and tells a level when that clock reaches its time.
The process may be down: what comes then is told when it is back, at once, and everything that ends by time ends at its
own time all the same. Not here: runs, urgent reasons, storms, hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from responder.policies import severity_rank

ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Ladder:
    """A policy, in µs: `levels` are (after, destination)."""

    levels: tuple[tuple[int, str], ...]
    grace: int
    acknowledgement: int
    every: int = 0
    times: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """What is said at a time: a verb of people, `resolve`, or `rise` to a severity."""

    at: int
    verb: str
    actor: str = ""
    lasts: int = 0
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """One page that must arrive."""

    at: int
    destination: str
    why: str


@dataclass(slots=True)
class Model:
    """One incident from its opening on. `down`: from when until when no process ran, in order and apart."""

    ladders: dict[str, Ladder]
    down: Sequence[tuple[int, int]]
    opened: int
    severity: str
    told: list[Told] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """The times of words that make no sense and must be refused."""
    _since: int | None = None
    _counted: int = 0
    _done: dict[int, int] = field(default_factory=dict)
    _last_level: int = 0
    """What the clock showed when the last level was told: the ladder begins again so long after it."""
    _last_page: int = 0
    """When somebody was paged last: it begins again no sooner after that either."""
    _repeats: int = 0
    _has: Word | None = None
    _answered: int = 0
    """How many pages had been told when somebody last said that they have it."""
    _until: int = ENDLESS
    _taken: bool = False
    _closed: bool = False

    def __post_init__(self) -> None:
        self._since = self.opened

    def play(self, words: Sequence[Word], until: int) -> None:
        """Everything up to `until`."""
        for word in words:
            self._pass(word.at)
            self._hear(word)
        self._pass(until)

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def _ladder(self) -> Ladder:
        return self.ladders[self.severity]

    def _pass(self, until: int) -> None:
        while (following := min(self._coming(), default=None)) is not None and following[0] <= until:
            at, what, index = following
            getattr(self, f"_{what}")(at, index)

    def _coming(self) -> Iterator[tuple[int, str, int]]:
        """What comes by time alone: (its own time, what, index), in no order."""
        if self._closed:
            return
        if self._has is not None and (self._has.verb == "snooze" or not self._taken):
            yield self._until, "ends", 0
        if self._since is None or self._taken:
            return
        grace = 0 if self._repeats else self._ladder.grace
        for index, (after, _) in enumerate(self._ladder.levels):
            if index not in self._done:
                yield self._since + max(max(after, grace) - self._counted, 0), "level", index
        everyone = len(self._done) == len(self._ladder.levels)
        if everyone and self._repeats < self._ladder.times:
            left = self._last_level + self._ladder.every - self._counted
            yield max(self._since + left, self._last_page + self._ladder.every, self._since), "again", 0

    def _seen(self, at: int) -> int:
        """When it is noticed: the process may be down."""
        return next((back for gone, back in self.down if gone <= at < back), at)

    def _level(self, at: int, index: int) -> None:
        seen = self._seen(at)
        self._done[index] = self._last_page = seen
        self._last_level = self._counted + (0 if self._since is None else seen - self._since)
        self.told.append(Told(self._seen(at), self._ladder.levels[index][1], f"level {index}"))

    def _ends(self, at: int, _: int) -> None:
        """A snooze or an acknowledgement runs out: the clock goes on, and after the latter the same people hear it.

        Where nobody has been told yet, the first level comes by itself with what was left of the grace.
        """
        ran_out = self._has is not None and self._has.verb == "ack"
        self._has, self._until, self._since = None, ENDLESS, at
        if ran_out and self._done:
            self._last_page = self._seen(at)
            last = max(self._done, default=0)
            self.told.append(Told(self._seen(at), self._ladder.levels[last][1], "acknowledgement"))

    def _again(self, at: int, _: int) -> None:
        """Nobody answered: the ladder begins again, when that is noticed."""
        self._repeats += 1
        self._done, self._counted, self._since = {}, 0, self._seen(at)

    # --- words --------------------------------------------------------------------------------------------------------

    def _hear(self, word: Word) -> None:
        if self._closed:
            if word.verb not in ("resolve", "rise"):
                self.refused.append(word.at)
            return
        getattr(self, f"_hear_{word.verb}")(word)

    def _hear_ack(self, word: Word) -> None:
        same = self._has is not None and self._has.verb == "ack" and self._has.actor == word.actor
        if not same or len(self.told) > self._answered:
            self._hold(word, word.at + self._ladder.acknowledgement)

    def _hear_snooze(self, word: Word) -> None:
        if self._taken:
            self.refused.append(word.at)
        else:
            self._hold(word, word.at + word.lasts)

    def _hold(self, word: Word, until: int) -> None:
        """Somebody has it: the clock stands still."""
        if self._since is not None:
            self._counted += word.at - self._since
        self._has, self._until, self._since, self._answered = word, until, None, len(self.told)

    def _hear_escalate(self, word: Word) -> None:
        untold = [i for i in range(len(self._ladder.levels)) if i not in self._done]
        if untold:
            self._level(word.at, untold[0])
        else:
            self.refused.append(word.at)

    def _hear_takeover(self, word: Word) -> None:
        self._taken, self._answered = True, len(self.told)

    def _hear_resolve(self, word: Word) -> None:
        self._closed = True

    def _hear_rise(self, word: Word) -> None:
        """A higher severity's ladder and clock, also after an acknowledgement; who has taken it over keeps it."""
        if severity_rank(word.severity) <= severity_rank(self.severity):
            return
        self.severity, self._has, self._until = word.severity, None, ENDLESS
        self._done, self._counted, self._since, self._repeats = {}, 0, word.at, 0
