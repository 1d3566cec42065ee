"""Waiting for what has no event of its own."""

import asyncio
from collections.abc import Callable

SECONDS_MAX = 5.0
STEP_SECONDS = 0.01


async def until(condition: Callable[[], object], seconds: float = SECONDS_MAX) -> None:
    """Return as soon as the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it has none
            await asyncio.sleep(STEP_SECONDS)
