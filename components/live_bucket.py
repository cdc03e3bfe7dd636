"""Whether a bucket name is taken. Bucket names are unique across all accounts, and an unsigned request shows whether a
name is taken in any account."""

import http.client
import urllib.error
import urllib.request

from deepseek_acs.settings.cloud import CloudSettings

TIMEOUT_SECONDS = 5

REQUEST_ID = "x-oss-request-id"
"""In every response of OSS, but not in responses of a proxy in front of it
(https://www.alibabacloud.com/help/en/oss/developer-reference/common-http-headers)."""


def bucket_exists(cloud: CloudSettings, name: str) -> bool:
    """Whether the name is taken; False if OSS cannot be reached from here. The provider may reach it another way, and
    then reports the same later."""
    try:
        with urllib.request.urlopen(_address(cloud, name), timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - http or https
            return REQUEST_ID in response.headers
    except urllib.error.HTTPError as error:
        error.close()
        # 404 is NoSuchBucket; a private bucket, or one in another region, answers with 403
        # (https://www.alibabacloud.com/help/en/oss/developer-reference/error-responses).
        return REQUEST_ID in error.headers and error.code < 500 and error.code != 404
    except (OSError, http.client.HTTPException):
        return False


def _address(cloud: CloudSettings, name: str) -> str:
    if cloud.endpoint is not None:
        return f"{cloud.endpoint.rstrip('/')}/{name}/"
    return f"https://{name}.oss-{cloud.region}.aliyuncs.com/"
