"""Images into the node: streamed to its containerd, only when their content changed.

containerd's socket is in the node's mount namespace; the kernel shows it to us
through the supervisor's root folder. What was loaded is remembered in the
node's working folder, which lives exactly as long as containerd's content.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import builds
import layout
import oci
import paths
import record
from processes import failed
from report import ClusterError


def socket_path() -> Path:
    """containerd's socket, as this machine sees it (absolute, as ``ctr`` wants it)."""
    supervisor = record.supervisor()
    if supervisor is None:
        raise ClusterError("no node runs", remedy="start it: python3 hack/cluster up")
    return Path(f"/proc/{supervisor.pid}/root{layout.CONTAINERD_SOCKET}")


def reachable() -> bool:
    """Whether containerd is there."""
    return socket_path().exists()


def load_pause() -> None:
    """Load the image of the process that every pod begins with."""
    place = paths.under_cache("images", f"pause-{builds.module_key('pause')}")
    if oci.digest(place, layout.PAUSE_IMAGE) is None:
        program = builds.binary("pause")
        oci.write_single_program(place, layout.PAUSE_IMAGE, program, place="/pause")
    load(place, [layout.PAUSE_IMAGE])


def load(place: Path, images: Iterable[str]) -> list[str]:
    """Load images from a layout; the names of those that were not there as they are."""
    loaded = _loaded()
    wanted = {image: oci.contents(place, image)[0] for image in images}
    changed = [image for image, digest in wanted.items() if loaded.get(image) != digest]
    if changed:
        _import(place, changed)
        loaded.update({image: wanted[image] for image in changed})
        paths.write_atomically(_loaded_file(), json.dumps(loaded))
    return changed


def _loaded_file() -> Path:
    return layout.work_folder() / "loaded.json"


def _loaded() -> dict[str, str]:
    return dict(json.loads(_loaded_file().read_text())) if _loaded_file().exists() else {}


def _import(place: Path, images: list[str]) -> None:
    command: list[str | Path] = [builds.binary("ctr"), "--address", socket_path()]
    command += ["--namespace", "k8s.io", "images", "import", "-"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            assert process.stdin is not None
            with process.stdin as stream:
                oci.write_archive(place, images, stream)
        except BrokenPipeError:
            pass  # it has ended early and says why
        except BaseException:
            process.kill()
            process.wait()
            raise
        code = process.wait()
        if code != 0:
            said.seek(0)
            raise failed(command, code, said.read().decode(errors="replace"))
