"""Composing shifts: plans in words, exports, samples, verification."""
