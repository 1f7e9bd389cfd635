"""Signed events and checkpoints, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shiftreg.audit import AuditLog, Cause, Checkpoint, FileEvents, PublicKeys
from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.keys import SigningKey, load_signing_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def make_key(folder: Path, name: str, kind: str = "ed25519") -> tuple[SigningKey, PublicKeys]:
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else ec.generate_private_key(ec.SECP256R1())
    )
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return load_signing_key(private), PublicKeys.load([public])


@pytest.mark.parametrize("kind", ["ed25519", "p-256"])
def test_signed_events_are_confirmed_by_their_key_alone(folder: Path, kind: str) -> None:
    signer, keys = make_key(folder, "ada", kind)
    _, others = make_key(folder, "ben", kind)
    log = AuditLog(FileEvents(folder / "log"), signer=signer)
    events = [log.append("erase", base="b") for _ in range(3)]
    assert {event.key for event in events} == {signer.public.fingerprint}
    assert log.verify(keys=keys, all_signed=True).problems == ()
    assert log.verify(keys=keys).notes == ()
    key = signer.public.fingerprint[:12]
    assert log.verify().notes == (
        f"signed by {key}, not checked: no public key was given: line 1 to 3",
    )
    assert log.verify(keys=others).valid
    assert log.verify(keys=others).notes == (
        f"signed by {signer.public.fingerprint[:12]}, a key that was not given: line 1 to 3",
    )
    assert len(log.verify(keys=others, all_signed=True).problems) == 3


def test_unsigned_events_are_named(folder: Path) -> None:
    signer, keys = make_key(folder, "ada")
    log = AuditLog(FileEvents(folder / "log"))
    log.append("init", base="b")
    replace(log, signer=signer).append("erase", base="b")
    log.append("restore", base="b")
    log.append("restore", base="b")
    report = log.verify(keys=keys)
    assert (report.valid, report.notes) == (True, ("not signed: line 1, 3 to 4",))
    assert log.verify(keys=keys, all_signed=True).problems == (
        "line 1: it is not signed",
        "line 3: it is not signed",
        "line 4: it is not signed",
    )


@pytest.mark.parametrize("signature", ["", "AAAA", "no base64!", "é"])
def test_a_signature_that_was_changed_or_removed_is_found(folder: Path, signature: str) -> None:
    signer, keys = make_key(folder, "ada")
    log = AuditLog(FileEvents(folder / "log"), signer=signer)
    event = log.append("erase", base="b")
    (folder / "log").write_text(replace(event, signature=signature).to_line() + "\n")
    (problem,) = log.verify(keys=keys).problems
    assert problem.startswith("line 1: its signature")


def test_a_signature_is_of_one_event(folder: Path) -> None:
    signer, keys = make_key(folder, "ada")
    log = AuditLog(FileEvents(folder / "log"), signer=signer)
    first, second = (log.append("erase", base="b") for _ in range(2))
    lines = [first.to_line(), replace(second, signature=first.signature).to_line()]
    (folder / "log").write_text("\n".join(lines) + "\n")
    assert log.verify(keys=keys).problems == (
        f"line 2: its signature is not that of its key {signer.public.fingerprint[:12]}",
    )


def test_the_cause_is_in_the_event_and_under_its_digest(folder: Path) -> None:
    log = AuditLog(FileEvents(folder / "log"), Cause("asked", request="C-17", licence="L-3"))
    event = log.append("erase", base="b")
    assert (event.reason, event.request, event.licence) == ("asked", "C-17", "L-3")
    assert log.append("erase", base="b", reason="own").reason == "own"
    text = (folder / "log").read_text()
    (folder / "log").write_text(text.replace("C-17", "C-18", 1))
    assert log.verify().problems == ("line 1: edited: its content does not match its digest",)


def test_what_is_empty_is_not_written(folder: Path) -> None:
    AuditLog(FileEvents(folder / "log")).append("erase", base="b")
    written = json.loads((folder / "log").read_text())
    assert not {"request", "licence", "key", "signature"} & written.keys()


def test_a_checkpoint_is_a_prefix_of_a_chain_that_grew(folder: Path) -> None:
    signer, keys = make_key(folder, "ada")
    log = AuditLog(FileEvents(folder / "log"), signer=signer)
    for number in range(1, 5):
        log.append("erase", base="b")
        checkpoint = Checkpoint.from_json(log.checkpoint().to_json())
        assert (checkpoint.sequence, checkpoint.key) == (number, signer.public.fingerprint)
        log.append("verify", base="b")
        assert log.verify(checkpoint=checkpoint, keys=keys).problems == ()
        log.store.path.write_bytes(  # type: ignore[attr-defined]
            b"".join(log.store.path.read_bytes().splitlines(True)[:number])  # type: ignore[attr-defined]
        )
        assert log.verify(checkpoint=checkpoint).valid


def test_a_chain_that_was_cut_or_rewritten_since_a_checkpoint_is_refused(folder: Path) -> None:
    path = folder / "log"
    log = AuditLog(FileEvents(path))
    for _ in range(3):
        log.append("erase", base="b")
    checkpoint = log.checkpoint()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    (problem,) = log.verify(checkpoint=checkpoint).problems
    assert problem.startswith("line 3: events are missing at the end: the checkpoint of")
    log.append("restore", base="b")
    (problem,) = log.verify(checkpoint=checkpoint).problems
    assert problem.startswith("line 3: rewritten, here or before: the checkpoint of")


def test_a_checkpoint_of_another_chain_is_refused(folder: Path) -> None:
    log, other = (AuditLog(FileEvents(folder / name)) for name in ("log", "other"))
    log.append("erase", base="b")
    other.append("erase", base="c")
    report = log.verify(checkpoint=other.checkpoint())
    assert not report.valid
    assert report.problems[0].startswith("checkpoint: it is of another chain")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"time": "2020"}, "is not that of its key"),
        ({"signature": ""}, "was removed"),
        ({"key": "0" * 64}, "a key that was not given"),
    ],
)
def test_a_changed_checkpoint_is_refused(
    folder: Path, change: dict[str, str], problem: str
) -> None:
    signer, keys = make_key(folder, "ada")
    log = AuditLog(FileEvents(folder / "log"), signer=signer)
    log.append("erase", base="b")
    report = log.verify(checkpoint=replace(log.checkpoint(), **change), keys=keys)
    assert not report.valid
    assert problem in report.problems[0]


def test_there_is_no_checkpoint_of_nothing_or_of_a_damaged_chain(folder: Path) -> None:
    log = AuditLog(FileEvents(folder / "log"))
    with pytest.raises(InvalidInputError, match="no events yet"):
        log.checkpoint()
    log.append("erase", base="b")
    (folder / "log").write_text((folder / "log").read_text().replace("erase", "evade"))
    with pytest.raises(IntegrityError, match="no head to vouch for: line 1: edited"):
        log.checkpoint()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format": "x"}', "[" * 5000, '{"sequence": 1}']
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="Not a checkpoint"):
        Checkpoint.from_json(text)


def test_a_checkpoint_with_values_of_other_types_is_refused(folder: Path) -> None:
    log = AuditLog(FileEvents(folder / "log"))
    log.append("erase", base="b")
    values = json.loads(log.checkpoint().to_json())
    for name in values:
        with pytest.raises(IntegrityError, match="Not a checkpoint"):
            Checkpoint.from_json(json.dumps(values | {name: [1]}))


def test_a_clock_that_went_back_is_noted_and_no_damage(folder: Path) -> None:
    log = AuditLog(FileEvents(folder / "log"))
    first = log.append("erase", base="b")
    values = {n: getattr(first, n) for n in first.__dataclass_fields__ if n != "digest"}
    second = type(first).create(
        **values | {"sequence": 2, "previous": first.digest, "time": "2020-01-01T00:00:00+00:00"}
    )
    with (folder / "log").open("a") as file:
        file.write(second.to_line() + "\n")
    report = log.verify()
    assert report.valid
    assert "was behind that of the event before" in report.notes[0]
