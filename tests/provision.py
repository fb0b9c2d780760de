"""Finds the real servers that the tests run against, and fetches what is missing: `python -m tests.provision`.

A server on PATH is used as it is. What is missing comes from Debian's (or Ubuntu's) own archive, unpacked below
`.servers/` of the checkout: apt works on lists and a cache of its own there, so nothing needs root and nothing is
installed, configured or started system-wide. Rejected: containers, which need a daemon, and binaries repackaged by
strangers.

`TEST_SERVERS=unpacked` ignores PATH and uses the unpacked ones only.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
SERVERS: Final = CHECKOUT / ".servers"

# Each program: the names it goes by (Debian's second) and the package that holds it.
PROGRAMS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "prometheus": (("prometheus",), "prometheus"),
    "promtool": (("promtool",), "prometheus"),
    "alertmanager": (("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager"),
    "amtool": (("amtool",), "prometheus-alertmanager"),
    "redis-server": (("redis-server",), "redis-server"),
    "redis-sentinel": (("redis-sentinel",), "redis-sentinel"),
    "postgres": (("postgres",), "postgresql"),
    "initdb": (("initdb",), "postgresql"),
}

# Never unpacked: the C library must be the one of the running loader, and the rest is only for what is not used here
# (PostgreSQL's just-in-time compiler alone is 100 MB; Perl and the web assets serve maintainer scripts and consoles).
UNNEEDED: Final = re.compile(
    r"libc6|libc-bin|libc-l10n|locales|libllvm.*|libz3.*|perl.*|.*-perl|libperl.*|libjs-.*|fonts-.*|systemd.*"
)

# Debian's Alertmanager reads its default templates from a folder whose name is compiled in. The unpacked copy gets a
# name of the same length that leads, through a file descriptor its launcher opens, to the unpacked folder.
COMPILED_IN: Final = b"/usr/share/prometheus/"
BY_DESCRIPTOR: Final = b"/proc/self/fd/9".ljust(len(COMPILED_IN), b"/")

APT_ANSWERS_WITHIN: Final = 600  # seconds, for one apt command on a slow mirror


class Missing(RuntimeError):
    """A program that the tests need cannot be had; the message names it and the cure."""


def find(program: str) -> Path:
    """The path of `program` (a key of `PROGRAMS`): on PATH, in PostgreSQL's folder, or unpacked. Raises `Missing`."""
    names, package = PROGRAMS[program]
    for folder in _folders():
        for name in names:
            found = shutil.which(name, path=str(folder))
            if found:
                return Path(found)
    raise Missing(
        f"{program} is neither on PATH nor unpacked: run `python -m tests.provision` or `apt install {package}`"
    )


def _folders() -> list[Path]:
    unpacked = [SERVERS / "bin"]
    if os.environ.get("TEST_SERVERS") == "unpacked":
        return unpacked
    on_path = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    return [*on_path, *_newest_first(Path("/usr/lib/postgresql")), *unpacked]


def _newest_first(folder: Path) -> list[Path]:
    """`bin` of every PostgreSQL release below `folder`; Debian keeps them off PATH."""
    return sorted(folder.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name), reverse=True)


def missing() -> list[str]:
    """The programs that `find` does not find."""
    return [program for program in PROGRAMS if not _is_found(program)]


def _is_found(program: str) -> bool:
    try:
        find(program)
    except Missing:
        return False
    return True


def provision() -> None:
    """Fetches and unpacks what is missing. Does nothing when nothing is. Raises `Missing`."""
    _forget_another_system()
    wanted = missing()
    if not wanted:
        return
    for tool in ("apt-get", "apt-cache", "apt-config", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(
                f"no {', '.join(wanted)} on PATH, and no {tool} to fetch them with; install them and put them on PATH"
            )
    packages = sorted({PROGRAMS[program][1] for program in wanted})
    print(f"test servers: fetching {', '.join(packages)} into {SERVERS.name}/ (nothing is installed)", flush=True)
    environment = _private_apt()
    _unpack(_download(_versioned(packages, environment), environment))
    _write_launchers(wanted)
    (SERVERS / "system").write_text(_system())
    for program in wanted:
        _run([str(find(program)), "--version"], os.environ, f"{program} was unpacked but does not run")


def _system() -> str:
    release = platform.freedesktop_os_release()
    return f"{release.get('ID')} {release.get('VERSION_ID')} {platform.machine()}\n"


def _forget_another_system() -> None:
    """A checkout that is shared with a container of another release must not run that one's libraries."""
    stamp = SERVERS / "system"
    if SERVERS.exists() and (not stamp.exists() or stamp.read_text() != _system()):
        shutil.rmtree(SERVERS)


def _private_apt() -> dict[str, str]:
    """An environment for apt: lists and a cache of our own; the system's sources, keys, proxies, status; no hooks."""
    home = SERVERS / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    kept = [
        line
        for line in _run(["apt-config", "dump"], os.environ, "apt-config failed").splitlines()
        if line.startswith(("Acquire::", "APT::"))
        and not line.startswith(("APT::Update::", "APT::Periodic", "APT::Sandbox"))
    ]
    ours = {
        "APT::Sandbox::User": "root",  # as root apt would else drop to a user who may not enter the checkout
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "30",
        "Acquire::https::Timeout": "30",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "Dir::Cache": f"{home}/cache",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",  # what is there is in `kept`, less the hooks
        "Dir::State": f"{home}/state",
        "Dir::State::status": "/var/lib/dpkg/status",
    }
    settings = home / "apt.conf"
    settings.write_text("\n".join([*kept, *(f'{key} "{value}";' for key, value in ours.items())]) + "\n")
    environment = {**os.environ, "APT_CONFIG": str(settings), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        _run(["apt-get", "--quiet", "update"], environment, "apt-get update failed")
    except Missing as error:
        # One unreachable third-party source fails the whole update; whether ours were reached shows below.
        print(f"test servers: {error}", file=sys.stderr)
    return environment


def _versioned(packages: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """`postgresql` is an empty package that depends on the release's own, such as `postgresql-15`."""
    return [_depended_on(package, environment) if package == "postgresql" else package for package in packages]


def _depended_on(package: str, environment: Mapping[str, str]) -> str:
    depends = _run(["apt-cache", "depends", package], environment, f"apt knows no package {package}")
    found = re.search(rf"Depends: ({package}-\d+)$", depends, re.MULTILINE)
    if not found:
        raise Missing(
            f"{package}: apt names no versioned package; `apt install {package}` and put its programs on PATH"
        )
    return found[1]


def _download(packages: Sequence[str], environment: Mapping[str, str]) -> list[Path]:
    """The packages and those libraries they need that the system lacks, as files."""
    failed = f"apt cannot fetch {', '.join(packages)}; check the network and /etc/apt, or `apt install` them yourself"
    # --reinstall: a package that is installed is still wanted when TEST_SERVERS=unpacked.
    simulated = _run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", "--reinstall", *packages], environment, failed
    )
    planned = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", simulated, re.MULTILINE)
    wanted = [f"{name}={version}" for name, version in planned if not UNNEEDED.fullmatch(name.split(":")[0])]
    archives = SERVERS / "apt" / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir()
    _run(["apt-get", "--quiet", "download", *wanted], environment, failed, folder=archives)
    return sorted(archives.glob("*.deb"))


def _unpack(archives: Iterable[Path]) -> None:
    root = SERVERS / "root"
    for archive in archives:
        _run(["dpkg-deb", "--extract", str(archive), str(root)], os.environ, f"{archive.name} cannot be unpacked")
    shutil.rmtree(SERVERS / "apt")  # the lists and archives are ten times the size of what is left


def _write_launchers(programs: Iterable[str]) -> None:
    """Scripts that run the unpacked programs with the unpacked libraries, wherever the checkout is moved to."""
    root, launchers = SERVERS / "root", SERVERS / "bin"
    launchers.mkdir(exist_ok=True)
    libraries = [
        path for pattern in ("usr/lib/*-linux-*", "lib/*-linux-*") for path in root.glob(pattern) if path.is_dir()
    ]
    search = ":".join(f"$here/root/{path.relative_to(root)}" for path in sorted(libraries))
    for program in programs:
        real = _unpacked(program)
        lines = ["#!/bin/sh", 'here=$(cd -- "$(dirname -- "$0")/.." && pwd)']
        if _redirect(real):
            lines.append('exec 9<"$here/root/usr/share/prometheus"')
        lines.append(f'export LD_LIBRARY_PATH="{search}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"')
        lines.append(f'exec "$here/root/{real.relative_to(root)}" "$@"')
        launcher = launchers / program
        launcher.write_text("\n".join(lines) + "\n")
        launcher.chmod(0o755)


def _unpacked(program: str) -> Path:
    root = SERVERS / "root"
    names, package = PROGRAMS[program]
    folders = [root / "usr/bin", root / "usr/sbin", *_newest_first(root / "usr/lib/postgresql")]
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    raise Missing(f"{program} is not in the package {package} of this system; install it and put it on PATH")


def _redirect(real: Path) -> bool:
    """Whether `real` has the compiled-in folder; it reads the unpacked one from then on."""
    content = real.read_bytes()
    if COMPILED_IN in content:
        real.write_bytes(content.replace(COMPILED_IN, BY_DESCRIPTOR))
    return COMPILED_IN in content


def _run(command: Sequence[str], environment: Mapping[str, str], failed: str, folder: Path = CHECKOUT) -> str:
    """The output of `command`. Raises `Missing` with `failed` and the end of what it said."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=APT_ANSWERS_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{failed} (no answer within {APT_ANSWERS_WITHIN} s)") from None
    if done.returncode != 0:
        raise Missing(f"{failed}\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def main() -> int:
    """Provisions and says where each program is; 1 with the cure when one cannot be had."""
    try:
        provision()
    except Missing as error:
        print(f"test servers: {error}", file=sys.stderr)
        return 1
    for program in PROGRAMS:
        print(f"test servers: {program:15} {find(program)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
