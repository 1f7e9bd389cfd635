"""Which base a file says it was made for: layers of the same shape do not tell bases apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shiftreg.errors import IncompatibleError

DIGEST_KEY = "shiftreg.base_sha256"
VERSION_KEY = "ss_base_model_version"
# How kohya's names of versions begin -> the family. Within a family, adapters go from one model to
# another; of names that are not here, such as those of other tools, nothing is known.
FAMILIES = {
    "sd_v1": "Stable Diffusion 1.x",
    "sd_v2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "flux": "Flux",
}


@dataclass(frozen=True)
class StatedBase:
    """What the header of a safetensors file says of the base; texts are empty where it is silent.

    Attributes:
        digest: Of the base, in files that shiftreg wrote.
        kohya_version: kohya's name of the base's version, such as "sdxl_base_v1-0".
    """

    digest: str = ""
    kohya_version: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> StatedBase:
        """Reads it from a header.

        Args:
            metadata: The texts of the header.
        """
        return cls(metadata.get(DIGEST_KEY, ""), metadata.get(VERSION_KEY, ""))

    def check(self, source: str, base: str, digest: str, kohya_version: str) -> None:
        """Refuses a file that says it was made for another base.

        Args:
            source: The file, for errors.
            base: The base's name, for errors.
            digest: The base's.
            kohya_version: The base's, as ``ModelFacts`` has it.

        Raises:
            IncompatibleError: The digest is another's, or the version is of another family.
        """
        if self.digest and self.digest != digest:
            raise IncompatibleError(
                f"{source} was made by shiftreg for base {self.digest[:12]}, and '{base}' is "
                f"{digest[:12]}. Choose its base with --base, or erase the concept on this one: "
                "shiftreg erase"
            )
        made_for, own = _family(self.kohya_version), _family(kohya_version)
        if made_for and own and made_for != own:
            raise IncompatibleError(
                f"{source} says that it was made for {made_for} ({VERSION_KEY} is "
                f"'{self.kohya_version}'), and '{base}' is {own}. Choose its base with --base, or "
                "give a file that was made for this one."
            )


def _family(version: str) -> str:
    """The family of a version; empty if it is unknown."""
    found = (name for start, name in FAMILIES.items() if version.lower().startswith(start))
    return next(found, "")
