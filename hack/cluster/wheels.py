"""Wheels for the image builds, fetched and built on this machine.

The build containers have no network to rely on, and the base image that is made
here has no pip; this machine has both, and its pip knows its own configuration
(mirrors, certificates). So everything is fetched here, exactly as locked, with
the lock's hashes checked, for the image's Python and platform and not for this
machine's. The distribution itself is built into a wheel, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import packages
import paths
from processes import run, run_logged
from report import ClusterError, progress

IMAGE_PYTHON = "3.11"
#: The newest C library that both base images satisfy (Debian 12 has 2.36), and the oldest.
GLIBC_MINORS = range(36, 4, -1)
IMAGE_SCRIPTS = paths.REPOSITORY / "hack" / "image"


def dependencies(extras: Iterable[str]) -> Path:
    """A folder with the wheels of the base install, the extras, and pip; fetched once."""
    lockfile = [sys.executable, "-B", str(IMAGE_SCRIPTS / "lockfile.py")]
    for extra in sorted(extras):
        lockfile += ["--extra", extra]
    lists = {
        "installer.txt": (IMAGE_SCRIPTS / "requirements.txt").read_text(),
        "locked.txt": run(lockfile),
    }
    text = "\n".join([platform.machine(), *lists.values()])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = paths.cache() / "images" / f"wheels-{key}"
    if not folder.exists():
        pip = _pip()
        scratch = _scratch(f"wheels-{key}.part")
        log = paths.under_cache("logs") / "wheels.log"
        with progress("fetching the locked packages", expected_seconds=20) as tick:
            for name, requirements in lists.items():
                listed = scratch / name
                listed.write_text(requirements)
                run_logged(
                    [
                        *pip,
                        "download",
                        "--quiet",
                        "--no-deps",
                        "--require-hashes",
                        *_target(),
                        "--dest",
                        str(scratch),
                        "--requirement",
                        str(listed),
                    ],
                    log=log,
                    tick=tick,
                    remedy=f"pip cannot reach its index, or the lock is stale; see {log}",
                )
                listed.unlink()
        scratch.replace(folder)
    return folder


def project() -> Path:
    """The distribution's wheel, built from the source as it is now."""
    folder = _scratch("project")
    log = paths.under_cache("logs") / "project-wheel.log"
    with progress("building the distribution's wheel", expected_seconds=5) as tick:
        run_logged(
            [
                *_pip(),
                "wheel",
                "--quiet",
                "--no-deps",
                "--wheel-dir",
                str(folder),
                str(paths.REPOSITORY),
            ],
            log=log,
            tick=tick,
            remedy=f"the whole output is in {log}",
        )
    return next(folder.glob("*.whl"))


def available() -> bool:
    """Whether this machine has a pip, or can get one."""
    try:
        _pip()
    except ClusterError:
        return False
    return True


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    # A virtual environment may have none; Python's own copy then serves.
    bundled = importlib.util.find_spec("ensurepip")
    if bundled is not None and bundled.origin is not None:
        wheels = sorted((Path(bundled.origin).parent / "_bundled").glob("pip-*.whl"))
        if wheels:
            return [sys.executable, str(wheels[-1] / "pip")]
    packages.ensure(packages.PIP)
    return [shutil.which("pip3") or "pip3"]


def _target() -> list[str]:
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    options = ["--only-binary", ":all:", "--implementation", "cp"]
    options += ["--python-version", IMAGE_PYTHON]
    for one in platforms:
        options += ["--platform", one]
    return options


def _scratch(name: str) -> Path:
    folder = paths.under_cache("images") / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
