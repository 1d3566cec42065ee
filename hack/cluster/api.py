"""Just enough of a Kubernetes client to start a cluster: JSON over HTTPS.

``kubectl`` would do, at a tenth of a second for each question; readiness is
asked often.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class ApiError(Exception):
    """The server could not be reached, or refused."""

    def __init__(self, what: str, *, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


class Api:
    """The API server, as somebody with a certificate."""

    def __init__(self, server: str, *, authority: Path, certificate: Path, key: Path) -> None:
        parts = urlsplit(server)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._tls.load_cert_chain(str(certificate), str(key))

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """Read a kubeconfig in JSON that holds its certificates, as the node's does."""
        config = json.loads(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            files = {
                "authority": cluster["certificate-authority-data"],
                "certificate": user["client-certificate-data"],
                "key": user["client-key-data"],
            }
            for name, data in files.items():
                Path(folder, name).write_bytes(base64.b64decode(data))
            where = {name: Path(folder, name) for name in files}
            return cls(cluster["server"], **where)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; the decoded answer (text when it is not JSON)."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=5.0, context=self._tls
        )
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{method} {path}: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(f"{method} {path}: {data[:300]!r}", status=answer.status)
        try:
            return json.loads(data)
        except ValueError:
            return data.decode(errors="replace")

    def ready(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            return bool(self.call("GET", "/readyz") == "ok")
        except ApiError:
            return False

    def create(self, path: str, body: object) -> None:
        """Create an object; content when it is there already."""
        try:
            self.call("POST", path, body)
        except ApiError as error:
            if error.status != http.client.CONFLICT:
                raise
