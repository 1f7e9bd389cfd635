"""Users of a team's server: who may do what, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.server.auth.client import AuthServiceClient

from shiftreg.audit import AuditLog
from shiftreg.errors import StorageError
from shiftreg.registry import BaseRecord, Registry, open_registry
from tests.servers import Server


@pytest.fixture
def as_user(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Registry]]:
    """Opens the registry as a user, who is made at first, in a home of their own."""
    admin = AuthServiceClient(server.uri)
    made: dict[str, str] = {}

    def opened(name: str) -> Registry:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
        if name not in made:
            made[name] = f"the password of {name}"
            admin.create_user(name, made[name])
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", made[name])
        return open_registry(tmp_path / name, server.uri)

    yield opened
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
    for name in made:
        admin.delete_user(name)


def erase(registry: Registry, concept: str, folder: Path) -> int:
    file = folder / "shift.safetensors"
    file.write_bytes(f"shift of {concept}".encode())
    metadata = {"concept": concept, "method": "m", "protected": ("",), "digest": "a" * 64}
    with registry.trainings.run("miniature", concept, {}) as log:
        version = registry.shifts.register("miniature", log, file, metadata, {}, activate=False)
    with registry.lock():
        registry.shifts.activate("miniature", concept, version)
        AuditLog(registry.events).append("erase", base="miniature", concepts=(concept,))
    return version.version


def test_colleagues_share_bases_versions_and_turns(
    as_user: Callable[..., Registry], record: BaseRecord, tmp_path: Path
) -> None:
    ada = as_user("ada")
    ada.bases.save(record)
    assert erase(ada, "Picasso", tmp_path) == 1
    assert ada.account() == "ada"

    bob = as_user("bob")
    assert bob.bases.read("miniature") == record
    assert erase(bob, "Picasso", tmp_path) == 2
    assert [version.reference for version in bob.shifts.active("miniature")] == ["Picasso@2"]
    assert bob.shifts.download(bob.shifts.version("miniature", "Picasso", 1)).read_bytes()
    assert AuditLog(bob.events).verify().count == 2

    # Taking a shift out is for who manages it: at first, who erased the concept.
    with pytest.raises(StorageError, match=r"this user may not do that.*restoring MANAGE"):
        bob.shifts.deactivate("miniature", "Picasso")
    assert bob.shifts.active("miniature")
    as_user("ada")  # who may let others manage it
    AuthServiceClient(ada.uri).grant_user_permission(
        "bob", "registered_model", "miniature.picasso", "MANAGE"
    )
    bob = as_user("bob")
    bob.shifts.deactivate("miniature", "Picasso")
    assert not bob.shifts.active("miniature")


def test_a_wrong_password_is_told_from_a_server_that_is_down(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "guess")
    with pytest.raises(StorageError, match="MLFLOW_TRACKING_PASSWORD") as refusal:
        open_registry(tmp_path, server.uri)
    assert "guess" not in str(refusal.value)


def test_a_password_in_the_address_is_never_kept(
    server: Server, record: BaseRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    home = tmp_path / "home"
    registry = open_registry(
        home, server.uri.replace("http://", f"http://admin:{server.password}@")
    )
    registry.bases.save(record)
    erase(registry, "Picasso", tmp_path)
    assert registry.uri == server.uri
    kept = [path.read_bytes() for path in (home.rglob("*")) if path.is_file()]
    assert kept
    assert not any(server.password.encode() in content for content in kept)


def test_a_damaged_copy_is_fetched_again(
    server: Server, record: BaseRecord, tmp_path: Path
) -> None:
    registry = open_registry(tmp_path / "home", server.uri)
    registry.bases.save(record)
    erase(registry, "Picasso", tmp_path)
    version = registry.shifts.version("miniature", "Picasso")
    copy = registry.shifts.download(version)
    whole = copy.read_bytes()
    copy.write_bytes(b"torn")
    assert registry.shifts.download(version).read_bytes() == whole


def test_a_request_that_was_sent_again_leaves_one_version(
    as_user: Callable[..., Registry], record: BaseRecord, tmp_path: Path
) -> None:
    registry = as_user("ada")
    registry.bases.save(record)
    client = registry.store.client
    create = client.create_model_version

    def create_twice(name: str, *arguments: object, **options: object) -> object:
        create(name, *arguments, **options)  # its answer is lost
        return create(name, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "create_model_version", create_twice)
        file = tmp_path / "shift.safetensors"
        file.write_bytes(b"a shift")
        metadata = {"concept": "Monet", "method": "m", "protected": ("",), "digest": "a" * 64}
        with registry.trainings.run("miniature", "Monet", {}) as log:
            registry.shifts.register("miniature", log, file, metadata, {})
    (version,) = registry.shifts.versions("miniature", "Monet")
    assert (version.version, version.active) == (2, True)
