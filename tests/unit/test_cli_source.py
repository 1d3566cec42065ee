"""What is to be submitted: from options, and from JSON lines."""

import io
import os
import pathlib

import pytest

import penstock
from penstock import _submission
from penstock.cli import failures, source


def read(*lines: str, default: str | None = None) -> list[penstock.Submission]:
    return list(source.submissions(lines, default_type=default, name="tasks.jsonl"))


def test_lines_become_submissions() -> None:
    found = read(
        '{"type": "a", "payload": {"x": 1}, "priority": -3, "labels": {"k": "v"}, "delay": 0.5}',
        "",
        '{"payload": "text", "task_id": "t1", "request_id": "r1"}',
        '{"payload_base64": "AP8="}',
        '{"fairness_key": "f", "concurrency_key": "c", "slots": 3, "max_queue_time": 1.5}',
        "{}",
        default="d",
    )
    assert found == [
        penstock.Submission(
            "a", penstock.json_payload({"x": 1}), priority=-3, labels={"k": "v"}, delay=0.5
        ),
        penstock.Submission("d", "text", task_id="t1", request_id="r1"),
        penstock.Submission("d", b"\x00\xff"),
        penstock.Submission(
            "d", fairness_key="f", concurrency_key="c", slots=3, max_queue_time=1.5
        ),
        penstock.Submission("d", b""),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"type": "a", "prio": 1}', "'prio'"),
        ('{"type": "a", "priority": "high"}', "priority must be a whole number"),
        ('{"type": "a", "priority": true}', "priority must be a whole number"),
        ('{"type": "a", "delay": "1s"}', "delay must be a number"),
        ('{"type": "a", "slots": "2"}', "slots must be a whole number"),
        ('{"type": "a", "slots": 0}', "slots must be at least 1"),
        ('{"payload": 1}', "has no type"),
        ('{"type": "a", "payload": 1, "payload_base64": "AA=="}', "give one"),
        ('{"type": "a", "payload_base64": "?"}', "not base64"),
        ('{"type": "a", "labels": {"n": 1}}', "labels must map strings to strings"),
        ('{"type": "a", "delay": 1e12}', "delay must end before"),
        ('{"type": "a", "delay": 1e999}', "delay must be"),
        ('{"type": "a", "execution_timeout": 1e300}', "execution_timeout must be at most"),
        ('{"type": "a", "priority": 99999999999}', "priority must fit 32 bits"),
        ('{"type": "\\ud800"}', "surrogates"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_line_is_named(line: str, words: str) -> None:
    with pytest.raises(failures.InputError, match=r"tasks\.jsonl line 2") as caught:
        read('{"type": "fine"}', line)
    assert words in str(caught.value)


def test_a_line_too_large_to_send_is_left_to_its_outcome() -> None:
    large = "x" * _submission.REQUEST_BYTES_MAX
    (found,) = read(f'{{"type": "a", "payload": "{large}"}}')
    assert found.payload == large


def test_what_can_be_read_only_once_is_not_counted(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert source.count(str(pipe), default_type="a") is None
    assert source.count("-", default_type="a") is None


def test_a_file_is_read_to_its_end_before_anything_is_sent(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"type": "a"}\n\n{"type": "b"}\n')
    assert source.count(str(path), default_type=None) == 2
    path.write_text('{"type": "a"}\n{"type": 7}\n')
    with pytest.raises(failures.InputError, match="line 2"):
        source.count(str(path), default_type=None)
    path.write_bytes(b'{"type": "\xff"}\n')
    with pytest.raises(failures.InputError, match="not UTF-8"):
        source.count(str(path), default_type=None)


def test_payload_options() -> None:
    assert source.payload(text=None, as_json=None, file=None) == b""
    assert source.payload(text="x", as_json=None, file=None) == "x"
    as_json = source.payload(text=None, as_json='{"a": [1]}', file=None)
    assert as_json == penstock.json_payload({"a": [1]})
    assert source.payload(text=None, as_json=None, file=io.BytesIO(b"\x00")) == b"\x00"
    with pytest.raises(failures.InputError, match="give one of"):
        source.payload(text="x", as_json="1", file=None)
    with pytest.raises(failures.InputError, match="quote it"):
        source.payload(text=None, as_json="{a}", file=None)


def test_labels() -> None:
    assert source.labels(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}
    for wrong in ("a", "=b"):
        with pytest.raises(failures.InputError, match="KEY=VALUE"):
            source.labels([wrong])
