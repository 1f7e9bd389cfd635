"""DSSE envelopes: a payload with the signature of its bytes.

Source: the Dead Simple Signing Envelope, version 1 (secure-systems-lab/dsse, ``protocol.md``).
"""

from __future__ import annotations

import base64
import json

from shiftreg.canonical import canonical_json
from shiftreg.errors import IntegrityError
from shiftreg.keys import PublicKey, SigningKey


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


def signer_hint(envelope: str) -> str:
    """Who an envelope says has signed it, unchecked; "" if it does not say."""
    try:
        return str(json.loads(envelope)["signatures"][0]["keyid"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""


def _signed_bytes(payload: bytes, payload_type: str) -> bytes:
    """The protocol's "pre-authentication encoding": no two pairs of type and payload share it."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
