"""The largest of everything goes through, and what is larger has an answer: nothing is stuck."""

from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from penstock_dispatcher import server
from penstock_dispatcher.convert import worker_side
from penstock_dispatcher.services import listing
from rig import wire

POOL = wire.POOL
MIB = 1024 * 1024
PAYLOAD = b"p" * (4 * MIB)
RESULT = b"r" * worker_side.RESULT_BYTES_MAX
LABELS = {f"{number:0256}": "v" * 256 for number in range(64)}
OPTIONS = (
    ("grpc.max_receive_message_length", server.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", server.MESSAGE_BYTES_MAX),
)


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [make_pool(max_payload_bytes=4 * MIB)]


@pytest.fixture
async def wide(dispatcher: Any) -> Any:
    """Stubs for messages as large as the Python client and the worker take them."""
    async with grpc.aio.insecure_channel(dispatcher.address, options=OPTIONS) as channel:
        yield wire.Stubs(channel)


async def test_the_largest_payload_and_result_can_be_sent_and_read(wide: Any) -> None:
    task = await wide.submit(payload=PAYLOAD, labels=LABELS)
    worker = await wire.RawWorker(wide, pod="pod-1", slots=2).connect()
    (one,) = await worker.assigned()
    assert len(one.task.payload) == len(PAYLOAD)
    await worker.succeed(one, result=RESULT)
    await worker.acks()
    for read in (await wide.get(task.name), await wide.wait(task.name)):
        assert (len(read.payload), len(read.result)) == (len(PAYLOAD), len(RESULT))


@pytest.mark.parametrize(
    ("completed", "message"),
    [
        ({"result": RESULT + b"r"}, "at most 4194304 are kept"),
        ({"result": b"r" * (12 * MIB)}, "at most 4194304 are kept"),
        ({"content_type": "x" * 257}, "content type"),
    ],
)
async def test_a_larger_result_is_a_failure_and_the_stream_goes_on(
    wide: Any, completed: dict[str, Any], message: str
) -> None:
    first = await wide.submit()
    second = await wide.submit()
    worker = await wire.RawWorker(wide, pod="pod-1", slots=2).connect()
    one, other = await worker.assigned(2)
    outcome = worker_service_pb2.TaskOutcome(
        lease_id=one.lease.lease_id, fencing_token=one.lease.fencing_token, completed=completed
    )
    await worker.outcomes([outcome], credit=1)
    assert await worker.acks() == {one.lease.lease_id: True}
    ended = await wide.wait(first.name)
    assert (ended.state, ended.attempt) == (task_pb2.Task.DEAD_LETTERED, 1)
    assert message in ended.error.message
    info = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(info)
    assert info.reason == "RESULT_TOO_LARGE"
    await worker.succeed(other)
    assert (await wide.wait(second.name)).state == task_pb2.Task.SUCCEEDED


async def test_pages_fit_what_clients_take_by_default(stubs: Any, wide: Any) -> None:
    request = task_service_pb2.SubmitTaskRequest(
        task=task_pb2.Task(type="noop", labels=LABELS, payload=b"p" * 1000)
    )
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[request] * 150)
    await wide.tasks.BatchSubmitTasks(batch)
    names: list[str] = []
    pages, token = 0, ""
    while True:
        page = await stubs.tasks.ListTasks(
            task_service_pb2.ListTasksRequest(parent=POOL, page_size=1000, page_token=token)
        )
        assert 0 < page.ByteSize() <= listing.PAGE_BYTES_MAX + 64 * 1024
        names.extend(task.name for task in page.tasks)
        pages, token = pages + 1, page.next_page_token
        if not token:
            break
    assert len(names) == len(set(names)) == 150
    assert pages > 1


async def test_an_answer_to_a_batch_is_never_too_large(wide: Any) -> None:
    # Tasks that a request id stands for are shown with their errors: more than the batch had.
    requests = [
        task_service_pb2.SubmitTaskRequest(
            request_id=f"r{number}", task=task_pb2.Task(type="noop", labels=LABELS)
        )
        for number in range(300)
    ]
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=requests)
    answer = await wide.tasks.BatchSubmitTasks(batch)
    assert answer.ByteSize() < MIB
    found = {entry.request_id: entry.response.task for entry in answer.outcomes}
    assert len(found) == 300
    assert all(task.name and task.state == task_pb2.Task.PENDING for task in found.values())
    again = await wide.tasks.BatchSubmitTasks(batch)
    assert [entry.response.task.name for entry in again.outcomes] == [
        found[f"r{number}"].name for number in range(300)
    ]
    assert all(entry.response.deduplicated for entry in again.outcomes)
