"""Saying from weights alone what is inside a file."""
