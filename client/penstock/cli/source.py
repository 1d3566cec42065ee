"""What is to be submitted: one task from options, or many from JSON lines.

A line is an object: `type` (or the command's), and any of `payload` (a string is sent as text,
anything else as JSON), `payload_base64`, `priority`, `labels`, `fairness_key`, `concurrency_key`,
`slots`, `task_id`, `request_id`, and in seconds `delay`, `execution_timeout` and `max_queue_time`.
A file is read twice, and nothing of it is submitted unless every line is right; what can be read
only once, standard input or a pipe, is submitted up to a wrong line.
"""

import base64
import binascii
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import penstock
from penstock import _submission as wire
from penstock import errors
from penstock.cli import failures

LINE_CHARACTERS_MAX: Final = 16 * 1024 * 1024
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "type": (str,),
    "payload_base64": (str,),
    "priority": (int,),
    "labels": (dict,),
    "fairness_key": (str,),
    "concurrency_key": (str,),
    "slots": (int,),
    "task_id": (str,),
    "request_id": (str,),
    "delay": (int, float),
    "execution_timeout": (int, float),
    "max_queue_time": (int, float),
}
_WORDS: Final = {str: "a string", int: "a whole number", float: "a number", dict: "an object"}


def payload(*, text: str | None, as_json: str | None, file: IO[bytes] | None) -> Any:
    """The payload that the options give; at most one may be there."""
    if sum(each is not None for each in (text, as_json, file)) > 1:
        raise failures.InputError("give one of --payload, --json and --payload-file, not several")
    if file is not None:
        return file.read()
    if as_json is not None:
        try:
            return penstock.json_payload(json.loads(as_json))
        except ValueError as error:
            raise failures.InputError(
                f"--json is not JSON ({error}): quote it for the shell, as in --json "
                """'{"path": "cat.jpg"}'"""
            ) from None
    return text or b""


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """`key=value` pairs as a mapping."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise failures.InputError(f"--label {pair!r} is not KEY=VALUE")
        found[key] = value
    return found


def count(path: str, *, default_type: str | None) -> int | None:
    """How many tasks a file holds; None = it can be read only once. Raises InputError at its first
    wrong line.
    """
    if path == "-" or not pathlib.Path(path).is_file():
        return None
    with pathlib.Path(path).open(encoding="utf-8") as lines:
        return sum(1 for _ in submissions(lines, default_type=default_type, name=path))


def submissions(
    lines: Iterable[str], *, default_type: str | None, name: str
) -> Iterator[penstock.Submission]:
    """One submission for each line that is not empty. Raises InputError naming the line."""
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _submission(line, default_type=default_type, where=f"{name} line {number}")
    except UnicodeDecodeError as error:
        raise failures.InputError(f"{name} is not UTF-8 ({error.reason})") from None


def _submission(line: str, *, default_type: str | None, where: str) -> penstock.Submission:
    if len(line) > LINE_CHARACTERS_MAX:
        raise failures.InputError(f"{where} is longer than {LINE_CHARACTERS_MAX} characters")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise failures.InputError(
            f"{where} is not JSON ({error}): each line is one object, such as "
            """{"type": "resize", "payload": {"path": "cat.jpg"}}"""
        ) from None
    if not isinstance(found, dict):
        raise failures.InputError(f"{where} is not a JSON object")
    unknown = sorted(set(found) - set(_KINDS) - {"payload"})
    if unknown:
        raise failures.InputError(
            f"{where} has a field {unknown[0]!r}: known are payload, {', '.join(_KINDS)}"
        )
    for field, kinds in _KINDS.items():
        value = found.get(field)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise failures.InputError(f"{where}: {field} must be {_WORDS[kinds[-1]]}")
    kind = found.pop("type", None) or default_type
    if not kind:
        raise failures.InputError(f"{where} has no type: add it, or name one on the command line")
    body = _payload(found.pop("payload", None), found.pop("payload_base64", None), where=where)
    options = {field: value for field, value in found.items() if value is not None}
    made = penstock.Submission(kind, body, **options)
    try:
        wire.to_wire(made, parent="", request_id="", now=wire.utc_now)
    except errors.PayloadTooLarge:
        pass  # that is what becomes of this one, and nothing to hold up the others
    except (ValueError, TypeError) as error:
        raise failures.InputError(f"{where}: {error}") from None
    return made


def _payload(value: Any, encoded: str | None, *, where: str) -> Any:
    if encoded is not None:
        if value is not None:
            raise failures.InputError(f"{where} has payload and payload_base64: give one")
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise failures.InputError(f"{where}: payload_base64 is not base64") from None
    if value is None:
        return b""
    return value if isinstance(value, str) else penstock.json_payload(value)
