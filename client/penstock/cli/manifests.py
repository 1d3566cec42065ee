"""WorkerPool manifests from files, for the commands that work without Kubernetes."""

import pathlib
from typing import TYPE_CHECKING

import yaml

from penstock.cli import failures

if TYPE_CHECKING:
    from penstock_operator import spec


def read(path: pathlib.Path) -> "list[spec.WorkerPoolSpec]":
    """The pools of a file. Raises InputError that names the file and the field."""
    # The operator's reader of manifests is pure: none of the operator's libraries is needed.
    from penstock_operator import fields, spec

    try:
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise failures.InputError(f"{path} is not YAML: {error}") from None
    if not documents:
        raise failures.InputError(f"{path} holds no WorkerPool: add one, or leave the file out")
    pools = []
    for number, document in enumerate(documents, start=1):
        try:
            pools.append(spec.parse_manifest(document))
        except fields.InvalidManifest as error:
            raise failures.InputError(f"{path} document {number}: {error}") from None
    return pools
