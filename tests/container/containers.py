"""The image in containers as an orchestrator runs them: locked down, small, settings from the environment alone.

CONTAINER_ENGINE names the program that runs them, docker or podman, and CONTAINER_IMAGE the image. Where
CONTAINER_IMAGE_TOOL is set, it runs the image by its own means (see `.ci/container`).
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.harness import LIST, UNTHROTTLED, Finished, Running, ServedSandbox, wait_until, write_csv

ENGINE = os.environ.get("CONTAINER_ENGINE", "docker")
IMAGE = os.environ.get("CONTAINER_IMAGE", "importer")
TOOL = os.environ.get("CONTAINER_IMAGE_TOOL")
USER = 65532
MEMORY_BYTES = 192 * 1024 * 1024
SECRETS = {"EXOTEL_ACCOUNT_SID": "sandbox", "EXOTEL_API_KEY": "sandbox-key", "EXOTEL_API_TOKEN": "sandbox-token"}
LOCKED_DOWN = [
    "--read-only",
    *(["--read-only-tmpfs=false"] if ENGINE == "podman" else []),  # what docker does: not even /tmp can be written to
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--memory={MEMORY_BYTES}",
    "--network=host",  # the sandbox listens on the host's loopback
]


class Container:
    """One run of the image, from its start to its exit code."""

    def __init__(self, options: Sequence[str], arguments: Sequence[str], folder: Path) -> None:
        """Start it. Its outputs go to files in `folder`."""
        self.name = f"importer-{uuid.uuid4().hex[:12]}"
        options = [f"--name={self.name}", *options]
        engine = [TOOL, "--run"] if TOOL else [ENGINE, "run", "--rm", *options, IMAGE]
        paths = [folder / f"{self.name}.{stream}" for stream in ("out", "err")]
        self._streams = [path.open("w+b") for path in paths]
        out, err = self._streams
        self._process = subprocess.Popen(
            [*engine, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ | {"PODMAN_RUN_ARGS": " ".join(options)},
        )
        self.command = Running(self._process, out, err)

    def finish(self) -> Finished:
        """Wait for its end."""
        return self.command.finish()

    def stop(self, grace_seconds: int) -> None:
        """Send the image's stop signal to process 1, and SIGKILL after the grace, as an orchestrator does."""
        subprocess.run([ENGINE, "stop", f"--time={grace_seconds}", self.name], check=True, capture_output=True)

    def kill(self) -> None:
        """Send SIGKILL to process 1."""
        subprocess.run([ENGINE, "kill", "--signal=KILL", self.name], check=True, capture_output=True)

    def remove(self) -> None:
        """End it, whatever it takes."""
        subprocess.run([ENGINE, "rm", "--force", self.name], check=False, capture_output=True)
        self.command.kill()
        for stream in self._streams:
            stream.close()

    def execute(self, *command: str) -> str:
        """Run another program in the container."""
        wait_until(self._is_up)
        return subprocess.run([ENGINE, "exec", self.name, *command], check=True, capture_output=True, text=True).stdout

    def inspect(self) -> dict[str, Any]:
        """What the engine tells anyone who may ask it."""
        wait_until(self._is_up)
        shown = subprocess.run([ENGINE, "inspect", self.name], check=True, capture_output=True).stdout
        found: list[dict[str, Any]] = json.loads(shown)
        return found[0]

    def _is_up(self) -> bool:
        shown = subprocess.run(
            [ENGINE, "inspect", "--format={{.State.Running}}", self.name], check=False, capture_output=True
        )
        assert not self.command.is_over, self.command.err
        return shown.stdout.strip() == b"true"


class Process:
    """Process 1 of a container, as the host's kernel knows it."""

    def __init__(self, container: Container) -> None:
        self._folder = Path(f"/proc/{container.inspect()['State']['Pid']}")
        groups = (self._folder / "cgroup").read_text().splitlines()
        older = [Path("/sys/fs/cgroup/memory" + line.split(":", 2)[2]) for line in groups if ":memory:" in line]
        newer = [Path("/sys/fs/cgroup" + line.split(":", 2)[2]) for line in groups if line.startswith("0::")]
        self._used = older[0] / "memory.max_usage_in_bytes" if older else newer[0] / "memory.peak"
        self.peak_bytes = {"process": 0, "container": 0}

    def shown(self, name: str) -> str:
        """Read a file of the process's, such as its environment."""
        return (self._folder / name).read_text()

    @property
    def status(self) -> Mapping[str, str]:
        """Its user, capabilities and so on."""
        return {key: value.strip() for key, _, value in (line.partition(":") for line in self._status())}

    def note_memory(self) -> None:
        """Take down the most memory that the process, and the container with its file cache, had until now."""
        with suppress(OSError, KeyError):  # it has ended meanwhile
            self.peak_bytes = {
                "process": int(self.status["VmHWM"].split()[0]) * 1024,
                "container": int(self._used.read_text()),
            }

    def _status(self) -> list[str]:
        return self.shown("status").splitlines()


class Deployed:
    """A job's volumes, and one and the same command for them, run as often as need be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.containers: list[Container] = []
        self.input, self.runs, self._secrets = (folder / name for name in ("input", "runs", "secrets"))
        for volume in (self.input, self.runs, self._secrets):
            volume.mkdir()
        os.chown(self.runs, USER, USER)
        self.keep_secrets(SECRETS)

    def keep_secrets(self, secrets: Mapping[str, str]) -> None:
        """Lay the secrets out as Kubernetes does: links to files that only root and the job's group may read."""
        version = self._secrets / "..version"
        version.mkdir(exist_ok=True)
        (self._secrets / "..data").unlink(missing_ok=True)
        (self._secrets / "..data").symlink_to(version.name)
        for name, secret in secrets.items():
            (version / name).write_text(secret + "\n")
            (version / name).chmod(0o440)
            os.chown(version / name, 0, USER)
            (self._secrets / name).unlink(missing_ok=True)
            (self._secrets / name).symlink_to(f"..data/{name}")

    def write(self, sids: Sequence[str]) -> None:
        """Make the input."""
        write_csv(self.input / "contacts.csv", sids)

    def run(self, sandbox: ServedSandbox, **settings: str) -> Container:
        """Start the job: always the same command."""
        environment = {
            "IMPORTER_API__BASE_URL": sandbox.url,
            "IMPORTER_DELIVERY__REQUESTS_PER_MINUTE": UNTHROTTLED,
            **settings,
        }
        return self._start(environment, "run", "/data/input/contacts.csv", "--list", LIST)

    def verify(self) -> Finished:
        """Have a container prove the run."""
        return self._start({}, "verify", f"/data/runs/{self.run_directory.name}").finish()

    @property
    def run_directory(self) -> Path:
        """Where the run's files are, on the host."""
        (directory,) = self.runs.iterdir()
        return directory

    def _start(self, environment: Mapping[str, str], *arguments: str) -> Container:
        options = [
            *LOCKED_DOWN,
            f"--volume={self.input}:/data/input:ro",
            f"--volume={self.runs}:/data/runs",
            f"--volume={self._secrets}:/run/secrets:ro",
            *(f"--env={name}={value}" for name, value in environment.items()),
        ]
        container = Container(options, arguments, self.folder)
        self.containers.append(container)
        return container
