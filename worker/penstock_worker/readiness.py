"""Two small answers over HTTP, for the kubelet.

`/readyz`: 200 from when the handlers are loaded until the worker is drained, 503 afterwards. It
never depends on load or on the connection to the dispatcher: a ReplicaSet that has to give up pods
takes those that are not ready first, whatever their deletion cost. `/healthz`: 503 when the
stream's thread has not moved for a minute.
"""

import http.server
import threading
import time
from typing import Final

STALLED_SECONDS: Final = 60.0


class Readiness:
    """The state behind the answers, and the server. `port` 0 = no server."""

    def __init__(self, port: int) -> None:
        self.ready = True
        self._ticked = time.monotonic()
        self._server: http.server.ThreadingHTTPServer | None = None
        if port:
            self._server = http.server.ThreadingHTTPServer(("", port), self._handler())
            self._server.daemon_threads = True
            threading.Thread(
                target=self._server.serve_forever, name="penstock-http", daemon=True
            ).start()

    def tick(self) -> None:
        """The stream's thread is alive."""
        self._ticked = time.monotonic()

    @property
    def healthy(self) -> bool:
        """The stream's thread moves."""
        return time.monotonic() - self._ticked < STALLED_SECONDS

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        state = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                good = {"/readyz": state.ready, "/healthz": state.healthy}.get(self.path)
                body = {True: b"ok\n", False: b"no\n", None: b"not found\n"}[good]
                self.send_response({True: 200, False: 503, None: 404}[good])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Probes are not worth a line."""

        return Handler
