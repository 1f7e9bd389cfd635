"""Runs in MLflow: whose they are, their files and long values, which SHA-256 digests prove."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError, NotFoundError, StorageError
from shiftreg.processes import is_gone, this_process
from shiftreg.registry.failures import TAKEN, Suppressed
from shiftreg.registry.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

PROCESS = "shiftreg.process"
TAG_BYTES = 50_000
"""Longer values become files: some databases cut a tag's text at 64 KiB."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def log_text(store: Store, run_id: str, text: str, artifact: str) -> None:
    """Keeps a text as a file of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(artifact).name
        path.write_text(text, encoding="utf-8", newline="")
        log_file(store, run_id, path, artifact)


def log_file(store: Store, run_id: str, path: Path, artifact: str) -> None:
    """Keeps a file of a run under a name of our choice.

    Raises:
        NotFoundError: There is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"File {path} does not exist, so the registry cannot keep it.")
    parent = Path(artifact).parent.as_posix()
    with tempfile.TemporaryDirectory() as folder:
        if path.name != Path(artifact).name:
            path = Path(shutil.copyfile(path, Path(folder) / Path(artifact).name))
        files = artifacts(store, run_id)
        files.log_artifact(str(path), None if parent == "." else parent)  # type: ignore[no-untyped-call]


def artifacts(store: Store, run_id: str) -> ArtifactRepository:
    """Where the files of a run are.

    Not by the client's own methods: those remember it by the run's identity alone, and two
    registries of one process, such as a copy and its original, then share one place.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = store.client.get_run(run_id).info.artifact_uri
    return get_artifact_repository(uri, tracking_uri=store.uri)


def fetch(store: Store, run_id: str, artifact: str) -> Path:
    """A local path to a file of a run: the file itself, or a copy kept under the home folder.

    Raises:
        IntegrityError: The registry names the file and does not have it.
    """
    # The name may come from a tag, which others can write.
    if Path(artifact).is_absolute() or ".." in Path(artifact).parts or not run_id.isalnum():
        raise IntegrityError(f"A file of a run cannot be named '{artifact}': the tag was changed.")
    if folder := local_folder(store.client.get_run(run_id).info.artifact_uri):
        refuse_moved(store, folder)
        path = folder / artifact
    else:
        cache = store.home / "cache" / run_id
        path = cache / artifact
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as draft:
                files = artifacts(store, run_id)
                copy = files.download_artifacts(artifact, draft)  # type: ignore[no-untyped-call]
                Path(copy).replace(path)
    if not path.is_file():
        raise IntegrityError(
            f"File '{artifact}' of run {run_id} is missing from the registry: {path}. "
            "Put it back from a backup."
        )
    return path


def fetch_verified(store: Store, run_id: str, artifact: str, digest: str) -> Path:
    """Like :func:`fetch`, and checks the file's SHA-256.

    Raises:
        IntegrityError: The file is missing or was changed.
    """
    path = fetch(store, run_id, artifact)
    if (found := file_digest(path)) != digest and path.is_relative_to(store.home / "cache"):
        path.unlink(missing_ok=True)  # a copy that was damaged here says nothing of the server's
        path = fetch(store, run_id, artifact)
        found = file_digest(path)
    if found != digest:
        raise IntegrityError(
            f"File {path} was changed since it was registered: its SHA-256 is {found[:12]}, and "
            f"{digest[:12]} was registered. Put it back from a backup."
        )
    return path


def local_folder(uri: str) -> Path | None:
    """The folder that MLflow's address means, or None if it is not on this machine."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlsplit(uri).scheme not in ("", "file"):
        return None
    return Path(local_file_uri_to_path(uri))  # type: ignore[no-untyped-call]  # MLflow's


def refuse_moved(store: Store, folder: Path) -> None:
    """Refuses files that lie outside the home folder, because that was moved.

    Raises:
        StorageError: MLflow keeps absolute paths, and this one belongs to another home.
    """
    if store.is_own and not folder.resolve().is_relative_to(store.home):
        raise StorageError(
            f"The registry in {store.home} keeps its files in {folder}, which is elsewhere: it was "
            "moved or copied, and MLflow keeps absolute paths. Move it back, or put a symbolic "
            "link in the old place."
        )


def to_tag(store: Store, run_id: str, name: str, value: Any) -> str:
    """A JSON value as a tag's text; a long one becomes a file of the run, and the tag its digest.

    Args:
        run_id: The run that keeps a long value.
    """
    text = canonical_json(value)
    if len(text.encode()) <= TAG_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    log_text(store, run_id, text, f"values/{name}-{digest[:12]}.json")
    return f"sha256:{digest}"


def from_tag(store: Store, run_id: str, name: str, text: str) -> Any:
    """Reads what :func:`to_tag` wrote.

    Raises:
        IntegrityError: The file of a long value is missing or was changed.
    """
    if text.startswith("sha256:"):
        digest = text.removeprefix("sha256:")
        path = fetch_verified(store, run_id, f"values/{name}-{digest[:12]}.json", digest)
        text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise IntegrityError(
            f"Tag '{name}' of a version of run {run_id} was changed in MLflow: {error}."
        ) from error


def find_or_create_experiment(
    store: Store, name: str, tags: Mapping[str, str], location: str | None = None
) -> Experiment:
    """The experiment of a name; if several clients create it at once, that of the first."""
    client = store.client
    if (found := client.get_experiment_by_name(name)) is None:
        with Suppressed(TAKEN):
            client.create_experiment(name, artifact_location=location, tags=dict(tags))
        found = client.get_experiment_by_name(name)
    assert found is not None
    return found


def start_run(store: Store, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """Begins a run, and notes whose it is."""
    owned = {**tags, PROCESS: this_process()}
    return store.client.create_run(experiment_id, run_name=name[:250], tags=owned)


@contextmanager
def kept_run(store: Store, experiment_id: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A run for the files of a block, by its id; deleted if the block fails."""
    run_id = start_run(store, experiment_id, name, tags).info.run_id
    try:
        yield run_id
    except BaseException:
        with suppress(Exception):  # who may write may not always delete; the first error counts
            store.client.delete_run(run_id)
        raise
    store.client.set_terminated(run_id)


def is_left(run: Run) -> bool:
    """Whether its process ran on this machine and is gone."""
    return is_gone(run.data.tags.get(PROCESS, ""))
