"""Compile the dispatcher's core into the wheel: asked for by `HATCH_BUILD_HOOK_ENABLE_CUSTOM=1`.

The core, and the modules around it that every task passes (`modules` in pyproject.toml), are plain
Python and strictly typed: mypyc makes extension modules of them as they stand. They lie in the
wheel beside the sources and are found before them. Without the variable the wheel is pure, installs
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
SETUP = """\
import sys
import mypyc.build
import setuptools

options = ["--config-file=", "--python-version=3.11"]
# What comes from elsewhere is untyped here, whether this environment has it or not; that all types
# are right has been checked with it.
options += ["--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent"]
files = sys.argv.pop().split()
modules = mypyc.build.mypycify([*options, *files], group_name="penstock_core")
for module in modules:
    # Nobody puts functions of his own in the place of ours: they are called directly.
    module.extra_compile_args = [*module.extra_compile_args, "-fno-semantic-interposition"]
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
        package = ROOT / self.config["package"]
        sources = _matching(package, self.config["modules"])
        folder = Path(ready) if ready else compile_core(package, sources, self._scratch())
        modules = sorted(folder.rglob("*.so"))
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


def _matching(package: Path, patterns: list[str]) -> list[Path]:
    found: set[Path] = set()
    for pattern in patterns:
        matching = set(package.glob(pattern))
        if not matching:
            raise RuntimeError(f"{pattern}, which is to be compiled, matches nothing in {package}")
        found |= matching
    return sorted(found)


def compile_core(package: Path, sources: list[Path], scratch: Path) -> Path:
    """Compile those `sources` of a package in `scratch`. Returns a folder in which the modules lie
    as in the wheel.
    """
    work, compiled = scratch / "work", scratch / "compiled"
    shutil.copytree(package, work / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (work / "setup.py").write_text(SETUP)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", f"--build-lib={compiled}"]
    command.append(" ".join(str(file.relative_to(package.parent)) for file in sources))
    made = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"mypyc could not compile the core:\n{made.stdout}{made.stderr}")
    return compiled
