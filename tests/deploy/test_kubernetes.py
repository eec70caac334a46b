"""The manifests are valid, say what the code says, and a change of one that the other does not follow is noticed."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml

from contract.errors import UsageError
from tests.support import kubernetes
from tests.support.images import image
from tests.support.kubernetes import FOLDER, Manifests
from tests.support.metrics import exposed
from tests.support.server import ROOT, SHIPPED, Server

CUSTOM = yaml.safe_load((ROOT / "tests" / "deploy" / "custom_resources.yaml").read_text())
KUBERNETES = kubernetes_validate.latest_version()


def check(manifests: Manifests) -> None:
    """Everything that must agree."""
    kubernetes.check_names(manifests)
    kubernetes.check_ports(manifests)
    kubernetes.check_paths(manifests)
    kubernetes.check_times(manifests)
    kubernetes.check_selectors(manifests)
    kubernetes.check_volumes(manifests)
    kubernetes.check_security(manifests)
    kubernetes.check_metrics(manifests, exposed())
    kubernetes.check_images(manifests)


def validate(document: dict[str, Any]) -> None:
    """Against Kubernetes' own schema, or the excerpt of a custom resource's."""
    if document["kind"] not in CUSTOM:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    custom = CUSTOM[document["kind"]]
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    assert document["apiVersion"] == custom["apiVersion"]
    jsonschema.validate(document["spec"], custom["spec"])
    if document["kind"] == "ServingRuntime":  # its containers are a pod's
        pod = {key: document["spec"][key] for key in ("containers", "volumes") if key in document["spec"]}
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": pod}, KUBERNETES, strict=True
        )


@pytest.mark.parametrize(
    "document", [document for _, document in Manifests().resources()], ids=lambda document: document["kind"]
)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.parametrize("kind", ["Deployment", "Job", "ServingRuntime", "ScaledObject", "ServiceMonitor"])
def test_a_field_that_does_not_exist_is_noticed(kind: str) -> None:
    document = copy.deepcopy(Manifests().one(kind))
    document["spec"]["replicaz"] = 2
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        validate(document)


def test_the_manifests_say_what_the_code_says() -> None:
    check(Manifests())


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("base/deployment.yaml", "KERNELSCOPE_DRAIN_DELAY, value", "KERNELSCOPE_DRAIN_DELAI, value"),
        ("base/deployment.yaml", 'KERNELSCOPE_PORT, value: "8000"', 'KERNELSCOPE_PORT, value: "8080"'),
        ("base/deployment.yaml", "containerPort: 8000", "containerPort: 8001"),
        ("base/deployment.yaml", "path: /health/live", "path: /healthz"),
        ("base/deployment.yaml", "path: /health/ready", "path: /ready"),
        ("base/deployment.yaml", "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 30"),
        ("base/deployment.yaml", "failureThreshold: 60", "failureThreshold: 6"),
        ("base/deployment.yaml", "value: json", "value: xml"),
        ("base/deployment.yaml", "args: [serve]", "args: [server]"),
        ("base/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false"),
        ("base/deployment.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        ("base/deployment.yaml", "image: kernelscope", "image: kernelscop"),
        ("base/deployment.yaml", "mountPath: /tmp}", "mountPath: /tmp}\n            - {name: other, mountPath: /x}"),
        ("base/service.yaml", "targetPort: http", "targetPort: web"),
        ("base/service.yaml", "component: serve}\n  ports", "component: server}\n  ports"),
        ("base/disruption-budget.yaml", "component: serve", "component: server"),
        ("base/network-policy.yaml", "port: http", "port: 8080"),
        ("models/kustomization.yaml", "mountPath: /models", "mountPath: /model"),
        ("models/kustomization.yaml", "KERNELSCOPE_MODELS", "KERNELSCOPE_MODEL_DIR"),
        ("keys/kustomization.yaml", "KERNELSCOPE_API_KEYS_FILE", "KERNELSCOPE_KEYS_FILE"),
        ("keys/kustomization.yaml", "mountPath: /etc/kernelscope", "mountPath: /etc/keys"),
        ("keys/kustomization.yaml", "name: serve", "name: server"),
        ("monitoring/service-monitor.yaml", "path: /metrics", "path: /metric"),
        ("monitoring/service-monitor.yaml", "port: http", "port: web"),
        ("monitoring/prometheus-rule.yaml", "> 0.5", "> 0.6"),
        ("autoscaling/scaled-object.yaml", "kernelscope_queue_depth_images", "kernelscope_queue_images"),
        ("autoscaling/scaled-object.yaml", "scaleTargetRef: {name: kernelscope}", "scaleTargetRef: {name: serve}"),
        ("training/job.yaml", "--resume]", "--go-on]"),
        ("training/job.yaml", "claimName: kernelscope-models", "claimName: models"),
        ("training/job.yaml", "KERNELSCOPE_CACHE", "KERNELSCOPE_CASH"),
        ("kserve/serving-runtime.yaml", '--port, "8080"', '--port, "8000"'),
        ("kserve/serving-runtime.yaml", "/v2/health/ready", "/v2/ready"),
        ("kserve/serving-runtime.yaml", "--models, /mnt/models", "--model-dir, /mnt/models"),
        ("kserve/inference-service.yaml", "protocolVersion: v2", "protocolVersion: v3"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_changed_is_noticed(tmp_path: Path, file: str, before: str, after: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises((AssertionError, SystemExit, UsageError)):
        check(Manifests(tmp_path / "kubernetes"))


def test_code_that_is_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe's path, a grace, a metric: the manifests stay, the code moves."""
    manifests = Manifests()
    with monkeypatch.context() as patch:
        patch.setattr("service.routes.health.router.routes", [])
        with pytest.raises(AssertionError, match="nothing is at /health/ready"):
            check(manifests)
    with monkeypatch.context() as patch:
        patch.setattr(kubernetes, "DRAIN_GRACE", 6)
        with pytest.raises(AssertionError):
            check(manifests)
    with pytest.raises(AssertionError, match="kernelscope_queue_depth_images"):
        kubernetes.check_metrics(manifests, exposed() - {"kernelscope_queue_depth_images"})
    check(manifests)


@pytest.mark.parametrize("folder", ["base", "training", "kserve", "production"])
def test_kustomize_builds(folder: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: it is a package of Debian's, kubernetes-client")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    for document in documents:
        validate(document)
    if folder == "production":
        (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
        pod = deployment["spec"]["template"]["spec"]
        assert {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} == {
            "/models",
            "/etc/kernelscope",
            "/tmp",  # noqa: S108
        }
        assert "KERNELSCOPE_MODELS" in kubernetes.variables(pod["containers"][0])
        assert pod["containers"][0]["image"] == "registry.example.com/kernelscope:0.1.0"
        kinds = [document["kind"] for document in documents]
        assert {"ScaledObject", "ServiceMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget"} <= set(
            kinds
        )


def test_every_kustomization_lists_every_file() -> None:
    for path in FOLDER.glob("*/kustomization.yaml"):
        listed = {name for name in yaml.safe_load(path.read_text()).get("resources", ()) if name.endswith(".yaml")}
        assert listed == {one.name for one in path.parent.glob("*.yaml")} - {path.name}, path


def test_any_user_will_do(serve: Callable[..., Server]) -> None:
    """As OpenShift has it: a user that no file knows, in group 0, without a home."""
    if os.geteuid():
        pytest.skip("only root may take another user")
    user = ("setpriv", "--reuid", "54321", "--regid", "0", "--clear-groups", "--no-new-privs")
    if subprocess.run([*user, "test", "-r", str(SHIPPED / "model.onnx")], check=False).returncode:
        pytest.skip("other users may not read this folder")
    server = serve(wrapper=user, HOME="/nonexistent", TMPDIR="/nonexistent")
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "Uid:\t54321" in status
    reply = server.client.post("/predict", content=image())
    assert reply.status_code == 200
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
