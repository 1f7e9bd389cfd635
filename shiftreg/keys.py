"""Keys in PEM files, to sign with and to check by; and a secret of the user's own."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shiftreg.errors import InvalidInputError, NotFoundError, StorageError

PASSPHRASE_VARIABLE = "SHIFTREG_SIGNING_PASSPHRASE"  # noqa: S105 - the name of a variable
SECRET_BYTES = 32
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_KINDS = "Ed25519 and elliptic curve keys (P-256, P-384, P-521) sign"


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked by.

    Attributes:
        fingerprint: SHA-256 of the key (its SubjectPublicKeyInfo in DER), as hexadecimal digits.
    """

    fingerprint: str
    _key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @property
    def is_elliptic_curve(self) -> bool:
        """Whether it is an ECDSA key; otherwise it is an Ed25519 one."""
        return isinstance(self._key, ec.EllipticCurvePublicKey)

    def confirms(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature of a message was made with the private key to this one."""
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                self._key.verify(signature, message, _algorithm(self._key.curve))
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """The key as ``openssl pkey -pubout`` writes it."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


@dataclass(frozen=True)
class SigningKey:
    """A private key, and the public one to it.

    Attributes:
        path: The file that it was read from.
        public: What its signatures are checked by.
    """

    path: Path
    public: PublicKey
    _key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """A signature of a message; of an elliptic curve, another one each time."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, _algorithm(self._key.curve))


def load_signing_key(path: Path) -> SigningKey:
    """Reads a private key; the passphrase of an encrypted one is in the environment.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: Not a private key that can sign, or the passphrase is missing
            or wrong.
        StorageError: The file cannot be read.
    """
    content, phrase = _read(path), passphrase()
    try:
        key = serialization.load_pem_private_key(content, phrase)
    except TypeError as error:
        # The library's two cases: a passphrase is needed, or one was given that is not.
        need = "not encrypted, and there is a passphrase in" if phrase else "encrypted: set"
        raise InvalidInputError(
            f"The signing key '{path}' is {need} {PASSPHRASE_VARIABLE}."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        wrong = f", or the passphrase in {PASSPHRASE_VARIABLE} is not its own" if phrase else ""
        raise InvalidInputError(
            f"'{path}' is not a private key in PEM form{wrong}. Make one: "
            f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE"
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise InvalidInputError(f"The key '{path}' is of another kind; {_KINDS}.")
    return SigningKey(path, _public(key.public_key(), path), key)


def load_public_key(path: Path) -> PublicKey:
    """Reads a public key.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: It is not a public key of a kind that signs.
        StorageError: The file cannot be read.
    """
    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(
            f"'{path}' is not a public key in PEM form. "
            "Make it from the private one: openssl pkey -in PRIVATE -pubout -out PUBLIC"
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise InvalidInputError(f"The key '{path}' is of another kind; {_KINDS}.")
    return _public(key, path)


def own_secret() -> bytes | None:
    """What proves that this user wrote something: 32 bytes, which nobody else can read.

    It is made at first use, in ``XDG_CONFIG_HOME`` or ``~/.config``: never with a registry, which
    others may have made.

    Returns:
        The secret; None where none can be kept.
    """
    try:
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        path = Path(config) / "shiftreg" / "secret"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent) as draft:  # of mode 0600
                draft.write(secrets.token_bytes(SECRET_BYTES))
                draft.flush()
                with suppress(FileExistsError):  # another process was quicker
                    os.link(draft.name, path)
        secret = path.read_bytes()
    except (OSError, RuntimeError):  # a full disk, a user without a home
        return None
    return secret if len(secret) == SECRET_BYTES else None


def passphrase() -> bytes | None:
    """The passphrase for an encrypted key, from the environment: it is never kept anywhere."""
    value = os.environ.get(PASSPHRASE_VARIABLE)
    return value.encode() if value else None


def _public(key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey, path: Path) -> PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _HASHES:
        raise InvalidInputError(f"The key '{path}' is of curve {key.curve.name}; {_KINDS}.")
    content = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey(hashlib.sha256(content).hexdigest(), key)


def _algorithm(curve: ec.EllipticCurve) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[curve.name])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no key '{path}'. Check the path.") from error
    except OSError as error:
        raise StorageError(
            f"The key '{path}' cannot be read: {error.strerror}. Check its permissions."
        ) from error
