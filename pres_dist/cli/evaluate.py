"""`pres-dist evaluate RUN`."""

from __future__ import annotations

from pres_dist.cli.use_options import add_stream
from pres_dist.config.load import load_config
from pres_dist.config.options import OptionParser, add_overrides, normalized
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.files import user_path
from pres_dist.report.run_folder import read_config

SECTION = "evaluation"


def main(argv: list[str]) -> int:
    """Evaluate a trained run with its own evaluation settings, or with others."""
    arguments, unknown = _parser().parse_known_args(normalized(argv))
    if unknown:
        raise ConfigError(
            f"command line: evaluate takes only --{SECTION}.* options "
            f"(pres-dist evaluate --help lists them), got {unknown[0]!r}"
        )
    base = read_config(arguments.run)
    config = load_config(None, arguments.overrides or [], base)

    from pres_dist.report.comparison import aligned, comparison_rows
    from pres_dist.report.progress import make_progress
    from pres_dist.report.shortcomings import shortcomings
    from pres_dist.training.evaluate_run import evaluate_negatives, evaluate_run

    progress = make_progress()
    if not arguments.all_negatives:
        progress.results(evaluate_run(arguments.run, config.evaluation, arguments.stream))
        return 0
    by_kind = evaluate_negatives(arguments.run, config.evaluation, arguments.stream)
    for part in ("validation", "test"):
        for line in aligned(comparison_rows(by_kind, part)):
            progress.note(line)
    for kind, results in by_kind.items():
        for line in shortcomings(results):
            progress.note(f"{kind} negatives: {line}")
    return 0


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist evaluate",
        usage="pres-dist evaluate RUN [--all-negatives] [--data.stream DIR] "
        f"[--{SECTION}.FIELD VALUE ...]",
        description="Evaluate a trained run; the run's own settings hold where none is given.",
    )
    parser.add_argument("run", metavar="RUN", type=user_path, help="folder of the run")
    parser.add_argument(
        "--all-negatives",
        action="store_true",
        help="evaluate among random, historical and inductive negatives (and TGB's, where the "
        "stream has them), in one table",
    )
    add_stream(parser)
    add_overrides(parser, RunConfig, sections=[SECTION])
    return parser
