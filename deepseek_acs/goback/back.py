"""Which template comes back, what it needs, and the patch."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from deepseek_acs.apiserver.watching import LWS_API
from deepseek_acs.gate.record import ACCEPTED, PREVIOUS, REFUSED, Record, Refusal, accepted, previous, put_back

FIELD_MANAGER = "fieldManager=deepseek-back"
BY_HAND = "put back by hand, with make back"


class BackError(Exception):
    """Nothing was changed; the text says why, and what to do."""


class Api(Protocol):
    """The API server."""

    def get(self, path: str) -> dict[str, Any] | None:
        """The object; None if there is none. Raises BackError."""

    def patch(self, path: str, body: object) -> None:
        """Merges into the object. Raises BackError."""


def go_back(api: Api, *, namespace: str, group: str, store: str, now: Callable[[], datetime]) -> str:
    """Puts the accepted template back, or the one before if the accepted one runs. Returns what was done. Raises
    BackError."""
    lws_path = f"/apis/{LWS_API}/namespaces/{namespace}/leaderworkersets/{group}"
    store_path = f"/api/v1/namespaces/{namespace}/configmaps/{store}"
    live, records = api.get(lws_path), api.get(store_path)
    if live is None:
        raise BackError(f"there is no LeaderWorkerSet {group} in the namespace {namespace}: deploy it with make up")
    data: Mapping[str, str] = (records or {}).get("data") or {}
    last, before = accepted(data, group), previous(data, group)
    if last is None:
        raise BackError(
            f"the ConfigMap {store} has no accepted template of {group}: write the old settings into the stack file "
            "(docs/going-back.md)"
        )
    runs_last = last.template == live["spec"]["leaderWorkerTemplate"]
    target = before if runs_last else last
    if target is None:
        raise BackError(
            f"{group} runs the only template that was accepted, {last.template_digest} of {last.accepted_at}"
        )
    if missing := _missing(api, namespace, target):
        raise BackError(
            f"template {target.template_digest} needs what a later update has deleted: {', '.join(missing)}. Write its "
            "settings into the stack file, and run make up, which creates them (docs/going-back.md)"
        )
    moment = now().isoformat(timespec="seconds").replace("+00:00", "Z")
    changes: dict[str, str] = {}
    if runs_last:
        refusal = Refusal(template_digest=last.template_digest, action="returned", why=BY_HAND, refused_at=moment)
        changes = {
            f"{ACCEPTED}.{group}": target.text(),
            f"{PREVIOUS}.{group}": last.text(),
            REFUSED: refusal.text(),
        }
    api.patch(f"{lws_path}?{FIELD_MANAGER}", put_back(live, target.template))
    if changes:
        api.patch(f"{store_path}?{FIELD_MANAGER}", {"data": changes})
    return (
        f"{group} goes back to template {target.template_digest}, accepted {target.accepted_at}. Its groups load the "
        "model one after the other. Write its settings into the stack file now: the next change of the groups applies "
        "the stack file"
    )


def _missing(api: Api, namespace: str, record: Record) -> list[str]:
    """Objects that the template names, and that do not exist."""
    kinds = {"persistentvolumeclaims": "claim", "configmaps": "ConfigMap", "secrets": "Secret"}
    found = sorted(set(_named(record.template)))
    return [
        f"{kinds[kind]} {name}"
        for kind, name in found
        if api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}") is None
    ]


def _named(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of all objects that pods of the template cannot start without."""
    for role in ("leaderTemplate", "workerTemplate"):
        pod = (template.get(role) or {}).get("spec") or {}
        for volume in pod.get("volumes") or []:
            if claim := volume.get("persistentVolumeClaim"):
                yield "persistentvolumeclaims", claim["claimName"]
            if (source := volume.get("configMap")) and not source.get("optional"):
                yield "configmaps", source["name"]
            if (source := volume.get("secret")) and not source.get("optional"):
                yield "secrets", source["secretName"]
        for container in (*(pod.get("initContainers") or []), *(pod.get("containers") or [])):
            for entry in container.get("env") or []:
                reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
                if reference and not reference.get("optional"):
                    yield "secrets", reference["name"]
