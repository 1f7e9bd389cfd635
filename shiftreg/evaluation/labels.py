"""Which of a classifier's labels a prompt names, however their words are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_JOINTS = re.compile(r"[\s_-]+")
_INNER_CAPITAL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")


def named_labels(prompts: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """A classifier's label of each prompt: the one that it is, or the only one that it mentions.

    Case does not count, nor how a name's words are joined: "VanGogh", "van-gogh" and "Van Gogh" are
    one. They must be whole words still: "an engine" does not name "Eng".

    Returns:
        Prompt -> label; prompts that name none, or several, are omitted.
    """
    joined = {label: _joined(label) for label in labels}
    found = ((prompt, _named(prompt, joined)) for prompt in dict.fromkeys(prompts))
    return {prompt: label for prompt, label in found if label}


def _named(prompt: str, joined: Mapping[str, str]) -> str:
    text = _joined(prompt)
    if len(same := [label for label, name in joined.items() if name == text]) == 1:
        return same[0]
    # First as a part of the text: to look for each of a thousand labels as words takes far longer.
    found = [label for label, name in joined.items() if name in text and _mentions(prompt, label)]
    return found[0] if len(found) == 1 else ""


def _joined(text: str) -> str:
    return _JOINTS.sub("", text).casefold()


def _mentions(prompt: str, label: str) -> bool:
    """Whether the label's words stand in a prompt, one after the other, joined or apart."""
    # Only where the label itself shows that there are two words: "the rapist" is no "therapist".
    words = _INNER_CAPITAL.sub(" ", _JOINTS.sub(" ", label)).split()
    name = r"[\s_-]*".join(map(re.escape, words))
    return bool(name and re.search(rf"(?<!\w){name}(?!\w)", prompt, flags=re.IGNORECASE))
