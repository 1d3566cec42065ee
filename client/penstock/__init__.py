"""Penstock's client: submit tasks to worker pools, and see what becomes of them.

    import penstock

    with penstock.SyncClient(pool="thumbnails") as client:
        task = client.submit("resize", penstock.json_payload({"path": "cat.jpg"}))
        print(client.result(task, timeout=60))

`Client` is the same for asyncio. What is exported here, and `penstock.errors`, is the public
surface; modules with an underscore are not. `penstock.v1` is the generated wire code. Only grpcio
and protobuf are needed; the command line (`penstock.cli`) needs the extra `cli`.
"""

from penstock import errors
from penstock._client import Client
from penstock._control import Bulk
from penstock._payload import Payload, json_payload
from penstock._pools import PoolInfo, PoolState, Purge, Restore, WorkerInfo, WorkerState
from penstock._retry import Retry
from penstock._submission import Admission, Outcome, RetryPolicy, Submission, SubmitOptions
from penstock._sync_client import SyncClient
from penstock._task import Task, TaskFailure, TaskState
from penstock._watching import TaskChange
from penstock.errors import (
    AdmissionTimeout,
    PenstockError,
    QueueFull,
    TaskError,
    TaskFailed,
    TooManyWaiters,
    WaitTimeout,
)

__all__ = [
    "Admission",
    "AdmissionTimeout",
    "Bulk",
    "Client",
    "Outcome",
    "Payload",
    "PenstockError",
    "PoolInfo",
    "PoolState",
    "Purge",
    "QueueFull",
    "Restore",
    "Retry",
    "RetryPolicy",
    "Submission",
    "SubmitOptions",
    "SyncClient",
    "Task",
    "TaskChange",
    "TaskError",
    "TaskFailed",
    "TaskFailure",
    "TaskState",
    "TooManyWaiters",
    "WaitTimeout",
    "WorkerInfo",
    "WorkerState",
    "errors",
    "json_payload",
]
