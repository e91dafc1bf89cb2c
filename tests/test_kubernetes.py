"""deploy/kubernetes: the API's schemas, what belongs together, and the pod's command in its pod."""

import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no annotations
import orjson
import pytest
import yaml

from spoolway.worker.config import Settings
from tests.commands import SPOOLWAY
from tests.confined import UID, confined, drains_and_stops, environment_names
from tests.servers import ValkeyServer
from tests.workers import count

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
KUSTOMIZATION = FOLDER / "kustomization.yaml"
MANIFESTS = sorted(set(FOLDER.glob("*.yaml")) - {KUSTOMIZATION})
API_VERSIONS = ["1.28", "1.32", "1.37"]
"""The oldest that somebody may still run, and the newest whose schema is here."""


def read(name: str) -> dict[str, Any]:
    """Return a manifest, one document each."""
    manifest: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return manifest


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of every manifest that makes pods, and its pod's template."""
    for path in MANIFESTS:
        manifest = yaml.safe_load(path.read_text())
        if template := manifest.get("spec", {}).get("template"):
            yield path.name, template


def environment(pod: dict[str, Any], secret: dict[str, str]) -> dict[str, str]:
    """Return what the kubelet would set in the pod's only container."""
    [container] = pod["spec"]["containers"]
    return {
        entry["name"]: entry["value"]
        if "value" in entry
        else secret[entry["valueFrom"]["secretKeyRef"]["key"]]
        for entry in container["env"]
    }


@pytest.mark.parametrize("version", API_VERSIONS)
def test_manifests_follow_the_api(version: str) -> None:
    """Each is what the API takes, without a field that it does not know."""
    for path in MANIFESTS:
        kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)

    broken = read("statefulset")
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 15
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_kustomization_has_every_manifest_but_the_examples() -> None:
    """Nothing is forgotten; applied again, it does not put placeholders over a real Secret."""
    kustomization = yaml.safe_load(KUSTOMIZATION.read_text())
    applied = {path.name for path in MANIFESTS if not path.name.endswith(".example.yaml")}

    assert set(kustomization["resources"]) == applied
    assert kustomization["images"] == [
        {"name": "spoolway", "newName": "spoolway", "newTag": VERSION}
    ]
    assert {read("secret.example")["metadata"]["namespace"], kustomization["namespace"]} == {
        read("namespace")["metadata"]["name"]
    }


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kustomize_puts_them_together() -> None:
    """`kubectl kustomize` makes one valid list of it, all in one namespace."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    )
    made = list(yaml.safe_load_all(done.stdout))

    assert len(made) == len(yaml.safe_load(KUSTOMIZATION.read_text())["resources"])
    for manifest in made:
        kubernetes_validate.validate(manifest, API_VERSIONS[-1], strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "spoolway"


def test_what_selects_pods_finds_them() -> None:
    """Service, budget, network policy and spreading mean the labels that the pods have."""
    labels = dict(pods())["statefulset.yaml"]["metadata"]["labels"]
    workers = read("statefulset")
    [spread] = workers["spec"]["template"]["spec"]["topologySpreadConstraints"]
    policy = read("networkpolicy")["spec"]

    assert workers["spec"]["selector"]["matchLabels"] == labels
    assert read("service")["spec"]["selector"] == labels
    assert workers["spec"]["serviceName"] == read("service")["metadata"]["name"]
    assert read("poddisruptionbudget")["spec"]["selector"]["matchLabels"] == labels
    assert spread["labelSelector"]["matchLabels"] == labels
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    for name, pod in pods():
        assert name == "statefulset.yaml" or pod["metadata"]["labels"] != labels


def test_ports_are_the_one_that_the_worker_listens_on() -> None:
    """Container, probes, service, policy and annotation agree with SPOOLWAY_HTTP_PORT."""
    pod = dict(pods())["statefulset.yaml"]
    [container] = pod["spec"]["containers"]
    [port] = container["ports"]
    [offered] = read("service")["spec"]["ports"]
    [rule] = read("networkpolicy")["spec"]["ingress"]

    assert environment(pod, {"DATABASE_URL": "", "REDIS_URL": ""})["SPOOLWAY_HTTP_PORT"] == str(
        port["containerPort"]
    )
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    assert offered["port"] == port["containerPort"]
    assert offered["targetPort"] == port["name"]
    assert [entry["port"] for entry in rule["ports"]] == [port["name"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_the_page_has_a_service_a_policy_and_a_secret_of_its_own() -> None:
    """What selects it finds it, ports agree, and its Secret has what its pod asks for, no more."""
    pod = dict(pods())["serve.yaml"]
    labels = pod["metadata"]["labels"]
    [container] = pod["spec"]["containers"]
    [port] = container["ports"]
    [offered] = read("serve-service")["spec"]["ports"]
    policy = read("serve-networkpolicy")["spec"]
    [rule] = policy["ingress"]
    secret = read("serve-secret.example")
    asked = [
        entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "valueFrom" in entry
    ]

    assert read("serve")["spec"]["selector"]["matchLabels"] == labels
    assert read("serve-service")["spec"]["selector"] == labels
    assert policy["podSelector"]["matchLabels"] == labels
    assert port["containerPort"] == Settings.model_fields["api_port"].default
    assert offered["port"] == port["containerPort"]
    assert offered["targetPort"] == port["name"]
    assert [entry["port"] for entry in rule["ports"]] == [port["name"]]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert {each["name"] for each in asked} == {secret["metadata"]["name"]}
    assert {each["key"] for each in asked} == secret["stringData"].keys()
    assert "DATABASE_URL" not in {entry["name"] for entry in container["env"]}
    assert pod["spec"].get("volumes") is None


def test_every_pod_is_closed_as_far_as_it_can_be() -> None:
    """Restricted as Kubernetes' own profile says, read-only, without a token of the API."""
    assert read("namespace")["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    found = dict(pods())
    assert found.keys() == {"statefulset.yaml", "serve.yaml", "migrate.yaml", "replay.example.yaml"}
    for name, template in found.items():
        pod = template["spec"]
        [container] = pod["containers"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == UID
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() == {"memory"}
        assert container["image"] == f"spoolway:{VERSION}"
        names = {entry["name"] for entry in container["env"]}
        assert names <= environment_names(), name
        for entry in container["env"]:
            assert "value" not in entry or "://" not in entry["value"], "URLs are secrets"
    uid = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert uid is not None
    assert uid.groups() == (str(UID), str(UID))


def test_each_version_has_a_migration_of_its_own_name() -> None:
    """A Job cannot be changed: one whose name is taken would not run for the next version."""
    assert read("migrate")["metadata"]["name"] == f"spoolway-migrate-{VERSION.replace('.', '-')}"


def test_a_pod_s_spool_is_found_again() -> None:
    """It is on a claim of the pod's name, with room for the spool's cap; replay mounts the same."""
    workers = read("statefulset")["spec"]
    [claim] = workers["volumeClaimTemplates"]
    pod, replay = (
        dict(pods())[name]["spec"] for name in ("statefulset.yaml", "replay.example.yaml")
    )
    [volume] = replay["volumes"]
    owner = read("statefulset")["metadata"]["name"]
    folders = {
        next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "SPOOLWAY_DIR")
        for spec in (pod, replay)
    }
    mounts = {
        (mount["name"], mount["mountPath"])
        for spec in (pod, replay)
        for mount in spec["containers"][0]["volumeMounts"]
        if mount["name"] == claim["metadata"]["name"]
    }

    assert volume["persistentVolumeClaim"]["claimName"] == f"{claim['metadata']['name']}-{owner}-2"
    [(_, mounted)] = mounts
    [folder] = folders
    # Below the volume's folder, which some drivers make for everybody.
    assert Path(folder).parent == Path(mounted)
    assert int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) > 10
    assert pod["securityContext"]["fsGroup"] == UID


def test_pod_s_command_runs_in_its_pod(
    newest_postgres_url: str, valkey: ValkeyServer, private_folder: Path
) -> None:
    """Migration, then a worker: as uid 10001, read-only, with the manifests' variables alone.

    On a volume that its driver made for everybody. The probes' paths answer, and SIGTERM ends it
    within the grace period.
    """
    volume = private_folder / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    secret = {"DATABASE_URL": newest_postgres_url, "REDIS_URL": valkey.url}
    pod, job = (dict(pods())[name] for name in ("statefulset.yaml", "migrate.yaml"))
    [container] = pod["spec"]["containers"]
    subprocess.run(
        confined([SPOOLWAY, *job["spec"]["containers"][0]["args"]], volume),
        env={"PATH": "/usr/bin:/bin", **environment(job, secret)},
        cwd=volume,
        check=True,
    )
    folder = volume / "state"
    settings = environment(pod, secret)
    # Instead of the pod's own network: any free port.
    settings |= {"SPOOLWAY_DIR": str(folder), "SPOOLWAY_HTTP_PORT": "0"}

    with drains_and_stops(
        [SPOOLWAY, *container["args"]],
        volume,
        valkey,
        settings,
        grace=pod["spec"]["terminationGracePeriodSeconds"],
    ):
        port = orjson.loads((folder / "worker-0.json").read_bytes())["http"].rpartition(":")[2]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            url = f"http://127.0.0.1:{port}{container[probe]['httpGet']['path']}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200, probe
    assert count(newest_postgres_url) == 50
