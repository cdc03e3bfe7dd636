"""Ways to move the model from the hub into the bucket, as commands."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import alibabacloud_oss_v2 as oss

from benchmarks.transfer.servers import BUCKET, KEY_ID, KEY_SECRET, RCLONE, REGION, REPOSITORY, Servers
from modelmover.archive import archive

GET_ALONE, PUT_ALONE = "curl, GET alone", "curl, PUT alone"
RCLONE_NAME = "rclone to its own S3 server"

AT_ONCE = 2
"""Files at once, for those that have no threads of their own; the machine has two cores."""

ENVIRONMENT = {"OSS_ACCESS_KEY_ID": KEY_ID, "OSS_ACCESS_KEY_SECRET": KEY_SECRET}

SDK_UPLOADER = """
import sys, urllib.request
import alibabacloud_oss_v2 as oss
endpoint, region, bucket, key, url = sys.argv[1:]
config = oss.config.load_default()
config.region, config.endpoint = region, endpoint
config.credentials_provider = oss.credentials.EnvironmentVariableCredentialsProvider()
with urllib.request.urlopen(url) as source:
    oss.Client(config).uploader(part_size=16 * 2**20).upload_from(oss.PutObjectRequest(bucket=bucket, key=key), source)
"""

Command = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """``commands`` for objects under a prefix; at most ``at_once`` of them run at a time. ``checks`` says what is
    proven; ``in_bucket`` whether the OSS server has the objects then."""

    name: str
    checks: str
    in_bucket: bool = True
    at_once: int
    commands: Callable[[Servers, str], list[Command]]


def contenders(folder: Path) -> list[Contender]:
    """All of them; ``folder`` takes the mover's zip file."""
    program = folder / "modelmover.pyz"
    program.write_bytes(archive())

    def modelmover(threads: int) -> Callable[[Servers, str], list[Command]]:
        return lambda servers, prefix: [
            [
                *(sys.executable, "-I", "-S", str(program), "copy"),
                *(f"modelscope://{REPOSITORY}", f"oss://{BUCKET}/{prefix}"),
                *(f"--region={REGION}", f"--endpoint={servers.oss}", f"--hub-endpoint={servers.hub}"),
                *(f"--streams={threads}", f"--uploads={threads}"),
            ]
        ]

    return [
        Contender(name="modelmover, 4 streams", checks="SHA-256, CRC-64", at_once=1, commands=modelmover(4)),
        Contender(name="modelmover, 2 streams", checks="SHA-256, CRC-64", at_once=1, commands=modelmover(2)),
        Contender(name="official SDK's uploader", checks="CRC-64", at_once=AT_ONCE, commands=_sdk),
        Contender(name="curl | curl", checks="none", at_once=AT_ONCE, commands=_curl),
        Contender(name=RCLONE_NAME, checks="MD5 of parts", at_once=AT_ONCE, in_bucket=False, commands=_rclone),
        Contender(name=GET_ALONE, checks="none", at_once=AT_ONCE, in_bucket=False, commands=_get),
        Contender(name=PUT_ALONE, checks="none", at_once=AT_ONCE, commands=_put),
    ]


def _sdk(servers: Servers, prefix: str) -> list[Command]:
    return [
        [sys.executable, "-c", SDK_UPLOADER, servers.oss, REGION, BUCKET, f"{prefix}/{name}", servers.file_url(name)]
        for name in servers.files
    ]


def _curl(servers: Servers, prefix: str) -> list[Command]:
    pipe = 'curl -sSfL "$0" | curl -sSf -o /dev/null -T - -H Content-Type: "$1"'
    return [
        ["sh", "-c", pipe, servers.file_url(name), presigned(servers, f"{prefix}/{name}")] for name in servers.files
    ]


def _rclone(servers: Servers, prefix: str) -> list[Command]:
    backend = f":s3,provider=Other,endpoint='{servers.s3}',access_key_id=any,secret_access_key=any"
    # The same object each time: its server keeps it in memory.
    return [[RCLONE, "copyurl", servers.file_url(name), f"{backend}:{BUCKET}/{name}"] for name in servers.files]


def _get(servers: Servers, prefix: str) -> list[Command]:
    return [["curl", "-sSfL", "-o", "/dev/null", servers.file_url(name)] for name in servers.files]


def _put(servers: Servers, prefix: str) -> list[Command]:
    return [
        [
            *("curl", "-sSf", "-o", "/dev/null", "-H", "Content-Type:"),
            *("-T", str(servers.folder / name), presigned(servers, f"{prefix}/{name}")),
        ]
        for name in servers.files
    ]


def presigned(servers: Servers, key: str) -> str:
    """An address to which the only part of an object may be sent without further credentials. A part, because the
    server has to take the MD5 of objects that are sent whole."""
    client = servers.client()
    upload = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=key)).upload_id
    request = oss.UploadPartRequest(bucket=BUCKET, key=key, part_number=1, upload_id=upload)
    return str(client.presign(request, expires=timedelta(hours=1)).url)


def complete(servers: Servers, prefix: str) -> None:
    """Makes objects of the parts that were sent to presigned addresses."""
    client = servers.client()
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix=prefix)).uploads
    for upload in uploads or []:
        request = oss.CompleteMultipartUploadRequest(
            bucket=BUCKET, key=upload.key, upload_id=upload.upload_id, complete_all="yes"
        )
        client.complete_multipart_upload(request)
