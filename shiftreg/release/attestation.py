"""in-toto attestations: which files a signed statement is about, and what it says of them.

Source: the in-toto attestation framework, Statement version 1 (in-toto/attestation, ``spec/v1``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError, StorageError
from shiftreg.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://shiftreg/release/v1"
MOST_BYTES = 1 << 26  # of an attestation: a file that somebody else wrote is not read without end


@dataclass(frozen=True)
class Attestation:
    """A statement about files.

    Attributes:
        subjects: Name of a file -> SHA-256.
        predicate: What is said of them, JSON values.
    """

    subjects: Mapping[str, str] = field(hash=False)
    predicate: Mapping[str, Any] = field(hash=False)


def write_attestation(attestation: Attestation, path: Path, key: SigningKey) -> None:
    """Writes and signs a statement: one DSSE envelope, a line of JSON.

    Raises:
        InvalidInputError: The predicate holds what JSON cannot say.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(attestation.subjects.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(attestation.predicate),
    }
    line = seal(canonical_json(statement).encode(), PAYLOAD_TYPE, key)
    path.write_text(f"{line}\n", encoding="utf-8")


def read_attestation(path: Path, key: PublicKey) -> Attestation:
    """Reads a statement that a key must have signed.

    Raises:
        IntegrityError: It was not signed by the key, is damaged, or says something else than a
            release of ours; the message ends a sentence that begins with the file's name.
        StorageError: The file cannot be read.
    """
    payload = unseal(_line(path), PAYLOAD_TYPE, key)
    try:
        statement = json.loads(payload)
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        predicate = dict(statement["predicate"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError("it holds no in-toto statement") from error
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise IntegrityError(f"it states '{str(kinds[1])[:80]}', and no '{PREDICATE_TYPE}'")
    return Attestation(subjects, predicate)


def attestation_signer(path: Path) -> str:
    """Who an attestation says has signed it, unchecked; "" if it does not say."""
    try:
        return str(json.loads(_line(path))["signatures"][0]["keyid"])
    except (StorageError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""


def _line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(f"'{path}' could not be read: {error.strerror or error}.") from error
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise IntegrityError("it is damaged: no text") from error
    if len(content) > MOST_BYTES or len(lines) != 1:
        raise IntegrityError(f"it holds {len(lines)} lines, and one attestation is one line")
    return lines[0]


def seal(payload: bytes, payload_type: str, key: SigningKey) -> str:
    """Signs a payload.

    Returns:
        The envelope, one line of JSON. Its key id is the fingerprint of the key.
    """
    signature = key.sign(_signed_bytes(payload, payload_type))
    return canonical_json(
        {
            "payload": _text(payload),
            "payloadType": payload_type,
            "signatures": [{"keyid": key.public.fingerprint, "sig": _text(signature)}],
        }
    )


def unseal(envelope: str, payload_type: str, key: PublicKey) -> bytes:
    """The payload of an envelope, if the key signed it.

    Raises:
        IntegrityError: It is no envelope of this type, or the key did not sign it.
    """
    try:
        content = json.loads(envelope)
        payload = base64.b64decode(content["payload"], validate=True)
        kind = str(content["payloadType"])
        signatures = [
            (str(one.get("keyid", "")), base64.b64decode(one["sig"], validate=True))
            for one in content["signatures"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("it is cut off or damaged: no envelope with a signature") from error
    if kind != payload_type:
        raise IntegrityError(f"it holds a '{kind[:80]}', and no '{payload_type}'")
    # A key id is a hint that nobody signed: what counts is whether the key made a signature.
    message = _signed_bytes(payload, kind)
    if any(key.confirms(signature, message) for _, signature in signatures):
        return payload
    names = {name[:12] for name, _ in signatures}
    if key.fingerprint[:12] in names:
        raise IntegrityError(f"it was changed after key {key.fingerprint[:12]} signed it")
    signer = ", ".join(sorted(names)) or "nobody"
    raise IntegrityError(f"it names key {signer} as signer, and not {key.fingerprint[:12]}")


def _signed_bytes(payload: bytes, payload_type: str) -> bytes:
    """The protocol's "pre-authentication encoding": no two pairs of type and payload share it."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
