"""The systems that are measured side by side, each as its own documentation would have it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import peers_rounds
import peers_servers
from peers_rounds import Figures, Load, Peer


@dataclass(frozen=True, slots=True)
class System:
    """Something to measure.

    `durability` says when what was accepted is synced to disk, `how` in a line how it is set up.
    `needs` fetch or build what it lacks, and raise `ClusterError`.
    """

    name: str
    title: str
    durability: str
    how: str
    measure: Callable[[Load], Figures]
    needs: tuple[Callable[[], object], ...] = ()


CELERY = Peer(
    peers_servers.redis_server,
    "celery_producer.py",
    (
        *("-m", "celery", "--app", "celery_tasks", "worker", "--pool", "solo"),
        *("--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
)
DRAMATIQ = Peer(
    peers_servers.redis_server,
    "dramatiq_producer.py",
    ("-m", "dramatiq", "dramatiq_tasks", "--processes", "1", "--threads", "8"),
    # Without it two messages a thread are fetched, and the consumer sleeps between its fetches.
    variables={"dramatiq_queue_prefetch": "1000"},
)
TASKIQ = Peer(
    peers_servers.redis_server,
    "taskiq_producer.py",
    (
        *("-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1"),
        *("--max-async-tasks", "1000", "--log-level", "WARNING"),
    ),
)
NATS = Peer(
    peers_servers.nats_server,
    "nats_producer.py",
    ("nats_worker.py", "500"),
    latency_worker=("nats_worker.py", "1"),
)

#: When what was accepted is on disk.
FSYNC, SECOND, MINUTES, ALWAYS = "every commit", "each second", "2 minutes", "every write"

PENSTOCK = (
    System(
        "penstock",
        "Penstock",
        FSYNC,
        "Client.submit, Client.submit_many; penstock-worker with 1,000 slots (latency: 16)",
        peers_rounds.penstock_sdk,
    ),
    System(
        "penstock-wire",
        "Penstock, wire",
        FSYNC,
        "SubmitTask, StreamSubmitTasks in batches of 100; one Work stream with a credit of 1,000",
        peers_rounds.penstock_wire,
    ),
)


def _both(
    name: str, title: str, durability: str, how: str, peer: Peer, server: Callable[[], object]
) -> list[System]:
    needs = (peers_servers.python, server)
    always = replace(peer, always=True)
    return [
        System(name, title, durability, how, peer.measure, needs),
        System(f"{name}-always", title, ALWAYS, how, always.measure, needs),
    ]


def systems() -> list[System]:
    """All of them, Penstock with its SDK first: the ratios are to that."""
    redis, nats = peers_servers.redis, peers_servers.nats
    return [
        *PENSTOCK,
        *_both(
            "celery",
            f"Celery {_pinned('celery')}",
            SECOND,
            "Redis; solo pool (the fastest here for tasks that do nothing), prefetch multiplier"
            " 128, no results, early acknowledgement; delay, and apply_async over one producer",
            CELERY,
            redis,
        ),
        *_both(
            "dramatiq",
            f"Dramatiq {_pinned('dramatiq')}",
            SECOND,
            "Redis; 8 threads, prefetch 1,000, default middleware; send, and groups of 1,000",
            DRAMATIQ,
            redis,
        ),
        *_both(
            "taskiq",
            f"Taskiq {_pinned('taskiq')}",
            SECOND,
            "Redis streams with acknowledgements, 1,000 tasks at a time, orjson, uvloop; kiq,"
            " and 64 of them at a time",
            TASKIQ,
            redis,
        ),
        *_both(
            "nats",
            "NATS JetStream",
            MINUTES,
            f"nats-py {_pinned('nats-py')}, uvloop; work-queue stream in files, durable"
            " pull consumer, explicit ack, fetch of 500 (latency: 1); publish, and publish_async",
            NATS,
            nats,
        ),
    ]


def _pinned(package: str) -> str:
    text = peers_servers.REQUIREMENTS.read_text()
    found = re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    assert found is not None, package
    return found[1]
