"""A stand-in for ``pulumi-resource-alicloud``, the provider plugin of Alibaba Cloud.

It serves the few resource types that the program declares, keeps nothing but the record in Pulumi's own
state, and changes that record only for a provider whose endpoints are on this machine: it is never taken for
the cloud.
"""
