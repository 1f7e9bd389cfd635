"""Attacking an erasure."""
