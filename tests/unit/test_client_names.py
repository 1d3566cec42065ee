"""Resource names: short for people, full on the wire."""

import pytest

from penstock import _names


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("thumbs", "namespaces/default/pools/thumbs"),
        ("team-a/thumbs", "namespaces/team-a/pools/thumbs"),
        ("namespaces/team-a/pools/thumbs", "namespaces/team-a/pools/thumbs"),
    ],
)
def test_a_pool_may_be_written_short_or_in_full(written: str, full: str) -> None:
    assert _names.pool(written) == full


@pytest.mark.parametrize(
    "written",
    [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "Thumbs",
        "namespaces/a",
        "namespaces/a/pools/",
        "a b",
        "namespaces/a/pools/b/tasks/c",
    ],
)
def test_what_cannot_be_a_pool_is_refused_with_the_ways_to_write_one(written: str) -> None:
    with pytest.raises(ValueError, match="write it as 'pool', 'namespace/pool'"):
        _names.pool(written)


def test_a_task_is_a_full_name_or_an_id_in_a_pool() -> None:
    full = "namespaces/a/pools/b/tasks/t-1"
    assert _names.task(full, within=None) == full
    assert _names.task("t-1", within="namespaces/a/pools/b") == full


def test_an_id_without_a_pool_asks_for_the_pool() -> None:
    with pytest.raises(ValueError, match="which pool is task 't-1' in"):
        _names.task("t-1", within=None)


@pytest.mark.parametrize("written", ["", "a/b", "namespaces/a/pools/b/tasks/", "a b"])
def test_what_cannot_be_a_task_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a task"):
        _names.task(written, within="namespaces/a/pools/b")


def test_parts_of_names() -> None:
    assert _names.parts("namespaces/a/pools/b/tasks/c") == ("a", "b", "c")
    assert _names.parts("namespaces/a/pools/b") == ("a", "b", "")


def test_the_parent_of_all_pools_is_empty() -> None:
    assert _names.namespace(None) == ""
    assert _names.namespace("team-a") == "namespaces/team-a"
    with pytest.raises(ValueError, match="not the name of a namespace"):
        _names.namespace("a/b")
