"""Compositions of shifts: plans, contents, exports, adapters, verification."""
