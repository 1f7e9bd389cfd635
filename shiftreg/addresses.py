"""Addresses of servers and databases, and texts about them, without the secrets in them."""

from __future__ import annotations

import re

# A password that nobody has encoded may hold any sign: it goes up to the last @ of a word, unless
# what follows the colon is a port, so that the @ is one of a path.
_SECRET = re.compile(
    r"""(\w://) (?: [^/?#\s'"]*@ | [^/?#\s'":@]* : (?! \d+ (?:[/?#]|$) ) \S*@ )""", re.VERBOSE
)


def without_secret(text: str) -> str:
    """An address, or a text with addresses, without the user and password in them."""
    return _SECRET.sub(r"\1", text)
