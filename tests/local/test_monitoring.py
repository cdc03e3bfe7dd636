"""What the stack gives to prometheus-operator, in Prometheus' own form."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from components.observability import pod_monitor_spec
from local import tools
from local.monitoring import scrape_config, targets

pytestmark = pytest.mark.integration


def monitor(**given: Any) -> dict[str, Any]:
    spec = pod_monitor_spec({"role": "leader"}, scrape_seconds=15, **given)
    return {"metadata": {"namespace": "ns", "name": "r1-metrics"}, "spec": spec}


def pod(name: str, address: str | None, port: str = "http") -> Any:
    labels = {
        "role": "leader",
        "leaderworkerset.sigs.k8s.io/name": "r1",
        "leaderworkerset.sigs.k8s.io/group-index": "0",
    }
    container = SimpleNamespace(ports=[SimpleNamespace(name=port, container_port=8000)])
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, namespace="ns", labels=labels),
        status=SimpleNamespace(pod_ip=address),
        spec=SimpleNamespace(containers=[container]),
    )


def test_a_leader_is_a_target_with_the_labels_that_are_relabelled() -> None:
    (found,) = targets(monitor(), [pod("r1-0", "10.244.1.5")])
    assert found["targets"] == ["10.244.1.5:8000"]
    sources = {
        source
        for rule in scrape_config(monitor(), targets=Path("t"), key=Path("k"))["relabel_configs"]
        for source in rule["source_labels"]
    }
    assert sources <= found["labels"].keys()


@pytest.mark.parametrize("other", [pod("r1-0", None), pod("r1-0", "10.244.1.5", "rpc")], ids=["starts", "port"])
def test_what_cannot_be_scraped_is_left_out(other: Any) -> None:
    assert targets(monitor(), [other]) == []


def test_key_is_read_from_a_file(tmp_path: Path) -> None:
    """And Prometheus takes all of it."""
    key = tmp_path / "key"
    key.write_text("secret-key")
    (tmp_path / "targets.json").write_text("[]")
    found = scrape_config(monitor(keys_secret="keys"), targets=tmp_path / "targets.json", key=key)
    assert "secret-key" not in str(found)
    configuration = tmp_path / "prometheus.yaml"
    configuration.write_text(yaml.safe_dump({"scrape_configs": [found]}))
    subprocess.run([tools.tool("promtool"), "check", "config", configuration], check=True)
