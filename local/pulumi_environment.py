"""The environment in which ``pulumi`` runs for this project: its plugins, its state and its passphrase.

On a machine with Pulumi's own plugins this sets only defaults. Where one of them is absent, the fake for it in
``local/plugins`` goes first on the PATH. Order in which the CLI looks: PATH, next to its own binary (language hosts),
``$PULUMI_HOME/plugins``; see ``getPluginInfoAndPath`` in
https://github.com/pulumi/pulumi/blob/v3.255.0/sdk/go/common/workspace/plugins.go"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from local import passphrase, tools

_FAKES = Path(__file__).resolve().parent / "plugins"
PROVIDER = "PROVIDER"
"""The environment variable that chooses the kubernetes plugin; ``official`` is the only value."""


class ProviderChoiceError(Exception):
    """There is no such kubernetes plugin to choose."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin of the CLI, and which implementation of it is used.

    :param source: for people: the implementation.
    :param folder: where it is, if the CLI would not find it by itself.
    """

    name: str
    source: str
    folder: Path | None = None

    @property
    def is_fake(self) -> bool:
        """Whether it is one of ``local/plugins``."""
        return self.folder is not None and self.folder.parent == _FAKES


@dataclass(frozen=True, kw_only=True)
class EngineEnvironment:
    """What to set before ``pulumi`` is run.

    :param variables: environment variables, PATH among them.
    :param unset: those that must not be set.
    :param path_entries: the folders that were put first on that PATH.
    """

    variables: Mapping[str, str]
    path_entries: tuple[Path, ...]
    plugins: tuple[Plugin, ...]
    unset: tuple[str, ...] = ()

    def over(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give `environ`, changed so."""
        return {**_without(environ, self.unset), **self.variables}

    @property
    def fakes(self) -> tuple[str, ...]:
        """The names of the plugins for which fakes are used."""
        return tuple(plugin.name for plugin in self.plugins if plugin.is_fake)

    def describe(self) -> str:
        """Name every plugin and its implementation, in one line."""
        return "plugins: " + ", ".join(f"{plugin.name} {plugin.source}" for plugin in self.plugins)

    def shell(self) -> str:
        """Give POSIX shell commands that set and unset the variables."""
        unset = "".join(f"unset {name}\n" for name in self.unset)
        return unset + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.variables.items())


def engine_environment(
    root: Path, *, pulumi: Path, emulated_cloud: bool, on_loopback: bool, environ: Mapping[str, str]
) -> EngineEnvironment:
    """Work out the environment for a stack; create the state folder and the passphrase if they are needed.

    Settings that `environ` has for the backend, the passphrase and the update check are kept. With
    ``PROVIDER=official`` in it, the kubernetes plugin is the one that ``make official`` builds; it is built now if it
    is not there. Raises ProviderChoiceError, ToolError.

    :param root: the project's folder; state is kept in ``.state`` inside it.
    :param pulumi: the ``pulumi`` binary.
    :param emulated_cloud: whether the stack's cloud is simulated on this machine. It then always gets the fake
        for the alicloud plugin: the official one would look for the real cloud.
    :param on_loopback: whether its cluster and its cloud are both on this machine: its passphrase is then known to all.
    """
    unset = passphrase.unwanted(environ, on_loopback=on_loopback)
    environ = _without(environ, unset)
    plugins = (
        _language_host(pulumi, environ),
        _kubernetes(environ),
        _provider("alicloud", environ) if not emulated_cloud else _simulated_cloud(),
    )
    folders = tuple(plugin.folder for plugin in plugins if plugin.folder)
    next_to_cli = () if _first_on_path("pulumi", environ) == pulumi else (pulumi.parent,)
    entries = (*folders, *next_to_cli)
    variables = {
        "PATH": os.pathsep.join([*map(os.fspath, entries), *_path(environ)]),
        "PULUMI_SKIP_UPDATE_CHECK": environ.get("PULUMI_SKIP_UPDATE_CHECK", "true"),
        **_backend(root, environ),
        **passphrase.variables(_state(root), environ, on_loopback=on_loopback),
    }
    if folders:
        # What the CLI would download is what these folders are for; and it must find them on the PATH.
        variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
        variables["PULUMI_IGNORE_AMBIENT_PLUGINS"] = "false"
    return EngineEnvironment(variables=variables, path_entries=entries, plugins=plugins, unset=unset)


def _without(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


def _language_host(pulumi: Path, environ: Mapping[str, str]) -> Plugin:
    name = "language-python"
    executable = f"pulumi-{name}"
    if _is_executable(pulumi.resolve().parent / executable) or _ambient(executable, environ):
        return Plugin(name=name, source="official")
    return Plugin(name=name, source="fake", folder=_FAKES / "language_python")


def _kubernetes(environ: Mapping[str, str]) -> Plugin:
    name = "kubernetes"
    chosen = environ.get(PROVIDER)
    if not chosen:
        return _provider(name, environ)
    if chosen != "official":
        raise ProviderChoiceError(
            f"{PROVIDER}={chosen}: the only value is official; leave it out for the default plugin"
        )
    built = tools.tool(tools.OFFICIAL_KUBERNETES)
    return Plugin(name=name, source=f"official {tools.TOOLS[built.name].version}", folder=built.parent)


def _provider(name: str, environ: Mapping[str, str]) -> Plugin:
    executable = f"pulumi-resource-{name}"
    if _ambient(executable, environ):
        return Plugin(name=name, source="from the PATH")
    # The version that the Python package was made for is the one that the CLI looks for.
    needed = version(f"pulumi-{name}")
    installed = _plugin_cache(environ) / f"resource-{name}-v{needed}"
    # The CLI marks an unfinished download by a file of this name.
    unfinished = installed.with_name(f"{installed.name}.partial")
    if _is_executable(installed / executable) and not unfinished.exists():
        return Plugin(name=name, source=f"official v{needed}")
    source = "fake (previews only)" if name == "alicloud" else "fake"
    return Plugin(name=name, source=source, folder=_FAKES / name)


def _simulated_cloud() -> Plugin:
    return Plugin(name="alicloud", source="fake (simulated cloud)", folder=_FAKES / "alicloud")


def _plugin_cache(environ: Mapping[str, str]) -> Path:
    home = environ.get("PULUMI_HOME")
    return (Path(home) if home else Path(environ.get("HOME", "/"), ".pulumi")) / "plugins"


def _ambient(executable: str, environ: Mapping[str, str]) -> bool:
    ignored = environ.get("PULUMI_IGNORE_AMBIENT_PLUGINS", "").lower() in ("1", "true")
    return not ignored and _first_on_path(executable, environ) is not None


def _first_on_path(executable: str, environ: Mapping[str, str]) -> Path | None:
    found = (Path(folder, executable) for folder in _path(environ))
    return next((file for file in found if _is_executable(file)), None)


def _path(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the folders on the PATH except those of plugins that an earlier call may have put there."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        if folder and not _is_put_there(Path(folder).resolve()):
            yield folder


def _is_put_there(folder: Path) -> bool:
    built = tools.cache_directory().resolve() / "tools"
    return folder.parent == _FAKES or (folder.parent == built and folder.name.startswith(tools.OFFICIAL_KUBERNETES))


def _is_executable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.X_OK)


def _backend(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    if environ.get("PULUMI_BACKEND_URL"):
        return {}
    folder = _state(root) / "pulumi"
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"PULUMI_BACKEND_URL": folder.as_uri()}


def _state(root: Path) -> Path:
    folder = root.absolute() / ".state"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
