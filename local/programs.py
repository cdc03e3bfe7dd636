"""Builds what ``make up`` runs while the Python packages are installed, so it needs the standard library alone."""

import os
import sys
from pathlib import Path

from local.go import ToolError
from local.real_nodes.requirements import problem
from local.tools import NODE_TOOLS, build_all, cache_directory, lacks_library, tools_of_a_cluster

ROOT = Path(__file__).resolve().parent.parent
SIMULATED = ROOT / ".state" / "cluster" / "simulated-nodes"
"""There once the cluster has simulated nodes, which it keeps (``local/cluster.py``)."""


def lacking() -> str | None:
    """What real nodes need and this machine does not have."""
    return problem((ROOT, cache_directory())) or lacks_library(NODE_TOOLS)


def wanted() -> list[str]:
    """The programs of real nodes, unless simulated ones were chosen or no others are possible."""
    chosen = os.environ.get("NODES") or ("simulated" if SIMULATED.exists() else "")
    lacks = lacking()
    if chosen == "real" and lacks:
        return ["pulumi"]  # make up says what is missing
    return ["pulumi", *tools_of_a_cluster(real=chosen != "simulated" and not lacks)]


def main() -> int:
    """Returns the exit code."""
    try:
        build_all(wanted())
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
