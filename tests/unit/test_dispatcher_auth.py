"""The tokens' file: what it may say, and what a bad one does to those in force."""

import json
import os
import pathlib
from typing import Any

import pytest

from penstock_dispatcher import auth

GOOD = {"name": "c", "role": "submit", "token": "t"}


def problem(content: Any) -> str:
    with pytest.raises(auth.PolicyError) as caught:
        auth.parse(content if isinstance(content, str) else json.dumps(content))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{ not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "the file must be a JSON object"),
        ({"clients": "anybody"}, "clients must be"),
        ({"clients": ["open"]}, "clients must be"),
        ({"token": []}, "not 'token'"),
        ({"tokens": {"a": GOOD}}, "tokens must be a list"),
        ({"tokens": "abc"}, "tokens must be a list"),
        ({"tokens": 7}, "tokens must be a list"),
    ],
)
def test_a_file_that_says_something_else_is_refused(content: Any, said: str) -> None:
    assert said in problem(content)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("a token", "tokens[1] must be a JSON object"),
        (None, "tokens[1] must be a JSON object"),
        ({**GOOD, "name": 7}, "tokens[1].name"),
        ({**GOOD, "role": "root"}, "tokens[1].role"),
        ({**GOOD, "role": ["submit"]}, "tokens[1].role"),
        ({**GOOD, "token": ""}, "tokens[1].token"),
        ({**GOOD, "token": 7}, "tokens[1].token"),
        (GOOD, "tokens[1].token is that of c, too"),
        ({**GOOD, "token": "u", "namespaces": "team-a"}, "tokens[1].namespaces"),
        ({**GOOD, "token": "u", "namespaces": [7]}, "tokens[1].namespaces"),
        # Misspelt, it would allow every namespace.
        ({**GOOD, "token": "u", "namespace": ["team-a"]}, "not 'namespace'"),
        (
            {"role": "fleet", "token": "u", "namespaces": ["team-a"]},
            "tokens[1].namespaces must be left out",
        ),
    ],
)
def test_a_bad_entry_is_named(entry: Any, said: str) -> None:
    assert said in problem({"tokens": [GOOD, entry]})


def test_namespaces_are_those_named_or_all() -> None:
    listed = [
        {"role": "work", "token": "a", "namespaces": ["team-a"]},
        {"role": "work", "token": "b", "namespaces": ["team-a", "*"]},
        {"role": "work", "token": "c"},
        {"role": "work", "token": "d", "namespaces": []},
        {"role": "fleet", "token": "e", "namespaces": ["*"]},
    ]
    policy = auth.parse(json.dumps({"tokens": listed}))
    assert [identity.namespaces for identity in policy.tokens.values()] == [
        frozenset({"team-a"}),
        None,
        None,
        frozenset(),
        None,
    ]


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"[]", b'{"tokens": [7]}', b"[" * 100_000])
def test_a_bad_file_leaves_the_last_good_one_in_force_and_is_told_once(
    bad: bytes,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.0)
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"tokens": [GOOD]}))
    file = auth.PolicyFile(path)
    good = file.current()
    path.write_bytes(bad)
    os.utime(path, (1, 1))
    for _ in range(3):
        assert file.current() is good
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    path.write_text(json.dumps({"tokens": [GOOD, {**GOOD, "token": "u"}]}))
    os.utime(path, (2, 2))
    assert len(file.current().tokens) == 2
    path.write_bytes(bad)
    with pytest.raises(auth.PolicyError, match=r"auth\.json"):
        auth.PolicyFile(path)
