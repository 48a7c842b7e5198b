"""Loading a configuration: layers, overrides, and every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pres_dist.config.load import dump_yaml, load_config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).splitlines()


def test_no_file_and_no_overrides_give_the_defaults() -> None:
    assert load_config(None) == RunConfig()


def test_the_file_is_laid_over_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "training:\n  batch_size: 100\n"))
    assert config.training.batch_size == 100
    assert config.training.epochs == RunConfig().training.epochs


def test_overrides_are_laid_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "training:\n  batch_size: 100\n  epochs: 9\n")
    config = load_config(path, ["--training.batch-size", "800", "--pres.prediction=False"])
    assert config.training.batch_size == 800
    assert config.training.epochs == 9
    assert config.pres.prediction is False


def test_the_base_holds_where_nothing_else_is_said() -> None:
    base = load_config(None, ["--training.epochs", "7"])
    config = load_config(None, ["--evaluation.batch-size", "50"], base)
    assert (config.training.epochs, config.evaluation.batch_size) == (7, 50)


@pytest.mark.parametrize(
    ("arguments", "section", "field", "value"),
    [
        (["--training.learning-rate", "1e-3"], "training", "learning_rate", 0.001),
        (["--training.learning_rate", "2.5"], "training", "learning_rate", 2.5),
        (["--pres.components", "1"], "pres", "components", 1),
        (["--data.max-events", "None"], "data", "max_events", None),
        (["--data.max-events", "null"], "data", "max_events", None),
        (["--data.stream", "2024"], "data", "stream", "2024"),
        (["--data.stream=a=b"], "data", "stream", "a=b"),
        (["--training.learning-rate-scaling", "none"], "training", "learning_rate_scaling", "none"),
        (["--training.seed", "1", "--training.seed", "2"], "training", "seed", 2),
    ],
)
def test_overrides_become_values(
    arguments: list[str], section: str, field: str, value: object
) -> None:
    assert getattr(getattr(load_config(None, arguments), section), field) == value


def test_every_problem_is_told_at_once_and_with_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: a b\n"
        "data:\n"
        "  max_events: 3\n"
        "  streem: x\n"
        "pres: 5\n"
        "model:\n"
        "  num_heads: 3\n"
        "sampling: {strategy: recnt}\n",
    )
    arguments = ("--training.epochs", "zero", "--training.batchsize", "3", "--pres.clock", "log")
    assert sorted(problems(path, *arguments)) == sorted(
        [
            f"{path}:1: name must be text matching ^[A-Za-z0-9._-]+$, got 'a b'",
            f"{path}:3: data.max_events must be an integer >= 10, or null, got 3",
            f"{path}:4: unknown key data.streem; did you mean `stream`?",
            f"{path}:5: pres must hold `key: value` lines, as it does elsewhere, got 5",
            f"{path}:6: model: embedding_dim must be a multiple of num_heads (3), got 100",
            f"{path}:8: sampling.strategy must be recent | uniform, got 'recnt'",
            "command line: training.epochs must be an integer >= 1, got 'zero'",
            "command line: unknown option --training.batchsize; "
            "did you mean `--training.batch-size`?",
        ]
    )


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("training:\n  batchsize: 1\n", "unknown key training.batchsize; did you mean `batch_siz"),
        ("batch_size: 1\n", "did you mean `training.batch_size`?"),
        ("trainin: {}\n", "did you mean `training`?"),
        ("training:\n  batch-size: 1\n", "did you mean `batch_size`?"),
        ("memory:\n  xyzzy: 1\n", "known: store, dim, mailbox_slots"),
    ],
)
def test_misspelt_keys_get_a_suggestion(tmp_path: Path, text: str, suggestion: str) -> None:
    assert suggestion in problems(write(tmp_path, text))[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "3"], "did you mean `--training.batch-size`?"),
        (["--xyzzy", "3"], "--help lists all"),
        (["--training.seed"], "--training.seed needs a value: integer >= 0"),
        (["--training.seed", "--pres.clock", "log"], "--training.seed needs a value"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_wrong_options_are_told(arguments: list[str], message: str) -> None:
    (problem,) = problems(None, *arguments)
    assert problem.startswith("command line: ")
    assert message in problem


def test_a_key_that_is_set_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "training:\n  epochs: 1\n  seed: 2\n  epochs: 3\n")
    assert problems(path) == [f"{path}:4: training.epochs is already set in line 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  epochs: {a: 1}\n",
            ":2: training.epochs must be an integer >= 1, got {'a': 1}",
        ),
        ("training: 5\n", ":1: training must hold `key: value` lines, got 5"),
        ("training: [1]\n", ":1: training must hold `key: value` lines, got [1]"),
    ],
)
def test_sections_and_values_are_not_mistaken(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    assert problems(path) == [f"{path}{message}"]


def test_a_broken_file_does_not_hide_a_misspelt_option(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    first, second = problems(missing, "--training.batchsize", "3")
    assert first == f"{missing}: no such configuration file"
    assert "did you mean" in second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epochs: [1\nname: x\n", ":3: not valid YAML"),
        ("a: 1\n b: 2\n", ":2: not valid YAML"),
        ("name: 2024-13-45\n", "not valid YAML: month must be in 1..12"),
        ("- 1\n- 2\n", "must hold `key: value` lines, got list"),
        ("[" * 3000, "nested too deeply"),
        ("data: &x {stream: *x}\n", "nested too deeply"),
        ("name: !!python/object:os.system x\n", ":1: not valid YAML"),
        ("name: \x00\n", "not valid YAML"),
    ],
)
def test_broken_yaml_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    (problem,) = problems(path)[:1]
    assert problem.startswith(str(path))
    assert message in problem


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    assert "must be UTF-8" in problems(tmp_path / "binary.yaml")[0]
    assert "cannot be read" in problems(tmp_path)[0]


@pytest.mark.parametrize("text", ["", "# nothing\n", "training:\n", "null\n"])
def test_empty_files_and_sections_change_nothing(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text)) == RunConfig()


def test_extends_lays_a_file_over_another(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", "name: below\ntraining:\n  epochs: 9\n  seed: 1\n")
    path = write(tmp_path, "extends: base/run.yaml\ntraining:\n  seed: 2\n", "top.yaml")
    config = load_config(path)
    assert (config.name, config.training.epochs, config.training.seed) == ("below", 9, 2)


def test_a_problem_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    base = write(tmp_path, "name: x\ntraining:\n  epochs: 0\n", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\n")
    assert problems(path) == [f"{base}:3: training.epochs must be an integer >= 1, got 0"]


def test_extending_in_a_circle_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    assert "extends itself by way of a.yaml -> b.yaml" in problems(tmp_path / "a.yaml")[0]


def test_extends_must_be_a_path(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nextends: [1]\n")
    assert problems(path) == [f"{path}:2: extends must be a path, got [1]"]


@pytest.mark.parametrize("with_help", [False, True])
def test_a_dumped_configuration_loads_back_equal(tmp_path: Path, with_help: bool) -> None:
    arguments = ["--training.weight-decay", "1e-7", "--data.stream", 'null # odd: "name" \u00e9']
    config = load_config(None, [*arguments, "--data.max-events", "50"])
    assert load_config(write(tmp_path, dump_yaml(config, with_help))) == config


def test_the_dump_with_help_tells_what_a_field_is_and_allows() -> None:
    lines = dump_yaml(RunConfig(), with_help=True).splitlines()
    position = next(i for i, line in enumerate(lines) if line.startswith("  batch_size: 3200"))
    assert "Events in a temporal batch" in lines[position - 1]
    assert lines[position].endswith("# integer >= 1 | auto")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    config = load_config(path)
    without = "no_pres" in path.stem
    assert config.preset == ("none" if without else "best")
    assert config.pres.prediction == (config.model.has_memory and not without)


@pytest.mark.parametrize(
    "other",
    [
        "memory.staleness 1",
        "training.events_per_step 200",
        "model.kind tgat",
        "model.message_endpoint embedding",
    ],
)
def test_owners_do_not_update_nodes_with_every_setting(other: str) -> None:
    option, value = other.split()
    arguments = [f"--{option}", value]
    assert load_config(None, arguments).against_owner_updates == other
    (problem,) = problems(None, *arguments, "--memory.update", "owner")
    assert f"memory.update must be auto or reader with {other}, got owner" in problem
    assert load_config(None, ["--memory.update", "owner"]).against_owner_updates is None


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("training.seed", str(2**63), "must be an integer >= 0 and < 9223372036854775808"),
        ("data.split_seed", str(2**64), "must be an integer >= 0"),
        ("evaluation.seed", "1" + "0" * 30, "must be an integer >= 0"),
        ("training.learning_rate", "1e300", "must be a number > 0 and <= 1e+30"),
        ("training.num_threads", "100000", "must be an integer >= 0 and <= 1024"),
        ("parallel.timeout_s", "1e300", "must be a number > 0"),
        ("memory.dim", "100000000000", "must be an integer >= 1 and <= 1000000"),
        ("memory.mailbox_slots", "1" + "0" * 30, "must be an integer >= 1"),
        ("model.time_dim", "1" + "0" * 30, "must be an integer >= 1"),
        ("model.embedding_dim", "1" + "0" * 30, "must be an integer >= 1"),
        ("sampling.num_neighbors", "1" + "0" * 30, "must be an integer >= 1"),
        ("sampling.num_negatives", "1" + "0" * 30, "must be an integer >= 1"),
        ("evaluation.num_negatives", "1" + "0" * 30, "must be an integer >= 1"),
        ("parallel.slices", "3201", "must be at most training.batch_size (3200), got 3201"),
        ("data.max_events", "", "must be an integer >= 10, or null, got ''"),
        ("parallel.slices", " ", "must be an integer >= 1, or null, got ' '"),
    ],
)
def test_numbers_that_no_tensor_can_hold_are_refused(setting: str, value: str, told: str) -> None:
    (problem,) = problems(None, f"--{setting}", value)
    assert f"{setting} {told}" in problem
