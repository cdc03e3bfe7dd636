"""What ACS and the LeaderWorkerSet have pods for. More of ACS, on which no layout depends: ``planner/acs_rules.py``."""

import difflib
from collections.abc import Mapping

from planner import catalogue
from planner.case import Case
from planner.rules.rule import ACS_PODS, Rule, Values

LWS_NAME_MAX = 51
"""Longest name of a LeaderWorkerSet: pods and the revision label append to it
(https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go)."""


def _series_known(case: Case) -> Values | None:
    if case.series:
        return None
    if case.choices.gpu_memory_gib is not None:
        sized = f"it is sized by the given {case.choices.gpu_memory_gib:g} GiB"
    elif case.gpu:
        sized = f"it is sized as {case.gpu.name}"
    else:
        sized = "without deployment.inference.gpu.gpuMemoryGiB, the memory of one card, it is not sized"
    near = [name for name, row in catalogue.gpu_series().items() if row.gpu == case.choices.series]
    near += difflib.get_close_matches(case.choices.series, catalogue.gpu_series(), n=1)
    meant = f"did you mean {near[0]}? Otherwise check" if near else "check"
    return {"series": case.choices.series, "sized": sized, "meant": meant}


def _cards(case: Case) -> Values | None:
    if case.series is None or case.layout.cards in case.series.cards:
        return None
    legal = ", ".join(map(str, case.series.cards))
    return {"cards": case.layout.cards, "series": case.series.name, "legal": legal}


def _pod_size(case: Case) -> Values | None:
    legal, cpu, memory = case.pods_of_acs, case.cpu, case.memory_gib
    if not legal:
        return None
    return (
        None
        if any(c >= cpu and max(sizes) >= memory for c, sizes in legal.items())
        else {
            "cpu": cpu,
            "memory": memory,
            "cards": case.layout.cards,
            "series": case.choices.series,
            "legal": _sizes(legal),
        }
    )


def _pod_rounded(case: Case) -> Values | None:
    legal, cpu, memory = case.pods_of_acs, case.cpu, case.memory_gib
    fitting = [(c, size) for c, sizes in legal.items() if c >= cpu for size in sizes if size >= memory]
    if not fitting or (cpu, memory) in fitting:
        return None
    billed_cpu, billed_memory = min(fitting)
    return {"cpu": cpu, "memory": memory, "billed": f"{billed_cpu} vCPUs and {billed_memory} GiB"}


def _sizes(legal: Mapping[int, tuple[int, ...]]) -> str:
    return "; ".join(f"{cpu} vCPUs with {', '.join(map(str, sizes))} GiB" for cpu, sizes in legal.items())


def _shared_memory(case: Case) -> Values | None:
    if case.shared_memory_gib < case.memory_gib:
        return None
    return {"shared": case.shared_memory_gib, "memory": case.memory_gib}


def _rdma(case: Case) -> Values | None:
    if case.choices.network != "rdma" or case.series is None or case.layout.cards in case.series.rdma_cards:
        return None
    legal = " or ".join(map(str, case.series.rdma_cards))
    if legal:
        but = f" only with {legal} cards, and these have {case.layout.cards}"
        return {"some": "", "series": case.series.name, "but": but, "fix": f"deployment.inference.gpu.cards: {legal}"}
    series = ", ".join(name for name, row in catalogue.gpu_series().items() if row.rdma_cards)
    return {"some": "no ", "series": case.series.name, "but": "", "fix": f"one of the series {series}"}


def _name(case: Case) -> Values | None:
    length = len(case.choices.name)
    return {"name": case.choices.name, "length": length, "most": LWS_NAME_MAX} if length > LWS_NAME_MAX else None


def _image_hardware(case: Case) -> Values | None:
    image = case.choices.image or ""
    if (case.choices.series == "P16EN") == ("-xpu-" in image) or not image:
        return None
    needs = "an inference-xpu image" if case.choices.series == "P16EN" else "an image for NVIDIA GPUs"
    return {"series": case.choices.series, "needs": needs, "image": image}


def _available(case: Case) -> Values | None:
    available, per_replica = case.choices.available_gpus, case.layout.pods * case.layout.cards
    if available is None:
        return None
    needed = (case.choices.replicas + case.choices.max_surge) * per_replica
    if needed <= available:
        return None
    return {
        "replicas": case.choices.replicas,
        "surge": case.choices.max_surge,
        "needed": needed,
        "available": available,
        "fix": f"lower {'replicas' if case.choices.scaling is None else 'the most groups of scaling'} or maxSurge; "
        f"each group needs {per_replica} GPUs"
        if per_replica <= available
        else f"a single group needs {per_replica}: choose a smaller layout, or write the cards that there are",
    }


POD_RULES = (
    Rule(
        id="series-known",
        statement="The GPU series is in the catalogue. The cloud adds series faster than this program.",
        source=ACS_PODS,
        path="deployment.inference.gpu.series",
        problem="{series} is not in planner/acs.toml; it is passed to ACS unchecked; {sized}",
        fix="{meant} the name with your account manager",
        check=_series_known,
        severity="warning",
    ),
    Rule(
        id="cards",
        statement="ACS has pods of the series with this number of cards.",
        source=ACS_PODS,
        path="deployment.inference.gpu.cards",
        problem="ACS has no pod with {cards} cards of series {series} and would reject it",
        fix="write one of {legal}",
        check=_cards,
        mended_by_layout=True,
    ),
    Rule(
        id="pod-size",
        statement="ACS has a pod of the series that is large enough.",
        source=ACS_PODS,
        path="deployment.inference.resources",
        problem="ACS has no pod with {cards} cards of series {series}, {cpu} vCPUs and {memory:g} GiB",
        fix="choose from: {legal}",
        check=_pod_size,
    ),
    Rule(
        id="pod-rounded",
        statement="ACS rounds up to the next legal size and bills that.",
        source=ACS_PODS,
        path="deployment.inference.resources",
        problem="{cpu} vCPUs and {memory:g} GiB are no legal size; ACS rounds up to {billed} and bills that",
        fix="write the size that is billed",
        check=_pod_rounded,
        severity="warning",
    ),
    Rule(
        id="shared-memory",
        statement="Shared memory is a part of the pod's memory.",
        source="https://kubernetes.io/docs/concepts/storage/volumes/#emptydir",
        path="deployment.inference.resources",
        problem="{shared:g} GiB of shared memory leave nothing of the pod's {memory:g} GiB, of which they are a part",
        fix="write less sharedMemory than memory; the guide has 4 GiB and 64 GiB per card",
        check=_shared_memory,
    ),
    Rule(
        id="rdma",
        statement="Only whole-machine pods of some series have RDMA.",
        source="https://www.alibabacloud.com/help/en/cs/user-guide/pod-hpn-type-rdma",
        path="deployment.inference.network",
        problem="ACS has {some}RDMA for pods of series {series}{but}",
        fix="write {fix}, or network: standard",
        check=_rdma,
        mended_by_layout=True,
    ),
    Rule(
        id="name",
        statement="The names of pods and revisions, which append to the group's, stay within 63 characters.",
        source="https://github.com/kubernetes-sigs/lws/blob/main/pkg/webhooks/leaderworkerset_webhook.go",
        path="deployment.inference.name",
        problem="{name} has {length} characters, a LeaderWorkerSet at most {most}",
        fix="write a shorter name",
        check=_name,
    ),
    Rule(
        id="image-hardware",
        statement="The image is built for the series' hardware.",
        source="https://help.aliyun.com/en/cs/user-guide/acs-ai-container-image-version-release-record/",
        path="deployment.inference.engine.image",
        problem="series {series} needs {needs}, which {image} does not seem to be",
        fix="choose one from ACS's list of images",
        check=_image_hardware,
        severity="warning",
    ),
    Rule(
        id="available-gpus",
        statement="All replicas, and those that an update adds, fit on the GPUs that there are.",
        source="https://lws.sigs.k8s.io/docs/concepts/rollout-strategy/",
        path="deployment.inference.gpu.available",
        problem="{replicas} replicas and {surge} more during an update need {needed} GPUs, of {available}",
        fix="{fix}",
        check=_available,
        mended_by_layout=True,
    ),
)
