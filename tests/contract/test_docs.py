"""The documentation is true: what guides show is what happens, made pages are as the code is, links lead somewhere."""

import re
from pathlib import Path

import pytest

from responder.manual import slug
from tests.documentation import GUIDES, MADE, MISTAKES, TWENTY, Block, Differs, blocks, current, played, refused
from tests.provision import CHECKOUT

PAGES = sorted([*(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "README.md"])
RUNBOOK = """```yaml file=my/halt.yaml
runbook: halt
title: Halt
match: Halt
target: trading
```
"""


@pytest.mark.parametrize("name", [*MADE, *GUIDES])
def test_a_page_says_what_is(name: str) -> None:
    assert (CHECKOUT / name).read_text(encoding="utf-8") == current(name), "run: make reference"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]+)?\)", page.read_text(encoding="utf-8")):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in {slug(title) for title in titles}, anchor


def test_there_are_twenty_mistakes_and_each_has_its_file() -> None:
    assert len(TWENTY) + 1 == 20
    assert [name for name in TWENTY if not (MISTAKES / f"{name}.yaml").is_file()] == []


def test_every_runbook_of_the_cookbook_has_its_recipe() -> None:
    page = (CHECKOUT / "docs" / "cookbook.md").read_text(encoding="utf-8")
    files = [block.options["file"] for block in blocks(page) if block.options.get("file", "").startswith("my-rules/")]
    assert len(set(files)) == len(files) > 15


# --- how guides are played --------------------------------------------------------------------------------------------


def test_blocks_are_told_with_their_place_and_options() -> None:
    page = "# T\n```yaml file=a.yaml\na: 1\n```\n\n    ```not\n    a block\n    ```\n```console status=1\n$ x\n```\n"
    assert list(blocks(page)) == [
        Block("yaml", {"file": "a.yaml"}, ("a: 1",), 3),
        Block("console", {"status": "1"}, ("$ x",), 10),
    ]


def test_what_is_printed_takes_the_place_of_what_is_shown() -> None:
    page = f"{RUNBOOK}```console\n$ responder explain \\\n    --alert Halt\nsomething old\n```\nmore\n"
    with pytest.raises(Differs, match="line 8: the last command ended with status 1"):
        played(page)  # without a configuration there are no rules
    whole = "```yaml file=responder.yaml\nrules: [./my]\n```\n" + page
    lines = played(whole.replace("console", "console status=1")).splitlines()
    assert lines[:9] == whole.splitlines()[:9]
    assert "Explained offline, as of 2026-11-20 10:00:00 UTC: nothing was asked or touched." in lines
    assert "something old" not in lines
    assert lines[-2:] == ["```", "more"]


def test_an_edit_must_fit_the_file() -> None:
    edit = "```diff file=my/halt.yaml\n title: Halt\n-match: {0}\n+match: Stop\n```\n"
    assert played(RUNBOOK + edit.format("Halt")) == RUNBOOK + edit.format("Halt")
    with pytest.raises(Differs, match=r"do not stand in my/halt\.yaml once"):
        played(RUNBOOK + edit.format("Other"))


def test_only_the_responder_is_run() -> None:
    with pytest.raises(Differs, match="only responder is run here, not rm"):
        played("```console\n$ rm -r .\n```\n")


def test_a_mistake_that_is_none_any_more_is_told() -> None:
    with pytest.raises(Differs, match="there is no mistake any more"):
        refused({"a.yaml": "runbook: a\ntitle: A\nmatch: A\ntarget: a\n"})
