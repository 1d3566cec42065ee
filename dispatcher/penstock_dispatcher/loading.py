"""From the journal into the pools, before anything is served.

Pools come first, with their latches; tasks follow in pages and are handed to their pools at once,
so that nothing is held twice. The loop runs between pages: health checks are answered.
"""

import asyncio
import logging
import sys
from typing import Final

from google.protobuf import duration_pb2, message

from penstock.v1 import fleet_service_pb2, task_pb2
from penstock_dispatcher import errors, pump
from penstock_dispatcher.convert import pool_config, times
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import records, settings, units
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface

_log = logging.getLogger(__name__)

LOADING_RECORDS_MAX: Final = 10_000
"""Not durable yet, at most, before the next page is read."""

_RETRY_POLICY_TAG: Final = bytes((task_pb2.Task.RETRY_POLICY_FIELD_NUMBER << 3 | 2,))
"""A body without this byte has no policy of its own, and need not be decoded to see that."""


async def load(journal: interface.Journal, pump_: pump.Pump) -> interface.Opened:
    """Open the journal and fill the pump's registry. Raises JournalFailed."""
    opened = await journal.open()
    registry = pump_.registry
    registry.begin(opened.epoch)
    registry.tokens.skip(opened.tokens_taken)
    pump_.operator_epoch = opened.operator_epoch
    stored = {pool.configured.pool_uid: pool for pool in opened.pools}
    made = {
        uid: registry.make(settings_of(pool.configured), fresh=False)
        for uid, pool in stored.items()
    }
    after = -1
    while remembered := await journal.load_requests(after):
        after = remembered[-1].key
        for one in remembered:
            made[one.pool_uid].book.restore_requests(((one.request_id, one.request),))
    count = 0
    after = -1
    while page := await journal.load_tasks(after):
        after = page[-1].key
        count += len(page)
        for entry in page:
            accepted = entry.accepted
            pool = made[accepted.pool_uid]
            task = task_of(entry, pool.config)
            pool.book.restore(task, pool.config, pump_.now())
        # What has to make room is deleted, and must not gather until all is loaded.
        pump_.commits.gather()
        if pump_.commits.backlog() > LOADING_RECORDS_MAX:
            await pump_.commits.idle()
    for uid, pool in made.items():
        _finish(pool, stored[uid], pump_)
        registry.add(pool, stored[uid].configured.config)
        pump_.mark(pool)
    while registry.memory.forget_requests():
        pump_.commits.gather()
        await asyncio.sleep(0)
    _log.info("epoch %d: loaded %d pools, %d tasks", opened.epoch, len(made), count)
    return opened


def settings_of(configured: records.PoolConfigured) -> settings.PoolSettings:
    """The settings that were in force. Raises JournalFailed.

    An earlier version may have taken what is beyond a bound by now. It counts as the bound until
    the operator sends the configuration again, and is told which field to mend; a dispatcher that
    does not start could be told nothing.
    """
    config = fleet_service_pb2.PoolConfig.FromString(configured.config)
    limits = _cut(config.rate_limit) + _cut(config.rate_limit_per_key)
    cut = _cut(config) + limits + _cut(config.retry_policy)
    if cut:
        _log.warning("%s: cut to what is allowed by now: %s", configured.name, ", ".join(cut))
    try:
        return pool_config.settings_of(config)
    except errors.Refusal as refusal:
        # It was accepted by the version that wrote it.
        raise interface.JournalFailed(
            f"the journalled configuration of {configured.name} is not usable: {refusal.text}"
        ) from refusal


def _cut(part: message.Message) -> list[str]:
    """Bring down what is beyond its bound, and say a duration as it is said; returns the names of
    the fields that were changed. Unset ones stay unset.
    """
    cut = []
    for field, value in part.ListFields():
        if isinstance(value, duration_pb2.Duration):
            said = value.seconds, value.nanos
            longest = times.DURATION_SECONDS_MAX * units.SECOND
            value.FromNanoseconds(min(times.duration_ns(value), longest))
            if said != (value.seconds, value.nanos):
                cut.append(field.name)
        elif field.name == "backoff_multiplier" and not value <= settings.MULTIPLIER_MAX:
            setattr(part, field.name, settings.MULTIPLIER_MAX)
            cut.append(field.name)
    return cut


def _finish(pool: pools.Pool, stored: interface.StoredPool, pump_: pump.Pump) -> None:
    pool.restore(
        stored=(),
        requests=(),
        sessions=((session.session_id, session.pod_uid) for session in stored.sessions),
        tombstones=(worker.pod_uid for worker in stored.drained),
        paused=stored.latched.paused,
        closed_time=stored.latched.closed_time,
        draining=stored.latched.draining,
        now=pump_.now(),
    )


def task_of(entry: interface.StoredTask, config: settings.PoolSettings) -> tasks.Task:
    """A task as the journal kept it."""
    accepted, change = entry.accepted, entry.change
    task = tasks.Task(
        id=accepted.task_id,
        uid=accepted.uid,
        sequence=accepted.sequence,
        type=sys.intern(accepted.type),
        priority=accepted.priority,
        body=accepted.body,
        size=accepted.size,
        create_time=accepted.create_time,
        not_before=accepted.not_before,
        expire_time=accepted.expire_time,
        execution_timeout_ns=accepted.execution_timeout_ns,
        retry=_retry(accepted.body, config),
        request_id=accepted.request_id,
        state=tasks.TaskState.PENDING,
        fingerprint=accepted.fingerprint,
        schedule_time=accepted.not_before,
        fencing_token=accepted.token_min,
        fairness_key=sys.intern(accepted.fairness_key),
        concurrency_key=sys.intern(accepted.concurrency_key),
        slots=accepted.slots,
    )
    task.keep_checkpoint(entry.checkpoint)
    if change is None:
        return task
    task.attempt = change.attempt
    task.worker_losses = change.worker_losses
    task.failure = change.failure
    if isinstance(change, records.TaskRequeued):
        task.not_before = change.not_before
        return task
    if isinstance(change, records.TaskCancelling):
        # Whoever was told that it is being cancelled does not see it going back.
        task.not_before, task.cancelling, task.state = 0, True, tasks.TaskState.CANCELLING
        return task
    task.state = change.state
    task.start_time = change.start_time
    task.end_time = change.end_time
    task.execution_time_ns = change.execution_time_ns
    task.worker = change.worker
    task.result = change.result
    task.result_content_type = change.result_content_type
    return task


def _retry(body: bytes, config: settings.PoolSettings) -> settings.RetryPolicy:
    if _RETRY_POLICY_TAG not in body:
        return config.retry
    submitted = task_pb2.Task.FromString(body)
    if not submitted.HasField("retry_policy"):
        return config.retry
    return pool_config.retry_policy(submitted.retry_policy, config.retry)
