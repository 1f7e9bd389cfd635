"""What goes with a released model: signature, attestation, bill of materials, the digests of all.

Nothing here knows the registry: an auditor with the files and a public key needs no more.
"""

from shiftreg.release.attestation import (
    Attestation,
    attestation_signer,
    read_attestation,
    write_attestation,
)
from shiftreg.release.bill import Part, write_bill
from shiftreg.release.bundle import check_bundle, require_curve, write_bundle
from shiftreg.release.files import (
    file_digests,
    sidecar_digests,
    sidecar_files,
)
