"""Is this a file system on which SQLite's promises hold? Network file systems are refused: their
locks and syncs may lie. So is what cannot be written, of which SQLite only says "disk I/O error".
"""

import os
import pathlib
from collections.abc import Iterable
from typing import Final

MOUNTS: Final = pathlib.Path("/proc/self/mountinfo")
# fmt: off
NETWORK_TYPES: Final = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4",
    "ocfs2", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
))
# fmt: on


def type_of(path: pathlib.Path, mountinfo: str) -> str:
    """The type of the file system that holds `path` (absolute, resolved), from the text of
    /proc/self/mountinfo; "" = unknown.
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/root rw
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        # The kernel writes blanks and backslashes as octal escapes.
        mount = pathlib.Path(
            fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        )
        depth = len(mount.parts)
        # Later mounts of the same place lie on top of earlier ones.
        if depth >= best and (path == mount or mount in path.parents):
            best, found = depth, after.split(" ")[0]
    return found


def network_type(path: pathlib.Path) -> str:
    """The file system's type if it is a network file system, else "" (also where the system does
    not tell).
    """
    try:
        mountinfo = MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux: nothing is known, so nothing is refused
    found = type_of(path.resolve(), mountinfo)
    return found if found in NETWORK_TYPES else ""


def read_only(folder: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    """The folder, or the first file of these in it, if this process may not write to it."""
    for path in (folder, *(folder / name for name in names)):
        if path.exists() and not os.access(path, os.W_OK):
            return path
    return None
