"""Measuring folders of images against each other."""
