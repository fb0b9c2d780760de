"""The HTML file of a replay: complete, harmless whatever a label holds, loading nothing, readable by everybody."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from responder import facts as f
from responder.alert import Alert
from responder.assumptions import Assumption
from responder.cli.replay_page import page
from responder.cli.replay_rows import rows
from responder.cli.replay_strip import Scale, scale_of, strip_of
from responder.cli.replayed import Answered, Replay
from responder.incident import Incident
from responder.journal import fold
from responder.notifiers import shipped_templates
from responder.recorded import Answer, Result, StepStatus, Verdict
from responder.tales import Line, Page, Tale
from responder.timing import HOUR, MINUTE, SECOND
from tests.builders import T0, a_plan, fired, intended, opened, started

VOID = {"meta", "br", "img", "link", "input", "base"}
LOADS = {"src", "href", "xlink:href", "data", "action"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><base href='http://bad.example'>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "java\u202escript\u0000\u2066:x\ud800",
    "' onmouseover='alert(1)",
    "x" * 300,
)


def tale(number: int = 1, label: str = "BTC-USD", result: Result | None = Result.FIXED) -> Tale:
    """An incident that cuts, warns at a gate, is paged twice, and ends."""
    warns = (Verdict(gate="runs", answer=Answer.ALLOW, reason="0 runs"),
             Verdict(gate="only_if", answer=Answer.ALLOW, reason=f"no data for {label}", warn=True))  # fmt: skip
    plan = a_plan(params={"to": 0.1, "reason": label, "none": None}, preview=f"{label} down to 0.1")
    known = f"a{number}"
    facts: list[tuple[int, f.Fact]] = [
        (0, opened(id=f"i{number}", title=f"Risk of {label}", impact=label, target=f"api/{label}")),
        (0, fired(known, labels={"alertname": "Risk", "symbol": label})),
        (0, started()),
        (0, intended(plan=plan, verdicts=warns)),
        (1, f.StepEnded(run=1, step="cut", status=StepStatus.DONE)),
        (1, f.Verifying(run=1)),
        (120, f.LevelReached(round=0, index=0, name=f"L1 {label}", page=("pm",), why="not fixed")),
        (240, f.MachineAnnounced(round=0, index=0, runbook="halt", at=T0 + 300 * SECOND)),
    ]
    if result is not None:
        facts += [(900, f.RunEnded(run=1, result=result, why=label)), (900, f.Closed(why=label))]
    events = [
        f.Event(id=f"i{number}.{n}", incident=f"i{number}", seq=n, at=T0 + at * SECOND, actor="responder", fact=fact)
        for n, (at, fact) in enumerate(facts, 1)
    ]
    state = fold(events)
    assert isinstance(state, Incident)
    lines = tuple(Line(e.at - T0, e, f"{e.fact.kind} of {label}") for e in events)
    pages = tuple(Page(120 * SECOND, who, f"not fixed {label}", f"[critical] {label}") for who in ("pm", "cro"))
    return Tale(state, lines, pages)


def replay(*tales: Tale, label: str = "BTC-USD", file: str = "") -> Replay:
    alerts = tuple(
        Answered(
            alert=Alert(labels={"alertname": "Risk", "symbol": label}, annotations={}, firing=True, starts_at=None,
                        ends_at=None, generator_url="", fingerprint=f"a{number}"),
            runbook="cut", matchers=(f'symbol="{label}"',), target=f"api/{label}", inputs={"symbol": label}, each={},
            problems=(label,) if len(label) > 10 else (),
        )
        for number in range(1, len(tales) + 1)
    )  # fmt: skip
    return Replay(Assumption.FIXED, alerts, tales, quiet=True, start=T0, file=file)


class Reader(HTMLParser):
    """Reads a page strictly: every element that begins must end, in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says {names} twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> ends nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@cache
def written(count: int = 1, label: str = "BTC-USD") -> str:
    return page(replay(*(tale(number, label) for number in range(1, count + 1)), label=label))


@pytest.mark.parametrize("label", HOSTILE)
def test_whatever_a_label_holds_is_text(label: str) -> None:
    honest, hostile = read(written()), read(written(label=label))
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in honest.tags}
    names = {name for _, attributes in hostile.tags for name in attributes}
    assert names <= {name for _, attributes in honest.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    visible = re.sub("[\u0000\u202e\u2066\ud800]", "", label)
    assert visible in hostile.shown


@pytest.mark.parametrize("label", HOSTILE)
def test_nothing_invisible_and_nothing_that_utf8_cannot_write(label: str) -> None:
    text = written(label=label)
    assert not re.search("[\u0000\u202a-\u202e\u2066-\u2069]", text)
    assert text.encode().decode() == text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_loads_nothing_and_runs_nothing(count: int) -> None:
    text = written(count)
    reader = read(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in reader.tags}
    addresses = [
        v for _, a in reader.tags for n, v in a.items() if n in ("src", "href", "xlink:href", "data", "action")
    ]
    assert all(address is not None and address.startswith("#") for address in addresses)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert any(a.get("http-equiv") == "Content-Security-Policy" for _, a in reader.tags)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_it_is_in_order_for_everybody(count: int) -> None:
    reader = read(written(count))
    assert dict(reader.tags)["html"] == {"lang": "en"}
    assert [tag for tag, _ in reader.tags].count("title") == 1
    headings = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    assert all("scope" in attributes for tag, attributes in reader.tags if tag == "th")
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    pointed = {(a.get("href") or "#")[1:] for tag, a in reader.tags if tag in ("a", "use")}
    assert pointed <= set(ids)
    assert {a["aria-labelledby"] for _, a in reader.tags if "aria-labelledby" in a} <= set(ids)
    assert all(a.get("aria-hidden") == "true" for tag, a in reader.tags if tag == "svg")


def test_the_times_of_the_index_have_room() -> None:
    foot = written(2).split("<tfoot")[1].split("</tfoot>")[0]
    times = re.findall(r"left:([\d.]+)%\">(\S+?)<", foot)
    assert [text for _, text in times] == ["+0:00", "+1:00", "+5:00", "+15:00"]
    assert "minor" not in foot


def test_several_incidents_have_an_index() -> None:
    assert "<nav" not in written(1)
    reader = read(written(60))
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    assert links == [f"#incident-{number}" for number in range(1, 61)]


def test_what_a_stranger_must_see() -> None:
    shown = read(written()).shown
    for said in ("Simulated: nothing was touched", "changes work and help", "Good: every alert has a runbook",
                 'symbol="BTC-USD"', "1 gate allows, only_if warns", "reason BTC-USD", "pm, cro: not fixed BTC-USD",
                 "What the page says", "[critical] BTC-USD", "11m 00s later", "closed: BTC-USD"):  # fmt: skip
        assert said in shown


def test_what_is_not_good_is_said_with_its_reason_and_an_icon() -> None:
    text = page(replay(tale(result=Result.INEFFECTIVE)))
    shown = read(text).shown
    assert "Not good" in shown
    assert "cut ended ineffective" in shown
    assert "#icon-bad" in text
    assert "nothing happens" in read(page(replay())).shown


def test_rows_are_in_the_order_of_time_and_pages_are_among_them() -> None:
    found = rows(tale(), {5: ("answers.yaml:4",)})
    assert [row.offset for row in found] == sorted(row.offset for row in found)
    (paged,) = (row for row in found if row.look.tag == "Page")
    assert paged.text == "pm, cro: not fixed BTC-USD"
    assert [row.by for row in found if row.by] == ["answers.yaml:4"]
    gaps = [row.gap for row in found if row.gap]
    assert gaps == ["1m 59s later", "2m 00s later", "11m 00s later"]
    assert sorted(row.pixels for row in found if row.gap) == [row.pixels for row in found if row.gap]


def test_many_alerts_of_one_second_are_one_row() -> None:
    one = tale()
    joined = Line(0, one.lines[1].event, "another fires")
    found = rows(Tale(one.incident, (*one.lines[:2], *[joined] * 3, *one.lines[2:]), ()), {})
    assert [len(row.more) for row in found if row.look.tag == "Alert"] == [0, 0]
    others = tuple(Line(0, one.lines[1].event, f"{n} fires") for n in range(9))
    found = rows(Tale(one.incident, (*one.lines[:2], *others, *one.lines[2:]), ()), {})
    assert [len(row.more) for row in found if row.look.tag == "Alert"] == [9]


def test_the_strip_shows_each_phase_at_its_place() -> None:
    one = tale()
    strip = strip_of(one, scale_of([one]))
    lanes = {lane.name: lane for lane in strip.lanes}
    assert list(lanes) == ["Alert fires", "cut", "Countdown", "Levels", "Pages"]
    assert [s.phase for s in lanes["cut"].stretches] == ["acting", "verifying"]
    assert [(m.phase, m.text) for m in lanes["cut"].marks] == [("change", ""), ("result", "fixed")]
    assert lanes["Pages"].marks[0].text == "pm, cro"
    places = [p for lane in strip.lanes for s in lane.stretches for p in (s.left, s.left + s.width)]
    assert all(0 <= place <= 100.01 for place in places)


@pytest.mark.parametrize("span", [SECOND, 59 * SECOND, 10 * MINUTE, 11 * MINUTE, HOUR, 40 * 24 * HOUR])
def test_times_of_a_strip_do_not_touch(span: int) -> None:
    scale = Scale(span)
    for minor, character in ((True, 1.6), (False, 3.8)):
        times = [time for time in scale.times() if minor or not time.minor]
        assert times[0].left == 0
        for one, two in pairwise(times):
            right = one.left + character * len(one.text) / 2
            assert two.left - character * len(two.text) * (0.85 if two.left > 90 else 0.5) >= right
    assert scale.bent is (span > 10 * MINUTE)


def test_a_run_that_is_not_over_reaches_the_end() -> None:
    one = tale(result=None)
    cut = next(lane for lane in strip_of(one, Scale(HOUR)).lanes if lane.name == "cut")
    assert cut.stretches[-1].left + cut.stretches[-1].width == pytest.approx(100)
    assert "not over" in read(page(replay(one))).shown


def colours(style: str) -> dict[str, str]:
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{3,6})\b", style)
    return {name: f"#{value if len(value) == 6 else ''.join(c * 2 for c in value)}" for name, value in found}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_it_stands_on(dark: bool) -> None:
    style = (shipped_templates() / "web" / "replay_style.html.j2").read_text()
    light, night = style.split("@media (prefers-color-scheme: dark)")[:2]
    known = colours(night.split("} }")[0] if dark else light)
    grounds = {"ink": ("back", "sheet", "good-back", "warn-back", "bad-back", "change-back"),
               "dim": ("back", "sheet", "change-back", "bad-back"), "link": ("back", "change-back", "bad-back"),
               "good": ("back", "good-back", "change-back"), "warn": ("back", "warn-back", "change-back"),
               "bad": ("back", "bad-back"), "change": ("back", "change-back")}  # fmt: skip
    for ink, backs in grounds.items():
        for back in backs:
            bright, faint = sorted((luminance(known[ink]), luminance(known[back])), reverse=True)
            assert (bright + 0.05) / (faint + 0.05) >= 4.5, f"{ink} on {back}"


def test_an_answers_file_is_named() -> None:
    told = page(replay(tale(), file="answers<b>.yaml"))
    assert "answers&lt;b&gt;.yaml" in told
