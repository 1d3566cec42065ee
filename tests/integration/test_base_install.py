"""The wheel in an environment of its own, with what a base install brings and nothing else."""

import pathlib
import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def base() -> set[str]:
    """The distributions that `pip install penstock` brings, without extras."""
    found: set[str] = set()
    waiting = ["penstock"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        wanted = [each for each in metadata.requires(name) or [] if "extra ==" not in each]
        waiting += [re.split(r"[\s<>=!~;\[]", each)[0].lower() for each in wanted]
    return found - {"penstock"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the installed programs."""
    folder = tmp_path_factory.mktemp("install")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=60)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=60)
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in base():
        for file in metadata.files(name) or []:
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(pathlib.Path(str(file.locate())), site / file)
    return python.parent


def run(program: pathlib.Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_it_brings_the_wire_and_nothing_else() -> None:
    assert base() <= {"grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}


def test_the_worker_and_the_client_need_no_more(programs: pathlib.Path) -> None:
    shown = run(programs / "penstock-worker", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "exec" in shown.stdout
    imported = run(programs / "python", "-c", "import penstock, penstock_worker; penstock.Client")
    assert imported.returncode == 0, imported.stderr


def test_the_command_line_says_what_it_needs(programs: pathlib.Path) -> None:
    done = run(programs / "penstock", "pools")
    assert done.returncode == 2, done
    assert done.stderr == "penstock: the command line needs click: pip install 'penstock[cli]'\n"
