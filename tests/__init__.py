"""Tests; a package, since a library that they need installs one of this name, too."""
