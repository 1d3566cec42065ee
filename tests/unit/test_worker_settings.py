"""What the environment says, and which variable is named when it says nothing usable."""

import pathlib

import pytest

from penstock_worker import settings


def read(**variables: str) -> settings.Settings:
    return settings.from_environment({"PENSTOCK_POOL": "p", **variables})


def test_defaults() -> None:
    found = read()
    assert (found.pool, found.slots, found.http_port) == ("namespaces/default/pools/p", 1, 0)
    assert (found.token_file, found.log_level) == ("", "INFO")


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("a/b", "namespaces/a/pools/b"),
        ("namespaces/a/pools/b", "namespaces/a/pools/b"),
    ],
)
def test_pools_can_be_written_shortly(text: str, pool: str) -> None:
    assert read(PENSTOCK_POOL=text).pool == pool


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PENSTOCK_POOL", "", "is not set"),
        ("PENSTOCK_POOL", "a/b/c", "must be NAME"),
        ("PENSTOCK_POOL", "a/", "must be NAME"),
        ("PENSTOCK_POOL", "namespaces/a/pool/b", "must be NAME"),
        ("PENSTOCK_SLOTS", "many", "must be a number"),
        ("PENSTOCK_SLOTS", "1.5", "must be a whole number"),
        ("PENSTOCK_SLOTS", "nan", "must be 1 to 1000"),
        ("PENSTOCK_SLOTS", "0", "must be 1 to 1000"),
        ("PENSTOCK_HTTP_PORT", "65536", "must be 0 to 65535"),
        ("PENSTOCK_DRAIN_TIMEOUT_SECONDS", "-1", "must be 0 to"),
        ("PENSTOCK_LOG_LEVEL", "LOUD", "must be DEBUG"),
        ("PENSTOCK_TOKEN_FILE", "/nowhere/token", "No such file"),
        ("PENSTOCK_TOKEN_FILE", "/", "Is a directory"),
    ],
)
def test_the_variable_that_is_wrong_is_named(name: str, value: str, complaint: str) -> None:
    with pytest.raises(settings.SettingsError, match=name) as caught:
        read(**{name: value})
    assert complaint in str(caught.value)


def test_what_can_be_used(tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    found = read(PENSTOCK_TOKEN_FILE=str(token), PENSTOCK_LOG_LEVEL="debug", PENSTOCK_SLOTS="1000")
    assert (found.token_file, found.log_level, found.slots) == (str(token), "DEBUG", 1000)
