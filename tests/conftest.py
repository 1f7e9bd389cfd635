"""Tiny random pipelines on disk, shifts, and registries to work in.

The libraries of diffusion models take seconds to import: fixtures that need them do that.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

from shiftreg.settings import Settings
from tests.clusters import two_nodes
from tests.servers import WHOLE_ON_SERVER, Server, postgresql_programs, team_server
from tests.worlds import Worlds

if TYPE_CHECKING:
    from torch import Tensor

    from shiftreg import api
    from shiftreg.engines import ProcessPool
    from shiftreg.shift import ConceptShift
    from tests.shared_base import SharedBase

# A process of a parallel run claims a terminal of 80 columns; commands write to none.
os.environ.pop("COLUMNS", None)

# What proves that write-ahead records are one's own lies here, and not in the tester's own folder.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="shiftreg-tests-config-")

# Ten times the usual examples, for `make test-all`.
settings.register_profile("deep", settings(), max_examples=1000)


def pytest_collection() -> None:
    """Collects no garbage while test files import libraries: what those make stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collects garbage again, and leaves out what is there now."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests a parallel run gives to one process, and begins with what takes longest."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    ranks = {}
    for item in items:
        rank, group = _place(item)
        ranks[item] = rank
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=ranks.__getitem__)


def _place(item: pytest.Item) -> tuple[int, str]:
    """How late a test is begun, and the name of those that share a process with it."""
    assert isinstance(item, pytest.Function)
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    params = {value for value in values if isinstance(value, str)}
    kinds = (("running_server", "server"), ("cluster", "ray"), ("workers", "processes"))
    for fixture, name in kinds:
        if fixture in item.fixturenames or name in params:
            return 0, name  # each is started once
    definitions = [one for found in item._fixtureinfo.name2fixturedefs.values() for one in found]
    file = item.nodeid.split("::")[0]
    if any(one.scope == "module" and one.baseid == file for one in definitions):
        return 1, file
    # What works in a home takes a while: whoever is free may have it.
    return (3, "") if "home" in item.fixturenames else (2, file)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the miniature's structure; tests must not change it."""
    import torch

    from tests.tiny import autoencoder, build_pipeline, miniature_unet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("miniature") / "base"
    build_pipeline(folder, miniature_unet(), autoencoder(3, 1))
    return folder


@pytest.fixture(scope="session")
def stable_diffusion_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of Stable Diffusion 1.4's structure; tests must not change it."""
    import torch

    from tests.tiny import autoencoder, build_pipeline, stable_diffusion_unet

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("stable-diffusion") / "base"
    build_pipeline(folder, stable_diffusion_unet(), autoencoder(4, 2))
    return folder


@pytest.fixture
def layers() -> dict[str, Tensor]:
    """Merged weights of two layers, which both structures have, in single precision."""
    import torch

    from tests.tiny import LAYER, OTHER_LAYER, WIDTH

    generator = torch.Generator().manual_seed(2)
    return {
        LAYER: torch.randn(8, WIDTH, generator=generator),
        OTHER_LAYER: torch.randn(12, WIDTH, generator=generator),
    }


@pytest.fixture
def recipe() -> dict[str, object]:
    """What an export records."""
    return {"base": "0" * 64, "shifts": [{"concept": "Picasso", "version": 1}]}


@pytest.fixture
def shift() -> ConceptShift:
    """A shift of two layers."""
    import torch

    from shiftreg.shift import ConceptShift
    from tests.tiny import LAYER, OTHER_LAYER

    generator = torch.Generator().manual_seed(3)
    return ConceptShift(
        concept="Čapek",
        aliases=("J. Čapek",),
        kind="style",
        method="closed-form",
        base_digest="a" * 64,
        text_encoder_digest="b" * 64,
        support=torch.randn(2, 5, generator=generator),
        factors={name: torch.randn(3, 2, generator=generator) for name in (LAYER, OTHER_LAYER)},
        protected=("", "watermark"),
        protected_digest="c" * 64,
        preserved=("a house",),
        hyperparameters={"mu": 10.0, "steps": 3, "nested": {"list": [1, None, True]}},
        metrics={"drift": 1.5e-14},
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; skips where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
            check=False,
            capture_output=True,
        ).returncode
    except OSError:
        mounted = 1
    if mounted != 0:
        pytest.skip("mounting a small file system needs privileges")
    yield folder
    # Lazily: MLflow keeps the database of a home open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _prompt_cache(run_folder: Path) -> Iterator[None]:
    """Processes of one run share what they encoded, with nobody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFTREG_CACHE", str(run_folder / "cache"))
        yield


@pytest.fixture(scope="session")
def worlds(run_folder: Path, shared_base: SharedBase) -> Worlds:
    """Homes with something in them, ready to be copied."""
    return Worlds(run_folder / "worlds")


@pytest.fixture(scope="session")
def database(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has migrated, which takes seconds: each test gets a copy."""
    return worlds.empty(tmp_path_factory.mktemp("template")) / "registry.db"


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    """A team's server on PostgreSQL, which takes about 20 seconds to start."""
    if postgresql_programs() is None:
        message = "PostgreSQL is not installed: make services"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with team_server() as server:
        yield server


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The team's server, with nothing registered; the environment names it and its admin."""
    running_server.empty()
    for name, value in running_server.environment.items():
        monkeypatch.setenv(name, value)
    return running_server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray cluster of two nodes, which takes about 20 seconds to start.

    Processes that share the tests out have one parent folder: their clusters start in turn.
    """
    with ExitStack() as running:
        with FileLock(tmp_path_factory.getbasetemp().parent / "cluster.lock"):
            running.enter_context(two_nodes())
        yield


@pytest.fixture(scope="session")
def workers() -> Iterator[ProcessPool]:
    """Two processes to work in, which load the libraries of diffusion models once."""
    import torch

    from shiftreg.engines import ProcessPool

    with ProcessPool(2, torch.get_num_threads()) as pool:
        yield pool


@pytest.fixture(scope="module", autouse=WHOLE_ON_SERVER)
def _everything_on_the_server(running_server: Server) -> Iterator[None]:
    """With SHIFTREG_TESTS_ON=server, settings that name no server name the team's."""
    make = Settings.__init__

    def make_on_server(
        self: Settings, home: Path, base: str, tracking_uri: str | None = None, **more: object
    ) -> None:
        make(self, home, base, tracking_uri or running_server.uri, **more)

    running_server.empty()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_server.environment.items():
            patch.setenv(name, value)
        patch.setattr(Settings, "__init__", make_on_server)
        yield


@pytest.fixture
def home(tmp_path: Path, database: Path, request: pytest.FixtureRequest) -> Path:
    """A home with an empty registry."""
    if WHOLE_ON_SERVER:
        request.getfixturevalue("running_server").empty()
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(database, home / "registry.db")
    return home


@pytest.fixture
def workspace(home: Path, worlds: Worlds, request: pytest.FixtureRequest) -> api.Workspace:
    """A workspace on the miniature, which generates in two steps: quickly, and not well.

    With ``@pytest.mark.erased("Caravaggio")`` that concept is erased from it.
    """
    erased = request.node.get_closest_marker("erased")
    return worlds.open(home, *erased.args, **erased.kwargs) if erased else worlds.open(home)


@pytest.fixture(scope="session")
def shared_base(run_folder: Path) -> Iterator[SharedBase]:
    """The miniature that workspaces share, and what was computed with it."""
    from tests.shared_base import SharedBase

    folder = None
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = run_folder / "computed"
        folder.mkdir(exist_ok=True)
    shared = SharedBase(folder)
    with shared.installed():
        yield shared


@pytest.fixture
def computed_anew(shared_base: SharedBase) -> Iterator[None]:
    """Nothing in a test is what an earlier one, or the test itself, has computed before."""
    with shared_base.keeping_nothing():
        yield
