"""Which field is at fault. Of a submission it is asked when building its message has failed, with
an error of protobuf's that names none: a good one without a retry policy pays nothing for it.
Filters and retry policies are looked at before.
"""

from collections.abc import Mapping
from typing import Any, Final

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1
TEXTS: Final = ("type", "task_id", "request_id", "fairness_key", "concurrency_key")
MAPS: Final = ("labels", "trace_context")


def name_field(submission: Any) -> None:
    """Raises TypeError or ValueError naming the first field that no message can carry, if there is
    one.
    """
    for name in TEXTS:
        if (value := getattr(submission, name)) is not None:
            text(name, value)
    for name in MAPS:
        if values := getattr(submission, name):
            texts(name, values)
    if submission.priority is not None:
        number("priority", submission.priority)
    number("slots", submission.slots, least=1)


def text(name: str, value: object) -> None:
    """Raises TypeError or ValueError unless it can travel as text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, is {value!r:.100}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} must be text that UTF-8 can say, without lone surrogates, is {value!r:.100}"
        ) from None


def number(name: str, value: object, *, least: int = INT32_MIN) -> None:
    """Raises TypeError or ValueError unless it is an int from `least` on that fits 32 bits."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, is {value!r:.100}")
    if not INT32_MIN <= value <= INT32_MAX:
        raise ValueError(f"{name} must fit 32 bits, is {value}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, is {value}")


def texts(name: str, values: object) -> None:
    """Raises TypeError or ValueError unless it maps what can travel as text to such."""
    if not isinstance(values, Mapping) or not all(
        isinstance(each, str) for pair in values.items() for each in pair
    ):
        raise TypeError(f"{name} must map strings to strings, are {values!r:.200}")
    for key, value in values.items():
        text(f"a key of {name}", key)
        text(f"{name}[{key!r:.100}]", value)
