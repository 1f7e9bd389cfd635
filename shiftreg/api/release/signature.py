"""Checking, without network or registry, that a file is what somebody signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shiftreg.api.release.values import SignatureReport
from shiftreg.checkpoints import recipe_path_of
from shiftreg.checks import Check
from shiftreg.errors import IntegrityError, NotFoundError, StorageError
from shiftreg.keys import PublicKey, load_public_key, load_signing_key
from shiftreg.release import (
    Attestation,
    attestation_signer,
    check_bundle,
    file_digests,
    read_attestation,
    sidecar_files,
)
from shiftreg.settings import PROJECT_FILE, Settings
from shiftreg.verification import Policy


@dataclass(frozen=True)
class ReadFile:
    """What a signature speaks of, read once.

    Attributes:
        files: SHA-256 of the file or of a folder's files; see ``release.file_digests``.
    """

    files: Mapping[str, str]
    recipe: Mapping[str, Any]
    recipe_digest: str


def check_signature(
    settings: Settings, file: Path, key: Path | None = None, *, read: ReadFile | None = None
) -> SignatureReport:
    """Checks signature, attestation and bill of materials of a file, by a key.

    Args:
        settings: Name the key, if ``key`` does not: the public one, or the signer's own.
        read: What was read of the file already; it is read here by default.

    Raises:
        NotFoundError: No such file or key.
        InvalidInputError: No public key.
        MissingExtraError: model-signing is not installed.
    """
    if not file.exists():
        raise NotFoundError(f"There is no file '{file}'. Check the path.")
    known, beside = _expected_key(settings, key), sidecar_files(file)
    if known is None:
        signer = attestation_signer(beside["attestation"])
        by = f"It says that key {signer[:12]} signed it, and there" if signer else "There"
        check = _check(
            "signature",
            beside["signature"].name,
            f"{by} is no key to check that by. Give the signer's public key: --key FILE, "
            f"SHIFTREG_VERIFYING_KEY or verifying_key in {PROJECT_FILE}.",
        )
        return SignatureReport(file, "", (check,), False, {})
    statement: dict[str, Any] = {}

    digests = read.files if read else file_digests(file)

    def bundle(path: Path) -> None:
        check_bundle(file, path, known, digests)

    def attestation(path: Path) -> None:
        found = read_attestation(path, known)
        _compare(found, file, digests, read)
        statement.update(found.predicate)

    checks = [
        _finding("signature", beside["signature"], bundle, known),
        _finding("attestation", beside["attestation"], attestation, known),
    ]
    checks += [
        _finding(name, beside[name], partial(_same, named=statement[name]), known)
        for name in ("bill", "card")
        if statement.get(name) is not None
    ]
    passed = all(check.passed for check in checks)
    return SignatureReport(file, known.fingerprint, tuple(checks), passed, statement)


def is_to_be_signed(settings: Settings, file: Path, key: Path | None) -> bool:
    """Whether a file's signature is to be checked: it has one, or must have one."""
    policy = Policy.read(settings.policy, str(PROJECT_FILE))
    signed = any(sidecar_files(file)[word].exists() for word in ("signature", "attestation"))
    return key is not None or policy.signature_required or signed


def _expected_key(settings: Settings, key: Path | None) -> PublicKey | None:
    if path := key or settings.verifying_key:
        return load_public_key(path)
    return load_signing_key(settings.signing_key).public if settings.signing_key else None


def _finding(name: str, path: Path, confirm: Callable[[Path], None], key: PublicKey) -> Check:
    """A check of one of the files beside a release."""
    problem = ""
    if not path.is_file():
        problem = "is missing: it was removed, or the release was never signed"
    else:
        try:
            confirm(path)
        except (IntegrityError, StorageError) as error:
            problem = f"does not hold: {error}"
    if problem:
        remedy = "Do not use the file before its signer has explained it, or release it again."
        return _check(name, path.name, f"'{path.name}' {problem}. {remedy}")
    signer = f"key {key.fingerprint[:12]}"
    return _check(name, f"{path.name}, {signer}", "", f"Signed by {signer}; nothing has changed.")


def _check(name: str, subject: str, problem: str, otherwise: str = "") -> Check:
    return Check.at_most(name, subject, float(bool(problem)), 0.0, problem or otherwise)


def _compare(
    found: Attestation, file: Path, digests: Mapping[str, str], read: ReadFile | None
) -> None:
    """Whether an attestation is about this file and the recipe beside it.

    Raises:
        IntegrityError: It is not; ends a sentence that begins with the attestation's name.
    """
    actual = dict(digests)
    if not file.is_dir() and len(found.subjects) == 1:
        # One file is known by its content: it may be renamed.
        actual = dict(zip(found.subjects, actual.values(), strict=True))
    names = sorted({*actual, *found.subjects})
    if changed := [name for name in names if actual.get(name) != found.subjects.get(name)]:
        first, how = changed[0], "is not the one that was signed"
        if first not in found.subjects:
            how = "was added"
        elif first not in actual:
            how = "is missing"
        raise IntegrityError(f"'{first}' {how} ({len(changed)} of {len(names)} files differ)")
    recipe_path = recipe_path_of(file)
    recipe, digest = (read.recipe, read.recipe_digest) if read else _read_recipe(recipe_path)
    _same(recipe_path, found.predicate.get("recipe"), digest)
    said = (found.predicate.get("composition"), _base_digest(found.predicate))
    if said != (recipe.get("composition"), _base_digest(recipe)):
        raise IntegrityError("it speaks of another composition than the recipe")


def _read_recipe(path: Path) -> tuple[Mapping[str, Any], str]:
    try:
        content = path.read_bytes()
        recipe = json.loads(content)
    except FileNotFoundError as error:
        raise IntegrityError(f"the recipe '{path.name}' that it names is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"the recipe '{path.name}' that it names cannot be read") from error
    if not isinstance(recipe, dict):
        raise IntegrityError(f"the recipe '{path.name}' that it names is none")
    return recipe, hashlib.sha256(content).hexdigest()


def _base_digest(document: Mapping[str, Any]) -> object:
    base = document.get("base")
    return base.get("digest") if isinstance(base, dict) else None


def _same(path: Path, named: object, digest: str = "") -> None:
    """Whether a file has the digest that an attestation names; it is read if none is given."""
    digest = digest or file_digests(path)[path.name]
    if not isinstance(named, dict) or named.get("sha256") != digest:
        raise IntegrityError(f"'{path.name}' is not the file that was attested")
