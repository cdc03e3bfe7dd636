"""Lists the routes of vLLM's HTTP server, from the sources of one version, for ``tests/data/engine_routes.toml``.

    python -m tools.engine_routes VERSION FOLDER DATE

FOLDER is an unpacked source distribution, DATE that of its release. Routes that exist only with an option are listed as
well: the filter in front must refuse those, too.
"""

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROUTES = Path(__file__).resolve().parents[1] / "tests" / "data" / "engine_routes.toml"

ENTRYPOINTS = "vllm/entrypoints"
OTHER_SERVERS = (
    "vllm/entrypoints/api_server.py",
    "vllm/entrypoints/launchers/dp_supervisor.py",
    "vllm/entrypoints/cli/",
)
"""Servers of their own, not ``vllm serve``'s."""

METHODS = ("get", "post", "put", "patch", "delete", "websocket")

FRAMEWORK = (
    # FastAPI's own, and the mount of the metrics (https://fastapi.tiangolo.com/tutorial/metadata/#docs-urls).
    *("GET /docs", "GET /docs/oauth2-redirect", "GET /redoc", "GET /openapi.json", "GET /metrics"),
)


class UnknownRouteError(Exception):
    """A route whose path or methods cannot be read from the source."""


def routes(folder: Path) -> list[str]:
    """Method and path of each. Raises UnknownRouteError."""
    found = set(FRAMEWORK)
    for file in sorted((folder / ENTRYPOINTS).rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        if not name.startswith(OTHER_SERVERS):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call):
                    found.update(_of_call(call, name))
    return sorted(found, key=lambda route: route.split(" ")[::-1])


def _of_call(call: ast.Call, name: str) -> Iterator[str]:
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner), attr=attribute) if owner == "app" or owner.endswith("router"):
            pass
        case _:
            return
    if attribute not in (*METHODS, "api_route", "add_api_route", "mount"):
        return
    match call.args:
        case [ast.Constant(value=str(path)), *_]:
            pass
        case [ast.Attribute(attr="swagger_ui_oauth2_redirect_url" | "path"), *_]:
            return  # among FRAMEWORK, or a route of another router
        case _:
            raise UnknownRouteError(f"{name}:{call.lineno}")
    if attribute == "mount":
        methods = ["get"]
        path = f"{path}/{{path}}"
    elif attribute in METHODS:
        methods = [attribute]
    else:
        given = [ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "methods"]
        methods = given[0] if given else ["get"]
    for method in methods:
        yield f"{method.upper()} {path}"


def main() -> int:
    """Adds the version to the file, or replaces it there."""
    parser = argparse.ArgumentParser(prog="python -m tools.engine_routes", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("date")
    given = parser.parse_args()
    known = tomllib.loads(ROUTES.read_text(encoding="utf-8")) if ROUTES.exists() else {}
    known[given.version] = {"date": given.date, "routes": routes(given.folder)}
    blocks = [
        "\n".join([f'["{version}"]', f'date = "{table["date"]}"', "routes = [", *_items(table["routes"]), "]", ""])
        for version, table in sorted(known.items(), key=lambda item: [int(part) for part in item[0].split(".")])
    ]
    head = "# Routes of vLLM's HTTP server by version, made by tools/engine_routes.py. Date: of the release.\n"
    ROUTES.write_text("\n".join([head, *blocks]), encoding="utf-8")
    return 0


def _items(found: list[str]) -> list[str]:
    return [f'  "{route}",' for route in found]


if __name__ == "__main__":
    sys.exit(main())
