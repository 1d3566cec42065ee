"""Seven tasks of different priority, submitted while the pool is paused: who is assigned first?

Three other tasks keep the three workers busy and end one after the other, so that each assignment
is a moment of its own. The order is judged by the times at which the dispatcher assigned.
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "shared"))

import demo

import penstock

WORKERS = 3
PRIORITIES = (1, 5, 2, 10, 3, 7, 1)
BUSY_SECONDS = (2.0, 2.1, 2.2)
TASK_SECONDS = 0.3


async def run(client: penstock.Client, _: argparse.Namespace) -> int:
    """Pause, submit, resume, and compare; returns the exit status."""
    await demo.until(client, f"{WORKERS} idle workers", lambda pool: idle(pool) >= WORKERS)
    busy = [penstock.Submission("sleep", f"{seconds}") for seconds in BUSY_SECONDS]
    before = await demo.submitted(client, busy)
    await demo.until(client, "busy workers", lambda pool: pool.in_flight >= WORKERS)
    done = await demo.paused(
        client,
        [
            penstock.Submission("sleep", f"{TASK_SECONDS}", priority=priority)
            for priority in PRIORITIES
        ],
    )
    await demo.finished(client, before)
    return judge(done)


def idle(pool: penstock.PoolInfo) -> int:
    """Slots that wait for work."""
    return pool.slots_total - pool.slots_used


def judge(tasks: list[penstock.Task]) -> int:
    """`tasks` in the order of submission."""
    number = {task.name: place for place, task in enumerate(tasks, start=1)}
    started = {task.name: task.start_time.timestamp() for task in tasks if task.start_time}
    mistakes = [f"{task.name} is {task.state.value}" for task in tasks if not task.succeeded]
    mistakes += [f"{task.name} never started" for task in tasks if task.name not in started]
    # Higher numbers first, and among equals the one that came first.
    wanted = sorted(tasks, key=lambda task: (-task.priority, number[task.name]))
    found = sorted(wanted, key=lambda task: started.get(task.name, 0.0))
    first = min(started.values(), default=0.0)
    for task in found:
        print(
            f"{started.get(task.name, first) - first:6.3f} s  priority {task.priority:2}  "
            f"submitted as number {number[task.name]}  on {task.worker}"
        )
    order = ", ".join(str(task.priority) for task in found)
    if found != wanted:
        mistakes.append(f"assigned in the order {order}")
    moments = len(set(started.values()))
    return demo.verdict(mistakes, f"assigned in the order {order}, at {moments} moments")


if __name__ == "__main__":
    sys.exit(demo.main(run, pool="default/priority", description=__doc__))
