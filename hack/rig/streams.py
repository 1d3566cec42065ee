"""The streams of the simulated world: when a frame moves, and what breaks with frames on it."""

import collections
import random

from rig import simulated, simulated_worker


class Streams:
    """The part of a world that moves frames; whose they are, `rig.simulation` says."""

    rng: random.Random
    now: int
    server: simulated.Server | None
    workers: list[simulated_worker.WorkerProcess]
    links: list[simulated_worker.Link]

    def _lose_tail(self, frames: collections.deque[bytes]) -> None:
        for _ in range(self.rng.randint(0, len(frames))):
            frames.pop()

    def _connect(self) -> None:
        if self.workers:
            self._connect_worker(self.rng.choice(self.workers))

    def _connect_worker(self, worker: simulated_worker.WorkerProcess) -> None:
        if worker.link is None and self.server is not None and not worker.session.finished:
            self.links.append(worker.connect())

    def _break_link(self) -> None:
        """A stream breaks; each side notices on its own."""
        if self.links:
            link = self.rng.choice(self.links)
            self._lose_tail(link.up)
            self._lose_tail(link.down)
            link.held = False
            link.served = False
            if self.server is not None and self.rng.random() < 0.7:
                self.server.disconnected(link)

    def _deliver(self) -> None:
        """One frame reaches the dispatcher, or it notices the end of a stream."""
        self.links = [link for link in self.links if link.held or link.served or link.up]
        if self.links and self.server is not None:
            self._deliver_on(self.rng.choice(self.links))

    def _deliver_on(self, link: simulated_worker.Link) -> bool:
        assert self.server is not None
        if not link.served:
            self.server.disconnected(link)
            link.up.clear()
            return False
        if link.up:
            self.server.receive(link, link.up.popleft())
            return True
        if not link.held:
            self.server.disconnected(link)
        return False

    def _write(self) -> None:
        if self.workers:
            self.rng.choice(self.workers).write(self.now)

    def _read(self) -> None:
        if self.workers:
            self.rng.choice(self.workers).read(self.now)
