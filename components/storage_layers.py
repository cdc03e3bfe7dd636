"""The storage layer of a stack: which of the two stands between the bucket and the pods."""

import pulumi

from components.fluid_cache import FluidCache, FluidCacheArgs
from components.model_bucket import ModelBucket
from components.oss_volume import OssVolume, OssVolumeArgs
from components.settings.deployment import Deployment
from components.settings.storage import FluidCacheSettings
from components.storage import ModelMount
from planner.spec import ResolvedSpec


def mount_model(
    settings: Deployment, spec: ResolvedSpec, bucket: ModelBucket, namespace: str, opts: pulumi.ResourceOptions
) -> ModelMount:
    """The claim of the layer that the settings name. After a change of kind the new layer is made beside the old one,
    which is deleted at the end of the update, when the group has moved."""
    weights, storage = settings.weights, settings.storage
    # Controllers before LWS 0.9 report the end of an update too early, and then all of it is still to come.
    release_seconds = spec.update_seconds
    if not isinstance(storage, FluidCacheSettings):
        volume_args = OssVolumeArgs(
            bucket=bucket,
            weights=weights,
            weights_gib=spec.model.weights_gib,
            namespace=namespace,
            storage=storage,
            release_seconds=release_seconds,
        )
        return OssVolume("oss-volume", volume_args, opts).mount
    if spec.cache is None:
        raise ValueError("storage of kind fluid needs a plan with a cache")
    cache_args = FluidCacheArgs(
        bucket=bucket,
        model=settings.model.name,
        weights=weights,
        namespace=namespace,
        storage=storage,
        plan=spec.cache,
        zone=settings.inference.zone,
        release_seconds=release_seconds,
    )
    return FluidCache("fluid-cache", cache_args, opts).mount
