"""Records as a journal gets them, for tests in which it does not matter what is in them."""

from penstock_dispatcher.core import records


def accepted(pool_uid: str, sequence: int, body: bytes) -> records.TaskAccepted:
    """A task with that body, and nothing else that is not the plainest."""
    return records.TaskAccepted(
        pool_uid=pool_uid,
        task_id=f"t{sequence}",
        uid="u",
        sequence=sequence,
        type="noop",
        priority=0,
        body=body,
        size=len(body),
        create_time=1,
        not_before=0,
        expire_time=0,
        execution_timeout_ns=4,
        request_id="",
        fingerprint=0,
        token_min=0,
    )
