"""Measuring folders of pictures against each other."""
