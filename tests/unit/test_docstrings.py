"""What editors and the reference say is what the docstrings say."""

from enum import StrEnum
from typing import ClassVar

from responder.contracts import Strict
from responder.docstrings import class_text, field_texts, summary


class Asked(Strict):
    """Ask a service (design 5.6).

    - `path`: where, which may
      go on below. `query`: what is asked, by name.
    - an entry that describes no field: `path`.

    The second paragraph goes on
    here.

    ```yaml
    path: /a
    query: b
    ```
    """

    path: str
    query: str = ""
    limit: int = 3
    """How many, which may
    go on below (contracts.md A1)."""
    kinds: ClassVar[tuple[str, ...]] = ()
    silent: str = ""


class AskedAgain(Asked):
    limit: int = 5
    """How many more."""


class Colour(StrEnum):
    RED = "red"
    """The colour of danger."""
    BLUE = "blue"


def test_paragraphs_are_lines_and_code_stays_as_it_is() -> None:
    assert class_text(Asked).splitlines() == [
        "Ask a service.",
        "",
        "- `path`: where, which may go on below. `query`: what is asked, by name.",
        "- an entry that describes no field: `path`.",
        "",
        "The second paragraph goes on here.",
        "",
        "```yaml",
        "path: /a",
        "query: b",
        "```",
    ]
    assert summary(Asked) == "Ask a service."
    assert class_text(AskedAgain) == ""


def test_fields_are_described_below_them_or_in_the_list_of_the_page() -> None:
    assert dict(field_texts(Asked)) == {
        "path": "Where, which may go on below.",
        "query": "What is asked, by name.",
        "limit": "How many, which may go on below.",
    }


def test_a_class_says_it_anew_and_inherits_the_rest() -> None:
    texts = field_texts(AskedAgain)
    assert (texts["path"], texts["limit"]) == ("Where, which may go on below.", "How many more.")


def test_members_of_an_enumeration() -> None:
    assert field_texts(Colour)["RED"] == "The colour of danger."
    assert "BLUE" not in field_texts(Colour)


def test_a_class_without_source_says_nothing() -> None:
    made = type("Made", (), {"__module__": "nowhere"})
    assert field_texts(made) == {}
