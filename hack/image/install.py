"""Install Penstock into ``/opt/penstock`` while an image is built.

    install.py dependencies [--extra NAME]   the locked packages, with their hashes checked
    install.py compiler                      what compiles the dispatcher's core
    install.py project                       the distribution alone, without dependencies

The first and the last make a virtual environment at the same place, in different build stages;
the image lays one over the other. So a change of the source changes one small
layer, and the layer of the dependencies stays what it was.

Two worlds: ``hack/cluster`` puts the wheels into ``hack/image/wheels``, the
distribution's into ``hack/image/project``, and nothing is fetched; in a plain
``docker build`` these folders are empty, pip comes with the base image, the
packages come from pip's index, and the compiler for the dispatcher's core
(``hatch_build.py``) from Debian. Without one the core is installed as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

import lockfile

PLACE = Path("/opt/penstock")
PYTHON = PLACE / "bin" / "python3"
COMPILER = ("--no-install-recommends", "gcc", "libc6-dev")
HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent


def pip(*arguments: str | Path) -> None:
    """Run pip for the environment: the one among the wheels, else the base image's."""
    wheels = sorted((HERE / "wheels").glob("pip-*.whl"))
    if wheels:
        program: list[str | Path] = [PYTHON, wheels[0] / "pip"]
    else:
        program = ["python3", "-m", "pip", "--python", PYTHON]
    quiet = ("--quiet", "--no-cache-dir", "--disable-pip-version-check")
    subprocess.run(
        [*program, *quiet, "install", "--no-compile", "--no-deps", *arguments], check=True
    )


def dependencies(extras: list[str]) -> None:
    """Install the closure of the base dependencies and the extras."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(
            lockfile.select(
                (SOURCE / "requirements.lock").read_text(),
                (SOURCE / "pyproject.toml").read_text(),
                extras,
            )
        )
        file.flush()
        found = any((HERE / "wheels").glob("*.whl"))
        where = ("--no-index", "--find-links", HERE / "wheels") if found else ()
        pip("--require-hashes", "--only-binary", ":all:", *where, "--requirement", file.name)


def compiler() -> None:
    """Have gcc, where the distribution's wheel does not come from outside."""
    if any((HERE / "wheels").glob("*.whl")) or shutil.which("gcc"):
        return
    for command in ("update", "-qq"), ("install", "-qq", *COMPILER):
        try:
            subprocess.run(["apt-get", *command], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no compiler, so the dispatcher's core stays as it is, and slower: {error}")
            return


def project() -> None:
    """Install the distribution: its wheel when there is one, else from the source."""
    wheels = sorted((HERE / "project").glob("*.whl"))
    if wheels:
        pip("--no-index", wheels[-1])
        return
    if shutil.which("gcc"):
        os.environ["HATCH_BUILD_HOOK_ENABLE_CUSTOM"] = "1"
    pip(SOURCE)


def compile_all() -> None:
    """Compile once, here: at run time the file system is read-only.

    Compiled files go by no time stamps, so that copying layers does not spoil them.
    """
    command: list[str | Path] = [PYTHON, "-m", "compileall", "-q", "-j", "0"]
    mode = ["--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, *mode, PLACE / "lib"], check=True)


def main() -> None:
    """Do one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["dependencies", "compiler", "project"])
    parser.add_argument("--extra", action="append", default=[])
    arguments = parser.parse_args()
    if arguments.what == "compiler":
        compiler()
        return
    venv.create(PLACE, with_pip=False, symlinks=True)
    project() if arguments.what == "project" else dependencies(arguments.extra)
    compile_all()


if __name__ == "__main__":
    main()
