"""``python -m deepseek_acs.goback --outputs FILE|-``: puts the accepted template of a stack back. Exit codes: 0 done,
1 nothing was changed, 2 wrong arguments."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.config import ConfigException

from .back import BackError, go_back

REQUEST_SECONDS = 15
NOT_FOUND, CONFLICT = 404, 409


class KubeconfigApi:
    """The API server of a kubeconfig."""

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        """Raises BackError if the kubeconfig cannot be used."""
        try:
            file = str(Path(kubeconfig).expanduser()) if kubeconfig else None
            configuration = client.Configuration()
            config.load_kube_config(file, context, client_configuration=configuration, persist_config=False)
        except (ConfigException, OSError, ValueError) as error:
            raise BackError(
                f"the kubeconfig {kubeconfig or '(default)'} cannot be used ({type(error).__name__}): set "
                "deployment.cluster.kubeconfigFile and context of the stack to a kubeconfig of the cluster"
            ) from None
        # A patch must not be sent twice.
        configuration.retries = False
        self._api = client.ApiClient(configuration)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object; None if there is none. Raises BackError."""
        return self._request("GET", path)

    def patch(self, path: str, body: object) -> None:
        """Merges ``body`` into the object. Raises BackError."""
        if self._request("PATCH", path, body) is None:
            raise BackError(f"{path.partition('?')[0]} is gone")

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        request = self._api.param_serialize(
            method,
            path,
            header_params={"Accept": "application/json", "Content-Type": "application/merge-patch+json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*request, _request_timeout=REQUEST_SECONDS)
            content = response.read()
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            host = self._api.configuration.host
            raise BackError(f"the API server {host} does not answer ({type(error).__name__}): check the VPN") from None
        if response.status == NOT_FOUND:
            return None
        if response.status == CONFLICT:
            raise BackError("the LeaderWorkerSet was changed meanwhile: run it again")
        if response.status >= 400:
            place = path.partition("?")[0]
            raise BackError(f"the API server refuses to {method} {place}: {response.status} {response.reason}")
        found: dict[str, Any] = json.loads(content)
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deepseek_acs.goback",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--outputs", required=True, help="file with the outputs of pulumi stack output --json; - is stdin"
    )
    parser.add_argument("--kubeconfig", help="(default: that of kubectl)")
    parser.add_argument("--context", help="(default: the kubeconfig's current one)")
    given = parser.parse_args(arguments)
    try:
        text = sys.stdin.read() if given.outputs == "-" else Path(given.outputs).read_text(encoding="utf-8")
        outputs = json.loads(text)
    except (OSError, ValueError) as error:
        parser.error(f"cannot read the stack's outputs from {given.outputs}: {error}")
    try:
        if "knownGoodStore" not in outputs:
            raise BackError(
                "the stack keeps no record of accepted templates: deployment.verification.gate is off. Write the old "
                "settings into the stack file instead (docs/going-back.md)"
            )
        api = KubeconfigApi(given.kubeconfig, given.context)
        print(
            go_back(
                api,
                namespace=outputs["namespace"],
                group=outputs["group"],
                store=outputs["knownGoodStore"],
                now=lambda: datetime.now(UTC),
            )
        )
    except BackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
