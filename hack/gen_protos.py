"""Generate the wire code from `proto/` into `client/`: messages, stubs, and their types.

Run by `make proto`; the result is checked in, so that nobody needs protoc to install Penstock.
`make verify` runs it again and wants the tree unchanged.
"""

import argparse
import os
import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Return protoc's exit status."""
    parser = argparse.ArgumentParser(description="Generate the wire code.")
    parser.add_argument("--into", type=Path, default=ROOT / "client", help="the folder to write to")
    target = parser.parse_args().into
    # protoc looks for its plug-ins on PATH; ours are beside the interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    source = ROOT / "proto"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    # google/rpc/status.proto and its Python module come with googleapis-common-protos.
    import google.rpc.status_pb2

    common = Path(google.rpc.status_pb2.__file__).parent.parent.parent
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*.proto"))
    return int(
        protoc.main(
            [
                "protoc",
                f"--proto_path={source}",
                f"--proto_path={well_known}",
                f"--proto_path={common}",
                f"--python_out={target}",
                f"--mypy_out=quiet:{target}",
                f"--grpc_python_out={target}",
                f"--mypy_grpc_out=quiet:{target}",
                *files,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
