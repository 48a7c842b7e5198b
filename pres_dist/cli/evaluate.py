"""`pres-dist evaluate RUN`."""

from __future__ import annotations

from pres_dist.cli.options import RunOptions, parse_with_settings
from pres_dist.config.load import load_config
from pres_dist.errors import ConfigError
from pres_dist.report.run_folder import read_config


class EvaluateOptions(RunOptions):
    """Evaluate a trained run with its own evaluation settings, or with others."""

    all_negatives: bool = False
    """Evaluate among random, historical and inductive negatives (and TGB's, if the stream has
    them), in one table."""


def main(argv: list[str]) -> int:
    """Evaluate a trained run with its own evaluation settings, or with others."""
    options, settings = parse_with_settings("evaluate", EvaluateOptions, argv, ["evaluation"])
    for setting in settings:
        if not setting.startswith("--evaluation."):
            raise ConfigError(
                "command line: evaluate takes only --evaluation.* options "
                f"(pres-dist evaluate --help lists them), got {setting!r}"
            )
    config = load_config(None, settings, read_config(options.run))

    from pres_dist.report.progress import make_progress
    from pres_dist.report.result_tables import aligned, comparison_rows, shortcomings
    from pres_dist.training.evaluate_run import evaluate_negatives, evaluate_run

    progress = make_progress()
    if not options.all_negatives:
        progress.results(evaluate_run(options.run, config.evaluation, options.stream))
        return 0
    by_kind = evaluate_negatives(options.run, config.evaluation, options.stream)
    for split in ("validation", "test"):
        for line in aligned(comparison_rows(by_kind, split)):
            progress.note(line)
    for kind, results in by_kind.items():
        for line in shortcomings(results):
            progress.note(f"{kind} negatives: {line}")
    return 0
