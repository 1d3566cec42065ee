"""Keys and slots from the client to the handler: a real dispatcher and worker in this process."""

import threading

import pytest

import penstock
import penstock.testing
import penstock_worker
from penstock import errors

worker = penstock_worker.Worker()
SLOTS = 4
used = threading.Semaphore(SLOTS)


@worker.task
def takes(task: penstock_worker.Task) -> int:
    """Fails if its slots are not free."""
    taken = 0
    try:
        for _ in range(task.slots):
            assert used.acquire(blocking=False), "more slots than the worker has"
            taken += 1
        task.sleep(0.05)
        return task.slots
    finally:
        for _ in range(taken):
            used.release()


def test_tasks_of_several_slots_share_a_worker_that_has_so_many() -> None:
    pool = penstock.testing.pool("wide", slotsPerWorker=SLOTS)
    with (
        penstock.testing.dispatcher(pool) as local,
        local.run(worker, slots=SLOTS),
        local.client() as client,
    ):
        sizes = [3, 1, 4, 2, 2, 1, 3, 1, 1, 4]
        tasks = [client.submit("takes", slots=size) for size in sizes]
        done = [client.wait(task, timeout=20) for task in tasks]
        assert [task.result for task in done] == [str(size).encode() for size in sizes]
        assert {task.attempt for task in done} == {1}
        with pytest.raises(errors.Unschedulable):
            client.submit("takes", slots=SLOTS + 1)


def test_a_full_key_is_refused_and_others_are_not() -> None:
    pool = penstock.testing.pool("keyed", queue={"maxPendingPerKey": 2})
    with penstock.testing.dispatcher(pool) as local, local.client() as client:
        for _ in range(2):
            client.submit("takes", fairness_key="a")
        with pytest.raises(errors.KeyQueueFull) as refused:
            client.submit("takes", fairness_key="a")
        assert refused.value.retry_after_seconds
        assert client.submit("takes", fairness_key="b").fairness_key == "b"
        submissions = [penstock.Submission("takes", fairness_key=key) for key in "abbc"]
        outcomes = list(client.submit_many(submissions))
        assert [type(each.error) for each in outcomes] == [
            *(errors.KeyQueueFull, type(None), errors.KeyQueueFull, type(None)),
        ]


def test_reasons_that_the_pool_never_retries() -> None:
    broken = penstock_worker.Worker()

    @broken.task
    def fails(_: penstock_worker.Task) -> None:
        raise LookupError("as ever")

    pool = penstock.testing.pool("final", delivery={"nonRetryableReasons": ["LookupError"]})
    with (
        penstock.testing.dispatcher(pool) as local,
        local.run(broken),
        local.client() as client,
    ):
        done = client.wait(client.submit("fails"), timeout=20)
        assert (done.state, done.attempt) == (penstock.TaskState.DEAD_LETTERED, 1)
