"""The cluster manifests: against KubeRay's own schema, and against the files they name."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.run.machine import process_environment
from helpers.places import ROOT, real_data
from mtsql.config.load import load_config
from mtsql.config.run import RunConfig
from recipes.main import parse

MANIFEST = ROOT / "recipes" / "cluster" / "rayjob.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The schemas hold a megabyte each; libyaml reads them in a third of a second."""


def load(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)


def strict(schema: Any) -> Any:
    """The schema as the API server applies it: a key that it does not know is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if closed.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields", False)
        closed["additionalProperties"] = open_ended
    return closed


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, which Ray brings")
    name = "kuberay/ray.io_rayjobs.yaml"  # KubeRay's definition of RayJob
    crd = real_data(name) / name
    versions = {version["name"]: version for version in load(crd)["spec"]["versions"]}
    schema = versions["v1"]["schema"]["openAPIV3Schema"]
    # Kubernetes itself defines metadata; the CRD says only that it is an object.
    schema["properties"]["metadata"] = {"type": "object"}
    for template in templates(schema["properties"]["spec"]):
        template["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(strict(schema))


def templates(schema: Any) -> Iterator[dict[str, Any]]:
    """The properties of every pod template in a schema."""
    if isinstance(schema, dict):
        inner = schema.get("properties")
        if isinstance(inner, dict) and set(inner) == {"metadata", "spec"}:
            yield inner
        for value in schema.values():
            yield from templates(value)


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


def recipe_of(job: dict[str, Any]) -> RunConfig:
    """The entrypoint through the real parser; the image holds this folder as /opt/mtsql."""
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "mtsql"
    parsed = parse(words)
    path = ROOT / parsed.recipe.relative_to("/opt/mtsql")
    assert path.is_file()
    return load_config(path, parsed.overrides)


def test_the_job_is_valid_for_kuberay(validator: Any) -> None:
    errors = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(load(MANIFEST))
    ]
    assert errors == []


@pytest.mark.parametrize(
    ("path", "key"),
    [(["spec"], "entrypont"), (["spec", "rayClusterSpec", "headGroupSpec", "template"], "sepc")],
)
def test_a_misspelt_key_is_seen(path: list[str], key: str, validator: Any) -> None:
    job = load(MANIFEST)
    node = job
    for name in path:
        node = node[name]
    node[key] = "x"
    assert any(key in error.message for error in validator.iter_errors(job))


def test_the_entrypoint_is_a_command_of_ours() -> None:
    job = load(MANIFEST)
    config = recipe_of(job)
    assert config.machine.ray_address == "auto"
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (worker,) = workers["template"]["spec"]["containers"]
    assert workers["replicas"] == config.machine.num_nodes
    assert int(worker["resources"]["limits"]["nvidia.com/gpu"]) == config.machine.gpus_per_node
    mounts = {mount["mountPath"] for mount in worker["volumeMounts"]}
    assert config.model.path is not None
    assert config.data.source_dir is not None
    for path in (Path(config.model.path), config.data.source_dir, config.folder):
        assert f"/{path.parts[1]}" in mounts


def test_the_image_holds_the_recipes_where_the_entrypoint_looks() -> None:
    dockerfile = (ROOT / "docker" / "gpu.Dockerfile").read_text(encoding="utf-8")
    assert "\nWORKDIR /opt/mtsql\n" in dockerfile
    assert "ENV PATH=/opt/mtsql/.venv/bin:$PATH" in dockerfile


def test_the_cluster_runs_the_pinned_ray() -> None:
    lock = (ROOT / "docker" / "requirements-gpu.lock").read_text(encoding="utf-8")
    pinned = re.search(r"^ray(?:\[[^\]]*\])?==([\d.]+)", lock, re.MULTILINE)
    assert pinned is not None
    assert load(MANIFEST)["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]


def test_every_container_has_the_environment_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    job = load(MANIFEST)
    for name in ("PATH", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.environ", {})
    wanted = process_environment(recipe_of(job), "gpu")
    for container in containers(job):
        assert {one["name"]: one["value"] for one in container["env"]} == wanted


def test_all_pods_share_the_claimed_volume() -> None:
    claim = load(MANIFEST.with_name("storage.yaml"))["metadata"]["name"]
    job = load(MANIFEST)
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
        assert volumes["storage"]["persistentVolumeClaim"]["claimName"] == claim
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_the_token_comes_from_a_secret_and_stands_in_no_file() -> None:
    cluster = load(MANIFEST)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "mtsql-ray-token"}
    assert '--from-literal=auth_token="$(' in MANIFEST.read_text(encoding="utf-8")


def test_the_comment_submits_the_same_recipe() -> None:
    text = MANIFEST.read_text(encoding="utf-8")
    submitted = re.search(r"ray job submit .*\n#\s+mtsql (.*)", text)
    assert submitted is not None
    parsed = parse(shlex.split(submitted[1]))
    job = recipe_of(load(MANIFEST))
    path = ROOT / parsed.recipe.relative_to("/opt/mtsql")
    assert load_config(path, parsed.overrides) == job
