"""Both servers, each behind a fault proxy, and the program between them. Runs only where ``-m chaos`` asks for it."""

import contextlib
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.zipapps import archive
from deepseek_acs.modelmover import __main__ as program
from deepseek_acs.modelmover.layout import OWN_FOLDER, manifest_key, model_key
from deepseek_acs.modelmover.manifest import Manifest
from deepseek_acs.modelmover.retry import Backoff
from tests.chaos.proxy import FaultProxy
from tests.integration.conftest import (  # noqa: F401 - fixtures
    BUCKET,
    KEY_ID,
    KEY_SECRET,
    PREFIX,
    REGION,
    REPOSITORY,
    World,
    hub,
    model,
    oss,
    private,
    world,
)

SEED = int(os.environ.get("CHAOS_SEED", "20261129"))
OTHER = "deepseek-local/other"
ATTEMPTS = 5

EXIT_CODES = {0, 65, 66, 69, 71, 73, 75, 77}
"""Of docs/weights.md, without those of signals, of the command line, and of faults of the program."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.option.markexpr == "chaos" else True


@dataclass(frozen=True, kw_only=True)
class QuickBackoff(Backoff):
    """Nothing here needs time to pass."""

    base_seconds: float = 0.001


@dataclass
class Chaos:
    """What a test breaks, and what it looks at afterwards."""

    world: World
    hub: FaultProxy
    oss: FaultProxy
    folder: Path

    def arguments(self, command: str, *, repository: str = REPOSITORY, scheme: str = "modelscope") -> list[str]:
        source = [f"{scheme}://{repository}", f"--hub-endpoint={self.hub.url}", "--code"]
        destination = [f"oss://{BUCKET}/{PREFIX}", f"--region={REGION}", f"--endpoint={self.oss.url}"]
        small = ["--part-size=1", "--streams=2", "--uploads=2"]
        return {
            "copy": ["copy", *source, *destination, *small],
            "verify": ["verify", *destination, "--full"],
        }[command]

    def run(self, command: str = "copy", *, attempts: int = ATTEMPTS, **source: str) -> tuple[int, str]:
        """Exit code and log of a run in this process. A traceback is an exception of the test."""
        with contextlib.redirect_stderr(io.StringIO()) as log:
            code = program.main([f"--attempts={attempts}", *self.arguments(command, **source)])
        return code, log.getvalue()

    def start(
        self, command: str = "copy", *, through: FaultProxy | None = None, **source: str
    ) -> subprocess.Popen[str]:
        """The program as a pod runs it; ``through`` takes the place of the proxy before OSS."""
        zipped = self.folder / "modelmover.pyz"
        zipped.write_bytes(archive("modelmover"))
        arguments = [
            f"--endpoint={through.url}" if through and argument.startswith("--endpoint=") else argument
            for argument in self.arguments(command, **source)
        ]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(zipped), f"--attempts={ATTEMPTS}", *arguments],
            env={"PATH": os.environ["PATH"], "OSS_ACCESS_KEY_ID": KEY_ID, "OSS_ACCESS_KEY_SECRET": KEY_SECRET},
            stderr=subprocess.PIPE,
            text=True,
        )

    def heal(self) -> None:
        """No faults any more."""
        self.hub.reset()
        self.oss.reset()

    def source_of(self, path: str, repository: str = REPOSITORY) -> bytes:
        return (self.world.hub_root / repository / "master" / path).read_bytes()

    def manifest(self) -> Manifest | None:
        content = self.world.bucket.get(manifest_key(PREFIX))
        return Manifest.from_json(content) if content is not None else None

    def assert_no_false_manifest(self) -> None:
        """If there is a manifest, every byte is what it says."""
        manifest = self.manifest()
        for path, entry in (manifest.files if manifest else {}).items():
            content = self.world.bucket.get(model_key(PREFIX, path))
            assert content is not None, f"{path} is missing"
            found = f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert (len(content), found) == (entry.size, entry.digest), path

    def assert_whole(self, repository: str = REPOSITORY) -> None:
        """All bytes are those of the source, the manifest says so, and nothing of the mover is left over."""
        manifest = self.manifest()
        assert manifest is not None
        assert repository in manifest.source
        for path in manifest.files:
            assert self.world.bucket.get(model_key(PREFIX, path)) == self.source_of(path, repository), path
        assert set(self.world.bucket.list_sizes(f"{OWN_FOLDER}/")) == {manifest_key(PREFIX)}
        assert not list(self.world.bucket.list_uploads(""))
        code, log = self.run("verify")
        assert code == 0, log


@pytest.fixture
def chaos(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chaos]:  # noqa: F811
    monkeypatch.setattr(program, "Backoff", QuickBackoff)
    monkeypatch.setattr(program, "_stop_on_signals", lambda stop: [])
    monkeypatch.setattr("deepseek_acs.modelmover.retry.RETRY_AFTER_MAX_SECONDS", 0.05)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", KEY_SECRET)
    with FaultProxy(world.hub.url) as hub_proxy, FaultProxy(world.oss.url) as oss_proxy:
        yield Chaos(world, hub_proxy, oss_proxy, tmp_path)


@pytest.fixture
def other(chaos: Chaos) -> str:
    """Another repository, in which the files have the same names and sizes."""
    folder = chaos.world.hub_root / OTHER / "master"
    shutil.copytree(chaos.world.hub_root / REPOSITORY / "master", folder)
    for path in folder.glob("model-*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    return OTHER


@pytest.fixture
def choice(request: pytest.FixtureRequest) -> random.Random:
    """Seeded; CHAOS_SEED chooses other faults."""
    return random.Random(f"{SEED} {request.node.nodeid}")
