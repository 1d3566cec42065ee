"""Durations and points in time between Python and protobuf.

Python's side speaks seconds (float, or a `timedelta`) and aware datetimes in UTC.
"""

import datetime as dt

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

Seconds = float | dt.timedelta

_NANOS = 1_000_000_000
DURATION_SECONDS_MAX = 315_576_000_000
"""What protobuf lets a Duration say: 10,000 years."""


def to_seconds(value: Seconds, *, name: str) -> float:
    """A span in seconds. Raises ValueError, naming `name`, if it is negative, TypeError if it is no
    span.
    """
    try:
        seconds = value.total_seconds() if isinstance(value, dt.timedelta) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be seconds or a timedelta, is {value!r:.100}") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be 0 seconds or more, is {seconds}")
    return seconds


def to_duration(value: Seconds, *, name: str) -> duration_pb2.Duration:
    """A span as it travels. Raises ValueError like `to_seconds`, and if it is too long."""
    length = to_seconds(value, name=name)
    if length > DURATION_SECONDS_MAX:
        raise ValueError(f"{name} must be at most {DURATION_SECONDS_MAX} seconds, is {length}")
    seconds, nanos = divmod(round(length * _NANOS), _NANOS)
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def to_timestamp(value: dt.datetime, *, name: str) -> timestamp_pb2.Timestamp:
    """A point in time as it travels. Raises ValueError if it has no time zone, TypeError if it is
    no datetime.
    """
    if not isinstance(value, dt.datetime):
        raise TypeError(f"{name} must be a datetime with a time zone, is {value!r:.100}")
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone: use datetime.datetime.now(datetime.UTC)")
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(value)
    return stamp


def from_duration(value: duration_pb2.Duration) -> float:
    """Seconds."""
    return value.seconds + value.nanos / _NANOS


def from_timestamp(value: timestamp_pb2.Timestamp) -> dt.datetime:
    """An aware datetime in UTC, to the microsecond."""
    return value.ToDatetime(tzinfo=dt.UTC)


def moment(message: Message, field: str) -> dt.datetime | None:
    """A field that is a point in time; None = not set."""
    return from_timestamp(getattr(message, field)) if message.HasField(field) else None


def span(message: Message, field: str) -> float | None:
    """A field that is a span, in seconds; None = not set."""
    return from_duration(getattr(message, field)) if message.HasField(field) else None
