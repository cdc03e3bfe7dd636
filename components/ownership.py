"""Ownership: which existing objects belong to this stack.

A killed engine leaves objects that are not in the state, and the next update has to adopt them. So the provider adopts
existing objects (``upsert_existing_objects``). It would also adopt objects of others, and delete them with the stack.
Therefore each object has the stack's field manager as an annotation. Before an object is created, also in previews, the
program asks the cluster whether it exists and who owns it. The hooks run only for objects that the engine is about to
create: objects in the state, or imported into it, are not looked up."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import pulumi
from pulumi import ResourceHook, ResourceHookArgs, ResourceHookBinding, ResourceHookOptions, ResourceOptions

from deepseek_acs.planner.findings import Finding, report
from deepseek_acs.planner.spec import ResolvedSpec

from .live_bucket import bucket_exists
from .live_cluster import LiveCluster, LookupFailedError
from .names import FIELD_MANAGER, field_manager
from .operators import Api, expected_apis
from .secrets import Secrets

AUTONAMED = "pulumi.com/autonamed"
BUCKET = "alicloud:oss/bucket:Bucket"
JOB = "kubernetes:batch/v1:Job"

NAMED_BY = {"Namespace": "cluster.namespace", "Service": "service.name"}
"""The setting that names objects of a kind. Names of other kinds begin with inference.name, or end with a hash that
includes the stack's name."""

NOT_TAKEN_OVER = (
    "the cluster or the cloud does not meet the requirements of this stack, see the errors above; nothing was changed"
)
IMPORT = "take it over (docs/names.md#taking-over-what-exists)"


class Ownership:
    """Marks the stack's objects as its own, and refuses to create what exists already.

    To be made before any resource. A preview tells all that is found and fails at its end, by ``verdict``; an update
    stops at the first thing found.
    """

    def __init__(self, spec: ResolvedSpec, secrets: Secrets) -> None:
        self._spec = spec
        self._kubeconfig = secrets.kubeconfig
        self._expected: Sequence[Api] | None = expected_apis(spec)
        self._cluster: LiveCluster | None = None
        self._found = 0
        self._unanswered: set[str] = set()
        self._created: list[pulumi.Resource] = []
        hook = ResourceHook("ownership", self._before_create, ResourceHookOptions(on_dry_run=True))
        self._hooks = ResourceOptions(hooks=ResourceHookBinding(before_create=[hook]))
        # In this process: a transform would send every resource to the engine and back.
        pulumi.runtime.register_stack_transformation(self._mark)

    async def verdict(self) -> None:
        """Fails a preview with findings."""
        if pulumi.runtime.is_dry_run():
            await asyncio.gather(*(resource.urn.future() for resource in self._created), return_exceptions=True)
            if self._found:
                raise pulumi.RunError(NOT_TAKEN_OVER)

    def _mark(self, args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        in_cluster = args.type_.startswith("kubernetes:") and not args.type_.startswith("kubernetes:helm.sh/")
        if args.opts.id is not None or not (in_cluster or args.type_ == BUCKET):
            return None
        self._created.append(args.resource)
        props = {**args.props, "metadata": _managed(args.props["metadata"])} if in_cluster else args.props
        return pulumi.ResourceTransformationResult(props, ResourceOptions.merge(self._hooks, args.opts))

    async def _before_create(self, args: ResourceHookArgs) -> None:
        found = await (self._bucket(args) if args.type == BUCKET else self._object(args))
        if not found:
            return
        if not pulumi.runtime.is_dry_run():
            raise pulumi.RunError(_report(found))
        # Immediately: otherwise the provider applies to the existing object, which may fail with a misleading error.
        pulumi.log.error(_report(found))
        self._found += len(found)

    async def _bucket(self, args: ResourceHookArgs) -> list[Finding]:
        name = (args.new_inputs or {}).get("bucket")
        if not isinstance(name, str) or not await asyncio.to_thread(bucket_exists, self._spec.cloud, name):
            return []
        return [
            Finding(
                path="deployment.weights.bucket",
                problem=f"the OSS bucket {name} exists already, in this account or in another",
                fix="write another weights.bucket.name; or, if it is yours, use it as it is by "
                f"weights.bucket: {{kind: existing, name: {name}}}, or {IMPORT}",
            )
        ]

    async def _object(self, args: ResourceHookArgs) -> list[Finding]:
        cluster = await self.cluster()
        if cluster is None:
            return []
        return [
            *await self._answered(self._missing_apis(cluster)),
            *await self._answered(self._existing_object(cluster, args)),
        ]

    async def _answered(self, question: Awaitable[list[Finding]]) -> list[Finding]:
        try:
            return await question
        except LookupFailedError as error:
            # The provider may still reach the cluster, and adopts what it finds.
            if str(error) not in self._unanswered:
                self._unanswered.add(str(error))
                pulumi.log.warn(
                    f"the cluster could not be asked what exists already ({error}): an existing object with the same "
                    "name would be taken over"
                )
            return []

    async def cluster(self) -> LiveCluster | None:
        """The stack's cluster; None if there is none yet."""
        file = self._spec.kubeconfig
        if file is not None and not file.is_file():
            return None
        kubeconfig = file or (await self._kubeconfig.future() if self._kubeconfig is not None else None)
        if kubeconfig is None:
            return None
        if self._cluster is None:
            self._cluster = LiveCluster(kubeconfig, self._spec.cluster.context)
        return self._cluster

    async def _delete_forgotten_jobs(self, cluster: LiveCluster, namespace: str, name: str) -> None:
        """The name of a Job ends with a hash of its content. A Job of a killed update is not in the state, and would
        run in parallel with the Job that is created now."""
        kind = name.rpartition("-")[0]
        for job in await asyncio.to_thread(cluster.jobs, namespace):
            other = job["metadata"]["name"]
            if other != name and other.rpartition("-")[0] == kind and _owner(job["metadata"]) == field_manager():
                await asyncio.to_thread(cluster.delete_job, namespace, other)
                pulumi.log.info(f"deleting the Job {namespace}/{other} of a killed update")

    async def _missing_apis(self, cluster: LiveCluster) -> list[Finding]:
        """The APIs that the stack expects in its cluster; queried once."""
        expected, self._expected = self._expected, None
        if not expected:
            return []
        return [
            api.finding
            for api in expected
            if not await asyncio.to_thread(cluster.serves, api.resource.group_version, api.resource.resource_kind)
        ]

    async def _existing_object(self, cluster: LiveCluster, args: ResourceHookArgs) -> list[Finding]:
        inputs = args.new_inputs or {}
        metadata = inputs.get("metadata")
        if not isinstance(metadata, Mapping):
            return []
        name, annotations = metadata.get("name"), metadata.get("annotations") or {}
        if not isinstance(name, str) or AUTONAMED in annotations:
            # Not known yet, or generated by the provider.
            return []
        kind, namespace = str(inputs["kind"]), metadata.get("namespace")
        live = await asyncio.to_thread(
            cluster.metadata, str(inputs["apiVersion"]), kind, namespace=namespace, name=name
        )
        if live is not None and _owner(live) != field_manager():
            return [self._exists(kind, namespace, name, _owner(live))]
        if args.type == JOB and namespace is not None and not pulumi.runtime.is_dry_run():
            await self._delete_forgotten_jobs(cluster, namespace, name)
        return []

    def _exists(self, kind: str, namespace: str | None, name: str, owner: str | None) -> Finding:
        setting = NAMED_BY.get(kind)
        if setting is None and f"{name}-".startswith(f"{self._spec.name}-"):
            setting = "inference.name"
        another = f"deployment.{setting}" if setting else "name of the stack (pulumi stack rename)"
        use = "to use it as it is, write deployment.cluster.createNamespace: false; or " if kind == "Namespace" else ""
        place = f"{namespace}/{name}" if namespace else name
        whose = (
            f"it is that of the Pulumi stack {owner.removeprefix('pulumi-')}"
            if owner
            else "this stack did not create it"
        )
        return Finding(
            path=another if setting else f"stack {pulumi.get_stack()}",
            problem=f"the {kind} {place} exists already in the cluster, and {whose}",
            fix=f"{use}choose another {another}; or {IMPORT}",
        )


def _managed(metadata: Any) -> dict[str, Any]:
    return {**metadata, "annotations": {FIELD_MANAGER: field_manager(), **(metadata.get("annotations") or {})}}


def _owner(metadata: Mapping[str, Any]) -> str | None:
    """The field manager in the annotation of an object."""
    return (metadata.get("annotations") or {}).get(FIELD_MANAGER)


def _report(findings: Sequence[Finding]) -> str:
    outcome = "nothing was created or changed" if pulumi.runtime.is_dry_run() else "it was not touched"
    return report(findings, where=f"Pulumi.{pulumi.get_stack()}.yaml", outcome=outcome)
