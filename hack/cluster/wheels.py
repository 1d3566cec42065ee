"""Wheels for the image builds, fetched and built on this machine.

The build containers have no network to rely on, and the base image that is made
here has no pip; this machine has both, and its pip knows its own configuration
(mirrors, certificates). So everything is fetched here, exactly as locked, with
the lock's hashes checked, for the image's Python and platform and not for this
machine's. The distribution itself is built into a wheel, too, with the
dispatcher's core compiled for the image's Python where this machine can; what
builds it (hatchling, mypyc) pip fetches by itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import locks
import packages
import paths
from processes import run, run_logged
from report import EXIT_IMPOSSIBLE, ClusterError, progress, say

IMAGE_PYTHON = "3.11"
#: The newest C library that both base images satisfy (Debian 12 has 2.36), and the oldest.
GLIBC_MINORS = range(36, 4, -1)
#: What asks hatch_build.py for the compiled core.
COMPILE = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"}
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
    """The distribution's wheel for an image, built from the source as it is now."""
    compiled: dict[str, str] = {}
    reason = image_hindrance()
    if reason:
        say(f"the dispatcher's core goes into the images uncompiled, and is slower: {reason}")
    else:
        compiled = {**COMPILE, "PENSTOCK_CORE": str(compiled_core())}
    return _wheel("the distribution's wheel", "project", compiled, expected_seconds=5)


def image_hindrance() -> str:
    """Why the core cannot be compiled for the images here; empty = it can."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" != IMAGE_PYTHON:
        return f"this is not Python {IMAGE_PYTHON}"
    return _compiler_hindrance()


def _compiler_hindrance() -> str:
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not headers.exists() and sys.base_prefix != "/usr":
        return f"there is no {headers}"
    try:
        packages.ensure(packages.COMPILER, {"python3-dev": str(headers)})
    except ClusterError as error:
        return error.what
    return ""


def compiled_core() -> Path:
    """A folder with the dispatcher's core as extension modules for the Python that runs this, as
    they lie in a wheel; compiled once for the same sources.
    """
    reason = _compiler_hindrance()
    if reason:
        raise ClusterError(f"the core cannot be compiled here: {reason}", exit_code=EXIT_IMPOSSIBLE)
    with locks.exclusive("core"):
        digest = _core_digest()
        folder = paths.under_cache("images") / f"core-{digest}"
        if not folder.exists():
            wheel = _wheel("the compiled core", "core.part", COMPILE, expected_seconds=60)
            scratch = wheel.parent / "modules"
            with zipfile.ZipFile(wheel) as archive:
                modules = [name for name in archive.namelist() if name.endswith(".so")]
                archive.extractall(scratch, modules)
            if _core_digest() != digest:
                raise ClusterError("the core has changed while it was compiled", remedy="try again")
            scratch.replace(folder)
            shutil.rmtree(wheel.parent)
    return folder


def _core_digest() -> str:
    hook = _hook()
    digest = hashlib.sha256(f"{sys.version} {platform.machine()} {hook['modules']}".encode())
    # Not the listed modules alone: they are compiled against the others' types.
    sources = sorted(paths.REPOSITORY.joinpath(hook["package"]).rglob("*.py"))
    for file in [paths.REPOSITORY / "hatch_build.py", *sources]:
        name = file.relative_to(paths.REPOSITORY)
        digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def _hook() -> dict[str, Any]:
    """What pyproject.toml says to hatch_build.py."""
    project = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text())
    found: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return found


def _wheel(what: str, name: str, environment: dict[str, str], *, expected_seconds: float) -> Path:
    folder = _scratch(name)
    log = paths.under_cache("logs") / f"{name}-wheel.log"
    options = ["--quiet", "--no-deps", "--wheel-dir", str(folder)]
    ours = {*COMPILE, "PENSTOCK_CORE"}
    inherited = {key: value for key, value in os.environ.items() if key not in ours}
    with progress(f"building {what}", expected_seconds=expected_seconds) as tick:
        run_logged(
            [*_pip(), "wheel", *options, str(paths.REPOSITORY)],
            log=log,
            tick=tick,
            env={**inherited, **environment},
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
    return [shutil.which("pip3") or "pip3", "--python", sys.executable]


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
