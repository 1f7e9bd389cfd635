"""Evaluating scenes and compositions, and the classifiers that judge images."""
