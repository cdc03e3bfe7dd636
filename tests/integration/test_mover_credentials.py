"""Who the mover is to OSS."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from deepseek_acs.modelmover.errors import PermissionDeniedError
from deepseek_acs.modelmover.oss.credentials import RRSA_VARIABLES, Credentials, CredentialsProvider, from_environment
from deepseek_acs.modelmover.retry import Backoff
from local.faults import Fault
from local.http_service import Request, Response, Service

pytestmark = pytest.mark.integration

AT_ONCE = Backoff(attempts=3, base_seconds=0)
ROLE = "acs:ram::1:role/mover"


class Sts(Service):
    """AssumeRoleWithOIDC, for one token. The lifetime of what it gives out is in the test's hand."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "first"
        self.lifetime = timedelta(hours=1)
        self.given = 0

    def handle(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.read().decode()).items()}
        assert (form["Action"], form["Version"]) == ("AssumeRoleWithOIDC", "2015-04-01")
        assert form["RoleArn"] == ROLE
        assert form["OIDCProviderArn"] == "acs:ram::1:oidc-provider/x"
        if form["OIDCToken"] != self.token:
            return Response.json({"Code": "AuthenticationFail.OIDCToken.Invalid", "Message": "no"}, status=400)
        self.given += 1
        return Response.json(
            {
                "Credentials": {
                    "AccessKeyId": f"STS.{self.given}",
                    "AccessKeySecret": "hidden-secret",
                    "SecurityToken": "hidden-token",
                    "Expiration": (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            }
        )


def role(sts: Service, folder: Path, token: str | None = "first") -> CredentialsProvider:
    path = folder / "token"
    if token is not None:
        path.write_text(f"{token}\n")
    environ = dict(zip(RRSA_VARIABLES, (ROLE, "acs:ram::1:oidc-provider/x", str(path)), strict=True))
    return from_environment(environ, sts_endpoint=sts.url, backoff=AT_ONCE)


def test_access_key_comes_from_the_variables_of_ossutil() -> None:
    environ = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "hidden", "OSS_SESSION_TOKEN": "token"}
    assert from_environment(environ, sts_endpoint="", backoff=AT_ONCE)() == Credentials(
        key_id="id", key_secret="hidden", token="token"
    )


def test_no_credentials_are_reported_with_all_ways_to_give_them() -> None:
    with pytest.raises(PermissionDeniedError, match=r"set OSS_ACCESS_KEY_ID .* ALIBABA_CLOUD_OIDC_TOKEN_FILE"):
        from_environment({"OSS_ACCESS_KEY_ID": "id"}, sts_endpoint="", backoff=AT_ONCE)


def test_secrets_are_not_in_what_is_printed() -> None:
    shown = repr(Credentials(key_id="id", key_secret="hidden", token="hidden"))
    assert "hidden" not in shown
    assert "id" in shown


@pytest.mark.parametrize("value", ["hid den", "hid\rden", "hidd\u00e9n"])
def test_secret_that_cannot_be_sent_is_reported_without_it(value: str) -> None:
    with pytest.raises(PermissionDeniedError, match="OSS_ACCESS_KEY_SECRET holds characters") as caught:
        from_environment({"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": value}, sts_endpoint="", backoff=AT_ONCE)
    assert "hid" not in str(caught.value)


def test_line_ends_around_a_secret_are_not_part_of_it() -> None:
    environ = {"OSS_ACCESS_KEY_ID": "id\n", "OSS_ACCESS_KEY_SECRET": " hidden\r\n"}
    assert from_environment(environ, sts_endpoint="", backoff=AT_ONCE)() == Credentials(
        key_id="id", key_secret="hidden"
    )


def test_role_is_assumed_once_for_all_threads(tmp_path: Path) -> None:
    with Sts() as sts:
        provider = role(sts, tmp_path)
        threads = [threading.Thread(target=provider) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = provider()
        assert sts.given == 1
    assert (found.key_id, found.token) == ("STS.1", "hidden-token")


def test_role_is_assumed_again_before_its_credentials_end_with_the_tokens_new_content(tmp_path: Path) -> None:
    with Sts() as sts:
        sts.lifetime = timedelta(minutes=9)
        provider = role(sts, tmp_path)
        provider()
        sts.token = "second"
        (tmp_path / "token").write_text("second")
        assert provider().key_id == "STS.2"


def test_busy_sts_is_asked_again(tmp_path: Path) -> None:
    with Sts() as sts:
        sts.faults.add(Fault(action="answer", status=503), Fault(action="reset-request"))
        assert role(sts, tmp_path)().key_id == "STS.1"
        assert sts.faults.used_up()


def test_refused_role_is_reported_without_the_token(tmp_path: Path) -> None:
    with Sts() as sts, pytest.raises(PermissionDeniedError) as caught:
        role(sts, tmp_path, "wrong-token")()
    assert "STS refuses: AuthenticationFail.OIDCToken.Invalid" in str(caught.value)
    assert ROLE in str(caught.value)
    assert "wrong-token" not in str(caught.value)


def test_missing_token_file_is_reported(tmp_path: Path) -> None:
    with Sts() as sts, pytest.raises(PermissionDeniedError, match=r"OIDC token .*/token cannot be read: No such file"):
        role(sts, tmp_path, None)()
