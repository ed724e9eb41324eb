"""ops/kubernetes, ops/locks and what Prometheus and Grafana of docker-compose.yml are given: they name only what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from support.pages import blocks_of, page_text

from horologe.node.config import Address, NodeConfig
from horologe.node.config_sources import load_config

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "ops" / "kubernetes"


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], Any]:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    documents = [
        one for name in kustomization["resources"] for one in yaml.safe_load_all((KUBERNETES / name).read_text())
    ]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """By their names: keys, and the files they are made of."""
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    pairs = {each["name"]: each["files"] for each in kustomization["secretGenerator"]}
    return {name: dict(pair.split("=") for pair in files) for name, files in pairs.items()}


def environment_of(container: Any, pod: str) -> dict[str, str]:
    """As the kubelet makes it: a variable may use those before it."""
    values: dict[str, str] = {}
    for each in container["env"]:
        text = each["value"] if "value" in each else {"metadata.name": pod}[each["valueFrom"]["fieldRef"]["fieldPath"]]
        values[each["name"]] = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text)
    return values


def test_every_pod_is_a_node_that_would_start(objects: dict[tuple[str, str], Any], secrets: Any) -> None:
    nodes = objects["StatefulSet", "horologe"]
    spec = nodes["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert container["args"] == ["node", "run"]
    service = objects["Service", nodes["spec"]["serviceName"]]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    [tls] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert {item["key"] for item in tls["items"]} == set(secrets[tls["secretName"]])
    paths = {f"/tls/{item['path']}" for item in tls["items"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    ports = {port["containerPort"] for port in container["ports"]}
    for number in range(nodes["spec"]["replicas"]):
        pod = f"{nodes['metadata']['name']}-{number}"
        config = load_config(None, {}, environment_of(container, pod))
        assert config.name == pod and not config.insecure
        members = {f"horologe-{other}": f"horologe-{other}.horologe:7500" for other in range(3)}
        assert {member.name: member.peer_address for member in config.members} == members
        assert config.tls_dir is not None
        assert {str(config.tls_dir / name) for name in ("ca.pem", "cert.pem", "key.pem")} <= paths
        listens = (config.listen, config.peer_listen, config.worker_listen, config.http_listen)
        assert {Address.parse(text).port for text in listens} == ports
        assert config.advertised == f"{pod}.horologe:7400" and config.worker_advertised == f"{pod}.horologe:7600"
        assert str(config.data_dir.parent) in mounts and "/tls" in mounts
    assert nodes["spec"]["podManagementPolicy"] == "Parallel"
    assert {port["port"] for port in service["spec"]["ports"]} == ports


def test_kubernetes_asks_what_a_node_answers(objects: dict[tuple[str, str], Any]) -> None:
    [container] = objects["StatefulSet", "horologe"]["spec"]["template"]["spec"]["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz",
    }  # fmt: skip
    names = {port["name"] for port in container["ports"]}
    assert all(get["scheme"] == "HTTPS" and get["port"] in names for get in asked.values())
    budget = objects["PodDisruptionBudget", "horologe"]["spec"]
    labels = objects["StatefulSet", "horologe"]["spec"]["template"]["metadata"]["labels"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}


def test_workers_show_the_certificate_of_their_pool(objects: dict[tuple[str, str], Any], secrets: Any) -> None:
    workers = objects["Deployment", "horologe-workers"]
    spec = workers["spec"]["template"]["spec"]
    [container] = spec["containers"]
    # The certificate of a pool is good for names that begin with it and a hyphen, and so does the name of a pod of a Deployment.
    assert environment_of(container, "horologe-workers-7d9f-x2k4p")["HOROLOGE_WORKER_NAME"].startswith(
        "horologe-workers-"
    )
    assert secrets["horologe-workers"]["cert.pem"] == "tls/workers/horologe-workers/cert.pem"
    [tls] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert tls["secretName"] == "horologe-workers" and set(secrets["horologe-workers"]) == {
        "ca.pem",
        "cert.pem",
        "key.pem",
    }
    assert container["args"][:3] == ["worker", "run", "--address"]
    peers = [f"horologe-{number}.horologe:7600" for number in range(3)]
    assert container["args"][3].split(",") == peers


@pytest.mark.parametrize("which", [("StatefulSet", "horologe"), ("Deployment", "horologe-workers")])
def test_pods_have_no_rights(objects: dict[tuple[str, str], Any], which: tuple[str, str]) -> None:
    """The restricted profile of the Pod Security Standards, and a root that cannot be written."""
    workload = objects[which]
    spec = workload["spec"]["template"]["spec"]
    assert workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    # Whoever is no member of the group reads no key: a node would refuse it.
    assert all(volume["secret"]["defaultMode"] == 0o440 for volume in spec["volumes"] if "secret" in volume)


def test_the_locks_have_all_that_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [Requirement(text) for group in (project["project"]["dependencies"], *extras) for text in group]
    check_lock("runtime.txt", wanted)
    check_lock("build.txt", [Requirement(text) for text in project["dependency-groups"]["ship"]])


def check_lock(name: str, wanted: list[Requirement]) -> None:
    text = (ROOT / "ops" / "locks" / name).read_text()
    entries = re.findall(r"^([a-z0-9._-]+)==([^ ]+)(.*\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\S+==", text, re.MULTILINE)), "something is without checksums"
    locked = {name: version for name, version, _ in entries}
    for requirement in wanted:
        version = locked.get(requirement.name.lower().replace("_", "-"), "")
        assert requirement.specifier.contains(version or "0.dev0"), (
            f"{requirement} and {version or 'nothing'}: run `make lock`"
        )


def test_prometheus_and_grafana_find_what_they_read() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        files = [volume.split(":")[0] for volume in services[name]["volumes"] if volume.startswith("./")]
        assert files and all((ROOT / file).is_file() for file in files)
    config = yaml.safe_load((ROOT / "ops" / "prometheus.yml").read_text())
    [scraped] = config["scrape_configs"]
    [targets] = scraped["static_configs"]
    assert {target.split(":")[0] for target in targets["targets"]} <= set(services)
    port = Address.parse(services["n1"]["environment"].get("HOROLOGE_NODE_HTTP_LISTEN", "0.0.0.0:7700")).port
    assert all(target.endswith(f":{port}") for target in targets["targets"])
    assert NodeConfig.model_fields["metrics_open"].annotation is bool
    [source] = yaml.safe_load((ROOT / "ops" / "grafana" / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_the_commands_of_the_page_make_the_files_of_the_secrets(
    secrets: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    [block] = [block for block in blocks_of(page_text("docs/deploying.md")) if block.mark == "kubernetes"]
    folder = tmp_path / "ops" / "kubernetes"
    folder.mkdir(parents=True)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=tmp_path, env=environment, check=True)
    assert all((folder / file).is_file() for files in secrets.values() for file in files.values())
    # What nobody in the cluster needs is in no Secret.
    assert not [file for files in secrets.values() for file in files.values() if "ca.key" in file or "client" in file]
