"""Command-line options as fields of a class: docstrings are the help, types check the values.

A command defines a class of options, which may inherit options that it shares with others.
"""

from __future__ import annotations

import inspect
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from pres_dist.config.base import Config
from pres_dist.config.fields import Leaf, leaves, with_article
from pres_dist.config.options import COMMAND_LINE, OptionParser, add_overrides, normalized, option
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.events.import_config import delimiter_of
from pres_dist.files import local_path, user_path

if TYPE_CHECKING:
    from pres_dist.inference.live import LiveRun
    from pres_dist.inference.sharing import Share

Options = TypeVar("Options", bound=Config)
Item = TypeVar("Item")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _distinct(values: list[Item]) -> list[Item]:
    if len(set(values)) < len(values):
        raise ValueError("must name each value once")
    return values


def _output_file(text: str | Path) -> Path:
    """Return a path to write to, checked before the work whose result it receives."""
    path = user_path(text)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: the folder to write to does not exist")
    if path.is_dir():
        raise ConfigError(f"{path}: must be a file to write, got a folder")
    return path


UserPath = Annotated[Path, BeforeValidator(user_path)]
OutputFile = Annotated[Path, BeforeValidator(_output_file)]
LocalPath = Annotated[Path, BeforeValidator(local_path)]
Listed = Annotated[list[Item], BeforeValidator(_split), AfterValidator(_distinct)]
"""Distinct values, separated by commas."""
Side = Literal["source", "destination"] | None


@dataclass(frozen=True)
class Argument:
    """Form of a field on the command line.

    Attributes:
        metavar: placeholder of the value.
        name: name of the option; that of the field if empty.
        positional: True for an argument without a name.
        many: True if several values may be given.
        exclusive: name of a group of options, of which only one may be given.
    """

    metavar: str = ""
    name: str = ""
    positional: bool = False
    many: bool = False
    exclusive: str = ""


class ConfigOptions(Config):
    """The configuration of a command that trains."""

    config: Annotated[UserPath, Argument("CONFIG", positional=True)]
    """YAML configuration file."""


class RunOptions(Config):
    """The run of a command that uses a trained one."""

    run: Annotated[UserPath, Argument("RUN", positional=True)]
    """Folder of the run."""
    stream: Annotated[UserPath | None, Argument("DIR", name="--data.stream")] = None
    """Current folder of the run's stream, if it was moved; its events must be the same."""


class ColumnOptions(Config):
    """The columns of a file of events or pairs."""

    src: Annotated[str, Argument("COLUMN")] = "src"
    """Column of sources."""
    dst: Annotated[str, Argument("COLUMN")] = "dst"
    """Column of destinations."""
    time: Annotated[str, Argument("COLUMN")] = "t"
    """Column of times."""
    delimiter: Annotated[Annotated[str, BeforeValidator(delimiter_of)] | None, Argument("CHAR")] = (
        None
    )
    """Column separator of a CSV file: a character, tab or space; comma or tab when unset."""


class BenchOptions(Config):
    """The runs of a benchmark."""

    out: Annotated[UserPath | None, Argument("DIR")] = None
    """Folder of the benchmark; runs/bench-NAME or runs/scaling-NAME when unset."""
    dry_run: bool = False
    """List the runs and how far each is, and run nothing."""
    report_only: bool = False
    """Run nothing, and write the report of the runs that exist."""


class AheadOptions(Config):
    """The bound on the times of new events."""

    max_ahead: Annotated[str, Argument("TIME")] = "auto"
    """Longest time from the run's last event to the next: a number in the unit of the input,
    90d, 12h, 30m, 45s, 500ms, or none. auto allows 100 times the length of the stream; if the
    unit is known, also at least a year, until tomorrow, and nothing after the year 9999."""


class TimeOptions(Config):
    """The point in time of a computation."""

    at: Annotated[str | None, Argument("TIME", exclusive="time")] = None
    """Use only events strictly before this time: a number as in the imported file (before
    --time-scale), or an ISO 8601 time if the stream has a known unit."""
    latest: Annotated[bool, Argument(exclusive="time")] = False
    """Use all events of the stream, which is the default."""
    replay: bool = False
    """Rebuild the memory from the first event with the final weights. This allows any time, and
    costs accuracy."""

    def chosen_time(self, live: LiveRun) -> int:
        """Return the time that the options select; raise DataError if the run has none such."""
        from pres_dist.inference.times import time_of

        if self.at is None:
            return live.latest
        t = time_of(live.stream, self.at, "--at")
        live.check_time(t, "--at")
        return t


class WorkerOptions(Config):
    """The workers that share a computation."""

    workers: int = Field(1, ge=1)
    """Number of processes that share the work; the result has the same bits for any number."""
    address: Annotated[str | None, Argument("HOST:PORT")] = None
    """Use actors of this Ray cluster as workers; auto finds the cluster of this machine."""

    @model_validator(mode="after")
    def _several_workers_in_a_cluster(self) -> WorkerOptions:
        if self.workers == 1 and self.address is not None:
            raise ConfigError(f"{COMMAND_LINE}: --address needs --workers 2 or more, got 1")
        return self

    @contextmanager
    def sharing(self, live: LiveRun) -> Iterator[Share]:
        """Yield the workers: this process alone, several processes, or Ray actors."""
        from pres_dist.inference.processes import Processes
        from pres_dist.inference.sharing import Alone

        if self.workers == 1:
            yield Alone(live)
        elif self.address is None:
            with Processes(live, self.workers) as processes:
                yield processes
        else:
            from pres_dist.inference.ray_actors import actors

            with actors(live, self.workers, self.address) as share:
                yield share


def parse(command: str, options: type[Options], argv: Sequence[str]) -> Options:
    """Parse the arguments of a command.

    Args:
        command: name of the command.
        options: its options; the docstring of the class is the description in `--help`.
        argv: arguments after the name.

    Raises:
        ConfigError: an argument is unknown, missing or invalid.
    """
    return _validated(options, _parser(command, options).parse_intermixed_args(normalized(argv)))


def check_partner(options: Config, names: Sequence[str], partner: str) -> None:
    """Raise ConfigError for a given option of `names` that has no effect without `partner`."""
    given = options.model_fields_set
    for name in names:
        if name in given and partner not in given:
            raise ConfigError(
                f"{COMMAND_LINE}: {option(name)} is for {option(partner)}, which is not given"
            )


def parse_with_settings(
    command: str, options: type[Options], argv: Sequence[str], sections: Sequence[str] = ()
) -> tuple[Options, list[str]]:
    """Parse the arguments of a command that also accepts settings of a run.

    Args:
        command: name of the command.
        options: its own options, as in `parse`.
        argv: arguments after the name.
        sections: sections of the settings in `--help`; all if empty.

    Returns:
        The options, and the settings for `load_config`, which reports unknown arguments too.
    """
    parser = _parser(command, options, " [--SECTION.FIELD VALUE ...]")
    add_overrides(parser, RunConfig, sections)
    arguments, unknown = parser.parse_known_args(normalized(argv))
    return _validated(options, arguments), [*(arguments.overrides or []), *unknown]


def run_subcommand(
    group: str,
    description: str,
    commands: Mapping[str, Callable[[list[str]], int]],
    argv: Sequence[str],
) -> int:
    """Run a command of a group such as `pres-dist data`; its docstring is its summary."""
    parser = OptionParser(prog=f"pres-dist {group}", description=description)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in commands.items():
        summary = (inspect.getdoc(command) or "").split("\n")[0].rstrip(".")
        subparser = subparsers.add_parser(name, help=summary[:1].lower() + summary[1:])
        subparser.set_defaults(command=command)
    code: int = parser.parse_args(argv[:1]).command([*argv[1:]])
    return code


def _parser(command: str, options: type[Config], more: str = "") -> OptionParser:
    positional = [leaf for leaf in leaves(options) if _form(leaf).positional]
    # Pydantic lists inherited fields first. In `--help`, a command's own options come first.
    owners = [inspect.get_annotations(owner) for owner in options.__mro__]
    ranks = {name: rank for rank, names in reversed([*enumerate(owners)]) for name in names}
    named = [leaf for leaf in leaves(options) if leaf not in positional]
    named.sort(key=lambda leaf: ranks[leaf.key])
    words = [f"pres-dist {command}"]
    for leaf in positional:
        name = _metavar(leaf) + (" ..." if _form(leaf).many else "")
        words.append(name if leaf.field.is_required() else f"[{name}]")
    words += [f"{_name(leaf)} {_metavar(leaf)}" for leaf in named if leaf.field.is_required()]
    usage = f"{' '.join(words)} [OPTIONS]{more}"
    parser = OptionParser(prog=words[0], usage=usage, description=inspect.getdoc(options))
    exclusive: dict[str, Any] = {}
    for leaf in [*positional, *named]:
        form, required = _form(leaf), leaf.field.is_required()
        settings: dict[str, Any] = {"default": SUPPRESS, "help": _help(leaf).replace("%", "%%")}
        if leaf.field.annotation is bool:
            settings["action"] = "store_true"
        else:
            settings["metavar"] = _metavar(leaf)
        if form.positional:
            nargs = "+" if form.many else None if required else "?"
            parser.add_argument(leaf.key, nargs=nargs, **settings)
            continue
        if form.many:
            settings["action"] = "append"
        target: Any = parser
        if form.exclusive:
            if form.exclusive not in exclusive:
                exclusive[form.exclusive] = parser.add_mutually_exclusive_group()
            target = exclusive[form.exclusive]
        target.add_argument(_name(leaf), dest=leaf.key, required=required, **settings)
    return parser


def _form(leaf: Leaf) -> Argument:
    return next((part for part in leaf.field.metadata if isinstance(part, Argument)), Argument())


def _name(leaf: Leaf) -> str:
    return _form(leaf).name or option(leaf.key)


def _shown_name(leaf: Leaf) -> str:
    return _metavar(leaf) if _form(leaf).positional else _name(leaf)


def _metavar(leaf: Leaf) -> str:
    kind = _allowed(leaf).split()[0]
    return _form(leaf).metavar or {"integer": "N", "Path": "PATH"}.get(kind, "VALUE")


def _allowed(leaf: Leaf) -> str:
    """Describe the allowed values of a field, or of each item of a list."""
    return leaf.allowed.removesuffix(", or null").removeprefix("list of ")


def _help(leaf: Leaf) -> str:
    """Return the help text of a field: its docstring, allowed values and default."""
    if leaf.field.is_required() or leaf.field.annotation is bool:
        return leaf.help
    default = leaf.field.get_default(call_default_factory=True)
    notes = [] if _allowed(leaf) in ("Path", "text") else [_allowed(leaf)]
    if default not in (None, "", []):
        listed = isinstance(default, list)
        notes.append(f"default {','.join(map(str, default)) if listed else default}")
    return f"{leaf.help} ({'; '.join(notes)})" if notes else leaf.help


def _validated(options: type[Options], arguments: Namespace) -> Options:
    given = {name: value for name, value in vars(arguments).items() if name in options.model_fields}
    for leaf in leaves(options):
        if "Path" in leaf.allowed and given.get(leaf.key) == "":
            # `Path("")` is the current folder; more likely a shell variable is not set.
            raise ConfigError(f"{COMMAND_LINE}: {_shown_name(leaf)} must be a path, got ''")
    try:
        return options(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        leaf = next(leaf for leaf in leaves(options) if leaf.key == first["loc"][0])
        allowed = _allowed(leaf)
        rule = f"must be {with_article(allowed)}"
        if first["type"] == "value_error":  # a validator's own rule
            rule = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(
            f"{COMMAND_LINE}: {_shown_name(leaf)} {rule}, got {first['input']!r}"
        ) from None
