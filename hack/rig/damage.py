"""Damage done to a journal's files as disks do it: bits that flip, ends that are missing, blocks
that were never written or went astray.

`journal_folder` makes one that has some of everything, in its file and in its log; what it holds
was acknowledged. Which byte is hit follows from a seed.
"""

import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, sqlite

PAGE: Final = sqlite.PAGE_BYTES
_SIZES: Final = (20, 120, 120, 900, 3_000, 9_000, 40_000)
"""Payloads: some are larger than a page, and a few than many."""
WAL_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
POOLS: Final = tuple(
    records.PoolConfigured(f"uid-{n}", f"namespaces/a/pools/p{n}", b"config %d" % n)
    for n in range(3)
)
PURGED: Final = records.PoolConfigured("uid-gone", "namespaces/a/pools/gone", b"config")


def accepted(pool: str, sequence: int, *, body: bytes, request_id: str = "") -> Any:
    """A task, each of its fields different from those of its neighbours."""
    return records.TaskAccepted(
        *(pool, f"t{sequence}", f"u{sequence}", sequence, "resize", sequence % 7 - 3),
        *(body, len(body), 10**18 + sequence, sequence % 3, 2 * 10**18, 60 * 10**9),
        *(request_id, sequence * 7_919 - 10**12, sequence << 20),
    )


def ended(pool: str, sequence: int, *, result: bytes) -> Any:
    """Its outcome, every third a failure."""
    failed = sequence % 3 == 0
    return records.TaskEnded(
        *(pool, sequence, f"t{sequence}"),
        tasks.TaskState.DEAD_LETTERED if failed else tasks.TaskState.SUCCEEDED,
        *(1 + sequence % 4, sequence % 2, 10**18, 10**18 + 5, 5, f"pod-{sequence % 5}"),
        tasks.Failure(13, "BOOM", "bad luck", b"status") if failed else None,
        *(result, "text/plain"),
    )


def _tasks(draw: random.Random, pool: str, numbers: range, sizes: tuple[int, ...]) -> list[Any]:
    found: list[Any] = []
    for number in numbers:
        size = draw.choice(sizes)
        body = draw.randbytes(size) if number % 2 else b"\0" * size
        found.append(accepted(pool, number, body=body, request_id=f"r{number}" * (number % 5 > 0)))
    return found


def fill(journal: sqlite.SqliteJournal, *, seed: int, moved: bool) -> None:
    """Some of everything: waiting, ended and deleted tasks, checkpoints, request ids, workers, a
    purged pool.
    `moved`: most of it lies in the file; otherwise the log holds all of it.
    """
    draw = random.Random(seed)
    sizes = _SIZES if moved else _SIZES[:4]
    journal.append([*POOLS, PURGED, *_tasks(draw, PURGED.pool_uid, range(1, 40), sizes)])
    for pool in POOLS:
        uid = pool.pool_uid
        journal.append(_tasks(draw, uid, range(1, 120), sizes))
        journal.append([records.PoolLatched(uid, True, 7, False), records.OperatorSeen(3)])
        journal.append(
            [ended(uid, n, result=draw.randbytes(n * (40 if moved else 4))) for n in range(1, 60)]
        )
        journal.append([records.TaskDeleted(uid, n, f"t{n}") for n in range(1, 20)])
        for number in range(8):
            name = f"{number}-{uid}"
            journal.append(
                [
                    records.SessionOpened(uid, f"session-{name}", f"pod-{name}", f"pod-uid-{name}"),
                    records.WorkerDrained(uid, f"gone-{name}"),
                    records.TaskRequeued(uid, 60 + number, f"t{60 + number}", 1, 2, 3, None),
                    records.TaskCheckpointed(uid, 60 + number, f"t{60 + number}", b"half way"),
                ]
            )
        if moved:
            journal._move_log()  # noqa: SLF001 - it would not be long enough
    journal.append([records.PoolPurged(PURGED.pool_uid)])
    journal.append([records.TaskRedriven("uid-1", 57, "t57", 99 << 20, None)])


class Kept(NamedTuple):
    """What a journal tells beside its tasks."""

    epoch: int
    operator_epoch: int
    pools: tuple[interface.StoredPool, ...]
    requests: list[interface.StoredRequest]


def read(journal: sqlite.SqliteJournal) -> tuple[Kept, list[interface.StoredTask]]:
    """Open it and read all it has, as a dispatcher does; then close it. Raises JournalFailed."""
    try:
        opened = journal.open()
        requests: list[interface.StoredRequest] = []
        while asked := journal.load_requests(requests[-1].key if requests else -1):
            requests.extend(asked)
        found: list[interface.StoredTask] = []
        while page := journal.load_tasks(found[-1].key if found else -1):
            found.extend(page)
        return Kept(opened.epoch, opened.operator_epoch, opened.pools, requests), found
    finally:
        journal.close()


def load(
    folder: pathlib.Path, *, salvage: bool = False, say: Callable[[str], None] = lambda _: None
) -> tuple[Kept, list[interface.StoredTask]]:
    """What a dispatcher would believe of a folder. Raises JournalFailed."""
    return read(sqlite.SqliteJournal(folder, reserve_bytes=0, salvage=salvage, say=say))


def crashed_folder(folder: pathlib.Path, *, seed: int, moved: bool) -> pathlib.Path:
    """A journal as a killed process leaves it."""
    live = folder / "live"
    journal = sqlite.SqliteJournal(live, reserve_bytes=0)
    journal.open()
    fill(journal, seed=seed, moved=moved)
    shutil.copytree(live, folder / "crashed")
    journal.close()
    return folder / "crashed"


# ---------------------------------------------------------------- what may happen to a file

_Damage = Callable[[bytearray, random.Random], None]


def _flip(content: bytearray, draw: random.Random, start: int, end: int) -> None:
    content[draw.randrange(start, min(end, len(content)))] ^= 1 << draw.randrange(8)


def _page_of(content: bytearray, draw: random.Random, kinds: tuple[int, ...]) -> int:
    pages = [at for at in range(PAGE, len(content) - PAGE + 1, PAGE) if content[at] in kinds]
    return draw.choice(pages or [0])


def flip_in_header(content: bytearray, draw: random.Random) -> None:
    """Of the file: its first hundred bytes."""
    _flip(content, draw, 0, 100)


def flip_in_definitions(content: bytearray, draw: random.Random) -> None:
    """The rest of the first page: which tables there are."""
    _flip(content, draw, 100, PAGE)


def flip_in_interior(content: bytearray, draw: random.Random) -> None:
    """A page of pointers to pages."""
    at = _page_of(content, draw, (0x05, 0x02))
    _flip(content, draw, at, at + PAGE)


def flip_in_leaf(content: bytearray, draw: random.Random) -> None:
    """A page of rows."""
    at = _page_of(content, draw, (0x0D, 0x0A))
    _flip(content, draw, at, at + PAGE)


def flip_in_leaf_header(content: bytearray, draw: random.Random) -> None:
    """How many rows a page has, and where."""
    at = _page_of(content, draw, (0x0D, 0x0A))
    _flip(content, draw, at, at + 64)


def flip_anywhere(content: bytearray, draw: random.Random) -> None:
    """One bit."""
    _flip(content, draw, 0, len(content))


def flip_many(content: bytearray, draw: random.Random) -> None:
    """Twenty bits."""
    for _ in range(20):
        _flip(content, draw, 0, len(content))


def cut(content: bytearray, draw: random.Random) -> None:
    """The end is missing, from any byte on."""
    del content[draw.randrange(len(content)) :]


def cut_at_block(content: bytearray, draw: random.Random) -> None:
    """The end is missing, from a page on."""
    del content[draw.randrange(len(content) // PAGE) * PAGE :]


def blank_block(content: bytearray, draw: random.Random) -> None:
    """A page was never written."""
    at = draw.randrange(len(content) // PAGE) * PAGE
    content[at : at + PAGE] = bytes(len(content[at : at + PAGE]))


def swap_blocks(content: bytearray, draw: random.Random) -> None:
    """A page lies where another belongs."""
    one, other = (draw.randrange(len(content) // PAGE) * PAGE for _ in range(2))
    content[one : one + PAGE] = content[other : other + PAGE]


def flip_in_log_header(content: bytearray, draw: random.Random) -> None:
    """Of the log: with it, all of it is passed over."""
    _flip(content, draw, 0, WAL_HEADER_BYTES)


def flip_in_frame_header(content: bytearray, draw: random.Random) -> None:
    """Which page a frame of the log is, and whether a commit ends with it."""
    frame = FRAME_HEADER_BYTES + PAGE
    at = WAL_HEADER_BYTES + draw.randrange((len(content) - WAL_HEADER_BYTES) // frame) * frame
    _flip(content, draw, at, at + FRAME_HEADER_BYTES)


ANY: Final[tuple[_Damage, ...]] = (
    flip_anywhere, flip_many, cut, cut_at_block, blank_block, swap_blocks,
)  # fmt: skip
FILE: Final[tuple[_Damage, ...]] = (
    *ANY, flip_in_header, flip_in_definitions, flip_in_interior, flip_in_leaf, flip_in_leaf_header,
)  # fmt: skip
LOG: Final[tuple[_Damage, ...]] = (*ANY, flip_in_log_header, flip_in_frame_header)


def damage(path: pathlib.Path, how: _Damage, *, seed: int) -> None:
    """Do it to the file."""
    content = bytearray(path.read_bytes())
    how(content, random.Random(f"{how.__name__} {seed}"))
    path.write_bytes(content)
