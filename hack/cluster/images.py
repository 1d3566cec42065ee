"""Which images there are, from what they are built, and when they need building.

Three come from the repository's Dockerfile (operator, dispatcher, worker), one
from each ``examples/*/Dockerfile``, built on the worker's. The inputs of an
image are hashed; an image that carries the hash of its present inputs is left
alone.

The build context is a copy outside the checkout: the Dockerfile, the lock, and
the wheels (``wheels``). It holds no source: the distribution's wheel is one of
its files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import locks
import paths
import wheels
from builders import Builder
from report import ClusterError, say

PREFIX = "localhost/penstock"
TAG = "dev"
#: Target of the Dockerfile → the extra it installs.
TARGETS = {"operator": "operator", "dispatcher": "dispatcher", "worker": ""}
#: What the images are built from, besides the base.
IMAGE_FILES = (
    "Dockerfile",
    "pyproject.toml",
    "hatch_build.py",
    "requirements.lock",
    "README.md",
    "LICENSE",
)
SOURCES = ("client", "worker", "dispatcher", "operator", "hack/image")
IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


@dataclass(frozen=True, slots=True)
class Image:
    """One image to build: its full name, and where from (a target of ours, or a folder)."""

    name: str
    target: str = ""
    folder: Path | None = None


def catalogue() -> list[Image]:
    """All images of this checkout."""
    known = [Image(f"{PREFIX}/{target}:{TAG}", target=target) for target in TARGETS]
    for file in sorted((paths.REPOSITORY / "examples").glob("*/Dockerfile")):
        name = f"{PREFIX}/example-{file.parent.name}:{TAG}"
        known.append(Image(name, folder=file.parent))
    return known


def full_name(name: str) -> str:
    """Complete a short name (``worker``) to an image's full one."""
    return name if "/" in name else f"{PREFIX}/{name}" + ("" if ":" in name else f":{TAG}")


def ensure(builder: Builder, names: Iterable[str] = ()) -> list[str]:
    """Build what is not up to date of the named images (all of them by default)."""
    chosen = _choose([full_name(name) for name in names])
    with locks.exclusive("images"):
        started = time.monotonic()
        builder.prepare()
        base = builder.base_image()
        # What is built depends on what this machine can compile, too.
        compiled = not wheels.image_hindrance()
        rest = hashlib.sha256(f"{base} {compiled}".encode()).hexdigest()[:12]
        own = _hash_tree(SOURCES, IMAGE_FILES) + rest
        worker = Image(f"{PREFIX}/worker:{TAG}", target="worker")
        context: Path | None = None
        built = 0
        # The examples are built on the worker's image, so it is looked at first.
        needs_worker = [worker] if any(image.folder for image in chosen) else []
        for image in [*needs_worker, *(one for one in chosen if one not in needs_worker)]:
            key = _key(image, own)
            if builder.inputs(image.name) == key:
                continue
            if image.folder is None:
                context = context or _context()
                arguments = {"BASE_IMAGE": base}
            else:
                arguments = {"WORKER_IMAGE": worker.name}
            builder.build(
                image.name,
                context=image.folder or context or paths.REPOSITORY,
                target=image.target,
                arguments=arguments,
                inputs=key,
            )
            built += 1
        spent = time.monotonic() - started
        say(f"{len(chosen)} images are up to date; {built} built in {spent:.1f} s")
    return [image.name for image in chosen]


def _choose(names: list[str]) -> list[Image]:
    known = {image.name: image for image in catalogue()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ClusterError(
            f"no such image: {', '.join(unknown)}", remedy=f"known are: {', '.join(known)}"
        )
    return [known[name] for name in names] if names else list(known.values())


def _key(image: Image, own: str) -> str:
    if image.folder is None:
        return own
    relative = str(image.folder.relative_to(paths.REPOSITORY))
    return f"{_hash_tree([relative])}-{own}"


def _hash_tree(folders: Iterable[str], files: Iterable[str] = ()) -> str:
    digest = hashlib.sha256()
    every = [paths.REPOSITORY / name for name in files]
    for folder in folders:
        for place, inner, names in os.walk(paths.REPOSITORY / folder):
            inner[:] = sorted(name for name in inner if name not in IGNORED)
            every += [Path(place, name) for name in sorted(names)]
    for file in every:
        if file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(paths.REPOSITORY)} {content}\n".encode())
    return digest.hexdigest()[:24]


def _context() -> Path:
    """The build context: with wheels where pip can be had, else the checkout itself."""
    if not wheels.available():
        say("there is no pip on this machine: the image build fetches the packages itself")
        return paths.REPOSITORY
    scripts = wheels.IMAGE_SCRIPTS.relative_to(paths.REPOSITORY)
    folder = paths.under_cache("images", "context")
    shutil.rmtree(folder)
    for name in (*IMAGE_FILES, f"{scripts}/install.py", f"{scripts}/lockfile.py"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (paths.REPOSITORY / name).exists():
            shutil.copy2(paths.REPOSITORY / name, target)
    for name in ("wheels", "project"):
        (folder / scripts / name).mkdir()
    for wheel in wheels.dependencies(extra for extra in TARGETS.values() if extra).glob("*.whl"):
        (folder / scripts / "wheels" / wheel.name).hardlink_to(wheel)
    shutil.copy2(wheels.project(), folder / scripts / "project")
    return folder
