"""The CNI plugin ``emulators``: the emulators' ports on a pod's loopback interface (https://www.cni.dev/docs/spec/)."""

import json
import os
import sys
from pathlib import Path

from local.real_nodes.relay_client import order

FAILED = 100
"""Codes from 100 on are a plugin's own."""


def main() -> int:
    """Returns the exit code."""
    command = os.environ["CNI_COMMAND"]
    if command == "VERSION":
        print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
        return 0
    given = json.load(sys.stdin)
    name = f"{given['node']}/{os.environ.get('CNI_CONTAINERID', '')}"
    try:
        if command == "ADD":
            order(Path(given["folder"]), name, Path(os.environ["CNI_NETNS"]))
            print(json.dumps(given["prevResult"]))
        elif command == "DEL":
            order(Path(given["folder"]), name)
    except OSError as error:
        print(json.dumps({"cniVersion": given["cniVersion"], "code": FAILED, "msg": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
