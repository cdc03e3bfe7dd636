"""The life of Dataset, JindoRuntime and DataLoad, in steps that one look at the cluster decides.

- A JindoRuntime is ready once its Dataset is there. It and its Dataset go only when no pod mounts the claim.
- A Dataset is bound when its runtime is ready, the Secrets that it names exist and the claim is bound. It has the
  claim made, as Fluid does. The volume says where the files are: on real nodes the driver mounts them from OSS.
- A DataLoad waits for its Dataset (Pending), loads (Executing) and ends as Complete, or as a fault has it.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import ApiException

GROUP, VERSION = "data.fluid.io", "v1alpha1"
PLURALS = ("datasets", "jindoruntimes", "dataloads")

FINALIZERS = {"datasets": "fluid-dataset-controller-finalizer", "jindoruntimes": "jindo-runtime-controller-finalizer"}

FAULTS_NAMESPACE, FAULTS_CONFIG_MAP, FAULTS_KEY = "kube-system", "fluid-faults", "dataload"
"""Where a fault is asked for: ``fail`` ends a DataLoad as Failed, ``hang`` never ends it, ``empty`` completes it with
nothing cached. It holds until the ConfigMap is deleted."""

STORAGE_CLASS, DRIVER = "fluid", "fuse.csi.fluid.io"
READABLE = "-o allow_other -o umask=022"
"""Options of the mount: pods of any user read it."""
CACHED = "641.30GiB"
NOTHING = "0.00B"

Object = Mapping[str, Any]


class Controller:
    """``core`` and ``custom`` are the official client's APIs of these names."""

    def __init__(self, core: Any, custom: Any) -> None:
        self._core = core
        self._custom = custom

    def reconcile(self) -> bool:
        """Moves every object at most one step on; returns whether one is on its way, and so to be looked at soon."""
        found = {plural: self._list(plural) for plural in PLURALS}
        under_way = [self._runtime(runtime, found) for runtime in found["jindoruntimes"].values()]
        under_way += [self._dataset(dataset, found) for dataset in found["datasets"].values()]
        under_way += [self._load(load, found["datasets"]) for load in found["dataloads"].values()]
        return any(under_way)

    def _list(self, plural: str) -> dict[tuple[str, str], Object]:
        items = self._custom.list_cluster_custom_object(GROUP, VERSION, plural)["items"]
        return {_key(item): item for item in items}

    def _runtime(self, runtime: Object, found: Mapping[str, Mapping[tuple[str, str], Object]]) -> bool:
        if _is_deleted(runtime):
            if self._is_mounted(runtime):
                return True
            self._delete_claim(runtime)
            return self._release("jindoruntimes", runtime)
        if self._hold("jindoruntimes", runtime):
            return True
        workers = runtime["spec"]["replicas"]
        if _key(runtime) not in found["datasets"] or _status(runtime).get("workerNumberReady") == workers:
            return False
        phases = dict.fromkeys(("masterPhase", "workerPhase", "fusePhase"), "Ready")
        return self._set("jindoruntimes", runtime, {**phases, "workerNumberReady": workers})

    def _dataset(self, dataset: Object, found: Mapping[str, Mapping[tuple[str, str], Object]]) -> bool:
        runtime = found["jindoruntimes"].get(_key(dataset))
        if _is_deleted(dataset):
            return runtime is None and self._release("datasets", dataset)
        if self._hold("datasets", dataset):
            return True
        ready = runtime is not None and not _is_deleted(runtime) and _status(runtime).get("workerPhase") == "Ready"
        if ready and self._secrets_exist(dataset):
            if not self._claim_is_bound(dataset):
                return True
            status = {"phase": "Bound", "ufsTotal": CACHED, "cacheStates": {"cached": NOTHING}}
            return _status(dataset).get("phase") != "Bound" and self._set("datasets", dataset, status)
        return _status(dataset).get("phase") != "NotBound" and self._set("datasets", dataset, {"phase": "NotBound"})

    def _load(self, load: Object, datasets: Mapping[tuple[str, str], Object]) -> bool:
        phase = _status(load).get("phase", "")
        target = load["spec"]["dataset"]
        dataset = datasets.get((target["namespace"], target["name"]))
        if not phase:
            return self._set("dataloads", load, {"phase": "Pending", "conditions": [], "duration": "Unfinished"})
        if phase == "Pending":
            bound = dataset is not None and _status(dataset).get("phase") == "Bound"
            return bound and self._set("dataloads", load, {"phase": "Executing"})
        if phase != "Executing" or dataset is None:
            return False
        match self._fault():
            case "hang":
                return True
            case "fail":
                return self._end(load, "Failed", reason="BackoffLimitExceeded", message="a fault was asked for")
            case "empty":
                return self._end(load, "Complete")
        self._set("datasets", dataset, {"cacheStates": {"cached": CACHED, "cachedPercentage": "100.0%"}})
        return self._end(load, "Complete")

    def _end(self, load: Object, phase: str, **why: str) -> bool:
        condition = {"type": phase, "status": "True", **why}
        return self._set("dataloads", load, {"phase": phase, "conditions": [condition], "duration": "1s"})

    def _fault(self) -> str:
        try:
            faults = self._core.read_namespaced_config_map(FAULTS_CONFIG_MAP, FAULTS_NAMESPACE)
        except ApiException as error:
            if error.status == 404:
                return ""
            raise
        return str((faults.data or {}).get(FAULTS_KEY, ""))

    def _secrets_exist(self, dataset: Object) -> bool:
        namespace, _ = _key(dataset)
        for name, key in _secret_keys(dataset):
            try:
                secret = self._core.read_namespaced_secret(name, namespace)
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
            if key not in (secret.data or {}):
                return False
        return True

    def _claim_is_bound(self, dataset: Object) -> bool:
        namespace, name = _key(dataset)
        try:
            claim = self._core.read_namespaced_persistent_volume_claim(name, namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            self._make_claim(dataset)
            return False
        return bool(claim.status.phase == "Bound")

    def _make_claim(self, dataset: Object) -> None:
        namespace, name = _key(dataset)
        volume = f"{namespace}-{name}"
        spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": STORAGE_CLASS}
        with _exists_is_fine():
            self._core.create_persistent_volume(
                {
                    "metadata": {"name": volume},
                    "spec": {
                        **spec,
                        "capacity": {"storage": "100Pi"},
                        "persistentVolumeReclaimPolicy": "Retain",
                        "claimRef": {"namespace": namespace, "name": name},
                        "csi": {"driver": DRIVER, "volumeHandle": volume, "readOnly": True, **_source(dataset)},
                    },
                }
            )
        with _exists_is_fine():
            self._core.create_namespaced_persistent_volume_claim(
                namespace,
                {
                    "metadata": {"name": name},
                    "spec": {**spec, "volumeName": volume, "resources": {"requests": {"storage": "100Pi"}}},
                },
            )

    def _delete_claim(self, runtime: Object) -> None:
        namespace, name = _key(runtime)
        with _absent_is_fine():
            self._core.delete_namespaced_persistent_volume_claim(name, namespace)
        with _absent_is_fine():
            self._core.delete_persistent_volume(f"{namespace}-{name}")

    def _is_mounted(self, runtime: Object) -> bool:
        namespace, name = _key(runtime)
        pods = self._core.list_namespaced_pod(namespace).items
        volumes = [volume for pod in pods for volume in pod.spec.volumes or ()]
        return any(v.persistent_volume_claim and v.persistent_volume_claim.claim_name == name for v in volumes)

    def _hold(self, plural: str, item: Object) -> bool:
        if FINALIZERS[plural] in item["metadata"].get("finalizers", ()):
            return False
        self._patch(plural, item, {"metadata": {"finalizers": [FINALIZERS[plural]]}})
        return True

    def _release(self, plural: str, item: Object) -> bool:
        rest = [name for name in item["metadata"].get("finalizers", ()) if name != FINALIZERS[plural]]
        self._patch(plural, item, {"metadata": {"finalizers": rest}})
        return True

    def _patch(self, plural: str, item: Object, change: Object) -> None:
        namespace, name = _key(item)
        with _absent_is_fine():
            self._custom.patch_namespaced_custom_object(GROUP, VERSION, namespace, plural, name, change)

    def _set(self, plural: str, item: Object, status: Object) -> bool:
        namespace, name = _key(item)
        logging.info("%s %s/%s: %s", plural, namespace, name, status.get("phase", status))
        with _absent_is_fine():
            self._custom.patch_namespaced_custom_object_status(
                GROUP, VERSION, namespace, plural, name, {"status": status}
            )
        return True


class _Ignoring:
    """Ignores one HTTP status of the API: another client was faster."""

    def __init__(self, status: int) -> None:
        self._status = status

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ApiException) and error.status == self._status


def _exists_is_fine() -> _Ignoring:
    return _Ignoring(409)


def _absent_is_fine() -> _Ignoring:
    return _Ignoring(404)


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _status(item: Object) -> Object:
    status: Object = item.get("status") or {}
    return status


def _source(dataset: Object) -> Object:
    """What the driver needs, of the Dataset's only mount."""
    namespace, _ = _key(dataset)
    (mount,) = dataset["spec"]["mounts"]
    place = urlsplit(mount["mountPoint"])
    secret, _ = next(_secret_keys(dataset))
    return {
        "volumeAttributes": {
            "bucket": place.netloc,
            "path": place.path,
            "url": mount["options"]["fs.oss.endpoint"],
            "otherOpts": READABLE,
        },
        "nodePublishSecretRef": {"namespace": namespace, "name": secret},
    }


def _is_deleted(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _secret_keys(dataset: Object) -> Iterator[tuple[str, str]]:
    for mount in dataset["spec"]["mounts"]:
        for option in mount.get("encryptOptions", ()):
            reference = option["valueFrom"]["secretKeyRef"]
            yield reference["name"], reference["key"]
