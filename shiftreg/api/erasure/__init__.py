"""Erasing: planned, run, registered; capacity, import and decoupling of shifts."""
