"""Request ids that are remembered: for a day, in the order in which they came."""

from penstock_dispatcher.core import budget, idempotency, records, units

DAY = idempotency.RETENTION_NS


def _requests() -> tuple[idempotency.Requests, records.RecordLog]:
    log = records.RecordLog()
    share = budget.Share(budget.Budget(), "p")
    return idempotency.Requests(pool_uid="p", log=log, share=share), log


def _request(sequence: int, time: int) -> idempotency.Request:
    return idempotency.Request(sequence, f"t{sequence}", 0, time)


def test_each_is_forgotten_after_a_day_and_the_journal_is_told() -> None:
    requests, log = _requests()
    for sequence in range(1, 6):
        requests.restore(f"r{sequence}", _request(sequence, sequence * units.SECOND))
    assert requests.next_sweep() == units.SECOND + DAY
    requests.sweep(3 * units.SECOND + DAY, limit=2)
    assert len(requests) == 3, "at most so many a call"
    requests.sweep(3 * units.SECOND + DAY, limit=1000)
    assert [record.sequence for record in log.take()] == [1, 2, 3]  # type: ignore[union-attr]
    assert requests.find("r3", 3 * units.SECOND + DAY) is None
    assert requests.find("r4", 3 * units.SECOND + DAY) is not None
    assert requests.next_sweep() == 4 * units.SECOND + DAY


def test_one_that_is_asked_again_after_its_time_counts_from_then_on() -> None:
    requests, log = _requests()
    requests.restore("again", _request(1, 0))
    requests.restore("other", _request(2, units.SECOND))
    requests.restore("again", _request(3, DAY))
    requests.restore("again", _request(4, 2 * DAY))
    assert len(requests) == 2
    assert requests.next_sweep() == units.SECOND + DAY
    requests.sweep(2 * DAY, limit=1000)
    assert [record.sequence for record in log.take()] == [2]  # type: ignore[union-attr]
    assert requests.next_sweep() == 3 * DAY
    found = requests.find("again", 3 * DAY - 1)
    assert found is not None
    assert found.sequence == 4
    requests.sweep(3 * DAY, limit=1000)
    assert len(requests) == 0
    assert requests.next_sweep() == units.NEVER
    requests.restore("again", _request(5, 4 * DAY))
    assert requests.next_sweep() == 5 * DAY


def test_the_journal_forgets_an_earlier_one_with_the_same_id() -> None:
    requests, log = _requests()
    requests.remember("again", _request(1, 0), tasks_there=1)
    requests.remember("again", _request(2, DAY), tasks_there=1)
    assert [record.sequence for record in log.take()] == [1]  # type: ignore[union-attr]
    requests.sweep(2 * DAY, limit=1000)
    assert [record.sequence for record in log.take()] == [2]  # type: ignore[union-attr]


def test_beyond_the_bound_the_oldest_goes_first_but_tasks_that_are_there_do_not_count() -> None:
    requests, log = _requests()
    for sequence in range(1, idempotency.REQUESTS_MAX + 4):
        requests.remember(f"{sequence:x}", _request(sequence, 0), tasks_there=1)
    assert len(requests) == idempotency.REQUESTS_MAX + 1
    assert [record.sequence for record in log.take()] == [1, 2]  # type: ignore[union-attr]
    requests.remember("one more", _request(sequence + 1, 0), tasks_there=0)
    assert len(requests) == idempotency.REQUESTS_MAX, "the bound has gone down with a task"
