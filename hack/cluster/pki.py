"""The node's certificates: one authority, one certificate for each who, kubeconfigs.

Kubernetes reads identity out of certificates: the common name is the user, the
organisation a group. The names below are the ones its built-in roles are bound
to. Everything is made with the ``openssl`` program, because the standard
library cannot sign. Certificates are kept while they are valid, so that a
kubeconfig in somebody's shell stays right across ``down`` and ``up``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import paths
from processes import run, succeeds

VALID_DAYS = 365
RENEW_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Who:
    """A holder of a certificate: file name, user, group, the names it serves under."""

    name: str
    user: str
    group: str = ""
    serves: tuple[str, ...] = ()


def holders(*, node: str, node_address: str, service_address: str) -> tuple[Who, ...]:
    """Everyone who needs a certificate."""
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    dns = tuple(
        f"DNS:{name}" for name in (*services, "kubernetes.default.svc.cluster.local", "localhost")
    )
    addresses = tuple(f"IP:{ip}" for ip in (node_address, "127.0.0.1", service_address))
    return (
        Who("apiserver", "kube-apiserver", serves=dns + addresses),
        Who("admin", "penstock-admin", "system:masters"),
        Who(
            "kubelet",
            f"system:node:{node}",
            "system:nodes",
            serves=(f"DNS:{node}", f"IP:{node_address}"),
        ),
        Who("controller-manager", "system:kube-controller-manager"),
        Who("scheduler", "system:kube-scheduler"),
        Who("proxy", "system:kube-proxy"),
    )


def ensure(folder: Path, who: tuple[Who, ...]) -> None:
    """Make the authority, the certificates and the service account keys, unless they are good."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    inventory = json.dumps([repr(one) for one in who])
    record = folder / "inventory.json"
    still_good = (
        record.exists()
        and record.read_text() == inventory
        and all(_lasts(folder / f"{name}.crt") for name in ("ca", *(one.name for one in who)))
    )
    if still_good:
        return
    record.unlink(missing_ok=True)
    _authority(folder)
    for one in who:
        _certificate(folder, one)
    run(["openssl", "genrsa", "-out", folder / "service-accounts.key", "2048"])
    run(
        [
            "openssl",
            "rsa",
            "-in",
            folder / "service-accounts.key",
            "-pubout",
            "-out",
            folder / "service-accounts.pub",
        ]
    )
    # Written last: an interrupted run leaves no inventory, and all is made again.
    paths.write_atomically(record, inventory)


def kubeconfig(folder: Path, name: str, *, server: str, shown_folder: Path | None = None) -> str:
    """A kubeconfig for ``name``; with ``shown_folder`` it refers to files, else it holds them.

    The components in the node see the certificates under another path than the
    user does, and the user's copy must work on its own.
    """
    if shown_folder is not None:
        authority: dict[str, str] = {"certificate-authority": f"{shown_folder}/ca.crt"}
        user: dict[str, str] = {
            "client-certificate": f"{shown_folder}/{name}.crt",
            "client-key": f"{shown_folder}/{name}.key",
        }
    else:
        authority = {"certificate-authority-data": _base64(folder / "ca.crt")}
        user = {
            "client-certificate-data": _base64(folder / f"{name}.crt"),
            "client-key-data": _base64(folder / f"{name}.key"),
        }
    context = {"cluster": "penstock", "user": name, "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "penstock", "cluster": {"server": server, **authority}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "penstock", "context": context}],
        "current-context": "penstock",
    }
    return json.dumps(config, indent=2) + "\n"  # JSON is YAML


def _base64(file: Path) -> str:
    import base64

    return base64.b64encode(file.read_bytes()).decode()


def _lasts(certificate: Path) -> bool:
    return certificate.exists() and succeeds(
        ["openssl", "x509", "-checkend", str(RENEW_SECONDS), "-noout", "-in", certificate]
    )


def _key(file: Path) -> None:
    run(
        [
            "openssl",
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            str(file),
        ]
    )
    file.chmod(0o600)


def _authority(folder: Path) -> None:
    _key(folder / "ca.key")
    run(
        [
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            folder / "ca.key",
            "-out",
            folder / "ca.crt",
            "-days",
            str(VALID_DAYS),
            "-subj",
            "/CN=penstock-test-authority",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]
    )


def _certificate(folder: Path, who: Who) -> None:
    key, request = folder / f"{who.name}.key", folder / f"{who.name}.csr"
    extensions = folder / f"{who.name}.ext"
    _key(key)
    subject = (f"/O={who.group}" if who.group else "") + f"/CN={who.user}"
    run(["openssl", "req", "-new", "-key", key, "-out", request, "-subj", subject])
    lines = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage=clientAuth{',serverAuth' if who.serves else ''}",
    ]
    if who.serves:
        lines.append(f"subjectAltName={','.join(who.serves)}")
    extensions.write_text("\n".join(lines) + "\n")
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-days",
            str(VALID_DAYS),
            "-CA",
            folder / "ca.crt",
            "-CAkey",
            folder / "ca.key",
            "-CAcreateserial",
            "-extfile",
            extensions,
            "-out",
            folder / f"{who.name}.crt",
        ]
    )
    request.unlink()
    extensions.unlink()
