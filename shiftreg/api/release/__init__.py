"""Releasing: what a project requires of a release, its signature, and the checks of both."""
