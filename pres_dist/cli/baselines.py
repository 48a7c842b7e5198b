"""`pres-dist baselines CONFIG`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pres_dist.config.load import load_config
from pres_dist.config.options import OptionParser, add_overrides, normalized
from pres_dist.config.run import RunConfig
from pres_dist.files import user_path
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import RECORD, read_record
from pres_dist.run_files import CONFIG

SECTIONS = ["data", "evaluation"]


def main(argv: list[str]) -> int:
    """Score EdgeBank and popularity on a stream, among every kind of negatives."""
    arguments, unknown = _parser().parse_known_args(normalized(argv))
    config = load_config(arguments.config, [*(arguments.overrides or []), *unknown])

    from pres_dist.report.comparison import aligned, comparison_rows
    from pres_dist.training.baselines_alone import stream_baselines

    results = stream_baselines(config, _stream_of_run(arguments.config, config))
    if arguments.json:
        print(json.dumps(results, indent=1))
        return 0
    for part in ("validation", "test"):
        print("\n".join(aligned(comparison_rows(results, part))))
    seconds = ", ".join(f"{kind} {of['seconds']:.1f}" for kind, of in results.items())
    print(f"MRR among {results['random']['num_negatives']} negatives; seconds: {seconds}")
    return 0


def _stream_of_run(file: Path, config: RunConfig) -> dict[str, Any] | None:
    """Return the stream identity of the run that this configuration belongs to, or None."""
    if file.name != CONFIG or not (file.parent / RECORD).exists():
        return None
    if config.data.stream != read_config(file.parent).data.stream:  # overridden by an option
        return None
    return read_record(file.parent).stream


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist baselines",
        usage="pres-dist baselines CONFIG [--json] [--SECTION.FIELD VALUE ...]",
        description="What a model must beat: EdgeBank and popularity, nothing learned, on the "
        "validation and test events of a configuration's stream.",
    )
    parser.add_argument("config", metavar="CONFIG", type=user_path, help="YAML configuration file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_overrides(parser, RunConfig, sections=SECTIONS)
    return parser
