"""Attestations, read by us and by the libraries of in-toto and securesystemslib."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from shiftreg.errors import IntegrityError
from shiftreg.release import Attestation, attestation_signer, read_attestation, write_attestation
from shiftreg.release.attestation import seal, unseal

SAID = Attestation({"model.ckpt": "a" * 64}, {"states": {"Čapek": "erased"}, "value": 0.25})


@pytest.fixture
def path(tmp_path: Path, pair: Any) -> Path:
    path = tmp_path / "model.ckpt.intoto.jsonl"
    write_attestation(SAID, path, pair.signing)
    return path


def test_what_was_stated_is_read_again(path: Path, pair: Any) -> None:
    assert read_attestation(path, pair.known) == SAID
    assert attestation_signer(path) == pair.known.fingerprint
    assert path.read_text().count("\n") == 1


def test_other_libraries_confirm_envelope_and_statement(path: Path, pair: Any) -> None:
    envelope = Envelope.from_dict(json.loads(path.read_text()))
    key = SSlibKey(
        pair.known.fingerprint,
        "ecdsa",
        "ecdsa-sha2-nistp256",
        {"public": pair.public.read_text()},
    )
    assert envelope.verify([key], threshold=1)
    message = json_format.Parse(envelope.payload, StatementMessage())
    statement = Statement.copy_from_pb(message)
    statement.validate()
    assert statement.pb.subject[0].digest["sha256"] == "a" * 64


def test_another_key_is_not_the_signer(path: Path, other_pair: Any) -> None:
    with pytest.raises(IntegrityError, match="as signer, and not"):
        read_attestation(path, other_pair.known)


def test_a_changed_payload_is_noticed(path: Path, pair: Any) -> None:
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"erased"', b'"gone!!"')
    envelope["payload"] = base64.b64encode(payload).decode()
    path.write_text(json.dumps(envelope))
    with pytest.raises(IntegrityError, match="changed after key"):
        read_attestation(path, pair.known)


def test_every_truncation_is_refused(path: Path, pair: Any) -> None:
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises(IntegrityError):
            read_attestation(path, pair.known)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"payload":"AA==","payloadType":"x","signatures":[1]}',
        b'{"payload":"AA==","payloadType":"x","signatures":[]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}\n{}\n",
    ],
)
def test_what_is_no_envelope_is_refused(path: Path, pair: Any, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        read_attestation(path, pair.known)
    assert attestation_signer(path) == ""


def test_a_signed_statement_of_another_kind_is_not_taken_for_a_release(
    path: Path, pair: Any
) -> None:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    }
    path.write_text(
        seal(json.dumps(statement).encode(), "application/vnd.in-toto+json", pair.signing)
    )
    with pytest.raises(IntegrityError, match="slsa"):
        read_attestation(path, pair.known)


def test_the_type_of_a_payload_is_signed_with_it(pair: Any) -> None:
    envelope = json.loads(seal(b"payload", "text/plain", pair.signing))
    envelope["payloadType"] = "text/html"
    with pytest.raises(IntegrityError, match="no 'text/plain'"):
        unseal(json.dumps(envelope), "text/plain", pair.known)
    with pytest.raises(IntegrityError, match="changed"):
        unseal(json.dumps(envelope), "text/html", pair.known)


def test_a_key_id_is_only_a_hint(pair: Any, other_pair: Any) -> None:
    envelope = json.loads(seal(b"payload", "text/plain", other_pair.signing))
    envelope["signatures"][0]["keyid"] = pair.known.fingerprint
    with pytest.raises(IntegrityError):
        unseal(json.dumps(envelope), "text/plain", pair.known)
