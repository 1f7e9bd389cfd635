"""What may lie beside a release and tells of it: card, signature, attestation, bill."""

from __future__ import annotations

from pathlib import Path

from shiftreg import release
from shiftreg.checkpoints import card_path_of, file_digest


def papers_of(target: Path) -> dict[str, Path]:
    """Where they lie, by the word that the audit trail has for each.

    The recipe is none of them: the registry itself knows its digest.
    """
    return {
        "card": card_path_of(target),
        "signature": release.signature_path_of(target),
        "attestation": release.attestation_path_of(target),
        "bill": release.bill_path_of(target),
    }


def paper_digests(target: Path) -> dict[str, str]:
    """SHA-256 of those that are there."""
    return {word: file_digest(path) for word, path in papers_of(target).items() if path.is_file()}
