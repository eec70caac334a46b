"""The manifests of deploy/kubernetes, and what of them must agree with the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from service.environment import PREFIX
from service.routes import health, metrics, open_inference
from service.settings import Settings, load
from service.supervisor import DRAIN_GRACE
from tests.support.monitoring import series
from tests.support.server import ROOT
from training import parsers

FOLDER = ROOT / "deploy" / "kubernetes"
TRAINING = frozenset({"KERNELSCOPE_CACHE", "KERAS_HOME", "MPLCONFIGDIR"})
"""Variables that are no settings of the service."""


class Manifests:
    """All manifests of a folder, by kind and name."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.documents: list[tuple[Path, dict[str, Any]]] = []
        for path in sorted(folder.rglob("*.yaml")):
            self.documents += [(path, document) for document in yaml.safe_load_all(path.read_text()) if document]

    def kind(self, kind: str) -> list[dict[str, Any]]:
        """The documents of a kind."""
        return [document for _, document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """The only document of a kind."""
        (document,) = self.kind(kind)
        return document

    def resources(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Everything that a cluster is given."""
        for path, document in self.documents:
            if path.name != "kustomization.yaml":
                yield path, document

    def pods(self) -> dict[str, dict[str, Any]]:
        """What runs, as pod specifications, by the kind of what starts it."""
        return {
            "Deployment": self.one("Deployment")["spec"]["template"]["spec"],
            "Job": self.one("Job")["spec"]["template"]["spec"],
            "ServingRuntime": self.one("ServingRuntime")["spec"],
        }

    def patches(self) -> dict[str, dict[str, Any]]:
        """What each component changes in the Deployment's pods, by the component's folder."""
        found = {}
        for path, document in self.documents:
            for one in document.get("patches", ()) if path.name == "kustomization.yaml" else ():
                patch = yaml.safe_load(one["patch"])
                assert one["target"] == {"kind": "Deployment", "name": self.one("Deployment")["metadata"]["name"]}
                found[path.parent.name] = patch["spec"]["template"]["spec"]
        return found


def variables(container: dict[str, Any]) -> dict[str, str]:
    """A container's environment variables that have a value of their own."""
    return {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}


def settings_of(container: dict[str, Any]) -> Settings:
    """The service's settings as a container's variables and arguments make them."""
    words = container["args"][1:]
    flags = dict(zip([word.removeprefix("--").replace("-", "_") for word in words[::2]], words[1::2], strict=True))
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in variables(container).items()}
    return load(**ours, **flags)


def check_names(manifests: Manifests) -> None:
    """Every environment variable and argument is one that the code has, with a value that it takes."""
    for kind, pod in {**manifests.pods(), **manifests.patches()}.items():
        (container,) = pod["containers"]
        for one in container["env"]:
            name = one["name"]
            known = name.removeprefix(PREFIX).lower() in Settings.model_fields if kind != "Job" else name in TRAINING
            assert known, f"{kind}: there is no setting {name}"
    for kind in ("Deployment", "ServingRuntime"):
        (container,) = manifests.pods()[kind]["containers"]
        assert container["args"][0] == "serve"
        settings_of(container)
    (container,) = manifests.pods()["Job"]["containers"]
    assert container["args"][0] == "train"
    parsers.train().parse_args(container["args"][1:])


def check_ports(manifests: Manifests) -> None:
    """The port is the one that the service listens on, and goes by one name everywhere."""
    for kind in ("Deployment", "ServingRuntime"):
        (container,) = manifests.pods()[kind]["containers"]
        (port,) = container["ports"]
        settings = settings_of(container)
        assert (port["containerPort"], "0.0.0.0") == (settings.port, settings.host), kind  # noqa: S104 -- in a container
    (port,) = manifests.pods()["Deployment"]["containers"][0]["ports"]
    assert f"EXPOSE {port['containerPort']}" in (ROOT / "Dockerfile").read_text()
    (service,) = manifests.one("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    for rule in manifests.one("NetworkPolicy")["spec"]["ingress"]:
        assert [one["port"] for one in rule["ports"]] == [port["name"]]
    (endpoint,) = manifests.one("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == service["name"]
    runtime = manifests.one("ServingRuntime")["spec"]
    assert (
        int(runtime["annotations"]["prometheus.kserve.io/port"])
        == runtime["containers"][0]["ports"][0]["containerPort"]
    )


def check_paths(manifests: Manifests) -> None:
    """Probes and scrapers ask for paths that exist, at a port that is there."""
    routers = (health.router, metrics.router, open_inference.router)
    there = {getattr(route, "path", "") for router in routers for route in router.routes}
    for kind in ("Deployment", "ServingRuntime"):
        (container,) = manifests.pods()[kind]["containers"]
        (port,) = container["ports"]
        probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
        assert len(probes) == (3 if kind == "Deployment" else 2)
        for probe in probes:
            assert probe["path"] in there, f"{kind}: nothing is at {probe['path']}"
            assert probe["port"] in (port.get("name"), port["containerPort"])
    assert manifests.one("ServiceMonitor")["spec"]["endpoints"][0]["path"] in there
    assert manifests.one("ServingRuntime")["spec"]["annotations"]["prometheus.kserve.io/path"] in there


def check_times(manifests: Manifests) -> None:
    """Kubernetes waits for the whole drain, and for models as long as the service does."""
    pod = manifests.pods()["Deployment"]
    settings = settings_of(pod["containers"][0])
    assert pod["terminationGracePeriodSeconds"] == settings.drain_delay + settings.drain_timeout + DRAIN_GRACE
    startup, readiness = pod["containers"][0]["startupProbe"], pod["containers"][0]["readinessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= settings.load_timeout
    # the endpoint is taken away as the pod ends; a load balancer that asks for itself notices within the delay, too
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < settings.drain_delay


def check_selectors(manifests: Manifests) -> None:
    """What selects pods or the Service selects ours."""
    deployment, service = manifests.one("Deployment"), manifests.one("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert manifests.one("Job")["spec"]["template"]["metadata"]["labels"] != labels
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        manifests.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
    ):
        assert selector == labels
    monitored = manifests.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= service["metadata"]["labels"].items()
    scaled = manifests.one("ScaledObject")["spec"]["scaleTargetRef"]["name"]
    assert scaled == deployment["metadata"]["name"]
    runtime, inference = (
        manifests.one("ServingRuntime"),
        manifests.one("InferenceService")["spec"]["predictor"]["model"],
    )
    assert inference["runtime"] == runtime["metadata"]["name"]
    assert inference["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = [(one["name"], one["version"]) for one in runtime["spec"]["supportedModelFormats"]]
    assert (inference["modelFormat"]["name"], inference["modelFormat"]["version"]) in formats


def check_volumes(manifests: Manifests) -> None:
    """What is mounted is there, claims are declared, and what the training publishes is what is served."""
    claims = {claim["metadata"]["name"] for claim in manifests.kind("PersistentVolumeClaim")}
    pods = {**manifests.pods(), **manifests.patches()}
    served_by = pods["Deployment"]["containers"][0]["name"]
    for kind, pod in pods.items():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount for mount in container.get("volumeMounts", ())}
        assert set(mounts) == set(volumes), kind
        used = {one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one}
        assert used <= claims, kind
    assert {pod["containers"][0]["name"] for pod in manifests.patches().values()} == {served_by}
    (container,) = pods["keys"]["containers"]
    (mount,) = container["volumeMounts"]
    assert variables(container)["KERNELSCOPE_API_KEYS_FILE"].startswith(f"{mount['mountPath']}/")
    assert "subPath" not in mount
    (container,), (volume,) = pods["models"]["containers"], pods["models"]["volumes"]
    assert variables(container)["KERNELSCOPE_MODELS"] == container["volumeMounts"][0]["mountPath"]
    train = pods["Job"]
    chosen = parsers.train().parse_args(train["containers"][0]["args"][1:])
    mounted = {mount["mountPath"]: mount["name"] for mount in train["containers"][0]["volumeMounts"]}
    (published,) = [one for one in train["volumes"] if one["name"] == mounted[str(chosen.output)]]
    assert published["persistentVolumeClaim"]["claimName"] == volume["persistentVolumeClaim"]["claimName"]
    assert str(chosen.data) in mounted
    assert variables(train["containers"][0])["KERNELSCOPE_CACHE"].startswith("/runs/")
    (served,) = [value for flag, value in _pairs(pods["ServingRuntime"]["containers"][0]["args"]) if flag == "--models"]
    assert served == "/mnt/models"  # where KServe's storage initializer puts them


def check_security(manifests: Manifests) -> None:
    """Nothing runs as root, writes to its image, or gains rights."""
    for kind, pod in manifests.pods().items():
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, kind
        assert container["securityContext"]["allowPrivilegeEscalation"] is False, kind
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, kind
        either = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert either["runAsNonRoot"] is True, kind
        assert "runAsUser" not in either, f"{kind}: any user must do"
        if kind != "ServingRuntime":  # KServe's to say
            assert either["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            assert pod["enableServiceLinks"] is False
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"], kind


def check_metrics(manifests: Manifests, exposed: set[str]) -> None:
    """The autoscaler asks for metrics that are there, the alerts are those that are tested."""
    for trigger in manifests.one("ScaledObject")["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            names = series(trigger["metadata"]["query"])
            assert names
            assert names <= exposed, names - exposed
            service = manifests.one("Service")["metadata"]["name"]
            assert f'job="{service}"' in trigger["metadata"]["query"]
            assert f'namespace="{manifests.one("Namespace")["metadata"]["name"]}"' in trigger["metadata"]["query"]
    rules = yaml.safe_load((ROOT / "deploy" / "monitoring" / "rules.yml").read_text())
    assert manifests.one("PrometheusRule")["spec"] == {"groups": rules["groups"]}


def check_images(manifests: Manifests) -> None:
    """Images are those that docker-compose.yml builds, and every kustomization names one that is used."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    pods = manifests.pods()
    assert pods["Deployment"]["containers"][0]["image"] == compose["serve"]["image"]
    assert pods["ServingRuntime"]["containers"][0]["image"] == compose["serve"]["image"]
    assert pods["Job"]["containers"][0]["image"] == compose["train"]["image"]
    named = {image["name"] for document in manifests.kind("Kustomization") for image in document.get("images", ())}
    assert named == {compose["serve"]["image"], compose["train"]["image"]}


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    return list(zip(arguments[1::2], arguments[2::2], strict=True))
