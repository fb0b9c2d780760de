"""The demo's screen: whole lines, folded under their own text, coloured only where that is shown."""

from __future__ import annotations

import io

import pytest

from responder.demo.timeline import Timeline


def shown(*texts: str, columns: int = 80, colours: bool = False) -> list[str]:
    output = io.StringIO()
    timeline = Timeline(output, columns, colours=colours)
    for text in texts:
        timeline.write(text)
    return output.getvalue().splitlines()


def test_a_line_appears_once_it_is_complete() -> None:
    assert shown("17:00:00    the ", "cut") == []
    assert shown("17:00:00    the ", "cut\n17:00:01") == ["17:00:00    the cut"]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_long_line_is_folded_under_its_text(columns: int) -> None:
    lines = shown("17:00:00    " + "word " * 40 + "\n", columns=columns)
    assert len(lines) > 1
    assert max(map(len, lines)) <= columns
    assert all(line.startswith(" " * 12 + "word") for line in lines[1:])
    assert " ".join(lines).split() == ["17:00:00", *["word"] * 40]


def test_an_indented_line_is_folded_under_its_indent() -> None:
    first, second = shown("  " + "word " * 20 + "\n")
    assert (first[:3], second[:3]) == ("  w", "  w")


def test_wider_terminals_get_no_longer_lines() -> None:
    assert max(map(len, shown("word " * 60 + "\n", columns=200))) <= 80


def test_pages_are_red_and_only_where_colours_are_shown() -> None:
    page = "17:00:00 PAGE → pm: VaR\n"
    assert shown(page) == [page.rstrip()]
    assert shown(page, colours=True)[0].startswith("\033[1;31m17:00:00 PAGE")
    assert shown("17:00:00    a PAGE elsewhere\n", colours=True) == ["17:00:00    a PAGE elsewhere"]
