"""Payloads: bytes as they are, text as UTF-8, anything JSON can say through `json_payload`.

Bytes are handed to protobuf as they are: this package makes no copy of its own.
"""

import dataclasses
import json
from typing import Any, Final

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """Bytes, and what they are (a MIME type; empty = not said)."""

    data: bytes = dataclasses.field(repr=False)
    content_type: str = ""


def json_payload(value: Any) -> Payload:
    """`value` as compact JSON in UTF-8. Raises TypeError or ValueError for what JSON cannot say."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Payload(text.encode(), JSON)


def of(value: bytes | str | Payload) -> Payload:
    """Whatever a caller may give. Raises TypeError for anything else, naming the helper."""
    if isinstance(value, bytes):
        return Payload(value)
    if isinstance(value, str):
        return Payload(value.encode(), TEXT)
    if isinstance(value, Payload):
        return value
    raise TypeError(
        f"a payload is bytes, str or penstock.Payload, not {type(value).__name__}: "
        "use penstock.json_payload(value)"
    )
