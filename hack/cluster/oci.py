"""Image layouts: the folder format in which images wait to be loaded.

A layout holds blobs by their hash, so images that share a base share its bytes;
an archive of several images, streamed to a node, holds each blob once. A tiny
image (the pause program) is written here by hand; all others come from a build.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import paths
from report import ClusterError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
#: containerd takes the image's full name from this one.
CONTAINERD_NAME = "io.containerd.image.name"
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture() -> str:
    """This machine's architecture, as images call it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def images(layout: Path) -> dict[str, dict[str, Any]]:
    """Image name → descriptor of its manifest."""
    index = layout / "index.json"
    if not index.exists():
        return {}
    manifests = json.loads(index.read_text())["manifests"]
    # An image that was built anew leaves its former manifest behind, without a name.
    names = [one.get("annotations", {}).get(REF_NAME) for one in manifests]
    return {name: one for name, one in zip(names, manifests, strict=True) if name}


def digest(layout: Path, image: str) -> str | None:
    """What identifies an image's content; None when the layout lacks it."""
    found = images(layout).get(image)
    return None if found is None else str(found["digest"])


def blob(layout: Path, name: str) -> Path:
    """The file of a blob, by its digest."""
    return layout / "blobs" / name.replace(":", "/")


def contents(layout: Path, image: str) -> list[str]:
    """The digests of all blobs of an image, the manifest first."""
    found = digest(layout, image)
    if found is None:
        raise ClusterError(
            f"no image {image} has been built", remedy="build it: python3 hack/cluster images"
        )
    manifest = json.loads(blob(layout, found).read_text())
    return [found, manifest["config"]["digest"], *(one["digest"] for one in manifest["layers"])]


def write_archive(layout: Path, names: Iterable[str], stream: IO[bytes]) -> None:
    """Write the images as one archive in the layout's format, each blob once."""
    known = images(layout)
    wanted: dict[str, None] = {}
    manifests = []
    for name in names:
        for one in contents(layout, name):
            wanted[one] = None
        manifests.append({**known[name], "annotations": {REF_NAME: name, CONTAINERD_NAME: name}})
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", json.dumps(_index(manifests)).encode())
        for one in wanted:
            file = blob(layout, one)
            archive.add(file, arcname=str(file.relative_to(layout)))


def prune(layout: Path, *, keep: Iterable[str]) -> None:
    """Forget all images but ``keep``, and the blobs that only they had."""
    known = images(layout)
    kept = {name: known[name] for name in keep if name in known}
    paths.write_atomically(layout / "index.json", json.dumps(_index(list(kept.values()))))
    needed = {blob(layout, one) for name in kept for one in contents(layout, name)}
    for file in (layout / "blobs").rglob("*"):
        if file.is_file() and file not in needed:
            file.unlink()


def write_single_program(layout: Path, image: str, program: Path, *, place: str) -> None:
    """Write an image that consists of one static program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        _add(archive, place.lstrip("/"), program.read_bytes(), mode=0o755)
    layer = _store(layout, packed.getvalue(), LAYER)
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": [place], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _store(layout, json.dumps(config).encode(), CONFIG),
        "layers": [layer],
    }
    descriptor = _store(layout, json.dumps(manifest).encode(), MANIFEST)
    index = _index([{**descriptor, "annotations": {REF_NAME: image}}])
    paths.write_atomically(layout / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    paths.write_atomically(layout / "index.json", json.dumps(index))


def _index(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": manifests}


def _add(archive: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _store(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    name = f"sha256:{hashlib.sha256(data).hexdigest()}"
    file = blob(layout, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {"mediaType": media_type, "digest": name, "size": len(data)}
