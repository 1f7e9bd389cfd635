"""Templates of pages: whatever is not markup of ours is escaped, and shown as it is."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from shiftreg.reports import numbers


def page_template(name: str) -> Template:
    """A page's template by the name of its file."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shiftreg.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=numbers.visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        function.__name__: function
        for function in (
            numbers.number,
            numbers.heat,
            numbers.percent,
            numbers.moment,
            numbers.share,
            numbers.distance,
            numbers.effort,
            numbers.file_name,
        )
    }
    return environment
