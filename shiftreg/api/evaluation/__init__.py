"""Evaluating scenes and compositions, and the classifiers that say what images show."""
