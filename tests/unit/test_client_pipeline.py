"""`submit_many` without I/O: windows, order, breaks and refusals."""

import random

import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

import penstock
from penstock import _pipeline, errors
from penstock.v1 import task_service_pb2

PARENT = "namespaces/a/pools/b"
DOWN = errors.Unavailable("nobody there")


def pipeline(
    *, retry: penstock.Retry | None = None, timeout_seconds: float = 10.0
) -> _pipeline.Pipeline:
    terms = _pipeline.Terms(
        parent=PARENT,
        retry=retry,
        timeout_seconds=timeout_seconds,
    )
    return _pipeline.Pipeline(terms, draw=lambda: 0.0)


def refusal(
    reason: str, *, code: int = code_pb2.RESOURCE_EXHAUSTED, delay_seconds: int | None = 1
) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=reason)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason))
    if delay_seconds is not None:
        delay = duration_pb2.Duration(seconds=delay_seconds)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def accepted(
    batch: task_service_pb2.BatchSubmitTasksRequest,
    refused: dict[str, status_pb2.Status] | None = None,
) -> task_service_pb2.BatchSubmitTasksResponse:
    """An answer to the batch: each task is named after its type, but for those refused."""
    answer = task_service_pb2.BatchSubmitTasksResponse()
    for request in batch.requests:
        outcome = answer.outcomes.add(request_id=request.request_id)
        status = (refused or {}).get(request.task.type)
        if status is None:
            outcome.response.task.name = f"{PARENT}/tasks/{request.task.type}"
        else:
            outcome.error.CopyFrom(status)
    return answer


def types(batch: task_service_pb2.BatchSubmitTasksRequest | None) -> list[str]:
    return [] if batch is None else [request.task.type for request in batch.requests]


def fill(machine: _pipeline.Pipeline, count: int, *, size: int = 1, start: int = 0) -> None:
    for number in range(start, start + count):
        assert machine.room
        machine.add(penstock.Submission(f"t{number}", bytes(size)))


def sent(machine: _pipeline.Pipeline, now: float = 0.0) -> task_service_pb2.BatchSubmitTasksRequest:
    batch = machine.next_batch(now)
    assert batch is not None
    return batch


def test_a_batch_names_the_pool_once_and_has_at_most_a_thousand() -> None:
    machine = pipeline()
    fill(machine, 1500)
    first, second = sent(machine), sent(machine)
    assert (len(first.requests), len(second.requests)) == (1000, 500)
    assert first.parent == PARENT
    assert not any(request.parent for request in first.requests)
    assert machine.next_batch(0.0) is None


def test_a_batch_is_bounded_in_bytes_and_a_large_payload_travels_alone() -> None:
    machine = pipeline()
    fill(machine, 1, size=10)
    fill(machine, 1, size=2 * _pipeline.BATCH_BYTES_MAX, start=1)
    fill(machine, 3, size=_pipeline.BATCH_BYTES_MAX // 2 - 1000, start=2)
    batches = [types(sent(machine)) for _ in range(4)]
    assert batches == [["t0"], ["t1"], ["t2", "t3"], ["t4"]]


def test_the_window_bounds_what_is_ahead_of_the_caller() -> None:
    machine = pipeline()
    fill(machine, _pipeline.WINDOW_TASKS_MAX)
    assert not machine.room
    batches = [sent(machine) for _ in range(_pipeline.BATCHES_IN_FLIGHT_MAX)]
    assert machine.next_batch(0.0) is None
    machine.answered(accepted(batches[0]), 0.0)
    assert not machine.room, "outcomes that nobody took still count"
    assert len(machine.take_outcomes()) == 1000
    assert machine.room


def test_the_window_is_bounded_in_bytes() -> None:
    machine = pipeline()
    number = 0
    while machine.room:
        fill(machine, 1, size=_pipeline.BATCH_BYTES_MAX, start=number)
        number += 1
    assert number == _pipeline.WINDOW_BYTES_MAX // _pipeline.BATCH_BYTES_MAX


def test_outcomes_come_in_the_caller_s_order_with_their_errors() -> None:
    machine = pipeline()
    fill(machine, 3)
    machine.answered(accepted(sent(machine), {"t1": refusal("QUEUE_FULL")}), 0.0)
    first, second, third = machine.take_outcomes()
    assert first.ok
    assert first.name == first.task.name == f"{PARENT}/tasks/t0"
    assert isinstance(second.error, penstock.QueueFull)
    assert second.error.retry_after_seconds == 1.0
    with pytest.raises(penstock.QueueFull):
        _ = second.task
    assert third.submission.type == "t2"
    assert machine.idle


def test_a_broken_stream_is_made_good_with_the_same_request_ids_in_order() -> None:
    machine = pipeline()
    fill(machine, 2500)
    batches = [sent(machine) for _ in range(3)]
    machine.answered(accepted(batches[0]), 0.0)
    machine.broken(DOWN, 1.0)
    held_until = machine.held_until(1.0)
    assert held_until is not None
    assert machine.next_batch(1.0) is None
    again = [sent(machine, held_until), sent(machine, held_until)]
    assert again == batches[1:]
    for batch in again:
        machine.answered(accepted(batch), 2.0)
    assert [outcome.submission.type for outcome in machine.take_outcomes()] == [
        f"t{number}" for number in range(2500)
    ]


def break_until_raised(machine: _pipeline.Pipeline) -> list[float]:
    """The times of all tries, until nobody being there is raised."""
    times, now = [0.0], 0.0
    while True:
        sent(machine, now)
        try:
            machine.broken(DOWN, now)
        except errors.Unavailable:
            return times
        now = machine.held_until(now) or now
        times.append(now)


def test_nobody_there_is_raised_when_patience_ends() -> None:
    machine = pipeline(timeout_seconds=10.0)
    fill(machine, 1)
    times = break_until_raised(machine)
    assert 5 < len(times) < 50
    assert 4.0 < times[-1] <= 10.0


def test_an_answer_renews_patience() -> None:
    machine = pipeline(timeout_seconds=10.0)
    for start in (0.0, 9.0, 18.0, 27.0):
        fill(machine, 1)
        sent(machine, start)
        machine.broken(DOWN, start + 0.1)
        batch = sent(machine, start + 1.0)
        machine.answered(accepted(batch), start + 8.0)
        assert len(machine.take_outcomes()) == 1


def test_a_stream_that_breaks_with_nothing_owed_is_no_failure() -> None:
    machine = pipeline()
    for _ in range(100):
        machine.broken(DOWN, 1e6)
    assert machine.patience_ends() is None


def test_other_ends_of_a_stream_are_raised() -> None:
    machine = pipeline()
    fill(machine, 1)
    sent(machine)
    with pytest.raises(errors.PoolNotFound):
        machine.broken(errors.PoolNotFound("no"), 0.0)


def test_an_answer_that_is_owed_for_too_long_is_told() -> None:
    machine = pipeline(timeout_seconds=10.0)
    fill(machine, 1)
    assert machine.patience_ends() is None
    sent(machine, 5.0)
    assert machine.patience_ends() == 15.0
    machine.check(14.9)
    with pytest.raises(errors.DeadlineExceeded, match="has not answered for 10 s"):
        machine.check(15.0)


def test_a_refusal_is_final_without_retry() -> None:
    machine = pipeline()
    fill(machine, 1)
    machine.answered(accepted(sent(machine), {"t0": refusal("QUEUE_FULL")}), 0.0)
    assert isinstance(machine.take_outcomes()[0].error, penstock.QueueFull)


def test_with_retry_refused_ones_go_first_again_when_the_dispatcher_says() -> None:
    machine = pipeline(retry=penstock.Retry())
    fill(machine, 3)
    batch = sent(machine)
    fill(machine, 2, start=3)
    machine.answered(
        accepted(batch, {"t1": refusal("QUEUE_FULL"), "t2": refusal("QUEUE_FULL")}), 100.0
    )
    assert [outcome.submission.type for outcome in machine.take_outcomes()] == ["t0"]
    assert machine.next_batch(100.9) is None
    again = sent(machine, 101.0)
    assert types(again) == ["t1", "t2", "t3", "t4"]
    assert again.requests[0].request_id == batch.requests[1].request_id
    machine.answered(accepted(again), 101.0)
    assert len(machine.take_outcomes()) == 4
    assert machine.idle


def test_retry_ends_with_its_time_and_its_attempts() -> None:
    for retry in (
        penstock.Retry(max_elapsed_seconds=2.5),
        penstock.Retry(max_attempts=3),
    ):
        machine = pipeline(retry=retry)
        fill(machine, 1)
        for now in (10.0, 11.0):
            machine.answered(accepted(sent(machine, now), {"t0": refusal("QUEUE_FULL")}), now)
            assert not machine.take_outcomes()
        machine.answered(accepted(sent(machine, 12.0), {"t0": refusal("QUEUE_FULL")}), 12.0)
        assert isinstance(machine.take_outcomes()[0].error, penstock.QueueFull)


def test_an_unavailable_outcome_is_tried_again_without_being_asked() -> None:
    machine = pipeline(timeout_seconds=10.0)
    fill(machine, 1)
    storage = refusal("STORAGE", code=code_pb2.UNAVAILABLE)
    machine.answered(accepted(sent(machine, 1.0), {"t0": storage}), 1.0)
    assert not machine.take_outcomes()
    machine.answered(accepted(sent(machine, 2.0)), 2.0)
    assert machine.take_outcomes()[0].ok


def test_an_outcome_that_will_never_do_is_not_tried_again() -> None:
    machine = pipeline(retry=penstock.Retry())
    fill(machine, 1)
    bad = refusal("INVALID_FIELD", code=code_pb2.INVALID_ARGUMENT, delay_seconds=None)
    machine.answered(accepted(sent(machine), {"t0": bad}), 0.0)
    assert isinstance(machine.take_outcomes()[0].error, errors.InvalidField)


def test_an_answer_of_another_length_is_refused() -> None:
    machine = pipeline()
    fill(machine, 2)
    sent(machine)
    with pytest.raises(penstock.PenstockError, match="another number of outcomes"):
        machine.answered(task_service_pb2.BatchSubmitTasksResponse(), 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_submission_has_one_outcome_in_order(seed: int) -> None:
    """A naive dispatcher that remembers request ids, loses answers, and refuses at random."""
    chance = random.Random(seed)
    machine = pipeline(retry=penstock.Retry(max_attempts=10**6, max_elapsed_seconds=1e9))
    known: dict[str, str] = {}
    unanswered: list[task_service_pb2.BatchSubmitTasksRequest] = []
    outcomes: list[penstock.Outcome] = []
    total, added, now = 3000, 0, 0.0
    while len(outcomes) < total:
        now += chance.random()
        for _ in range(chance.randrange(700)):
            if added < total and machine.room:
                machine.add(penstock.Submission(f"t{added}", b""))
                added += 1
        if (batch := machine.next_batch(now)) is not None:
            unanswered.append(batch)
        event = chance.random()
        if event < 0.15:
            for lost in unanswered:  # the dispatcher saw some of it; no answer arrives
                if chance.random() < 0.5:
                    known |= {each.request_id: each.task.type for each in lost.requests}
            unanswered.clear()
            machine.broken(DOWN, now)
        elif unanswered:
            batch = unanswered.pop(0)
            refused = {
                each.task.type: refusal("QUEUE_FULL")
                for each in batch.requests
                if each.request_id not in known and chance.random() < 0.2
            }
            known |= {
                each.request_id: each.task.type
                for each in batch.requests
                if each.task.type not in refused
            }
            machine.answered(accepted(batch, refused), now)
        outcomes += machine.take_outcomes()
    assert [outcome.submission.type for outcome in outcomes] == [f"t{n}" for n in range(total)]
    assert all(outcome.ok for outcome in outcomes)
    assert sorted(known.values()) == sorted(f"t{n}" for n in range(total))
    assert machine.idle
    assert not machine.open
