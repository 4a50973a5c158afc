"""What the image is made of."""

from __future__ import annotations

import json

from tests.container.containers import Container

MOST_MEGABYTES = 40
"""What may come on top of the base image. docs/container.md says what it is made of."""

_WEIGH = """
import json, os, sys
sizes = {}
for folder, _, files in os.walk('/opt/importer'):
    for file in files:
        path = os.path.join(folder, file)
        if not os.path.islink(path):
            sizes[path] = os.path.getsize(path)
print(json.dumps(sizes))
"""

_CACHED = """
import sys, importer.cli, importer.run
print(*(module.__cached__ for module in sys.modules.values() if getattr(module, '__cached__', None)))
"""


def test_the_image_holds_what_a_run_needs_and_no_more(image: Container) -> None:
    """No installer, no type stubs, no second compiled copy; and it is small."""
    sizes: dict[str, int] = json.loads(image.execute("python", "-c", _WEIGH))

    assert sum(sizes.values()) < MOST_MEGABYTES * 1e6
    assert not [path for path in sizes if "/site-packages/pip/" in path or "/site-packages/setuptools/" in path]
    assert not [path for path in sizes if path.endswith((".pyi", ".pyx"))]
    assert not [path for path in sizes if "/__pycache__/" in path]


def test_everything_a_start_imports_is_compiled(image: Container) -> None:
    """A container, whose root file system may be read-only, compiles next to nothing when it starts."""
    cached = set(image.execute("python", "-c", _CACHED).split())
    kept = set(image.execute("find", "/opt/importer/pycache", "-name", "*.pyc").split())

    assert len(cached) > 200
    assert cached <= kept


def test_the_image_tells_how_it_is_run(image: Container) -> None:
    """User, entry point, stop signal, labels and the default run directory stand in the image; no health check does."""
    config = image.inspect()["Config"]

    assert config["User"] == "65532:65532"
    assert str(config["StopSignal"]) in {"SIGTERM", "15"}
    assert config["Labels"]["org.opencontainers.image.title"] == "importer"
    assert "IMPORTER_RUN__DIRECTORY=/data/runs" in config["Env"]
    assert config["WorkingDir"] == "/data"
    assert not config.get("Healthcheck")
