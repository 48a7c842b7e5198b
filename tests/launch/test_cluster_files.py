"""The files of launch/ that other programs read: Ray's cluster launcher and KubeRay."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
Check = Callable[[Any], bool]


@pytest.fixture(params=["ray-aws.yaml", "ray-gcp.yaml"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "launch" / request.param).read_text())
    return loaded


def _documents(name: str) -> dict[str, dict[str, Any]]:
    loaded = list(yaml.safe_load_all((ROOT / "launch" / name).read_text()))
    return {document["kind"]: document for document in loaded}


@pytest.fixture
def documents() -> dict[str, dict[str, Any]]:
    """RayJob and NetworkPolicy by their kinds."""
    return _documents("rayjob.yaml")


# --- Ray's cluster launcher ---------------------------------------------------------------


def _check_cluster(cluster: dict[str, Any]) -> dict[str, Any]:
    """Validate the file as `ray up` does before it asks the provider for machines."""
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared: dict[str, Any] = util.prepare_config(copy.deepcopy(cluster))
    util.validate_config(prepared)
    return prepared


def test_the_cluster_fits_rays_schema(cluster: dict[str, Any]) -> None:
    prepared = _check_cluster(cluster)
    assert prepared["head_start_ray_commands"] == cluster["head_start_ray_commands"]


def test_the_schema_refuses_a_misspelt_field(cluster: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    cluster["available_node_types"]["worker"]["min_worker"] = 1
    with pytest.raises(jsonschema.ValidationError):
        _check_cluster(cluster)


def test_the_provider_for_machines_of_ones_own_fits_too() -> None:
    """The provider at the end of the file, in a comment, with what it says to leave out."""
    text = (ROOT / "launch/ray-aws.yaml").read_text()
    cluster = yaml.safe_load(text)
    comment = text[text.index("# provider:") :]
    own = yaml.safe_load(re.sub(r"^# ?", "", comment, flags=re.MULTILINE))
    left_out = ("available_node_types", "head_node_type", "head_setup_commands", "max_workers")
    kept = {name: value for name, value in cluster.items() if name not in left_out}
    prepared = _check_cluster(kept | own)
    assert prepared["max_workers"] == 2


def test_every_machine_has_the_token_before_ray_starts(cluster: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in cluster["file_mounts"].values()
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in cluster[name] if "ray start" in line]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
    assert any("RAY_AUTH_MODE=token" in line for line in cluster["initialization_commands"])


def test_the_dashboard_of_the_cluster_is_on_loopback(cluster: dict[str, Any]) -> None:
    (start,) = (line for line in cluster["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in start


def test_commands_for_the_machines_are_valid_bash(cluster: dict[str, Any]) -> None:
    commands = [line for name, lines in cluster.items() if "commands" in name for line in lines]
    assert len(commands) >= 10
    for command in commands:
        result = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert result.returncode == 0, f"{command}: {result.stderr}"


# --- KubeRay ------------------------------------------------------------------------------


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _strings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())


def _one_of(*allowed: str) -> Check:
    return lambda value: value in allowed


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


@pytest.mark.parametrize("name", ["ray-aws.yaml", "ray-gcp.yaml"])
def test_the_command_at_the_top_fills_in_what_is_to_be_replaced(name: str) -> None:
    text = (ROOT / "launch" / name).read_text()
    replaced = set(re.findall(r"-e \"s/([a-z]+-REPLACE)/\$[A-Z]+/\"", text))
    _, _, settings = text.partition("\ncluster_name:")
    assert set(re.findall(r"[a-z]+-REPLACE", settings)) == replaced
    assert replaced


def test_no_token_is_in_any_file() -> None:
    """Ray's tokens are 64 hexadecimal digits."""
    for path in (ROOT / "launch").iterdir():
        assert not re.search(r"[0-9a-f]{32}", path.read_text()), path.name
        assert not re.search(r"RAY_AUTH_TOKEN[=:]", path.read_text()), path.name


def test_the_machines_have_a_python_that_is_new_enough() -> None:
    """Ray's own choice of image on AWS is of Ubuntu 18.04."""
    aws, gcp = (
        yaml.safe_load((ROOT / "launch" / name).read_text())["available_node_types"]
        for name in ("ray-aws.yaml", "ray-gcp.yaml")
    )
    assert {kind["node_config"]["ImageId"] for kind in aws.values()} == {"ami-REPLACE"}
    images = {
        disk["initializeParams"]["sourceImage"]
        for kind in gcp.values()
        for disk in kind["node_config"]["disks"]
    }
    (image,) = images
    assert image.endswith("ubuntu-2404-lts-amd64")


def _version(value: Any) -> bool:
    """Check for Ray 2.52 or newer, as text, which authOptions need."""
    return isinstance(value, str) and tuple(map(int, value.split("."))) >= (2, 52, 0)


POD = {
    "!metadata": {"!labels": _strings},
    "!spec": {
        "!containers": [{"!name": _text, "!image": _text, "...": _text}],
        "restartPolicy": _one_of("Always", "OnFailure", "Never"),
        "volumes": [{"!name": _text, "...": _text}],
    },
}
# The fields that these files may use of what KubeRay defines; `!` marks those they must have.
CLUSTER_SPEC = {
    "!rayVersion": _version,
    "!authOptions": {"!mode": _one_of("token")},
    "!headGroupSpec": {
        "!rayStartParams": _strings,
        "!template": POD,
        "serviceType": _one_of("ClusterIP"),
        "enableIngress": _one_of(False),  # type: ignore[arg-type]
    },
    "!workerGroupSpecs": [
        {
            "!groupName": _text,
            "!replicas": _whole,
            "!minReplicas": _whole,
            "!maxReplicas": _whole,
            "!rayStartParams": _strings,
            "!template": POD,
        }
    ],
}
RAY_CLUSTER = {
    "!apiVersion": _one_of("ray.io/v1"),
    "!kind": _one_of("RayCluster"),
    "!metadata": {"!name": _text},
    "!spec": CLUSTER_SPEC,
}
RAY_JOB = {
    "!apiVersion": _one_of("ray.io/v1"),
    "!kind": _one_of("RayJob"),
    "!metadata": {"!name": _text},
    "!spec": {
        "!entrypoint": _text,
        "submissionMode": _one_of("K8sJobMode", "HTTPMode", "SidecarMode"),
        "backoffLimit": _whole,
        "shutdownAfterJobFinishes": _flag,
        "ttlSecondsAfterFinished": _whole,
        "activeDeadlineSeconds": _whole,
        "submitterPodTemplate": POD,
        "!rayClusterSpec": CLUSTER_SPEC,
    },
}


def _faults(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """Yield the places where a document does not have the required shape."""
    if callable(shape):
        if not shape(value):
            yield f"{where}: not allowed: {value!r}"
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            yield f"{where}: must be a list that is not empty"
            return
        for number, inner in enumerate(value):
            yield from _faults(inner, shape[0], f"{where}[{number}]")
    elif not isinstance(value, dict):
        yield f"{where}: must be a mapping"
    else:
        yield from _faults_of_mapping(value, shape, where)


def _faults_of_mapping(value: dict[str, Any], shape: dict[str, Any], where: str) -> Iterator[str]:
    fields = {name.lstrip("!"): inner for name, inner in shape.items() if name != "..."}
    required = {name[1:] for name in shape if name.startswith("!")}
    yield from (f"{where}.{name}: missing" for name in sorted(required - value.keys()))
    if "..." not in shape:
        yield from (f"{where}.{name}: unknown" for name in sorted(value.keys() - fields.keys()))
    for name in fields.keys() & value.keys():
        yield from _faults(value[name], fields[name], f"{where}.{name}")


def test_the_job_has_the_fields_that_kuberay_requires(documents: dict[str, Any]) -> None:
    assert list(_faults(documents["RayJob"], RAY_JOB)) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams", {"num-cpus": 0}, "not allowed"),
        ("spec.rayClusterSpec.authOptions", {"mode": "disabled"}, "not allowed"),
        ("spec.rayClusterSpec.workerGroupSpecs", [], "not empty"),
        ("spec.rayClusterSpec.rayVersion", "2.40.0", "not allowed"),
        ("spec.shutdownAfterJobFinish", True, "unknown"),
    ],
)
def test_the_check_finds_what_is_wrong(
    path: str, value: Any, fault: str, documents: dict[str, Any]
) -> None:
    *folders, name = path.split(".")
    place = documents["RayJob"]
    for folder in folders:
        place = place[folder]
    place[name] = value
    (found,) = _faults(documents["RayJob"], RAY_JOB)
    assert path in found
    assert fault in found


def test_the_cluster_that_stays_is_that_of_the_job(documents: dict[str, Any]) -> None:
    """The same pods, guarded alike."""
    stays = _documents("raycluster.yaml")
    assert list(_faults(stays["RayCluster"], RAY_CLUSTER)) == []
    assert stays["RayCluster"]["spec"] == documents["RayJob"]["spec"]["rayClusterSpec"]
    assert stays["NetworkPolicy"] == documents["NetworkPolicy"]


def test_the_job_runs_pres_dist_on_the_workers_it_has(documents: dict[str, Any]) -> None:
    spec = documents["RayJob"]["spec"]
    command = shlex.split(spec["entrypoint"])
    assert command[:4] == ["python", "-m", "pres_dist", "ray"]
    assert (ROOT / Path(command[4]).relative_to("/opt/pres-dist")).is_file()
    options = dict(zip(command[5::2], command[6::2], strict=True))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    cores = int(_container(group)["resources"]["requests"]["cpu"]) * group["replicas"]
    assert int(options["--num-workers"]) <= cores
    assert options["--address"] == "auto"
    mounts = [mount["mountPath"] for mount in _container(group)["volumeMounts"]]
    assert any(Path(options["--run-dir"]).is_relative_to(mount) for mount in mounts)


def test_head_and_workers_mount_the_same_folders(documents: dict[str, Any]) -> None:
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    mounts = [_container(group)["volumeMounts"] for group in groups]
    volumes = [group["template"]["spec"]["volumes"] for group in groups]
    assert mounts[0] == mounts[1]
    assert volumes[0] == volumes[1]


def test_the_policy_guards_every_pod_of_the_job(documents: dict[str, Any]) -> None:
    """Only pods of the job reach its ports, and KubeRay's operator the dashboard."""
    policy, spec = documents["NetworkPolicy"]["spec"], documents["RayJob"]["spec"]
    guarded = policy["podSelector"]["matchLabels"]
    cluster = spec["rayClusterSpec"]
    templates = [group["template"] for group in cluster["workerGroupSpecs"]]
    templates += [cluster["headGroupSpec"]["template"], spec["submitterPodTemplate"]]
    for template in templates:
        assert guarded.items() <= template["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    own, operator = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": guarded}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    (peer,) = operator["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def _container(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found
