"""An OSS server for tests and the local stack: the operations that moving and reading model weights needs.

What it does, it does as OSS documents it (https://help.aliyun.com/en/oss/developer-reference/list-of-operations-by-function),
signatures, checksums, permissions and error codes included; an operation that it lacks is answered with NotImplemented.
Deliberately different: the ETag of a part is made of its CRC-64 and size, because MD5 is slower than all the rest.
"""
