"""Times and durations: the wire's messages and the core's integer nanoseconds.

The wire can say what 64 bits of nanoseconds cannot hold. Whatever comes in is bounded here, so that
a time, also after durations were added to it, stays below `units.NEVER` and fits the journal's
integers: what a client or the operator sends is refused beyond the bound, what a worker measured is
cut to it.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf import duration_pb2, timestamp_pb2

from penstock_dispatcher.core import units

DURATION_SECONDS_MAX: Final = 315_360_000
"""Ten years."""
TIME_SECONDS_MAX: Final = 4_102_444_799
"""The last second of the year 2099."""
_DURATION_NS_MAX: Final = DURATION_SECONDS_MAX * units.SECOND


def duration_ns(duration: duration_pb2.Duration) -> int:
    """Nanoseconds of a Duration."""
    return duration.seconds * units.SECOND + duration.nanos


def duration_ns_within(duration: duration_pb2.Duration) -> int:
    """Nanoseconds of a Duration, not negative and at most the bound."""
    return min(max(0, duration_ns(duration)), _DURATION_NS_MAX)


def check_duration(
    duration: duration_pb2.Duration, field: str, bad: Callable[[str, str], None]
) -> None:
    """Tell `bad` (field, description) if it is no duration, or too long."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) >= units.SECOND or seconds * nanos < 0:
        bad(field, "must have nanos below a second, and of the same sign as seconds")
    if duration_ns(duration) > _DURATION_NS_MAX:
        bad(field, f"must be at most {DURATION_SECONDS_MAX} s, is {duration.seconds} s")


def check_time(
    timestamp: timestamp_pb2.Timestamp, field: str, bad: Callable[[str, str], None]
) -> None:
    """Tell `bad` (field, description) if the time is none that the dispatcher can keep."""
    if not (0 < timestamp.seconds <= TIME_SECONDS_MAX and 0 <= timestamp.nanos < units.SECOND):
        bad(field, "must be a time after 1970 and before the year 2100")


def time_ns(timestamp: timestamp_pb2.Timestamp) -> int:
    """Nanoseconds since the epoch of a Timestamp."""
    return timestamp.seconds * units.SECOND + timestamp.nanos


def duration(ns: int) -> duration_pb2.Duration:
    """A Duration of `ns` >= 0 nanoseconds."""
    seconds, nanos = divmod(ns, units.SECOND)
    return duration_pb2.Duration(seconds=seconds, nanos=nanos)


def timestamp(ns: int) -> timestamp_pb2.Timestamp:
    """A Timestamp."""
    seconds, nanos = divmod(ns, units.SECOND)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)


def set_timestamp(field: timestamp_pb2.Timestamp, ns: int) -> None:
    """Set a field in place."""
    field.seconds, field.nanos = divmod(ns, units.SECOND)


def timestamp_if(ns: int) -> timestamp_pb2.Timestamp | None:
    """A Timestamp, or None for 0 (never), which leaves the field unset."""
    return timestamp(ns) if ns else None
