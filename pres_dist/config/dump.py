"""Dump a configuration as YAML that loads back to an equal one."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from pres_dist.config.fields import Leaf, section_model

WIDTH = 96
INDENT = "  "


def dump_yaml(config: BaseModel, with_help: bool = False) -> str:
    """Return every field of `config` as YAML, defaults included, in the order of definition.

    Args:
        config: Configuration to dump.
        with_help: Add comments: each field's docstring above it, its allowed values after it.
    """
    return "\n".join(_lines(config, "", with_help)) + "\n"


def _lines(config: BaseModel, indent: str, with_help: bool) -> list[str]:
    lines = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if section_model(field) is not None:
            if with_help:
                lines += ["", *_comment(" ".join((type(value).__doc__ or "").split()), indent)]
            lines += [f"{indent}{name}:", *_lines(value, indent + INDENT, with_help)]
            continue
        leaf = Leaf((name,), field)
        allowed = f"  # {leaf.allowed}" if with_help else ""
        lines += _comment(leaf.help, indent) if with_help else []
        lines.append(f"{indent}{name}: {scalar(value)}{allowed}")
    return lines


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def scalar(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
