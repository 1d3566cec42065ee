"""Where the dispatcher is, and who we are."""

import os
import pathlib

import pytest

from penstock import _settings, _task
from penstock.v1 import task_pb2


def resolve(
    *,
    address: str | None = None,
    token: str | None = None,
    token_file: pathlib.Path | None = None,
    pool: str | None = None,
    timeout: float = 1.0,
    **environ: str,
) -> _settings.Settings:
    return _settings.resolve(
        address=address,
        token=token,
        token_file=token_file,
        pool=pool,
        timeout=timeout,
        environ=environ,
    )


def test_with_nothing_said_it_is_the_local_dispatcher_without_a_token_or_pool() -> None:
    settings = resolve()
    assert settings.address == "127.0.0.1:50051"
    assert settings.token.metadata() == ()
    with pytest.raises(ValueError, match="which pool"):
        settings.pool_name(None)


def test_the_environment_is_used_and_arguments_win() -> None:
    environ = {"PENSTOCK_ADDRESS": "a:1", "PENSTOCK_TOKEN": "one", "PENSTOCK_POOL": "x/y"}
    settings = resolve(**environ)
    assert settings.address == "a:1"
    assert settings.token.metadata() == (("authorization", "Bearer one"),)
    assert settings.pool_name(None) == "namespaces/x/pools/y"
    assert settings.pool_name("z") == "namespaces/default/pools/z"
    settings = resolve(address="b:2", token="two", pool="z", **environ)
    assert settings.address == "b:2"
    assert settings.token.metadata() == (("authorization", "Bearer two"),)
    assert settings.pool_name(None) == "namespaces/default/pools/z"


def test_empty_variables_count_as_unset() -> None:
    settings = resolve(PENSTOCK_ADDRESS="", PENSTOCK_TOKEN="", PENSTOCK_POOL="")
    assert settings.address == _settings.DEFAULT_ADDRESS
    assert settings.token.metadata() == ()
    assert settings.pool is None


def test_a_token_file_is_read_again_when_it_changes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    token = resolve(PENSTOCK_TOKEN_FILE=str(path)).token
    assert token.metadata() == (("authorization", "Bearer first"),)
    path.write_text("other\n")
    os.utime(path, ns=(1, 1))
    assert token.metadata() == (("authorization", "Bearer other"),)


@pytest.mark.parametrize("address", ["", "http://a:1", "a/b"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        resolve(address=address)


def test_two_tokens_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        resolve(token="a", token_file=tmp_path)


def test_a_negative_time_out_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout must be 0 seconds or more"):
        resolve(timeout=-1)


def test_a_task_may_be_the_value_a_full_name_or_an_id() -> None:
    settings = resolve(pool="a/b")
    full = "namespaces/a/pools/b/tasks/c"
    assert settings.task_name("c", None) == full
    assert settings.task_name("c", "x/y") == "namespaces/x/pools/y/tasks/c"
    assert settings.task_name(_task.from_wire(task_pb2.Task(name=full)), "x/y") == full
