"""Debian packages the machine lacks, installed when that is ours to do.

Needs are named by the file that shows a package is there, so that the check
costs nothing and a program that came some other way counts too. Only root on a
system with ``apt-get`` installs; anyone else gets the list.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import paths
from processes import run_logged, succeeds
from report import ClusterError, progress

#: package → the program (searched in the usual places) or the file it brings
NODE = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "unshare",
    "mount": "mount",
    "openssl": "openssl",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
IMAGES = {"buildah": "buildah", "runc": "runc"}
BASE = {"debootstrap": "debootstrap"}
PIP = {"python3-pip": "pip3"}
COMPILER = {"gcc": "gcc", "libc6-dev": "/usr/include/stdio.h"}

# A minimal PATH (cron, some CI shells) lacks the folders where these programs live.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find(program: str) -> str | None:
    """The path of an installed program, also in the administrator's folders."""
    return shutil.which(program, path=_SEARCH)


def missing(needs: dict[str, str]) -> list[str]:
    """The packages of ``needs`` that are not there."""
    return [
        package
        for package, sign in needs.items()
        if not (Path(sign).exists() if sign.startswith("/") else find(sign))
    ]


def can_install() -> bool:
    """Whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def ensure(*needs: dict[str, str]) -> None:
    """Install what is missing of ``needs``, or raise with the list."""
    lacking = sorted({package for need in needs for package in missing(need)})
    if not lacking:
        return
    names = " ".join(lacking)
    if not can_install():
        raise ClusterError(
            f"these Debian packages are missing: {names}",
            remedy=f"install them: apt-get install --no-install-recommends {names}",
        )
    _install(lacking)
    still = sorted({package for need in needs for package in missing(need)})
    if still:
        raise ClusterError(f"installed, yet not to be found: {' '.join(still)}")


def _install(names: Iterable[str]) -> None:
    names = list(names)
    log = paths.under_cache("logs") / "apt-get.log"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    remedy = f"the whole output is in {log}"
    with progress(f"installing {' '.join(names)}", expected_seconds=20) as tick:
        # A new machine has no package lists; an old one may have lists that name files
        # which are gone. Both are mended by fetching the lists and asking again.
        known = succeeds(["apt-cache", "show", "--no-all-versions", *names])
        if known:
            try:
                run_logged(install, log=log, tick=tick, env=environment)
            except ClusterError:
                known = False
        if not known:
            run_logged(["apt-get", "update"], log=log, tick=tick, env=environment, remedy=remedy)
            run_logged(install, log=log, tick=tick, env=environment, remedy=remedy)
