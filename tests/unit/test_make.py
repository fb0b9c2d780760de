"""`make test`: mutants that survive and tests that fail both make it fail, and the tests have the last word."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import CHECKOUT

PYTHON = """#!/bin/sh
case "$*" in
*--collect-only*) ;;
*tests.mutation*) echo "mutants said"; exit {mutants};;
*pytest*) echo "mutants ended with $RESPONDER_MUTANTS"; echo "closing line"; exit {tests};;
esac
"""
"""In the place of the interpreter: whatever else it is asked to do, it has done."""


def make(folder: Path, mutants: int, tests: int) -> tuple[int, list[str]]:
    """The exit status of `make test`, and the lines that it prints."""
    folder.mkdir()
    shutil.copy(CHECKOUT / "Makefile", folder)
    for name in ("pyproject.toml", "requirements.lock"):
        (folder / name).touch()
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "responder", "lint-imports", "promtool", "amtool"):
        (programs / name).write_text(PYTHON.format(mutants=mutants, tests=tests))
        (programs / name).chmod(0o755)
    (folder / ".venv" / "installed-{}.{}".format(*sys.version_info)).touch()
    command = ["make", "test", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("mutants", "tests"), [(0, 0), (1, 0), (0, 1), (1, 1), (0, 5)])
def test_both_are_run_and_either_makes_it_fail(mutants: int, tests: int, tmp_path: Path) -> None:
    status, said = make(tmp_path / "checkout", mutants, tests)
    assert said[-3:] == ["mutants said", f"mutants ended with {mutants}", "closing line"]
    assert (status == 0) is (mutants == 0 and tests == 0)


def test_what_was_found_before_the_tests_is_said_again_before_their_last_line(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one() -> None:\n    pass\n")
    shutil.copy(CHECKOUT / "tests" / "conftest.py", tmp_path)
    for failed in ("0", "1"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]
        environment = {"RESPONDER_MUTANTS": failed, "PYTHONPATH": str(CHECKOUT), "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        *before, last = done.stdout.splitlines()
        assert last.startswith("1 passed")
        assert any("`make mutants` has failed" in line for line in before) is (failed == "1")
