"""The Docker engine: whether one answers, and what it has."""

from __future__ import annotations

import functools

from processes import run, succeeds
from report import ClusterError


@functools.cache
def answers() -> bool:
    """Whether a Docker engine (not only its command line) is there."""
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"], timeout_seconds=15)


def has_image(name: str) -> bool:
    """Whether the engine holds this image."""
    return succeeds(["docker", "image", "inspect", name])


def label(image: str, name: str) -> str:
    """A label of an image; empty when the image or the label is not there."""
    template = f'{{{{ index .Config.Labels "{name}" }}}}'
    try:
        return run(["docker", "image", "inspect", "--format", template, image]).strip()
    except ClusterError:
        return ""
