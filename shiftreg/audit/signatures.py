"""Signatures of events: Ed25519 or ECDSA keys in PEM files, and what they show."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shiftreg.audit.events import AuditEvent
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError, StorageError

PASSPHRASE_VARIABLE = "SHIFTREG_SIGNING_PASSPHRASE"  # noqa: S105 - the name of a variable
DIGEST = ec.ECDSA(hashes.SHA256())

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Signer:
    """A private key, and the name of its public one.

    Attributes:
        key: SHA-256 of the public key.
    """

    key: str
    _private: PrivateKey = field(repr=False)

    def sign(self, text: str) -> str:
        """A signature of a text, base64."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            signature = self._private.sign(text.encode())
        else:
            signature = self._private.sign(text.encode(), DIGEST)
        return base64.b64encode(signature).decode()


@dataclass(frozen=True)
class PublicKeys:
    """Public keys by name."""

    keys: dict[str, PublicKey]

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def confirm(self, key: str, text: str, signature: str) -> bool:
        """Whether a signature of a text is that of a key that is here."""
        public = self.keys[key]
        try:
            content = base64.b64decode(signature, validate=True)
            if isinstance(public, ed25519.Ed25519PublicKey):
                public.verify(content, text.encode())
            else:
                public.verify(content, text.encode(), DIGEST)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def load_signer(path: Path) -> Signer:
    """Reads a private key; the passphrase of an encrypted one is in the environment.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: No Ed25519 or elliptic curve key, or the wrong passphrase.
    """
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    try:
        private = serialization.load_pem_private_key(
            _read(path), passphrase.encode() if passphrase else None
        )
    except TypeError as error:
        # The library says whether a passphrase is missing, or given and not needed.
        raise InvalidInputError(
            f"The signing key '{path}' and the passphrase do not go together: {error}. "
            f"The passphrase is read from {PASSPHRASE_VARIABLE}."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(
            f"'{path}' is not a private key in PEM form, or the passphrase in "
            f"{PASSPHRASE_VARIABLE} is not its own. Make a key: shiftreg audit key FILE"
        ) from error
    if not isinstance(private, PrivateKey):
        raise InvalidInputError(
            f"The signing key '{path}' is of another kind; Ed25519 and elliptic curve keys sign. "
            "Make one: shiftreg audit key FILE"
        )
    return Signer(_name(private.public_key()), private)


def load_public_keys(paths: Iterable[Path]) -> PublicKeys:
    """Reads public keys.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: No public Ed25519 or elliptic curve key.
    """
    keys = {}
    for path in paths:
        try:
            public = serialization.load_pem_public_key(_read(path))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInputError(
                f"'{path}' is not a public key in PEM form. "
                f"Make it from the private one: openssl pkey -in KEY -pubout -out {path}"
            ) from error
        if not isinstance(public, PublicKey):
            raise InvalidInputError(
                f"The key '{path}' is of another kind; Ed25519 and elliptic curve keys sign."
            )
        keys[_name(public)] = public
    return PublicKeys(keys)


def make_key(path: Path) -> tuple[str, Path]:
    """Writes a new Ed25519 key, encrypted if there is a passphrase in the environment.

    Args:
        path: Of the private key; the public one is written beside it.

    Returns:
        The key's name, and the path of the public key.

    Raises:
        AlreadyExistsError: One of the two files exists.
        StorageError: The folder cannot be written.
    """
    private = ed25519.Ed25519PrivateKey.generate()
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_path = path.with_name(path.name + ".pub")
    if os.path.lexists(public_path):
        raise AlreadyExistsError(f"'{public_path}' exists. Choose another name for the key.")
    _write_new(path, secret, 0o600)
    _write_new(public_path, public, 0o644)
    return _name(private.public_key()), public_path


def signature_findings(
    events: Sequence[tuple[int, AuditEvent]],
    keys: PublicKeys | None,
    word: str,
    *,
    all_signed: bool,
) -> tuple[list[tuple[int, str]], list[str]]:
    """What the signatures of events show.

    Args:
        events: With their places.
        keys: To check with; None if none are given.
        word: What a place is called.
        all_signed: Whether an event that no key vouches for is a problem, and not a note.

    Returns:
        Problems with their places, and notes.
    """
    problems: list[tuple[int, str]] = []
    unsigned: list[int] = []
    unknown: dict[str, list[int]] = {}
    for number, event in events:
        if bool(event.key) != bool(event.signature):
            problems.append((number, "its signature was removed, or added later"))
        elif not event.key:
            unsigned.append(number)
        elif keys is None or event.key not in keys:
            unknown.setdefault(event.key, []).append(number)
        elif not keys.confirm(event.key, event.signed_text, event.signature):
            problems.append((number, f"its signature is not that of its key {event.key[:12]}"))
    if all_signed:
        problems += [(number, "it is not signed") for number in unsigned]
        problems += [
            (number, f"it is signed by the unknown key {key[:12]}")
            for key, numbers in unknown.items()
            for number in numbers
        ]
        return problems, []
    notes = []
    if unsigned and (keys is not None or unknown):
        notes.append(f"not signed: {word} {in_words(unsigned)}")
    for key, numbers in unknown.items():
        remark = "a key that was not given" if keys else "a key to be given with --key"
        notes.append(f"signed by {key[:12]}, {remark}: {word} {in_words(numbers)}")
    return problems, notes


def in_words(numbers: Sequence[int]) -> str:
    """Ascending numbers, with what is contiguous put together: "1 to 3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)


def _name(public: PublicKey) -> str:
    content = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no key '{path}'. Check the path.") from error
    except OSError as error:
        raise StorageError(
            f"The key '{path}' cannot be read: {error.strerror}. Check its permissions."
        ) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise AlreadyExistsError(f"'{path}' exists. Choose another name for the key.") from error
    except OSError as error:
        raise StorageError(
            f"The key '{path}' cannot be written: {error.strerror}. Check the folder."
        ) from error
