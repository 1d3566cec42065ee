"""The base image for machines that cannot pull one: a small Debian with Python.

It stands in for the public Python image that the Dockerfile names by default.
It is made once with ``debootstrap``, relieved of what no container reads, and
kept as one archive in the cache.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import engine
import packages
import paths
from processes import run, run_logged
from report import ClusterError, progress

SUITE = "bookworm"
INCLUDED = "python3,ca-certificates"
#: Relative to the root; documentation, translations, package lists, tests.
TRIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/zoneinfo/right",
    "usr/share/zoneinfo/posix",
    "usr/lib/*/gconv",
    "usr/lib/python3.11/test",
    "usr/lib/python3.11/pydoc_data",
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*",
)
KEY = hashlib.sha256(repr((SUITE, INCLUDED, TRIMMED)).encode()).hexdigest()[:12]
IMAGE = f"localhost/penstock/base:{KEY}"


def archive() -> Path:
    """The archive of the base's file system, made when it is not there."""
    file = paths.under_cache("images") / f"base-{KEY}.tar"
    if file.exists():
        return file
    packages.ensure(packages.BASE)
    root = file.with_suffix(".root")
    shutil.rmtree(root, ignore_errors=True)
    log = paths.under_cache("logs") / "debootstrap.log"
    command = [packages.find("debootstrap") or "debootstrap", "--variant=minbase"]
    command += [f"--include={INCLUDED}", SUITE, str(root), *_mirror()]
    try:
        with progress("making the base image's file system", expected_seconds=50) as tick:
            run_logged(
                command,
                log=log,
                tick=tick,
                remedy=f"the package mirror cannot be reached? The whole output is in {log}",
            )
            for pattern in TRIMMED:
                for path in root.glob(pattern):
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
            scratch = file.with_suffix(".part")
            tar = ["tar", "--create", "--numeric-owner", "--sort=name", "--one-file-system"]
            run([*tar, f"--file={scratch}", f"--directory={root}", "."])
    finally:
        # debootstrap mounts file systems inside while it works; should it have been
        # stopped in the middle, deleting must not reach through them.
        for mounted in ("proc", "sys"):
            if (root / mounted).is_mount():
                run(["umount", "--lazy", root / mounted])
        shutil.rmtree(root, ignore_errors=True)
    scratch.replace(file)
    return file


def _mirror() -> list[str]:
    """This machine's own mirror of the suite, when it is configured; else the default."""
    try:
        listed = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
    except ClusterError:
        return []
    for line in listed.splitlines():
        release, _, uri = line.partition(" ")
        if release == SUITE and uri.startswith(("http:", "https:")):
            return [uri]
    return []


def import_into_engine() -> None:
    """Give the base to a Docker engine that cannot pull one."""
    if not engine.has_image(IMAGE):
        run(["docker", "import", "--change", 'CMD ["python3"]', archive(), IMAGE])
