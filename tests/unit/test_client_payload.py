"""Payloads: bytes as they are, text as UTF-8, the rest through `json_payload`."""

import json

import pytest

import penstock
from penstock import _payload


def test_bytes_are_handed_on_as_the_same_object() -> None:
    data = bytes(range(256))
    assert _payload.of(data).data is data
    assert _payload.of(data).content_type == ""


def test_text_travels_as_utf8_and_says_so() -> None:
    payload = _payload.of("grüße")
    assert payload.data == "grüße".encode()
    assert payload.content_type == "text/plain; charset=utf-8"


def test_json_is_compact_utf8_and_says_so() -> None:
    value = {"path": "kätzchen.jpg", "size": [1, 2.5, None, True]}
    payload = penstock.json_payload(value)
    assert json.loads(payload.data) == value
    assert b" " not in payload.data
    assert "kätzchen".encode() in payload.data
    assert payload.content_type == "application/json"


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x"])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        penstock.json_payload(value)


@pytest.mark.parametrize("value", [{"a": 1}, 3, None, ["x"]])
def test_anything_else_is_refused_with_the_helper_s_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"use penstock\.json_payload"):
        _payload.of(value)  # type: ignore[arg-type]


def test_a_payload_is_not_shown_in_full() -> None:
    assert "aaaa" not in repr(penstock.Submission("t", b"a" * 100))
