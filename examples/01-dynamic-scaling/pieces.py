"""The input of the `stdlib` run: every file of Python's standard library, in pieces.

A file larger than one payload becomes several pieces, an empty file one empty piece: none is left
out. `check` compares what a worker made of a piece with the piece itself.
"""

import dataclasses
import hashlib
import os
import pathlib
import sysconfig
import zlib
from collections.abc import Iterator
from typing import Final

PIECE_BYTES_MAX: Final = 1024 * 1024  # the default spec.queue.maxPayloadBytes
SHA256_BYTES: Final = 32
NOT_STANDARD: Final = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Part `index` of a file; `sha256` and `size_bytes` are computed here, before it is sent."""

    path: str
    index: int
    size_bytes: int
    sha256: bytes


def standard_library() -> pathlib.Path:
    """Where this Python keeps its standard library."""
    return pathlib.Path(sysconfig.get_path("stdlib"))


def files(root: pathlib.Path) -> list[pathlib.Path]:
    """Every file below `root`, in a fixed order, without installed packages and caches."""
    found: list[pathlib.Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in NOT_STANDARD)
        found += [path for name in sorted(names) if (path := pathlib.Path(folder, name)).is_file()]
    return found


def pieces_of(path: pathlib.Path, *, root: pathlib.Path) -> Iterator[tuple[Piece, bytes]]:
    """A file's pieces with their content."""
    with path.open("rb") as file:
        index = 0
        while (content := file.read(PIECE_BYTES_MAX)) or index == 0:
            digest = hashlib.sha256(content).digest()
            yield Piece(str(path.relative_to(root)), index, len(content), digest), content
            index += 1


def check(piece: Piece, result: bytes) -> str:
    """What is wrong with a result, empty = nothing: its hash and its content must be ours."""
    if result[:SHA256_BYTES] != piece.sha256:
        return "another SHA-256 than computed here"
    try:
        content = zlib.decompress(result[SHA256_BYTES:])
    except zlib.error as error:
        return f"cannot be decompressed: {error}"
    if hashlib.sha256(content).digest() != piece.sha256:
        return "decompresses to something else"
    return ""
