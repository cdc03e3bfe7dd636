"""``python -m benchmarks.transfer.sdk_uploader ENDPOINT REGION BUCKET PART_MIB [URL KEY]...``: the official SDK's
way to put a stream into a bucket, by its defaults but for the size of parts; credentials come from the environment."""

import sys
from urllib.request import urlopen

import alibabacloud_oss_v2 as oss


def main() -> None:
    """Moves one file after the other."""
    endpoint, region, bucket, part_mib, *pairs = sys.argv[1:]
    config = oss.config.load_default()
    config.endpoint, config.region = endpoint, region
    config.credentials_provider = oss.credentials.EnvironmentVariableCredentialsProvider()
    uploader = oss.Client(config).uploader(part_size=int(part_mib) * 2**20)
    for url, key in zip(pairs[::2], pairs[1::2], strict=True):
        with urlopen(url) as source:
            uploader.upload_from(oss.PutObjectRequest(bucket=bucket, key=key), source)


if __name__ == "__main__":
    main()
