"""Bills of materials in CycloneDX: which base and which shifts are in a model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftreg.canonical import canonical_json
from shiftreg.release.files import BILLS, require

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://shiftreg/release/v1")
"""Of serial numbers: equal content has an equal one."""


@dataclass(frozen=True)
class Part:
    """One model: what is released, its base, or a shift.

    Attributes:
        reference: What other parts call it.
        version: Which one, as the registry knows it.
        digest: SHA-256 of its file; "" if it is no single file.
        files: Path within its folder -> SHA-256.
        properties: Name (without "shiftreg:") -> value.
        made_from: References of the parts that it was made from.
    """

    reference: str
    name: str
    version: str
    description: str
    digest: str = ""
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)
    made_from: tuple[str, ...] = ()


def write_bill(released: Part, parts: Sequence[Part], path: Path, tool_version: str) -> None:
    """Writes what a model is made from, as CycloneDX 1.6; equal content gives equal bytes.

    Args:
        parts: From what.

    Raises:
        MissingExtraError: cyclonedx-python-lib is not installed.
    """
    require(*BILLS)
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom()
    bom.metadata.component = _component(released)
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="shiftreg", version=tool_version)
    )
    components = {released.reference: bom.metadata.component}
    for part in parts:
        components[part.reference] = _component(part)
        bom.components.add(components[part.reference])
    for part in (released, *parts):
        made_from = [components[reference] for reference in part.made_from]
        bom.register_dependency(components[part.reference], made_from)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library puts in the time and a random number, and the same release is the same file.
    del document["metadata"]["timestamp"], document["serialNumber"]
    serial = uuid.uuid5(NAMESPACE, canonical_json(document))
    document = {"serialNumber": serial.urn, **document}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _component(part: Part) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    kind = ComponentType.MACHINE_LEARNING_MODEL
    return Component(
        type=kind,
        bom_ref=part.reference,
        name=part.name,
        version=part.version,
        description=part.description,
        hashes=_hashes(part.digest),
        properties=[
            Property(name=f"shiftreg:{name}", value=value)
            for name, value in part.properties.items()
        ],
        components=[
            Component(
                type=ComponentType.FILE,
                bom_ref=f"{part.reference}/{name}",
                name=name,
                hashes=_hashes(digest),
            )
            for name, digest in part.files.items()
        ],
    )


def _hashes(digest: str) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []
