"""Compile the dispatcher's core into the wheel: asked for by `HATCH_BUILD_HOOK_ENABLE_CUSTOM=1`.

The core is pure Python on the standard library alone, and strictly typed: mypyc makes extension
modules of it as it stands, which do the same in about two thirds of the time. They lie in the wheel
beside the sources and are found before them. Without the variable the wheel is pure, installs
anywhere and behaves alike; an editable install never compiles.

`PENSTOCK_CORE` names a folder with modules that were compiled from these very sources before.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
COMPILER = "mypy[mypyc]==2.4.1"  # the lock's version, which checks the same types
PACKAGE = "penstock_dispatcher/core"
SETUP = """\
import glob
import mypyc.build
import setuptools

modules = mypyc.build.mypycify(
    ["--config-file=", "--python-version=3.11", *sorted(glob.glob("{package}/*.py"))],
    group_name="penstock_core",
)
setuptools.setup(name="penstock-core", packages=[], ext_modules=modules)
"""


class CompiledCore(BuildHookInterface[Any]):
    """Adds the extension modules, and with them the wheel's platform."""

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling."""
        return [] if os.environ.get("PENSTOCK_CORE") else [COMPILER]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless that has been done."""
        if version == "editable":
            return
        ready = os.environ.get("PENSTOCK_CORE")
        folder = Path(ready) if ready else compile_core(self._scratch())
        modules = sorted(folder.rglob("*.so"))
        sources = list((ROOT / "dispatcher" / PACKAGE).glob("*.py"))
        if len(modules) != len(sources) + 1:  # one each, and what they share
            raise RuntimeError(f"{folder} holds {len(modules)} modules, not of this core")
        for module in modules:
            build_data["force_include"][str(module)] = str(module.relative_to(folder))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _scratch(self) -> Path:
        # The modules are read after `initialize`, and this process ends when the wheel is written.
        folder = tempfile.mkdtemp(prefix="penstock-core-")
        atexit.register(shutil.rmtree, folder)
        return Path(folder)


def compile_core(scratch: Path) -> Path:
    """Compile in `scratch`. Returns a folder in which the modules lie as in the wheel."""
    sources, compiled = scratch / "sources", scratch / "compiled"
    shutil.copytree(ROOT / "dispatcher" / PACKAGE, sources / PACKAGE)
    (sources / PACKAGE).with_name("__init__.py").touch()
    (sources / "setup.py").write_text(SETUP.format(package=PACKAGE))
    command = [sys.executable, "setup.py", "--quiet", "build_ext", f"--build-lib={compiled}"]
    made = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"mypyc could not compile the core:\n{made.stdout}{made.stderr}")
    return compiled
