"""Export of a trained run to a folder that other software can read without this package.

weights.safetensors     all weights, as `state_dict` names them
link_decoder.pt2        torch.export program: embeddings -> logits
memory_updater.pt2      torch.export program: memory and mail -> memory
memory.safetensors      optional: inputs of memory_updater for all nodes
nodes.parquet           optional: id of the node of each row of memory.safetensors
config.yaml             configuration of the run
manifest.json           contents and hashes of the files
README.md               how to use the files
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pres_dist.config.load import dump_yaml
from pres_dist.errors import ConfigError, MissingPackageError
from pres_dist.files import new_folder, sha256
from pres_dist.inference.export.programs import (
    Program,
    link_decoder,
    memory_updater,
    updater_inputs,
)
from pres_dist.inference.export.readme import readme
from pres_dist.inference.live import LiveRun
from pres_dist.inference.walker import Report, quiet
from pres_dist.report.run_folder import read_config
from pres_dist.run_files import CONFIG
from pres_dist.sampling.event_log import numbers_of
from pres_dist.version import __version__

WEIGHTS, MEMORY, NODES = "weights.safetensors", "memory.safetensors", "nodes.parquet"
DECODER, UPDATER = "link_decoder.pt2", "memory_updater.pt2"
MANIFEST, README = "manifest.json", "README.md"
FORMAT = 1


def export_run(
    run_dir: Path,
    out: Path,
    memory: bool = False,
    report: Report = quiet,
    stream: Path | None = None,
) -> Path:
    """Write the best epoch of a run as files for other software.

    Args:
        run_dir: folder of the run.
        out: new folder, written atomically.
        memory: also export the memory of all nodes after the last event of the run.
        report: progress callback that counts the events that memory has seen.
        stream: current path of the run's stream; None if it was not moved.

    Raises:
        ConfigError: `run_dir` is not a run folder, `out` exists or cannot be written, `memory` is
            set and the model has none, or safetensors is not installed.
        CheckpointError: there is no usable checkpoint.
    """
    config = read_config(run_dir)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise MissingPackageError("export", "safetensors", "export") from None
    if memory and not config.model.has_memory:
        raise ConfigError(f"--memory: model.kind {config.model.kind} has no memory")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: already exists: an export is written to a new folder")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: cannot be written: there is no folder {out.parent}")
    live = LiveRun(run_dir, device="cpu", stream=stream)  # programs are traced for the CPU
    try:
        with new_folder(out) as folder:
            (folder / CONFIG).write_text(dump_yaml(config), encoding="utf-8")
            programs = {}
            if live.scores_links:
                programs[DECODER] = link_decoder(live.model, live.config.model.embedding_dim)
            if live.model.updater is not None:
                programs[UPDATER] = memory_updater(live.pipeline)
            for name, program in programs.items():
                # On a full disk torch's own file writer aborts the process.
                content = io.BytesIO()
                torch.export.save(program.program, content)
                (folder / name).write_bytes(content.getvalue())
            tensors = {WEIGHTS: dict(live.model.state_dict())}
            if memory:
                live.move_to(live.stream.num_events, report)
                nodes = torch.arange(live.stream.num_nodes)
                tensors[MEMORY] = updater_inputs(live.pipeline, nodes, torch.tensor(live.latest))
                columns = {"id": pa.array(live.stream.raw_ids(nodes.numpy()))}
                sides = live.lookup.side_of(nodes.numpy())
                if sides is not None:
                    columns["side"] = pa.array(sides)
                pq.write_table(pa.table(columns), folder / NODES)
            for name, table in tensors.items():
                # safetensors rejects shared storage: clone, so shared weights are in the file
                # twice.
                whole = {key: one.detach().contiguous().clone() for key, one in table.items()}
                save_file(whole, folder / name, metadata={"pres_dist.version": __version__})
            manifest = _manifest(live, programs, tensors)
            (folder / README).write_text(readme(manifest), encoding="utf-8")
            manifest["files"] = {
                file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
                for file in sorted(folder.iterdir())
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{out}: cannot be written: {reason}") from None
    return out


def _manifest(
    live: LiveRun,
    programs: Mapping[str, Program],
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, Any]:
    stream, log, scaling = live.stream, live.pipeline.log, live.pipeline.tables.edge_scaling
    return {
        "format": FORMAT,
        "pres_dist": __version__,
        "torch": torch.__version__,
        "run": live.run_dir.absolute().name,
        "checkpoint": live.checkpoint,
        "model": live.config.model.kind,
        "stream": {
            "name": stream.name,
            "num_events": stream.num_events,
            "num_nodes": stream.num_nodes,
            "edge_dim": stream.edge_dim,
            "node_dim": stream.node_dim,
            "bipartite": stream.bipartite,
            "time_unit": stream.metadata.get("time_unit"),
        },
        "feature_scaling": scaling
        and {name: part.tolist() for name, part in zip(("scale", "shift"), scaling, strict=True)},
        "num_neighbors": live.config.sampling.num_neighbors,
        "log_numbers": None if log is None else numbers_of(log.bipartite),
        "programs": {
            name: {"inputs": dict(program.inputs), "outputs": list(program.outputs)}
            for name, program in programs.items()
        },
        "tensors": {
            file: {
                name: {"dtype": str(one.dtype).removeprefix("torch."), "shape": list(one.shape)}
                for name, one in table.items()
            }
            for file, table in tensors.items()
        },
    }
