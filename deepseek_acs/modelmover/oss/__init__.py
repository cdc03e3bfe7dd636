"""The part of Alibaba Cloud's Object Storage Service (OSS) that the mover needs."""
