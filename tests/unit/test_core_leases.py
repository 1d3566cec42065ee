"""Fencing tokens: they only grow, also from one run to the next."""

import asyncio

import pytest

from penstock_dispatcher.core import leases, units
from penstock_dispatcher.journal import memory

NOW = 1_800_000_000 * units.SECOND


def source(now: int) -> leases.TokenSource:
    opened = asyncio.run(memory.MemoryJournal(now=now).open())
    tokens = leases.TokenSource(opened.epoch)
    tokens.skip(opened.tokens_taken)
    return tokens


@pytest.mark.parametrize("later", [units.MILLISECOND, units.SECOND, 599 * units.SECOND, 10**18])
def test_a_run_without_a_memory_begins_above_the_one_before(later: int) -> None:
    before = source(NOW)
    for _ in range(1_000):
        before.take()
    assert source(NOW + later).newest > before.newest


def test_an_epoch_has_room_for_what_is_left_out() -> None:
    tokens = source(NOW - NOW % memory.EPOCH_NS + memory.EPOCH_NS - 1)
    for _ in range(1_000):
        assert leases.epoch_of(tokens.take()) == tokens.epoch


@pytest.mark.parametrize("epoch", [0, 7, leases.EPOCHS_MAX - 1])
def test_no_token_is_of_the_next_epoch(epoch: int) -> None:
    tokens = leases.TokenSource(epoch)
    tokens.skip((1 << leases.COUNTER_BITS) - 2)
    last = tokens.take()
    assert (leases.epoch_of(last), leases.epoch_of(last + 1)) == (epoch, epoch + 1)
    for _ in range(2):
        with pytest.raises(OverflowError, match=f"epoch {epoch} has no fencing token left"):
            tokens.take()
    assert tokens.newest == last


def test_a_lease_is_named_by_its_token() -> None:
    token = source(NOW).take()
    assert leases.token_of(leases.lease_id_of(token)) == token


@pytest.mark.parametrize("text", ["", "lease-1", "0x1f", " 1f", "1F", "1_f", "01f", "-1f", "é"])
def test_what_is_no_id_of_a_lease_names_no_token(text: str) -> None:
    assert leases.token_of(text) == 0
