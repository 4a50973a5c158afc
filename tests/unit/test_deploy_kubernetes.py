"""The manifests agree with the image and with what the importer does: its user, settings, grace and exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from importer import __version__
from importer.configuration import DEFAULT_SECRETS_DIRECTORY, load_settings
from importer.model import ExitCode
from importer.settings import Credentials, Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

Manifest = dict[str, Any]


def manifests(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))


def job_of(name: str) -> Manifest:
    """Give the spec of the job, wherever it stands."""
    (manifest,) = manifests(name)
    spec: Manifest = manifest["spec"]
    return spec if manifest["kind"] == "Job" else spec["jobTemplate"]["spec"]


@pytest.fixture(params=["job.yaml", "cronjob.yaml"])
def job(request: pytest.FixtureRequest) -> Manifest:
    return job_of(request.param)


@pytest.fixture
def pod(job: Manifest) -> Manifest:
    spec: Manifest = job["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    (container,) = pod["containers"]
    assert isinstance(container, dict)
    return container


@pytest.fixture
def mounts(container: Manifest) -> dict[str, Manifest]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def image_says(pattern: str) -> str:
    found = re.search(pattern, DOCKERFILE, re.MULTILINE)
    assert found, pattern
    return found[1]


def test_the_cron_job_runs_the_job() -> None:
    """The nightly job is the one-off job, with a deadline."""
    nightly = job_of("cronjob.yaml")

    assert nightly.pop("activeDeadlineSeconds") < 24 * 3600
    assert nightly == job_of("job.yaml")
    (cron_job,) = manifests("cronjob.yaml")
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_grace_covers_a_drain(pod: Manifest) -> None:
    """Kubernetes waits longer for a pod than the importer waits for its requests."""
    assert pod["terminationGracePeriodSeconds"] >= Settings().run.shutdown_grace_seconds + 10


def test_every_exit_code_has_its_rule(job: Manifest) -> None:
    """An incomplete run is resumed; whatever a retry cannot mend fails the job at once; disruptions do not count."""
    rules = job["podFailurePolicy"]["rules"]
    by_code = {
        ExitCode(code): rule["action"]
        for rule in rules
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    }
    conditions = [(rule["action"], rule["onPodConditions"][0]["type"]) for rule in rules if "onPodConditions" in rule]

    assert by_code == {
        ExitCode.SOME_NOT_IN_LIST: "FailJob",
        ExitCode.USAGE: "FailJob",
        ExitCode.THRESHOLD: "FailJob",
        ExitCode.REFUSED: "FailJob",
        ExitCode.INCOMPLETE: "Count",
    }
    assert conditions == [("Ignore", "DisruptionTarget")]
    # A drained pod exits with 5: whether that counts must not be decided before it is known why.
    assert [rule["action"] for rule in rules] == ["FailJob", "Ignore", "Count"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["podReplacementPolicy"] == "Failed"


def test_the_pod_has_the_images_user_and_no_rights(pod: Manifest, container: Manifest) -> None:
    """The pod runs as the image's user, with nothing to gain and nothing to write to but its volume."""
    context = pod["securityContext"]

    user, group = image_says(r"^USER (\S+)$").split(":")
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == (user, group)
    assert (context["fsGroup"], context["runAsNonRoot"]) == (context["runAsGroup"], True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_memory_is_limited_as_proven(container: Manifest) -> None:
    """The limit is what the container tests run under, and all of it is asked for."""
    assert container["resources"]["limits"] == {"memory": "192Mi"}
    assert container["resources"]["requests"]["memory"] == "192Mi"


def test_volumes_lie_where_the_image_looks(pod: Manifest, container: Manifest, mounts: dict[str, Manifest]) -> None:
    """The run directory is the one volume that is written to; input and secrets are read where they are mounted."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    input_ = next(argument for argument in container["args"] if argument.startswith("/"))

    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == [image_says(r"IMPORTER_RUN__DIRECTORY=(\S+)$")]
    assert str(Path(input_).parent) in mounts
    assert "secret" in volumes[mounts[str(DEFAULT_SECRETS_DIRECTORY)]["name"]]
    claims = {claim["metadata"]["name"] for claim in manifests("volumes.yaml")}
    assert claims == {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "secret" not in v}


def test_the_secret_has_what_the_importer_reads(pod: Manifest) -> None:
    """Its keys are the credentials' names, and it is the one that the pod mounts."""
    (secret,) = manifests("secret.example.yaml")

    assert set(secret["stringData"]) == {f"EXOTEL_{name.upper()}" for name in Credentials.model_fields}
    assert secret["metadata"]["name"] in {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}


def test_compose_runs_it_alike(pod: Manifest, container: Manifest) -> None:
    """The Compose file has the manifests' command, memory, grace and secrets, and no more rights than they have."""
    composed = yaml.safe_load((ROOT / "deploy" / "container" / "compose.yaml").read_text(encoding="utf-8"))
    service = composed["services"]["importer"]
    (secret,) = manifests("secret.example.yaml")

    assert service["command"] == container["args"]
    assert service["stop_grace_period"] == f"{pod['terminationGracePeriodSeconds']}s"
    assert f"{service['mem_limit']}i" == container["resources"]["limits"]["memory"].lower()
    assert set(service["secrets"]) == set(composed["secrets"]) == set(secret["stringData"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_every_setting_is_one(container: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The importer takes the settings of the config map and of the image, and the pod takes that config map."""
    (config,) = manifests("configmap.yaml")
    image = dict(re.findall(r"(IMPORTER_\w+)=(\S+)", DOCKERFILE))
    for name, value in (image | config["data"]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    settings = load_settings({}, None)
    assert settings != Settings()
    assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]


def test_names_in_passing_are_settings_too() -> None:
    """Whatever is called IMPORTER_<SECTION>__<FIELD>, in the manifests, in Compose's or in the guide, is a setting."""
    paths = [*(ROOT / "deploy").rglob("*.yaml"), ROOT / "docs" / "container.md"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    known = {
        f"IMPORTER_{section}__{field}".upper() for section, value in Settings() for field in type(value).model_fields
    }

    assert set(re.findall(r"IMPORTER_[A-Z]+__[A-Z_]+", "".join(texts))) <= known


def test_the_image_is_of_this_version(container: Manifest) -> None:
    """The manifests run the version that they stand beside."""
    assert container["image"].endswith(f"/importer:{__version__}")


def test_the_example_holds_no_credentials() -> None:
    """Its values are words that say what belongs there."""
    (secret,) = manifests("secret.example.yaml")

    assert all(value.startswith("your-") for value in secret["stringData"].values())
