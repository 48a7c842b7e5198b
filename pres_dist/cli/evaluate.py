"""`pres-dist evaluate RUN`."""

from __future__ import annotations

from pathlib import Path

from pres_dist.config.load import load_config
from pres_dist.config.options import OptionParser, add_overrides, normalised
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.report.run_folder import read_config

SECTION = "evaluation"


def main(argv: list[str]) -> int:
    """Evaluate a trained run with its own evaluation settings, or with others."""
    arguments, unknown = _parser().parse_known_args(normalised(argv))
    if unknown:
        raise ConfigError(
            f"command line: evaluate takes only --{SECTION}.* options "
            f"(pres-dist evaluate --help lists them), got {unknown[0]!r}"
        )
    base = read_config(arguments.run)
    config = load_config(None, arguments.overrides or [], base)

    from pres_dist.evaluation.run import evaluate_run
    from pres_dist.report.progress import make_progress

    make_progress().results(evaluate_run(arguments.run, config.evaluation))
    return 0


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="pres-dist evaluate",
        usage=f"pres-dist evaluate RUN [--{SECTION}.FIELD VALUE ...]",
        description="Evaluate a trained run; the run's own settings hold where none is given.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    add_overrides(parser, RunConfig, sections=[SECTION])
    return parser
