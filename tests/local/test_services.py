"""The web services of the local stack, as processes."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from local.ports import held_port
from local.processes import Process, ProcessError
from local.services import Service, Services

SETTING = "deployment.cloud.endpoint"


@pytest.fixture
def urls() -> Iterator[list[str]]:
    with held_port() as first, held_port() as second:
        yield [f"http://127.0.0.1:{port}" for port in (first, second)]


def oss(url: str) -> Service:
    return Service(name="oss", setting=SETTING, url=url, options=("--region=cn-shanghai",))


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    found = Services(tmp_path)
    yield found
    found.stop()


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/health") as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.integration
def test_both_start_once_and_stop(services: Services, tmp_path: Path, urls: list[str]) -> None:
    wanted = [oss(urls[0]), Service(name="hub", setting="deployment.weights.source.endpoint", url=urls[1])]
    services.start(wanted)
    assert all(answers(service.url) for service in wanted)
    assert [(s.name, s.running) for s in services.status()] == [("oss", True), ("hub", True)]
    assert (tmp_path / "hub" / "deepseek-local" / "DeepSeek-R1-tiny").is_dir()
    process = Process(name="oss", command=(), folder=tmp_path)
    before = process.running()
    services.start(wanted)
    assert process.running() == before
    services.stop()
    assert not any(answers(service.url) for service in wanted)
    assert services.status() == []
    assert (tmp_path / "oss").is_dir(), "data are kept"


@pytest.mark.integration
def test_another_address_in_the_stack_file_moves_the_service(services: Services, urls: list[str]) -> None:
    first, second = map(oss, urls)
    services.start([first])
    services.start([second])
    assert not answers(first.url)
    assert answers(second.url)


def test_port_of_another_process_names_the_setting(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ProcessError) as caught:
            services.start([oss(url)])
    assert f"deployment.cloud.endpoint is {url}, but another program holds the port" in str(caught.value)
    assert "write another port into deployment.cloud.endpoint" in str(caught.value)
    assert services.status() == []


@pytest.mark.parametrize("url", ["http://127.0.0.1", "https://localhost:1"])
def test_address_that_cannot_be_served(url: str, services: Services) -> None:
    with pytest.raises(ProcessError, match=r"served by plain HTTP at a port; write it as http://127\.0\.0\.1:PORT"):
        services.start([oss(url)])
