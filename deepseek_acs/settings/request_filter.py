"""The filter in front of the engine."""

from typing import Annotated

from pydantic import Field

from deepseek_acs.settings.base import DnsLabel, Settings

CLIENTS_MAX = 100
"""Each request is compared with the key of every client."""


class RequestFilterSettings(Settings):
    """A filter in the leaders, in front of the engine: only the paths of the API, only with a key, and no larger than
    this. docs/access.md#the-request-filter says what it refuses."""

    clients: Annotated[tuple[DnsLabel, ...], Field(max_length=CLIENTS_MAX)] = ()
    """Clients with a key of their own, each in a secret deepseek:apiKey-NAME. Remove one to shut it out; the others
    keep their keys."""

    max_body_mib: Annotated[int, Field(alias="maxBodyMiB", ge=1, le=1024)] = 32
    """Longest body of a request in MiB. A prompt of 160,000 tokens in escaped Chinese has more than 1 MiB."""

    max_header_kib: Annotated[int, Field(alias="maxHeaderKiB", ge=4, le=64)] = 16
    """Longest request line and headers together, in KiB."""

    max_sequences: Annotated[int, Field(ge=1, le=16384)] = 64
    """Answers to one request: prompts times n. Each takes memory and time of the engine as if it were a request."""

    max_prompt_characters: Annotated[int | None, Field(ge=1)] = None
    """Longest prompt in characters, everything else that the request says included. Left out, 16 for each token of
    inference.engine.maxModelLen."""
