"""shiftreg: a registry and versioning tool for concept weight shifts of diffusion models."""

__version__ = "0.1.0"
