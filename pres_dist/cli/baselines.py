"""`pres-dist baselines CONFIG`."""

from __future__ import annotations

import json
from typing import Annotated

from pres_dist.cli.options import Argument, ConfigOptions, parse_with_settings
from pres_dist.config.load import load_config
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import RECORD, read_record
from pres_dist.run_files import CONFIG


class BaselinesOptions(ConfigOptions):
    """Score EdgeBank and popularity, which learn nothing and which a model must beat.

    They are scored on the validation and test events of a configuration's stream.
    """

    as_json: Annotated[bool, Argument(name="--json")] = False
    """Print JSON instead of tables."""


def main(argv: list[str]) -> int:
    """Score EdgeBank and popularity on a stream, among every kind of negatives."""
    sections = ("data", "evaluation")
    options, settings = parse_with_settings("baselines", BaselinesOptions, argv, sections)
    file = options.config
    config = load_config(file, settings)

    from pres_dist.report.result_tables import aligned, comparison_rows
    from pres_dist.training.evaluate_run import stream_baselines

    stream = None
    of_run = file.name == CONFIG and (file.parent / RECORD).exists()
    if of_run and config.data.stream == read_config(file.parent).data.stream:
        stream = read_record(file.parent).stream  # its events must be the same as then
    results = stream_baselines(config, stream)
    if options.as_json:
        print(json.dumps(results, indent=1))
        return 0
    for split in ("validation", "test"):
        print("\n".join(aligned(comparison_rows(results, split))))
    seconds = ", ".join(f"{kind} {of['seconds']:.1f}" for kind, of in results.items())
    print(f"MRR among {results['random']['num_negatives']} negatives; seconds: {seconds}")
    return 0
