"""Times and durations: the wire's messages and the core's integer nanoseconds."""

from google.protobuf import duration_pb2, timestamp_pb2

from penstock_dispatcher.core import units


def duration_ns(duration: duration_pb2.Duration) -> int:
    """Nanoseconds of a Duration."""
    return duration.seconds * units.SECOND + duration.nanos


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


def timestamp_if(ns: int) -> timestamp_pb2.Timestamp | None:
    """A Timestamp, or None for 0 (never), which leaves the field unset."""
    return timestamp(ns) if ns else None
