"""Ways to move the model from the hub into the bucket, as commands."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import alibabacloud_oss_v2 as oss

from benchmarks.transfer.servers import (
    BUCKET,
    CHUNK_BYTES,
    KEY_ID,
    KEY_SECRET,
    MODEL,
    REGION,
    Content,
    Servers,
    rclone,
)
from components.zipapps import archive
from deepseek_acs.modelmover.checksums import crc64
from deepseek_acs.modelmover.transfer import Options

OPTIONS = Options(streams=4, uploads=4)
"""Of the mover; two for each core, as one of them waits for a socket while another computes."""

AT_ONCE = 2
"""Jobs at once, for those that do one after the other; the machine has two cores."""

PART_MIB = 16
"""Of those who can choose; the mover's default."""

ENVIRONMENT = {"OSS_ACCESS_KEY_ID": KEY_ID, "OSS_ACCESS_KEY_SECRET": KEY_SECRET}

Job = Sequence[Sequence[str]]
"""Commands, each of which reads what the one before it writes."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """``jobs`` that make objects under a prefix, at most ``at_once`` of them at a time; ``checks`` is what they
    compare; ``result`` reads what has arrived, by file."""

    name: str
    checks: str
    at_once: int
    jobs: Callable[[Servers, str], Sequence[Job]]
    result: Callable[[Servers, str], Mapping[str, Content]]


def contenders(program: Path) -> list[Contender]:
    """All of them; ``program`` becomes the mover's zip file. The relay comes last, as the measure of the others."""
    program.write_bytes(archive("modelmover"))
    return [
        Contender(
            name="modelmover copy",
            checks="SHA-256, CRC-64",
            at_once=1,
            jobs=lambda servers, prefix: [[modelmover(program, servers, MODEL, prefix)]],
            result=_objects,
        ),
        Contender(name="official SDK uploader", checks="CRC-64", at_once=AT_ONCE, jobs=_sdk, result=_objects),
        Contender(name="curl | curl", checks="none", at_once=AT_ONCE, jobs=_curl, result=_completed),
        Contender(name="rclone, own S3 server", checks="MD5 of parts", at_once=AT_ONCE, jobs=_rclone, result=_files),
        *(
            Contender(
                name=f"splice relay × {number}",
                checks="none",
                at_once=1,
                jobs=partial(_relay, number),
                result=_completed,
            )
            for number in (1, 2)
        ),
    ]


def modelmover(program: Path, servers: Servers, repository: str, prefix: str) -> list[str]:
    """The command that moves a repository."""
    return [
        *(sys.executable, "-I", "-S", str(program), "copy"),
        *(f"modelscope://{repository}", f"oss://{BUCKET}/{prefix}"),
        *(f"--region={REGION}", f"--endpoint={servers.oss}", f"--hub-endpoint={servers.hub}"),
        *(f"--streams={OPTIONS.streams}", f"--uploads={OPTIONS.uploads}"),
    ]


def _sdk(servers: Servers, prefix: str) -> list[Job]:
    pairs = [(servers.file_url(name), f"{prefix}/{name}") for name in servers.files]
    command = [sys.executable, "-m", "benchmarks.transfer.sdk_uploader", servers.oss, REGION, BUCKET, str(PART_MIB)]
    # Not one job for each file: Python's start is not what is compared.
    return [[[*command, *_flat(pairs[first::AT_ONCE])]] for first in range(min(AT_ONCE, len(pairs)))]


def _curl(servers: Servers, prefix: str) -> list[Job]:
    return [
        [
            ["curl", "-sSfL", servers.file_url(name)],
            ["curl", "-sSf", "-o", "/dev/null", "-T", "-", _presigned(servers, f"{prefix}/{name}")],
        ]
        for name in servers.files
    ]


def _rclone(servers: Servers, prefix: str) -> list[Job]:
    backend = f":s3,provider=Other,endpoint='{servers.s3}',access_key_id=any,secret_access_key=any"
    command = [rclone(), "copyurl", "--config=", f"--s3-chunk-size={PART_MIB}Mi"]
    return [[[*command, servers.file_url(name), f"{backend}:{BUCKET}/{prefix}/{name}"]] for name in servers.files]


def _relay(at_once: int, servers: Servers, prefix: str) -> list[Job]:
    pairs = [(servers.file_url(name), _presigned(servers, f"{prefix}/{name}")) for name in servers.files]
    return [[[sys.executable, "-m", "benchmarks.transfer.relay", str(at_once), *_flat(pairs)]]]


def _flat(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [text for pair in pairs for text in pair]


def _presigned(servers: Servers, key: str) -> str:
    """An address to which the only part of an object may be sent without further credentials. A part, because the
    server takes the MD5 of objects that are sent whole, which would slow it down."""
    client = servers.client()
    upload = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=key)).upload_id
    request = oss.UploadPartRequest(bucket=BUCKET, key=key, part_number=1, upload_id=upload)
    return str(client.presign(request, expires=timedelta(hours=1)).url)


def _completed(servers: Servers, prefix: str) -> Mapping[str, Content]:
    """The objects, made of the parts that were sent to presigned addresses."""
    client = servers.client()
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix=prefix)).uploads
    for upload in uploads or []:
        request = oss.CompleteMultipartUploadRequest(
            bucket=BUCKET, key=upload.key, upload_id=upload.upload_id, complete_all="yes"
        )
        client.complete_multipart_upload(request)
    return _objects(servers, prefix)


def _objects(servers: Servers, prefix: str) -> Mapping[str, Content]:
    client = servers.client()
    heads = {
        name: client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=f"{prefix}/{name}")) for name in servers.files
    }
    return {name: Content(size=head.content_length, crc64=int(head.hash_crc64)) for name, head in heads.items()}


def _files(servers: Servers, prefix: str) -> Mapping[str, Content]:
    """What rclone's server has written, which is deleted then, as it is in memory."""
    folder = servers.s3_folder / BUCKET / prefix
    contents = {name: _content(folder / name) for name in servers.files}
    shutil.rmtree(folder)
    return contents


def _content(path: Path) -> Content:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = crc64(chunk, crc)
        return Content(size=file.tell(), crc64=crc)
