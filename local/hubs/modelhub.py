"""The server: both APIs and the content server on one port."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from local.http_service import Body, Request, Response, Service
from local.hubs import contents, huggingface, modelscope
from local.hubs.errors import RefusalError
from local.hubs.repositories import Repositories

_CONTENTS = ("/cdn/", "/cdn-internal/")
_MODELSCOPE = "/api/v1/"


class ModelHub(Service):
    """Serves the repositories in ``root`` as ModelScope and as Hugging Face do.

    :param private: token by repository (``owner/name``); others are public.
    :param region: region of the hub's internal addresses, and of its clients as ``GET /-/region`` tells them.
    :param link_seconds: how long addresses of the content server hold.
    :param cdn_crc64: whether the content server gives the CRC-64 of objects, as OSS does.
    """

    def __init__(
        self,
        root: Path,
        *,
        private: Mapping[str, str] = MappingProxyType({}),
        region: str | None = "cn-hangzhou",
        link_seconds: int = 3600,
        cdn_crc64: bool = True,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self._region = region
        self._repositories = Repositories(root)
        self._contents = contents.Contents(self._repositories, link_seconds=link_seconds, with_crc64=cdn_crc64)
        self._modelscope = modelscope.ModelScopeApi(self._repositories, self._contents, private=private, region=region)
        self._huggingface = huggingface.HuggingFaceApi(self._repositories, self._contents, private=private)

    @property
    def leaks(self) -> Sequence[str]:
        """Paths at the content server that were asked for with credentials of the API."""
        return self._contents.leaks

    def freeze_listing(self) -> None:
        """From now on lists every file as it is now: a file that changes is one that was damaged at the source."""
        self._repositories.freeze()

    def expire_links(self) -> None:
        """Makes every address of the content server that was given out so far invalid."""
        self._contents.expire()

    def handle(self, request: Request) -> Response:
        if request.path.startswith(_CONTENTS):
            serve = self._contents.serve
        elif request.path.startswith(_MODELSCOPE):
            serve = self._modelscope.serve
        else:
            serve = self._huggingface.serve
        try:
            return serve(request)
        except RefusalError as error:
            return self.refusal(request, error.status, error.code, str(error))

    def refusal(self, request: Request, status: int, code: str, message: str) -> Response:
        if request.path.startswith(_CONTENTS):
            return contents.refusal(status, code, message)
        if request.path.startswith(_MODELSCOPE):
            return modelscope.refusal(status, code, message)
        return huggingface.refusal(status, code, message)

    def control(self, request: Request) -> Response:
        if request.path == "/-/region":
            return Response(headers={"Content-Type": "text/plain"}, body=Body((self._region or "").encode()))
        return super().control(request)
