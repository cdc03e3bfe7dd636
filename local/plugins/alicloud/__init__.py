"""A fake of ``pulumi-resource-alicloud``, the provider plugin of Alibaba Cloud.

It serves the few resource types that the program declares, keeps nothing itself, and changes something only for a
provider whose endpoints are on this machine: it is never taken for the cloud. Buckets and RAM users are made in the
OSS server there, all else is a record in Pulumi's own state.
"""
