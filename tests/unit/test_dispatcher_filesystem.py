"""Which file system holds a path, from the kernel's table of mounts."""

import pathlib

import pytest

from penstock_dispatcher.journal import filesystem

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /data rw - nfs4 server:/export rw
31 30 8:2 / /data/local rw - xfs /dev/sdb rw
32 22 0:31 / /with\\040blank rw shared:2 master:3 - cifs //server/x rw
33 22 0:32 / /over rw - ext4 /dev/sdc rw
34 22 0:33 / /over rw - ceph mon:/ rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "ext4"),
        ("/home/someone", "ext4"),
        ("/data", "nfs4"),
        ("/data/x/y", "nfs4"),
        ("/data/local/z", "xfs"),
        ("/database", "ext4"),
        ("/with blank/x", "cifs"),
        ("/over/x", "ceph"),
    ],
)
def test_the_deepest_and_latest_mount_counts(path: str, found: str) -> None:
    assert filesystem.type_of(pathlib.Path(path), MOUNTINFO) == found


def test_nothing_is_known_without_a_table() -> None:
    assert filesystem.type_of(pathlib.Path("/x"), "") == ""


def test_network_file_systems_are_known_by_name() -> None:
    assert {"nfs", "nfs4", "cifs", "9p", "ceph", "fuse.sshfs"} <= filesystem.NETWORK_TYPES
    assert not {"ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs"} & filesystem.NETWORK_TYPES
