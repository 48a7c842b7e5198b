"""README of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """# {model} of {run}

Exported by pres_dist {pres_dist} (torch {torch}) from checkpoint {checkpoint}, which was trained
on {stream}. `manifest.json` has the shape of every tensor and a SHA-256 of every file,
`config.yaml` the configuration of the training.

    from safetensors.torch import load_file
    weights = load_file("weights.safetensors")
"""

_DECODER = """
## link_decoder.pt2

    import torch
    decode = torch.export.load("link_decoder.pt2").module()
    logits = decode(sources=embeddings_of_sources, destinations=embeddings_of_candidates)

Embeddings are those of `pres-dist embed RUN`; the sigmoid of a logit is a probability of
`pres-dist score`.
"""

_LOG = """
The decoder also reads the event log (`model.decoder: history`). A consumer computes `numbers` of
each pair (u, v) at time t from all events strictly before t, never from others of time t itself;
logarithms are natural, times are in the stream's own unit, and the program standardizes the
numbers itself:

"""

_COMMON = """
`common` is the sum of the states of the common neighbors of u and v, each counted once, without u
and v, and `num_common` their number. Of v these are the partners in its last {num_neighbors}
events before t; of u {of_source}. The state of a node
is its memory after the mail (`memory_updater.pt2`) plus `features.weight` times its node features,
where the stream has any.
"""

_UPDATER = """
## memory_updater.pt2

    import torch
    update = torch.export.load("memory_updater.pt2").module()
    memory, last_update = update(**inputs)
"""

_MEMORY = """
`memory.safetensors` holds the inputs of all nodes after the last event that the run knows, so
`update(**load_file("memory.safetensors"))` is the memory of all of them. Row i is the node of
row i in `nodes.parquet`.
"""


def readme(manifest: Mapping[str, Any]) -> str:
    """Return a README that shows how to use the files of an export."""
    about = {**manifest, "stream": manifest["stream"]["name"]}
    parts = [_HEAD.format(**about)]
    for name, text in (("link_decoder.pt2", _DECODER), ("memory_updater.pt2", _UPDATER)):
        program = manifest["programs"].get(name)
        if program is not None:
            parts += [text, "\n", _table(program)]
            if name == "link_decoder.pt2" and manifest["log_numbers"] is not None:
                parts += _log(manifest)
    if "memory.safetensors" in manifest["tensors"]:
        parts.append(_MEMORY)
    return "".join(parts)


def _log(manifest: Mapping[str, Any]) -> list[str]:
    """Describe the inputs of the decoder from the event log."""
    rows = [f"| {name} | {meaning} |\n" for name, meaning in manifest["log_numbers"].items()]
    parts = [_LOG, "| number | |\n|---|---|\n", *rows]
    if "common" in manifest["programs"]["link_decoder.pt2"]["inputs"]:
        num = manifest["num_neighbors"]
        of_source = f"those in its last {num} events"
        if manifest["stream"]["bipartite"]:
            of_source = f"the partners, in their last {num} events, of those in its last {num}"
        parts.append(_COMMON.format(num_neighbors=num, of_source=of_source))
    return parts


def _table(program: Mapping[str, Any]) -> str:
    """Return a Markdown table of the arguments and results of a program."""
    rows = [f"| `{name}` | {text} |\n" for name, text in program["inputs"].items()]
    results = [f"| result {place} | {text} |\n" for place, text in enumerate(program["outputs"], 1)]
    return "".join(["| | |\n|---|---|\n", *rows, *results])
