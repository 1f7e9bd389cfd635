"""What differs between kinds of pipelines, one file a kind; no other module asks which it is."""

from shiftreg.pipelines.families.base import Family, Reader
from shiftreg.pipelines.families.find import family_of, find_family, network_of

__all__ = ["Family", "Reader", "family_of", "find_family", "network_of"]
