"""The environment for ``pulumi``: which plugins, whose state, which passphrase."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from local import tools
from local.pulumi_environment import EngineEnvironment, ProviderChoiceError, engine_environment

PLUGINS = Path(__file__).resolve().parents[2] / "local" / "plugins"
KUBERNETES = f"resource-kubernetes-v{version('pulumi-kubernetes')}"
ALICLOUD = f"resource-alicloud-v{version('pulumi-alicloud')}"


def executable(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o755)
    return file


@pytest.fixture
def pulumi(tmp_path: Path) -> Path:
    return executable(tmp_path / "bin" / "pulumi")


@pytest.fixture
def compute(tmp_path: Path, pulumi: Path) -> Callable[..., EngineEnvironment]:
    root = tmp_path / "project"
    root.mkdir()

    def compute(*, emulated_cloud: bool = False, on_loopback: bool = False, **environ: str) -> EngineEnvironment:
        environ = {"PATH": "/nowhere", "HOME": str(tmp_path / "home")} | environ
        return engine_environment(
            root, pulumi=pulumi, emulated_cloud=emulated_cloud, on_loopback=on_loopback, environ=environ
        )

    return compute


@pytest.fixture
def official(tmp_path: Path, pulumi: Path) -> None:
    """All three plugins as the official installer and ``pulumi plugin install`` lay them out."""
    executable(pulumi.with_name("pulumi-language-python"))
    cache = tmp_path / "home" / ".pulumi" / "plugins"
    executable(cache / KUBERNETES / "pulumi-resource-kubernetes")
    executable(cache / ALICLOUD / "pulumi-resource-alicloud")


def test_stand_ins_take_the_place_of_absent_plugins(compute: Callable[..., EngineEnvironment], pulumi: Path) -> None:
    environment = compute()
    assert environment.fakes == ("language-python", "kubernetes", "alicloud")
    folders = [PLUGINS / "language_python", PLUGINS / "kubernetes", PLUGINS / "alicloud"]
    assert environment.path_entries == (*folders, pulumi.parent)
    assert environment.variables["PATH"] == ":".join(map(str, [*folders, pulumi.parent, "/nowhere"]))
    assert environment.variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert environment.describe() == ("plugins: language-python fake, kubernetes fake, alicloud fake (previews only)")


@pytest.mark.usefixtures("official")
def test_official_plugins_win(compute: Callable[..., EngineEnvironment], pulumi: Path) -> None:
    environment = compute()
    assert environment.fakes == ()
    assert environment.path_entries == (pulumi.parent,)
    assert "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION" not in environment.variables
    kubernetes, alicloud = version("pulumi-kubernetes"), version("pulumi-alicloud")
    assert environment.describe() == (
        f"plugins: language-python official, kubernetes official v{kubernetes}, alicloud official v{alicloud}"
    )


@pytest.mark.usefixtures("official")
def test_a_simulated_cloud_never_gets_the_official_alicloud_plugin(
    compute: Callable[..., EngineEnvironment],
) -> None:
    environment = compute(emulated_cloud=True)
    assert environment.fakes == ("alicloud",)
    assert environment.variables["PATH"].startswith(f"{PLUGINS / 'alicloud'}:")
    assert environment.describe().endswith(", alicloud fake (simulated cloud)")


def test_another_version_or_an_unfinished_download_is_not_the_official_plugin(
    compute: Callable[..., EngineEnvironment], tmp_path: Path
) -> None:
    cache = tmp_path / "elsewhere" / "plugins"
    executable(cache / "resource-alicloud-v3.0.0" / "pulumi-resource-alicloud")
    executable(cache / KUBERNETES / "pulumi-resource-kubernetes")
    home = str(cache.parent)
    assert compute(PULUMI_HOME=home).fakes == ("language-python", "alicloud")
    (cache / f"{KUBERNETES}.partial").touch()
    assert compute(PULUMI_HOME=home).fakes == ("language-python", "kubernetes", "alicloud")


@pytest.mark.usefixtures("official")
def test_provider_official_is_the_one_built_here(
    compute: Callable[..., EngineEnvironment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the official installer's is there: it is another version."""
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    built = executable(tools._cached(tools.TOOLS[tools.OFFICIAL_KUBERNETES]))
    environment = compute(PROVIDER="official")
    assert environment.fakes == ()
    assert environment.path_entries[0] == built.parent
    assert environment.variables["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] == "true"
    assert "kubernetes official v4.0.0-2026" in environment.describe()
    after = compute(PATH=environment.variables["PATH"])
    assert built.parent not in after.path_entries, "the shell of make env does not choose it for good"
    assert f"kubernetes official v{version('pulumi-kubernetes')}" in after.describe()


def test_another_provider_is_refused(compute: Callable[..., EngineEnvironment]) -> None:
    with pytest.raises(ProviderChoiceError, match="PROVIDER=offical: the only value is official; leave it out"):
        compute(PROVIDER="offical")


def test_plugins_on_the_path_count_unless_they_are_fakes(
    compute: Callable[..., EngineEnvironment], tmp_path: Path
) -> None:
    # Such as an archive of a release is unpacked to; the one that is built here is in a folder of such a name, too.
    ambient = tmp_path / "pulumi-resource-kubernetes-v4.34.2-linux-amd64"
    for name in ("pulumi-language-python", "pulumi-resource-kubernetes"):
        executable(ambient / name)
    path = f"{PLUGINS / 'alicloud'}:{ambient}"
    environment = compute(PATH=path)
    assert environment.fakes == ("alicloud",)
    assert environment.variables["PATH"].count(str(PLUGINS / "alicloud")) == 1
    assert "kubernetes from the PATH" in environment.describe()
    ignoring = compute(PATH=path, PULUMI_IGNORE_AMBIENT_PLUGINS="true")
    assert ignoring.fakes == ("language-python", "kubernetes", "alicloud")
    assert ignoring.variables["PULUMI_IGNORE_AMBIENT_PLUGINS"] == "false"


def test_pulumi_that_the_path_finds_is_not_put_there_again(
    compute: Callable[..., EngineEnvironment], pulumi: Path
) -> None:
    assert pulumi.parent not in compute(PATH=str(pulumi.parent)).path_entries


def test_state_is_kept_in_the_project_for_its_owner_only(
    compute: Callable[..., EngineEnvironment], tmp_path: Path
) -> None:
    variables = compute().variables
    folder = tmp_path / "project" / ".state" / "pulumi"
    assert variables["PULUMI_BACKEND_URL"] == folder.as_uri()
    assert variables["PULUMI_SKIP_UPDATE_CHECK"] == "true"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]


def test_a_passphrase_is_generated_once(compute: Callable[..., EngineEnvironment], tmp_path: Path) -> None:
    file = Path(compute().variables["PULUMI_CONFIG_PASSPHRASE_FILE"])
    generated = file.read_text()
    assert file == tmp_path / "project" / ".state" / "passphrase"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(generated) >= 32
    compute()
    assert file.read_text() == generated
    assert [path.name for path in file.parent.glob("passphrase*")] == ["passphrase"]


def test_local_stacks_have_the_passphrase_of_their_committed_salt(compute: Callable[..., EngineEnvironment]) -> None:
    environment = compute(on_loopback=True, PULUMI_CONFIG_PASSPHRASE="mine")
    assert environment.variables["PULUMI_CONFIG_PASSPHRASE"] == "local"


def test_passphrase_of_the_local_stacks_is_taken_for_no_other(
    compute: Callable[..., EngineEnvironment], tmp_path: Path
) -> None:
    """As in the shell of ``make env``; the CLI would prefer it to the file."""
    environment = compute(PULUMI_CONFIG_PASSPHRASE="local")
    generated = str(tmp_path / "project" / ".state" / "passphrase")
    assert environment.variables["PULUMI_CONFIG_PASSPHRASE_FILE"] == generated
    assert "unset PULUMI_CONFIG_PASSPHRASE\n" in environment.shell()
    over = environment.over({"PULUMI_CONFIG_PASSPHRASE": "local", "KEPT": "1"})
    assert "PULUMI_CONFIG_PASSPHRASE" not in over
    assert (over["KEPT"], over["PULUMI_CONFIG_PASSPHRASE_FILE"]) == ("1", generated)


def test_passphrase_file_of_the_user_is_kept_with_that_of_the_local_stacks(
    compute: Callable[..., EngineEnvironment],
) -> None:
    environment = compute(PULUMI_CONFIG_PASSPHRASE="local", PULUMI_CONFIG_PASSPHRASE_FILE="mine")
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment.variables
    assert environment.unset == ("PULUMI_CONFIG_PASSPHRASE",)


@pytest.mark.parametrize("name", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_BACKEND_URL"])
def test_the_users_own_settings_are_kept(compute: Callable[..., EngineEnvironment], tmp_path: Path, name: str) -> None:
    variables = compute(**{name: "mine"}).variables
    assert name not in variables
    assert compute(**{name: "mine"}).unset == ()
    if name.startswith("PULUMI_CONFIG"):
        assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in variables
        assert not (tmp_path / "project" / ".state" / "passphrase").exists()
    else:
        assert not (tmp_path / "project" / ".state" / "pulumi").exists()


def test_shell_commands_are_quoted(compute: Callable[..., EngineEnvironment]) -> None:
    path = "/with space:/and'quote"
    environment = compute(PATH=path)
    words = shlex.split(environment.shell())
    assert words[::2] == ["export"] * len(environment.variables)
    assert dict(word.split("=", 1) for word in words[1::2]) == dict(environment.variables)
    assert environment.variables["PATH"].endswith(os.pathsep + path)
