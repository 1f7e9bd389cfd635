"""Bases of other forms than diffusers folders, made into such folders."""
