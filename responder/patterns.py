"""Regular expressions over whole label values, matched in linear time whatever the pattern and the value.

Label values come from outside, and one that is slow to match would stop everything. Python's `re` backtracks, so a
harmless looking `(a|aa)+b` doubles its time with every two characters; refusing whatever may be slow was rejected,
because patterns that Alertmanager takes would then not be ours. A pattern becomes a small automaton (Thompson's) whose
states are computed when first met and remembered. The bindings of RE2 itself were rejected: a compiled extension that
lacks wheels for some platforms, for strings of thirty characters. Not here: searching, groups that capture.
"""

from collections.abc import Collection, Iterable
from typing import Final

from responder.errors import BadSyntax
from responder.regex_syntax import Anchor, Chars, Choice, Node, Repeat, Sequence, parse_regex

_MAX_PROGRAM: Final = 2_000  # instructions: the bound on work for one character, met by repetitions of repetitions
_MAX_REMEMBERED: Final = 10_000  # steps kept by one pattern: about a megabyte, then forgotten and computed again
_MAX_LITERALS: Final = 1_000

Jump = tuple[int, ...]
"""Go on at each of these instructions; every other instruction goes on at the one after it."""
Instruction = Chars | Anchor | Jump


class _State:
    """A set of instructions waiting for a character, and where each character met so far led."""

    __slots__ = ("after", "final", "waiting")

    def __init__(self, waiting: frozenset[int], final: bool) -> None:
        self.waiting = waiting
        self.final = final
        self.after: dict[str, _State] = {}


class Pattern:
    """A compiled regular expression; equal and hashed by its text. Make it with compile_pattern.

    `literals` holds every value that matches where these are few (`critical|high`), else None.
    """

    __slots__ = ("_ends", "_program", "_remembered", "_start", "_states", "literals", "text", "tree")

    def __init__(self, text: str, tree: Node, literals: frozenset[str] | None, program: list[Instruction]) -> None:
        self.text = text
        self.tree = tree
        self.literals = literals
        self._program = program
        self._ends = frozenset(at for at, part in enumerate(program) if part is Anchor.END)
        self._forget()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, value: str) -> bool:
        """Whether the whole value matches."""
        if self.literals is not None:
            return value in self.literals
        state = self._start
        for char in value:
            state = state.after.get(char) or self._step(state, char)
            if not state.waiting:
                return False
        return state.final

    def _forget(self) -> None:
        self._states: dict[frozenset[int], _State] = {}
        self._remembered = 0
        # Reached only before the first character, so anchors are judged here once and never again.
        self._start = _State(self._closure([0], begin=True), self._is_final([0], begin=True))

    def _step(self, state: _State, char: str) -> _State:
        program, accepted, moved = self._program, dict[int, bool](), []
        for at in state.waiting:
            part = program[at] if at < len(program) else None
            if isinstance(part, Chars):
                # A counted part stands in the program many times, so each is asked once.
                answer = accepted.get(id(part))
                if answer is None:
                    answer = accepted[id(part)] = part.accepts(char)
                if answer:
                    moved.append(at + 1)
        waiting = self._closure(moved, begin=False)
        if self._remembered >= _MAX_REMEMBERED:
            self._forget()
        reached = self._states.get(waiting)
        if reached is None:
            reached = self._states[waiting] = _State(waiting, self._is_final(waiting, begin=False))
        state.after[char] = reached
        self._remembered += 1
        return reached

    def _is_final(self, waiting: Collection[int], *, begin: bool) -> bool:
        last = len(self._program)
        if last in waiting or (not begin and self._ends.isdisjoint(waiting)):
            return last in waiting
        return last in self._closure(waiting, begin=begin, end=True)

    def _closure(self, starts: Iterable[int], *, begin: bool, end: bool = False) -> frozenset[int]:
        """Where a character is waited for after all moves that need none; an END that is not yet true waits too."""
        program, todo, seen = self._program, list(starts), set[int]()
        waiting = []
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen.add(at)
            part = program[at] if at < len(program) else None
            if isinstance(part, tuple):
                todo.extend(part)
            elif part is Anchor.START:
                todo.extend([at + 1] if begin else ())
            else:
                waiting.append(at)
                todo.extend([at + 1] if end and part is Anchor.END else ())
        return frozenset(waiting)


def compile_pattern(text: str) -> Pattern:
    """The pattern of a regular expression in RE2's syntax. Raises BadSyntax where RE2 would, or it grows too large."""
    tree = parse_regex(text)
    literals = _language(_without_outer_anchors(tree))
    program: list[Instruction] = []
    if literals is None:
        _emit(tree, program, text)
    return Pattern(text, tree, literals, program)


def example(pattern: Pattern) -> str:
    """A short value that probably matches; the caller must try it (anchors in odd places can make it wrong)."""
    return _example(pattern.tree)


def _emit(node: Node, program: list[Instruction], text: str) -> None:
    if len(program) > _MAX_PROGRAM:
        raise BadSyntax("a pattern that grows too large", text, 1, "use smaller counts in {low,high}")
    if isinstance(node, Chars | Anchor):
        program.append(node)
    elif isinstance(node, Sequence):
        for part in node.parts:
            _emit(part, program, text)
    elif isinstance(node, Choice):
        _emit_choice(node, program, text)
    else:
        _emit_repeat(node, program, text)


def _emit_choice(node: Choice, program: list[Instruction], text: str) -> None:
    fork = len(program)
    program.append(())
    starts, ends = [], []
    for part in node.parts:
        starts.append(len(program))
        _emit(part, program, text)
        ends.append(len(program))
        program.append(())
    program[fork] = tuple(starts)
    for end in ends:
        program[end] = (len(program),)


def _emit_repeat(node: Repeat, program: list[Instruction], text: str) -> None:
    for _ in range(node.low):
        before = len(program)
        _emit(node.part, program, text)
        if len(program) == before:
            break  # an empty part a billion times, as in ((){1000}){1000}
    forks = []
    for _ in range(1 if node.high is None else node.high - node.low):
        forks.append(len(program))
        program.append(())
        _emit(node.part, program, text)
    if node.high is None:
        program.append((forks[0],))
    for fork in forks:
        program[fork] = (fork + 1, len(program))


def _without_outer_anchors(node: Node) -> Node:
    """`^a|b$` keeps its anchors (they belong to one side), `^(a|b)$` loses them: the whole value is matched anyway."""
    if node in (Anchor.START, Anchor.END):
        return Sequence(())
    if not isinstance(node, Sequence):
        return node
    parts = node.parts[1:] if node.parts[:1] == (Anchor.START,) else node.parts
    return Sequence(parts[:-1] if parts[-1:] == (Anchor.END,) else parts)


def _language(node: Node) -> frozenset[str] | None:
    """Every text of the tree where these are at most _MAX_LITERALS, else None."""
    if isinstance(node, Chars):
        size = sum(high - low + 1 for low, high in node.ranges)
        if node.negated or node.fold or size > _MAX_LITERALS:
            return None
        return frozenset(chr(code) for low, high in node.ranges for code in range(low, high + 1))
    if isinstance(node, Sequence):
        return _joined(node.parts)
    if isinstance(node, Choice):
        return _united(node.parts)
    if isinstance(node, Repeat) and node.high == 1:
        return _united((node.part,) if node.low else (node.part, Sequence(())))
    return None


def _united(parts: tuple[Node, ...]) -> frozenset[str] | None:
    texts = frozenset[str]()
    for part in parts:
        found = _language(part)
        if found is None or len(texts := texts | found) > _MAX_LITERALS:
            return None
    return texts


def _joined(parts: tuple[Node, ...]) -> frozenset[str] | None:
    texts = frozenset({""})
    for part in parts:
        found = _language(part)
        if found is None or len(texts) * len(found) > _MAX_LITERALS:
            return None
        texts = frozenset(head + tail for head in texts for tail in found)
    return texts


def _example(node: Node) -> str:
    if isinstance(node, Chars):
        likely = "a0A-_ " if node.negated else [chr(low) for low, _ in node.ranges]
        return next((char for char in likely if node.accepts(char)), "\u00e9")
    if isinstance(node, Sequence):
        return "".join(_example(part) for part in node.parts)
    if isinstance(node, Choice):
        return _example(node.parts[0])
    return _example(node.part) * node.low if isinstance(node, Repeat) else ""
