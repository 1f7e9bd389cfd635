"""The wheel holds all that it should, and nothing else: an editable install would hide a gap."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"shiftreg": "shiftreg", "cli": "shiftreg_cli"}
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def shipped_files() -> list[Path]:
    """Files of the packages that git has or would add; without git, all that is no bytecode."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        found = {Path(name) for name in listing.stdout.split("\0") if name}
    else:
        found = {path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*")}
    return sorted(
        path for path in found if (ROOT / path).is_file() and "__pycache__" not in path.parts
    )


def installed_name(path: Path) -> str:
    folder, *rest = path.parts
    return "/".join([PACKAGES[folder], *rest])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel in the folder that `make release` built, or else one of a copy of the tree.

    The copy's is built by the backend itself: no network, no traces here.
    """
    if dist := os.environ.get("SHIFTREG_TESTS_DIST"):
        (path,) = Path(dist).glob("*.whl")
        return zipfile.Path(path)
    source = tmp_path_factory.mktemp("source")
    for path in [*shipped_files(), *map(Path, ("pyproject.toml", "README.md", "LICENSE"))]:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, source / path)
    # What lies beside the packages must stay out.
    for folder in ("tests", "examples", "benchmarks"):
        (source / folder).mkdir()
        (source / folder / "__init__.py").touch()
    built = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(built)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("*.whl")
    return zipfile.Path(path)


@pytest.fixture(scope="module")
def names(wheel: zipfile.Path) -> set[str]:
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def information(names: set[str], wheel: zipfile.Path) -> zipfile.Path:
    (folder,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    return wheel / folder


def test_every_package_on_disk_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    on_disk = {
        installed_name(path.parent).replace("/", ".")
        for path in shipped_files()
        if path.suffix == ".py"
    }
    assert on_disk == set(project["tool"]["setuptools"]["packages"])


def test_every_module_and_data_file_is_in_the_wheel(names: set[str]) -> None:
    assert {installed_name(path) for path in shipped_files()} - names == set()


def test_nothing_else_is_in_the_wheel(names: set[str], information: zipfile.Path) -> None:
    packaged = {name for name in names if not name.startswith(f"{information.name}/")}
    assert packaged - {installed_name(path) for path in shipped_files()} == set()


def test_only_our_two_packages_are_at_the_top(names: set[str], information: zipfile.Path) -> None:
    assert {name.split("/")[0] for name in names} == {*PACKAGES.values(), information.name}


def test_data_files_are_whole(wheel: zipfile.Path) -> None:
    for path in shipped_files():
        assert (wheel / installed_name(path)).read_bytes() == (ROOT / path).read_bytes(), path


def test_the_command_is_our_entry_point(information: zipfile.Path) -> None:
    scripts = configparser.ConfigParser()
    scripts.read_string((information / "entry_points.txt").read_text(encoding="utf-8"))
    assert dict(scripts["console_scripts"]) == {"shiftreg": "shiftreg_cli.main:run"}


def test_the_licence_goes_along(information: zipfile.Path) -> None:
    text = (information / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "License-Expression: Apache-2.0" in (information / "METADATA").read_text("utf-8")
