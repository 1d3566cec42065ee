"""Records, and what opening tells, as bytes between the dispatcher and its journal's process.

Both ends are the same program of the same version, so `marshal` will do: with named tuples, which
it does not know, it is several times as fast as `pickle`. They go as plain tuples, with the number
of their kind beside them.
"""

import marshal
from collections.abc import Callable, Iterable
from typing import Any, Final

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, rows

_Plain = tuple[Any, ...]
_FORMAT: Final = 2
"""Of marshal: later ones look for each object among those that came before."""


def values(found: Any) -> bytes:
    """Numbers, texts, bytes, None, and tuples and lists of those."""
    return marshal.dumps(found, _FORMAT)


def from_values(data: bytes) -> Any:
    """What `values` had."""
    return marshal.loads(data)  # noqa: S302 - written by our own process


def batch(found: Iterable[records.Record]) -> bytes:
    """Records on their way to the journal."""
    numbers = bytearray()
    plain: list[_Plain] = []
    for record in found:
        number, columns = _plain(record)
        numbers.append(number)
        plain.append(columns)
    return values((bytes(numbers), plain))


def from_batch(data: bytes) -> list[records.Record]:
    """What `batch` had."""
    numbers, plain = from_values(data)
    return [_record(each) for each in zip(numbers, plain, strict=True)]


def opened(found: interface.Opened, pool_uids: dict[int, str]) -> bytes:
    """What opening tells, and the pools by number."""
    pools = [_plain_pool(pool) for pool in found.pools]
    uids = list(pool_uids.items())
    return values((found.epoch, found.operator_epoch, pools, found.tokens_taken, uids))


def from_opened(data: bytes) -> tuple[interface.Opened, dict[int, str]]:
    """What `opened` had."""
    epoch, operator_epoch, pools, tokens_taken, pool_uids = from_values(data)
    found = interface.Opened(
        epoch=epoch,
        operator_epoch=operator_epoch,
        pools=tuple(_pool(plain) for plain in pools),
        tokens_taken=tokens_taken,
    )
    return found, dict(pool_uids)


def _plain_pool(pool: interface.StoredPool) -> _Plain:
    return (
        tuple(pool.configured),
        tuple(pool.latched),
        [tuple(session) for session in pool.sessions],
        [tuple(worker) for worker in pool.drained],
        pool.sequence_max,
    )


def _pool(plain: _Plain) -> interface.StoredPool:
    configured, latched, sessions, drained, sequence_max = plain
    return interface.StoredPool(
        configured=records.PoolConfigured(*configured),
        latched=records.PoolLatched(*latched),
        sessions=tuple(records.SessionOpened(*each) for each in sessions),
        drained=tuple(records.WorkerDrained(*each) for each in drained),
        sequence_max=sequence_max,
    )


# ------------------------------------------------------------ records


def _plain(record: records.Record) -> tuple[int, _Plain]:
    number, pack = _PACKED[type(record)]
    return number, pack(record)


def _record(plain: tuple[int, _Plain]) -> Any:
    return _UNPACKED[plain[0]](plain[1])


def _plain_or_none(record: records.Record | None) -> tuple[int, _Plain] | None:
    return None if record is None else _plain(record)


def _record_or_none(plain: tuple[int, _Plain] | None) -> Any:
    return None if plain is None else _record(plain)


def _failed(record: Any) -> _Plain:
    """The failure, if any, is the last field."""
    columns: _Plain = record
    return *columns[:-1], _failure(record.failure)


def _from_failed(kind: Any) -> Callable[[_Plain], Any]:
    return lambda plain: kind(*plain[:-1], _from_failure(plain[-1]))


def _ended(record: records.TaskEnded) -> _Plain:
    each: _Plain = record
    return _ended_with(each, rows.STATE_NUMBERS[each[3]], _failure(each[10]))


def _from_ended(plain: _Plain) -> records.TaskEnded:
    columns = _ended_with(plain, rows.STATES[plain[3]], _from_failure(plain[10]))
    return records.TaskEnded._make(columns)


def _ended_with(each: _Plain, state: Any, failure: Any) -> _Plain:
    # One by one: slices that are joined are six tuples more.
    return (
        each[0],
        each[1],
        each[2],
        state,
        each[4],
        each[5],
        each[6],
        each[7],
        each[8],
        each[9],
        failure,
        each[11],
        each[12],
    )


def _moved(record: records.TaskMoved) -> _Plain:
    parts = (record.accepted, record.change, record.checkpoint, record.deleted)
    return record.pool_uid, *map(_plain_or_none, parts)


def _from_moved(plain: _Plain) -> records.TaskMoved:
    return records.TaskMoved(plain[0], *map(_record_or_none, plain[1:]))


def _failure(failure: tasks.Failure | None) -> _Plain | None:
    return None if failure is None else rows.failure_columns(failure)


def _from_failure(plain: _Plain | None) -> tasks.Failure | None:
    return None if plain is None else tasks.Failure(*plain)


_Packing = tuple[type[Any], Callable[[Any], _Plain], Callable[[_Plain], Any]]


def _as_it_is(kind: Any) -> _Packing:
    return kind, _columns, kind._make


def _columns(record: Any) -> _Plain:
    columns: _Plain = record
    return columns[:]  # a plain tuple; `tuple` would go through it one by one


def _with_failure(kind: Any) -> _Packing:
    return kind, _failed, _from_failed(kind)


_KINDS: Final[tuple[_Packing, ...]] = (
    _as_it_is(records.TaskAccepted),
    _with_failure(records.TaskRequeued),
    _with_failure(records.TaskRedriven),
    _as_it_is(records.TaskUpdated),
    _with_failure(records.TaskCancelling),
    _as_it_is(records.TaskCheckpointed),
    (records.TaskEnded, _ended, _from_ended),
    _as_it_is(records.TaskDeleted),
    (records.TaskMoved, _moved, _from_moved),
    _as_it_is(records.RequestForgotten),
    _as_it_is(records.SessionOpened),
    _as_it_is(records.SessionClosed),
    _as_it_is(records.WorkerDrained),
    _as_it_is(records.WorkerForgotten),
    _as_it_is(records.PoolConfigured),
    _as_it_is(records.PoolLatched),
    _as_it_is(records.PoolPurged),
    _as_it_is(records.OperatorSeen),
)
_PACKED: Final = {kind: (number, pack) for number, (kind, pack, _) in enumerate(_KINDS)}
_UNPACKED: Final = [unpack for _, _, unpack in _KINDS]
