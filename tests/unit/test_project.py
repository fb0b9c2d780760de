"""Rules of the project that no other tool checks: sizes, names, and what a tracked file must not hold."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import responder
from tests.provision import CHECKOUT

LONGEST_MODULE = 500  # lines
FORBIDDEN_NAMES = {"base", "common", "core", "helpers", "manager", "utils"}
# Written in two parts, so that this file does not hold what it forbids.
REGISTRY_HOSTS = re.compile(
    "|".join(map(re.escape, ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "crates" + ".io")))
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.$})])/(?:"
    + "|".join(("root" + "/", "home" + "/[a-z]", "work" + "/", "Users" + "/", "opt" + "/pypi"))
    + ")"
)
NOT_OURS = {"LICENSE"}
SUFFIXES_WITHOUT_TEXT = {".db", ".gif", ".gz", ".ico", ".jpg", ".png", ".svg", ".webp"}


def project_files() -> list[Path]:
    """What is tracked or about to be; where git does not answer (an archive, another owner), all but dotted folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        return [path for name in listed.stdout.split("\0") if name and (path := CHECKOUT / name).is_file()]
    return [path for path in CHECKOUT.rglob("*") if path.is_file() and not _is_hidden(path)]


def _is_hidden(path: Path) -> bool:
    return any(
        part.startswith(".") or part in {"__pycache__", "build", "dist"} for part in path.relative_to(CHECKOUT).parts
    )


def modules() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def test_project_files_are_found() -> None:
    names = {path.relative_to(CHECKOUT).as_posix() for path in project_files()}
    assert {"pyproject.toml", "responder/__init__.py", "tests/unit/test_project.py"} <= names


def test_no_module_is_too_long() -> None:
    lengths = {path.relative_to(CHECKOUT): len(path.read_text().splitlines()) for path in modules()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_no_file_is_named_after_nothing() -> None:
    named = [path.relative_to(CHECKOUT) for path in modules() if {path.stem, path.parent.name} & FORBIDDEN_NAMES]
    assert named == []


def test_no_file_of_tests_takes_anything_from_another() -> None:
    """What several share stands beside them, in a `*_parts.py`: a test can then be changed without reading others."""
    imported = re.compile(r"^\s*(?:from|import)\s+tests\b(?:[^\n(]|\([^)]*)*?\btest_", re.MULTILINE)
    taken = [path.relative_to(CHECKOUT) for path in modules() if imported.search(path.read_text())]
    assert taken == []


@pytest.mark.parametrize("forbidden", [REGISTRY_HOSTS, MACHINE_PATHS], ids=["registry hosts", "machine paths"])
def test_no_file_names_a_host_or_path_of_one_machine(forbidden: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        if path.suffix not in SUFFIXES_WITHOUT_TEXT and path.name not in NOT_OURS
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if forbidden.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("line", ["see /" + "root/x", "cd /" + "home/jo/x", "'/" + "work/main'"])
def test_machine_paths_are_recognized(line: str) -> None:
    assert MACHINE_PATHS.search(line)


@pytest.mark.parametrize(
    "line", ["chroot/x", "GET https://example.net/work" + "/1", "$(HOME)/root" + "/bin", "/api/v1/work" + "/x"]
)
def test_addresses_are_no_machine_paths(line: str) -> None:
    assert not MACHINE_PATHS.search(line)


def locked() -> dict[str, str]:
    """`requirements.lock` as name → what follows it, up to the next requirement."""
    text = (CHECKOUT / "requirements.lock").read_text()
    requirement = re.compile(r"^([a-z0-9][a-z0-9-]*)(?:\[[a-z0-9,-]+\])?==((?:.*\\\n)*.*\n)", re.MULTILINE)
    return {match[1]: match[2] for match in requirement.finditer(text)}


def test_every_locked_requirement_has_a_hash() -> None:
    requirements = locked()
    assert len(requirements) > 20
    assert [name for name, rest in requirements.items() if "--hash=sha256:" not in rest] == []


def test_the_lock_holds_versions_and_hashes_only() -> None:
    lines = (CHECKOUT / "requirements.lock").read_text().splitlines()
    named = r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[\w.+!]+( ; [\w .<>=!'()-]+)? \\"
    shape = re.compile(rf"{named}|    --hash=sha256:[0-9a-f]{{64}}( \\)?")
    assert [line for line in lines if not shape.fullmatch(line)] == []


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    declared = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[<>=!;\[ ]", requirement)[0].lower() for requirement in declared}
    assert names - locked().keys() == set()


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == responder.__version__
