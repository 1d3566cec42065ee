"""`penstock restore`: the queue of a pool that was deleted by mistake."""

import asyncio
from collections.abc import Callable
from typing import Any

from rig import programs

failed = programs.failed


async def test_a_deleted_queue_is_seen_shown_and_had_back(
    dispatcher: Any, stubs: Any, make_pool: Callable[..., Any]
) -> None:
    run = programs.penstock(dispatcher.address, pool="demo")

    async def penstock(*arguments: str) -> Any:
        return await asyncio.to_thread(run, *arguments)

    names = [(await stubs.submit(task_id=f"t{number}")).name for number in range(3)]
    failed(await penstock("restore", "demo"), 5, "there is no deleted pool")
    runs = await dispatcher.worker("pod-1", pool_uid="uid-demo")
    await runs.assigned()
    await stubs.sync(make_pool(uid="uid-new"))
    await stubs.submit(task_id="t2")
    pools = await penstock("pools")
    assert pools.stdout.splitlines()[1].split()[3] == "1/10000"
    assert "default/demo keeps 2 tasks for another 23h" in pools.stderr
    assert "'penstock restore default/demo'" in pools.stderr
    assert (await penstock("pools", "-o", "name")).stderr == ""
    shown = await penstock("restore", "demo", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == [names[1]]
    assert "1 tasks of the deleted pool uid-demo can be restored; leave --dry-run" in shown.stderr
    done = await penstock("restore", "default/demo", "--from", "uid-demo")
    assert done.stdout == shown.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == "1 tasks of the deleted pool uid-demo restored"
    assert lines[1].startswith("1 are not taken twice")
    assert lines[2].startswith("1 stay: they may still run")
    failed(await penstock("restore", "demo", "--from", "uid-new"), 2, "from_uid")
