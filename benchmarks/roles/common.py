"""What the programs have in common."""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),
)


def channel(address: str) -> grpc.aio.Channel:
    """A channel of its own."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def arguments(*names: str) -> argparse.Namespace:
    """`--address --pool` and numbers by name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--pool", required=True, help="namespaces/…/pools/…")
    for name in names:
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def cpu_seconds() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(**values: Any) -> None:
    """One line for whoever started us."""
    print(json.dumps(values), flush=True)


def percentile(samples: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(samples: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the worst of durations in seconds."""
    return {
        "p50_ms": percentile(samples, 0.5) * 1000,
        "p99_ms": percentile(samples, 0.99) * 1000,
        "worst_ms": max(samples) * 1000,
        "samples": len(samples),
    }


def wall() -> float:
    """Seconds that other processes of this machine agree on."""
    return time.time_ns() / 1e9
