"""Gang scheduling: where a PodGroup does what it says."""

from collections.abc import Iterator

from deepseek_acs.planner.acs import GPU_HPN
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules.rule import Problem, rule, warning
from deepseek_acs.planner.spec import ResolvedSpec

ACS = "https://help.aliyun.com/en/cs/user-guide/using-gang-scheduling"
COUNTED = "https://github.com/kubernetes-sigs/scheduler-plugins/blob/master/pkg/coscheduling/README.md"


@rule(ACS)
def gang_class(spec: ResolvedSpec) -> Iterator[Problem]:
    """ACS schedules pods of compute class gpu-hpn as a gang, and no others."""
    if spec.gang and spec.gpu.compute_class != GPU_HPN:
        yield (
            Field.GANG,
            f"ACS has no gang scheduling for compute class {spec.gpu.compute_class}: each pod gets its GPUs on its own",
            f"remove it, and bound what a half-scheduled group costs with {Field.GUARD}; or write "
            f"{Field.COMPUTE_CLASS}: {GPU_HPN} if you have a GPU-HPN capacity reservation",
        )


@rule(COUNTED)
def gang_of_one_group(spec: ResolvedSpec) -> Iterator[Problem]:
    """A gang has the pods of one group only."""
    most = spec.replicas.most + min(spec.rollout.max_surge, spec.replicas.most)
    if spec.gang and most > 1:
        yield (
            Field.GANG,
            f"there may be {most} groups at once; the scheduler counts the running pods of all groups, so a group that "
            "is recreated would start with one pod",
            f"write {Field.REPLICAS}: 1 and maxSurge: 0, or remove it",
        )


@warning(COUNTED)
def gang_of_pods(spec: ResolvedSpec) -> Iterator[Problem]:
    """A gang has several pods."""
    if spec.gang and spec.layout.pods == 1:
        yield Field.GANG, "the group has one pod, which is scheduled as a whole anyway", "remove it"
