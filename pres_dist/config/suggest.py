"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from pydantic import BaseModel

from pres_dist.config.fields import KeyPath, leaves, section_at


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `did you mean ...?` for a misspelt name, or the list of known names."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"


def suggest_key(model: type[BaseModel], path: KeyPath) -> str:
    """Suggest an existing key for one that `model` does not have.

    The key's own section is searched first, then the others.
    """
    section = section_at(model, path[:-1]) or model
    siblings = list(section.model_fields)
    if not get_close_matches(path[-1], siblings):
        # If several sections have a field of that name, the first one wins.
        elsewhere = {leaf.path[-1]: leaf.key for leaf in reversed(list(leaves(model)))}
        close = get_close_matches(path[-1], elsewhere, n=1, cutoff=0.8)
        if close:
            return f"did you mean `{elsewhere[close[0]]}`?"
    return suggest(path[-1], siblings)
