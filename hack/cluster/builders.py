"""The two programs that build images, behind one small interface.

``Docker`` builds into the engine. ``Buildah`` needs no engine and no privileges
beyond root: it builds in a changed root folder and writes an image layout, from
which the node loads. A builder answers which inputs an image was built from (a
label), so that nothing is built twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import base
import engine
import oci
import packages
import paths
from processes import run, run_logged, succeeds
from report import ClusterError, progress, say

INPUTS_LABEL = "dev.penstock.inputs"
PUBLIC_BASE = "docker.io/library/python:3.11-slim-bookworm"
#: Images in buildah's storage, cached steps included, before the unnamed ones are dropped.
STORED_IMAGES_MAX = 120


class Builder(Protocol):
    """What building images takes."""

    def prepare(self) -> None:
        """Clear up after builds that were killed; called while no other build can run."""
        ...

    def base_image(self) -> str:
        """The base image, there to be built on."""
        ...

    def inputs(self, image: str) -> str:
        """The key of the inputs an image was built from; empty when there is no such image."""
        ...

    def build(
        self, image: str, *, context: Path, target: str, arguments: Mapping[str, str], inputs: str
    ) -> None:
        """Build one image (``target`` may be empty)."""
        ...


def _options(target: str, arguments: Mapping[str, str], inputs: str) -> list[str]:
    options = ["--label", f"{INPUTS_LABEL}={inputs}"]
    if target:
        options += ["--target", target]
    for name, value in arguments.items():
        options += ["--build-arg", f"{name}={value}"]
    return options


class Docker:
    """A Docker engine."""

    def prepare(self) -> None:
        """See ``Builder``; an engine clears up by itself."""

    def base_image(self) -> str:
        """The public base when it is there or can be pulled, else our own."""
        for image in (PUBLIC_BASE, base.IMAGE):
            if engine.has_image(image):
                return image
        say(f"pulling {PUBLIC_BASE}")
        if succeeds(["docker", "pull", "--quiet", PUBLIC_BASE], timeout_seconds=300):
            return PUBLIC_BASE
        say("it cannot be pulled; making a base image here instead")
        base.import_into_engine()
        return base.IMAGE

    def inputs(self, image: str) -> str:
        """See ``Builder``."""
        return engine.label(image, INPUTS_LABEL)

    def build(
        self, image: str, *, context: Path, target: str, arguments: Mapping[str, str], inputs: str
    ) -> None:
        """See ``Builder``."""
        command = ["docker", "build", "--tag", image, *_options(target, arguments, inputs)]
        _run(image, [*command, str(context)])


class Buildah:
    """Building without an engine."""

    def __init__(self) -> None:
        packages.ensure(packages.IMAGES)
        storage = paths.under_cache("buildah")
        self._options = ["--root", str(storage / "root"), "--runroot", str(storage / "run")]

    def prepare(self) -> None:
        """See ``Builder``. It would end another's build too, hence the condition there."""
        run(["buildah", *self._options, "rm", "--all"])

    @property
    def layout(self) -> Path:
        """Where the finished images are."""
        return paths.under_cache("images", "layout")

    def base_image(self) -> str:
        """Our own base, imported when it is not there."""
        if not succeeds(["buildah", *self._options, "inspect", "--type", "image", base.IMAGE]):
            file = base.archive()
            buildah = ["buildah", *self._options]
            with progress("importing the base image", expected_seconds=5):
                container = run([*buildah, "from", "scratch"]).strip()
                run([*buildah, "add", "--quiet", container, file, "/"])
                run([*buildah, "config", "--cmd", "python3", container])
                run([*buildah, "commit", "--quiet", "--rm", container, base.IMAGE])
        return base.IMAGE

    def inputs(self, image: str) -> str:
        """See ``Builder``."""
        if oci.digest(self.layout, image) is None:
            return ""
        config = oci.blob(self.layout, oci.contents(self.layout, image)[1])
        labels = json.loads(config.read_text())["config"].get("Labels") or {}
        return str(labels.get(INPUTS_LABEL, ""))

    def build(
        self, image: str, *, context: Path, target: str, arguments: Mapping[str, str], inputs: str
    ) -> None:
        """See ``Builder``."""
        command = ["buildah", *self._options, "bud", "--isolation", "chroot", "--layers"]
        command += ["--pull-never", "--tag", image, *_options(target, arguments, inputs)]
        _run(image, [*command, str(context)])
        push = ["buildah", *self._options, "push", "--quiet", image]
        run([*push, f"oci:{self.layout}:{image}"])
        oci.prune(self.layout, keep=oci.images(self.layout))
        self._bound_storage()

    def _bound_storage(self) -> None:
        # The build's cached steps are images without names. They make the next build
        # quick, and would grow for ever.
        listed = run(["buildah", *self._options, "images", "--all", "--quiet"]).split()
        if len(listed) > STORED_IMAGES_MAX:
            run(["buildah", *self._options, "rmi", "--prune", "--force"])


def _run(image: str, command: list[str]) -> None:
    name = image.rpartition("/")[2].partition(":")[0]
    log = paths.under_cache("logs") / f"image-{name}.log"
    with progress(f"building {image}", expected_seconds=15) as tick:
        run_logged(command, log=log, tick=tick, remedy=f"the whole output is in {log}")


def layout_of(builder: Builder) -> Path:
    """The image layout of a builder that has one."""
    if not isinstance(builder, Buildah):
        raise ClusterError("images in a Docker engine are in no layout")
    return builder.layout
