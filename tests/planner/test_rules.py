"""Each rule, kept and broken."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deepseek_acs.planner.catalogue import gpu_series
from deepseek_acs.planner.dangerous import FLAGS, SECRET_FLAGS, VARIABLES, meant
from deepseek_acs.planner.findings import Field
from deepseek_acs.planner.rules import LAYOUT_RULES, RULES
from deepseek_acs.planner.rules.engine import PROGRAM_FLAGS
from deepseek_acs.planner.rules.rule import Rule
from deepseek_acs.planner.starts import MeasuredStarts
from deepseek_acs.planner.vllm import Engine, argument_problem, serving_changes
from deepseek_acs.planner.vllm_releases.release import newest, text
from deepseek_acs.settings.paths import STACK_PATHS
from tests.planner.specs import DIGEST, errors, guide, spec, stack_findings

FLUID = {"kind": "fluid"}
QUEUE = {"kind": "queue", "maxReplicas": 2, "prometheus": {"url": "http://p"}}
SCHEDULE = {
    "kind": "schedule",
    "minReplicas": 0,
    "windows": [{"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 1}],
}
CLIENTS = {"networkPolicy": {"clients": [{"namespace": "a"}]}}
LOAD_BALANCER = {"kind": "internalLoadBalancer"}
INGRESS_NGINX = {"kind": "ingress", "className": "nginx", "host": "a.example.com", "tls": {"kind": "controller"}}
POOL = {"kind": "inferencePool", "name": "g", "sectionName": "https", "host": "a.example.com"}
INSTALL_OLD_LWS = {"lws": {"kind": "install", "version": "0.8.0"}}
OLD_FLUID = {"fluid": {"kind": "install", "chart": "https://x/ack-fluid-1.0.10.tgz"}}
RRSA = {"kind": "rrsa", "oidcProviderArn": "acs:ram::1:oidc-provider/a", "oidcIssuer": "https://a"}
NEW: dict[str, Any] = {"image": "vllm-openai:v0.33.0"}
V20: dict[str, Any] = {"image": "vllm-openai:v0.20.2"}
COMPILED: dict[str, Any] = {"compile_cache": "bucket", "enforce_eager": False, **NEW}
CARRIER = "100.112.0.0/12"
UPDATE: dict[str, Any] = {"revision": "v33", "engine": {"image": "vllm-openai:v0.33.0", "backend": "mp"}}
GATE: dict[str, Any] = {"questions": [{"ask": "What is 17 + 25?", "holds": ["42"]}]}
GATED: dict[str, Any] = {"verification": {"gate": GATE}, "max_model_len": 2048}
MODEL_UPDATE: dict[str, Any] = {
    "revision": "v3",
    "model": {"name": "deepseek-ai/DeepSeek-V3"},
    "weights": {"prefix": "models/V3"},
}
QWEN_FP8: dict[str, Any] = {"model": "Qwen/Qwen3-235B-A22B-FP8", "pipeline": 1, **NEW}

BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "model-known": (
        {"model": "deepseek-ai/DeepSeek-R2"},
        "deepseek-ai/DeepSeek-R2 is not in deepseek_acs/planner/models.toml, so its size is not known",
        "did you mean deepseek-ai/DeepSeek-R1? Otherwise set deployment.model.weightsGiB",
    ),
    "config-readable": (
        {"config_file": "/nowhere/config.json"},
        "/nowhere/config.json cannot be read: No such",
        "set the path of the config.json that was downloaded with the model's weights",
    ),
    "model-size": (
        {"weights_gib": 64.1},
        "64.1 GiB are not the 641.3 GiB of deepseek-ai/DeepSeek-R1",
        "remove it, or correct deployment.model.name",
    ),
    "shapes-agree": (
        {"config_file": "{config}", "weights_gib": 20.0, "model": "mine"},
        "20.0 GiB are not the 15.0 GiB that follow from the shapes of mine: either one of the two belongs to another ",
        "correct it; if it is right, put the model's hf_quant_config.json next to the file if it has one, or else ",
    ),
    "images": (
        {"model": "moonshotai/Kimi-K2.5", **NEW},
        "moonshotai/Kimi-K2.5 also reads images; the memory that encoding them needs is not included in the plan",
        'write --limit-mm-per-prompt={"image": 0, "video": 0} if no images are sent',
    ),
    "partition": (
        {"env": {"VLLM_PP_LAYER_PARTITION": "30,30"}},
        "VLLM_PP_LAYER_PARTITION: vLLM: sum(partitions)=60 does not match num_hidden_layers=61.",
        "write 2 numbers with the sum 61 with commas between, or remove it",
    ),
    "model-class": (
        {"model": "Qwen/Qwen3-32B", "image": "vllm:v0.8.3", "tensor": 8, "pipeline": 1},
        "vLLM 0.8.3 has no class for Qwen/Qwen3-32B (Qwen3ForCausalLM), which was added in 0.8.4; it runs only if "
        "the image's Transformers has one, and needs other memory",
        "use an image with vLLM 0.8.4 or newer",
    ),
    "memory-as-counted": (
        {"pipeline": 1, **NEW, "max_model_len": 163_840, "extra_args": ("--cpu-offload-gb=40",)},
        "deepseek-ai/DeepSeek-R1 does not fit by what the plan includes; --cpu-offload-gb is not included and may "
        "change that",
        "check the figures in the engine's log at its first start",
    ),
    "arguments": (
        {"extra_args": ("--max-num-seqs 8",)},
        "item 1 has a flag and its value with a space between, which vLLM takes for one word",
        "write --flag=value, or the value as an item of its own",
    ),
    "port": (
        {"port": 6379},
        "port 6379 is used by Ray in a group of several pods",
        "write another port, for example 8000",
    ),
    "startup-close": (
        {"startup_seconds": 2200},
        "of 2200 s, 11 s are left after reading for the other pods, NCCL, profiling and slower reads",
        "remove the setting (3884 s by default) unless you measured starts",
    ),
    "gpus-per-pod": (
        {"gpus_per_pod": 16},
        "ACS rejects a pod with 16 GPUs of series GU8TF",
        "write one of 1, 2, 4, 8",
    ),
    "whole-pods": (
        {"tensor": 4, "pipeline": 3},
        "tensor 4 × pipeline 3 = 12 GPUs do not fill whole pods of 8 GPUs",
        "choose tensor × pipeline = 8 (1 pod) or 16 (2 pods), or change deployment.inference.gpu.perPod",
    ),
    "heads": (
        {"tensor": 12},
        "vLLM: Total number of attention heads (128) must be divisible by tensor parallel size (12).",
        "choose tensor ",
    ),
    "kv-heads": (
        {"model": "Qwen/Qwen3-Coder-480B-A35B-Instruct", "tensor": 12, "pipeline": 2, **NEW},
        "8 KV heads can be neither split nor copied evenly over 12 GPUs",
        "choose tensor ",
    ),
    "layers": (
        {"pipeline": 64},
        "64 stages are more than the model's 61 layers, so some stages would be empty",
        "choose tensor ",
    ),
    "widths": (
        {"model": "deepseek-ai/DeepSeek-V2-Lite", "tensor": 16, "pipeline": 1, "series": "P16EN", "gpus_per_pod": 16},
        "",
        "",
    ),
    "quantised-shards": (
        QWEN_FP8,
        "split over 8 GPUs, a part of 192 is not a multiple of the block size 128; vLLM: Weight output_partition_size "
        "= 192 is not "
        "divisible by weight quantization block_n = 128.",
        "choose tensor ",
    ),
    "context": (
        {"max_model_len": 200_000},
        "vLLM: User-specified max_model_len (200000) is greater than the derived max_model_len, here 163840",
        "write 163840 or less",
    ),
    "batched-tokens": (
        {"extra_args": ("--max-num-batched-tokens=1024",)},
        "vLLM: max_num_batched_tokens (1024) is smaller than max_model_len (2048).",
        "write --max-num-batched-tokens=2048 or more",
    ),
    "expert-parallel": (
        {"extra_args": ("--enable-expert-parallel",), "model": "Qwen/Qwen3-32B", "tensor": 8, "pipeline": 1, **NEW},
        "--enable-expert-parallel: Qwen/Qwen3-32B has no experts; vLLM: Number of experts in the model must be",
        "remove it",
    ),
    "capability": (
        {"series": "A800"},
        "fp8 weights in blocks on A800: before vLLM 0.9.0 they need compute capability 8.9, this GPU has 8.0",
        "choose a newer GPU series",
    ),
    "fp8-cache": (
        {"extra_args": ("--kv-cache-dtype", "fp8")},
        "vLLM 0.7.2 fails with an FP8 cache on H20: FP8 Triton MLA not yet supported",
        "remove --kv-cache-dtype",
    ),
    "memory": (
        {"pipeline": 1, **NEW, "max_model_len": 163_840},
        "deepseek-ai/DeepSeek-R1 does not fit: of 90.2 GiB on the tightest GPU, weights take 79.6; at most 8.1 GiB "
        "are left for the cache, and one request of 163,840 tokens needs 10.72; vLLM: To serve at least one request "
        "with the model's max seq len (163840), (10.72 GiB KV cache is needed, which is larger than the available KV "
        "cache memory (8.11 GiB)",
        "choose tensor ",
    ),
    "layout-known": (
        {"series": "H2000", "gpus_per_pod": None},
        "the number of GPUs depends on the memory of one GPU, which is not known for series H2000",
        "set it, or set all of deployment.inference.gpu.perPod, deployment.inference.parallelism.tensor and "
        "deployment.",
    ),
    "memory-bound": (
        {"model": "mine", "weights_gib": 2000.0},
        "the weights alone need 125.0 GiB on each GPU, which has 90.2 GiB usable",
        "choose tensor ",
    ),
    "pod-size": (
        {"cpu": 200},
        "ACS offers no pod with 8 GPUs of series GU8TF, 200 vCPUs and 512 GiB",
        "choose from: 64 vCPUs with 64, 128, 256, 512 GiB; ",
    ),
    "shared-memory": (
        {"shared_memory": "512Gi"},
        "512 GiB of shared memory leave nothing of the pod's 512 GiB of memory, which include them",
        "write less sharedMemory than memory; the guide uses 4 GiB and 64 GiB per GPU",
    ),
    "rdma": (
        {"network": "rdma", "gpus_per_pod": 4},
        "ACS supports RDMA for series GU8TF only with 8 GPUs per pod, not with 4",
        "write deployment.inference.gpu.perPod: 8, or deployment.inference.network: standard",
    ),
    "backend": (
        {"backend": "mp"},
        "vLLM 0.7.2 cannot run one engine on several pods with the mp backend",
        "write ray, or use an image with vLLM 0.11.1 or newer",
    ),
    "startup": (
        {"startup_seconds": 600},
        "the startup probe would kill the pod after 600 s, while reading 641.3 GiB at 300 MiB/s takes 2189 s",
        "write 3884, remove the setting, or raise deployment.storage.throughputMiBps to a measured figure",
    ),
    "drain": (
        {"grace_seconds": 75, "request_seconds": 600},
        "pods get 30 s to finish their requests, which may take 600 s",
        "remove the setting, or write 645 or more",
    ),
    "available-gpus": (
        {"available_gpus": 32, "replicas": 2, "max_surge": 1},
        "2 replicas and 1 more during an update need 48 GPUs, and 32 are available",
        "lower replicas or maxSurge; each group needs 16 GPUs",
    ),
    "measured-throughput": (
        {"starts": MeasuredStarts(count=4, seconds=4000, phases={"image": 100, "read": 3600, "compile": 300})},
        "the last 4 starts read the weights at 182 MiB/s per pod in the median, and the startup probe counts on 300",
        "write 180, or find out what slows the storage down",
    ),
    "scale-to-zero": (
        {"scaling": SCHEDULE},
        "with no group running, the first answer takes 37 to 95 min, and requests fail until then",
        "write 1 if that is too long",
    ),
    "model-modelled": (
        {"model": "mine", "weights_gib": 100.0},
        "the memory of mine is bounded, not predicted: only its size is known",
        "check the figures in the engine's log at its first start",
    ),
    "series-known": (
        {"series": "H20"},
        "H20 is not in deepseek_acs/planner/gpu_series.toml; it is passed to ACS without a check; the plan uses the "
        "figures of H20",
        "did you mean GU8TF? Otherwise check the name",
    ),
    "memory-close": (
        {"pipeline": 1, "gpu_memory_utilization": 0.88, **NEW},
        "too close to tell whether it fits: 0 to",
        "lower deployment.inference.engine.maxModelLen, or choose tensor ",
    ),
    "warm-up": (
        {
            **{"model": "openai/gpt-oss-120b", "gpus_per_pod": 1, "tensor": 1, "pipeline": 1},
            **{"gpu_memory_gib": 139.8, "gpu_memory_utilization": 0.92, **V20},
        },
        "the engine may run out of memory when it warms up its sampler for 1,024 sequences: up to ",
        "lower it, or limit the sequences by --max-num-seqs",
    ),
    "experts-even": (
        {"model": "Qwen/Qwen3-235B-A22B", "extra_args": ("--enable-expert-parallel",), "tensor": 3, **NEW},
        "128 experts do not divide evenly over 3 GPUs: some GPUs wait, and load balancing (EPLB) refuses",
        "choose a tensor parallel size that divides 128",
    ),
    "tensor-in-pod": (
        {"tensor": 16, "pipeline": 1},
        "16 exceeds the 8 GPUs of a pod, so each layer waits for the network",
        "use pipeline parallelism between pods",
    ),
    "graphs": (
        {"enforce_eager": False, "gpu_memory_utilization": 0.99},
        "vLLM 0.7.2 captures CUDA graphs outside this share, and only 1.0 GiB are left there",
        "lower it, or set deployment.inference.engine.enforceEager",
    ),
    "uncounted-flags": (
        {"extra_args": ("--speculative-config={}",)},
        "--speculative-config changes memory use in a way that the plan does not include",
        "check the figures in the engine's log at its first start",
    ),
    "image-version": (
        {"image": "registry/engine:stable"},
        "the image name registry/engine:stable contains no vLLM version; the plan assumes vLLM " + text(newest()),
        "set deployment.inference.engine.version, or use an image with a tag such as vllm-openai:v0.11.0",
    ),
    "loadable-files": (
        {"source": {"kind": "modelScope", "include": ["*.safetensors"]}},
        "include and exclude leave out the model's configuration (config.json, params.json)",
        "let them take config.json, or remove both",
    ),
    "planned-weights": (
        {"source": {"kind": "huggingFace", "repository": "unsloth/DeepSeek-R1-BF16"}},
        "the plan is that of deepseek-ai/DeepSeek-R1, and the weights are those of unsloth/DeepSeek-R1-BF16",
        "write unsloth/DeepSeek-R1-BF16 as deployment.model.name",
    ),
    "host-memory": (
        {"cpu": 64, "memory": "64Gi"},
        "64 GiB without shared memory are 4.0 GiB for each of 8 GPUs",
        "write more memory; the guide has 64 GiB per GPU",
    ),
    "engine-image": (
        {"image": "lmsysorg/sglang:v0.4.5"},
        "lmsysorg/sglang:v0.4.5 is an image of SGLang, and the program starts vllm serve",
        "use an image of vLLM",
    ),
    "features": (
        {"tool_calling": {"parser": "deepseek_v3"}},
        "vLLM 0.7.2 has no parser for tool calls deepseek_v3 yet, which was added in 0.9.0",
        "write one of granite",
    ),
    "arguments-in-full": (
        {"extra_args": ("--max-num-se=64",)},
        "vLLM reads --max-num-se as --max-num-seqs, and the plan does not",
        "write --max-num-seqs",
    ),
    "arguments-together": (
        {"extra_args": ("--enable-auto-tool-choice",)},
        "vLLM: Error: --enable-auto-tool-choice requires --tool-call-parser",
        "add --tool-call-parser, or remove --enable-auto-tool-choice",
    ),
    "idle-arguments": (
        {"extra_args": ("--reasoning-parser=deepseek_r1",)},
        "--reasoning-parser has no effect on vLLM 0.7.2 without --enable-reasoning",
        "add --enable-reasoning",
    ),
    "kernels-known": (
        {"model": "deepseek-ai/DeepSeek-V3.2", "series": "G49E", "pipeline": 3, **NEW},
        "vLLM 0.33.0 has kernels for sparse MLA on some GPUs alone, and which GPU G49E has is not published",
        "choose a series whose GPU is known, or test one group before you pay for more",
    ),
    "long-prompts": (
        {"max_model_len": 65_536},
        "above 32,768, vLLM 0.7.2 answers prompts of more than 2,048 tokens with nothing",
        "write 32768 or less, or --max-num-batched-tokens=65536, or use an image with vLLM 0.7.3 or newer",
    ),
    "drafts-in-stages": (
        {"speculative_tokens": 1, "image": "vllm:v0.20.2", "backend": "mp"},
        "vLLM 0.20.2 has no multi-token prediction with pipeline stages",
        "write 1 and a larger tensor parallel size, remove the speculative decoding, or use an image with vLLM 0.30.0",
    ),
    "variables": (
        {"env": {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}},
        "CUDA_VISIBLE_DEVICES hides GPUs of the pod, which the layout counts and ACS bills",
        "remove it and set deployment.inference.gpu.perPod",
    ),
    "idle-variables": (
        {"env": {"VLLM_ATTENTION_BACKEND": "FLASHMLA"}, "image": "vllm:v0.20.0"},
        "vLLM 0.20.0 has no VLLM_ATTENTION_BACKEND any more, which was dropped in 0.15.0; it has no effect",
        "remove it and write the argument --attention-backend",
    ),
    "image-hardware": (
        {"series": "P16EN"},
        "series P16EN needs an inference-xpu image, which registry",
        "choose one from ACS's list",
    ),
    "pod-rounded": (
        {"cpu": 64, "memory": "300Gi"},
        "64 vCPUs and 300 GiB are not a size that ACS offers; it rounds up to 64 vCPUs and 512 GiB and bills that",
        "write the size that is billed",
    ),
    "update-downtime": (
        {"request_seconds": 600},
        "a change of the pods stops the only group until the model is loaded again, 37 to 65 min",
        "set maxSurge: 1 and maxUnavailable: 0 if 16 more GPUs are available",
    ),
    "update-reaches": (
        {"replicas": 2, "partition": 2},
        "only groups from number 2 on are updated, and the 2 groups are counted from 0",
        "write a lower number",
    ),
    "ending": (
        {"request_seconds": 600},
        "vLLM 0.7.2 accepts new requests on open connections while it terminates, until all are done or 600 s are "
        "over; the rest is cut off",
        "use an image whose tag contains vLLM 0.18.0 or newer",
    ),
    "budget-refuses": (
        {"evictable_groups": 0},
        "0 refuses every eviction, so a node drain waits until the group is deleted by hand",
        "tell the administrators of the nodes, or write 1",
    ),
    "budget-spares": (
        {"evictable_groups": 2, "replicas": 2},
        "evictions may stop all 2 groups, so the budget protects nothing",
        "run more replicas than maxUnavailable, or write 0 to refuse evictions",
    ),
}
V4_PRO: dict[str, Any] = {"model": "deepseek-ai/DeepSeek-V4-Pro", "series": "GU8TEF", **NEW}
BROKEN |= {
    "output-groups": (
        {**V4_PRO, "tensor": 32, "pipeline": 1},
        "the 16 groups of the output projection cannot be split over 32 GPUs",
        "choose tensor ",
    ),
    "cache-format": (
        {**V4_PRO, "image": "vllm/vllm-openai:v0.29.0"},
        "vLLM 0.29.0 stores DeepSeek-V4's KV cache in FP8 only and refuses auto",
        "write --kv-cache-dtype=fp8",
    ),
    "model-version": (
        {**V4_PRO, "image": "vllm/vllm-openai:v0.19.1"},
        "vLLM 0.19.1 does not support deepseek-ai/DeepSeek-V4-Pro",
        "use an image with vLLM 0.20.0 or newer",
    ),
    "data-parallel": (
        {"extra_args": ("--data-parallel-size=8",), **NEW},
        "--data-parallel-size 8 starts 8 engines, which need 128 GPUs; a replica has 16; its memory is not modelled",
        "remove it and set deployment.inference.replicas to 8",
    ),
}
BROKEN |= {
    "series-spelling": ({"series": "gu8tf"}, "there is no series gu8tf; names are case-sensitive", "write GU8TF"),
    "hpn-qos": (
        {"compute_class": "gpu-hpn", "qos": "best-effort"},
        "compute class gpu-hpn supports only quality of service default, not best-effort",
        "write default, or deployment.inference.gpu.computeClass: gpu",
    ),
    "hpn-gpus-per-pod": (
        {"compute_class": "gpu-hpn", "gpus_per_pod": 3},
        "compute class gpu-hpn has no pod with 3 GPUs",
        "write one of 1, 2, 4, 8, 16",
    ),
    "ephemeral-storage": (
        {"extra_ephemeral": "2019Gi"},
        "2019 GiB and the free 30 GiB exceed the limit of 2048 GiB for a pod with 8 GPUs of series GU8TF",
        "write at most 2018Gi",
    ),
    "reserved-ports": (
        {"port": 10250},
        "ACS reserves the ports 111, 10250, 10255",
        "write another port",
    ),
    "known-network-card": (
        {"series": "NEW1", "network": "rdma"},
        "whether ACS has RDMA for NEW1 is not in deepseek_acs/planner/gpu_series.toml; RDMA is requested without a "
        "check, with the variables for mlx5 network cards",
        "set deployment.inference.engine.env if the network card needs others",
    ),
    "listed-driver": (
        {"driver_version": "999.1"},
        "999.1 is not among the drivers known for GU8TF (550.90.07)",
        "write one of these, or remove the setting",
    ),
    "cuda-driver": (
        NEW,
        "vLLM 0.33.0 is built with CUDA 13, which needs driver 580 or newer, and GU8TF has 550.90.07",
        "set VLLM_ENABLE_CUDA_COMPATIBILITY=1 in deployment.inference.engine.env, which",
    ),
    "usual-resource": (
        {"series": "P16EN", "gpus_per_pod": 16, "resource": "nvidia.com/gpu"},
        "ACS counts GPUs of series P16EN as alibabacloud.com/ppu, so a pod that requests",
        "remove the setting",
    ),
    "preflight-knows-the-hardware": (
        {"preflight": {}, "resource": "alibabacloud.com/ppu"},
        "it knows nvidia-smi and NCCL only, so it does not check the GPUs of GU8TF",
        "check them in another way, or remove it",
    ),
    "gang-class": (
        {"gang": {}},
        "ACS has no gang scheduling for compute class gpu: each pod gets its GPUs on its own",
        "remove it, and bound what a half-scheduled group costs with deployment.inference.guard; or write "
        "deployment.inference.gpu.computeClass: gpu-hpn",
    ),
    "gang-of-one-group": (
        {"gang": {}, "compute_class": "gpu-hpn", "max_surge": 1},
        "there may be 2 groups at once; the scheduler counts the running pods of all groups",
        "write deployment.inference.replicas: 1 and maxSurge: 0",
    ),
    "gang-of-pods": (
        {"gang": {}, "compute_class": "gpu-hpn", "series": "GU8TEF", "pipeline": 1},
        "the group has one pod",
        "remove it",
    ),
    "update-weight": (
        {"update": {**UPDATE, "weight": 10}},
        "there is no route, so nothing sends 10 % of the requests to deepseek-r1-v33",
        "write a deployment.service.route of kind gateway; or 0, test deepseek-r1-v33 by its own Service, and then 100",
    ),
    "update-limits": (
        {"update": {**UPDATE, "limits": {}}},
        "without a route of kind gateway there is no weight that a program could set to 0",
        "write a deployment.service.route of kind gateway, or remove it",
    ),
    "update-first-token": (
        {"update": {**UPDATE, "engine": {}, "limits": {"timeToFirstTokenSeconds": 11}}},
        "the histogram of vLLM 0.7.2 ends at 10 s, so no first token counts as later than 11 s",
        "write timeToFirstTokenSeconds: 10 or less, or remove it",
    ),
    "update-gpus": (
        {"update": UPDATE, "replicas": 3, "available_gpus": 56},
        "deepseek-r1-v33 needs 16 GPUs in addition to the 48 of deepseek-r1, and 56 are available",
        "correct deployment.inference.gpu.available if there are more, or serve with 2 of 3 groups meanwhile, or "
        "change deployment.inference without update, which needs no other GPUs and interrupts the service",
    ),
    "update-served-name": (
        {"update": {**MODEL_UPDATE, "model": {"name": "deepseek-ai/DeepSeek-V3", "servedName": "v3"}}},
        "its model is served as v3, and clients ask for ds: their requests would fail with 404",
        "write model.servedName: ds",
    ),
    "update-weights": (
        {"update": MODEL_UPDATE, "storage": FLUID},
        "the cache holds the weights of one model, and a second cache needs memory for all of them",
        "write deployment.storage.kind: csi, or serve the new model by a stack of its own",
    ),
    "update-of-groups": (
        {"update": UPDATE, "replicas": 0},
        "with deployment.inference.replicas 0 no group serves that the new ones could relieve",
        "remove it, and write its sections into deployment.inference",
    ),
    "update-drains": (
        {"update": UPDATE, "lifecycle": None},
        "without it, the requests that still run when the old groups are deleted are lost",
        "write it before the update, as its own change",
    ),
    "update-is-complete": (
        {"update": {**UPDATE, "promote": True}},
        "revision v33 is promoted, and the next update needs this section",
        "move engine to deployment.inference.engine, write revision: v33 into deployment.inference, and remove "
        "deployment.update",
    ),
    "compile-cache-variables": (
        {**COMPILED, "env": {"TRITON_CACHE_DIR": "/tmp/triton"}},
        "TRITON_CACHE_DIR is set, and so is deployment.inference.engine.compileCache, which sets it as well",
        "remove one of them",
    ),
    "compile-cache-fits": (
        {**COMPILED, "cpu": 1},
        "its container takes 1 vCPU and 1 GiB of a pod, of which 1 vCPU and 480 GiB are left for the engine",
        "write larger deployment.inference.resources, or remove it",
    ),
    "compile-cache-has-content": (
        {**COMPILED, "enforce_eager": None},
        "the engine runs eagerly, so there is nothing of torch.compile to keep, but kernels of Triton and DeepGEMM at "
        "most",
        "write deployment.inference.engine.enforceEager: false, or remove it",
    ),
    "compile-cache-identity": (
        {**COMPILED, "identity": {"kind": "accessKey"}},
        "with an identity of kind accessKey, the given AccessKey is in the engine's pods, with all of its rights",
        "write deployment.weights.identity ramUser or rrsa, by which the pods may write their cache and nothing else",
    ),
    "compile-cache-reaches-oss": (
        {**COMPILED, "security": {"networkPolicy": {**CLIENTS["networkPolicy"], "egress": {"closedCidrs": [CARRIER]}}}},
        f"it closes {CARRIER}, and the pods reach OSS at addresses in 100.64.0.0/10 for "
        "deployment.inference.engine.compileCache",
        "close a smaller network, or check that no address of OSS is in it",
    ),
    "gate-partition": (
        {**GATED, "partition": 1, "replicas": 2},
        "with a gate, the gate sets the partition",
        "remove it, or remove deployment.verification.gate",
    ),
    "gate-surge": (
        {**GATED, "max_surge": 1, "replicas": 2},
        "with a gate, additional groups (maxSurge) start with the old template",
        "write maxSurge: 0 and maxUnavailable: 1; or change the groups by deployment.update",
    ),
    "gate-long-prompt": (
        {**GATED, "verification": {"gate": {**GATE, "longPrompt": 0.95}}, "max_model_len": 300},
        "a prompt of 285 tokens and 16 of answer are more than the 300 of a request",
        "write a smaller share, or raise deployment.inference.engine.maxModelLen",
    ),
    "gate-answers": (
        {**GATED, "verification": {"gate": {**GATE, "maxTokens": 2048}}},
        "a question and maxTokens of answer are 2,052 tokens, and the engine accepts requests of at most 2,048",
        "write fewer tokens, or raise deployment.inference.engine.maxModelLen",
    ),
    "gate-of-one-group": (
        GATED,
        "with one group, the gate asks after the restart: the endpoint is down until it is loaded, and going back "
        "loads once more, up to 95 min",
        "change it by deployment.update if there are GPUs for a second group",
    ),
    "guard-waits-for-a-start": (
        {"guard": {"unreadySeconds": 5683}},
        "a group is given up after 5683 s, and a start may take 5684 s by the plan",
        "write 5684 or more, or remove the setting (11368 s by default)",
    ),
    "guard-holds-back": (
        {"guard": {"backOffSeconds": 60}, "scaling": QUEUE},
        "a group is held back by scaling it away, and the autoscaler would start it again immediately",
        "remove it: failedStarts bounds the restarts",
    ),
    "guard-waits-for-pods": (
        {"guard": {"pendingSeconds": 1799}},
        "a group is given up if one of its pods starts 1799 s later than another, and GPUs and the image may take 1800",
        "write 1800 or more, unless you measured it",
    ),
    "priced-tokens": (
        {"prices": {"tokensPerSecond": 10}},
        "the price of a token is not known without the price of a GU8TF, and there is no public one",
        "set deployment.prices.gpuHour, or remove it",
    ),
    "eviction-notice": (
        {"qos": "best-effort", "request_seconds": 256},
        "ACS evicts best-effort pods with 300 s notice, so requests are cut off after 255 of 256 s",
        "write deployment.inference.qos: default",
    ),
    "pods-by-ticket": (
        {"upload": {"cpu": 17}},
        "ACS grants pods without GPUs more than 16 vCPU or 128 GiB only after a ticket",
        "open one with Alibaba Cloud",
    ),
    "installed-lws": (
        {"operators": INSTALL_OLD_LWS, "lifecycle": {"groupRestart": "afterStart"}},
        "afterStart needs LeaderWorkerSet 0.9.0; 0.8.0, which the stack installs, refuses it",
        "raise deployment.operators.lws.version, or write onPodRestart",
    ),
    "expected-lws": (
        {"partition": 1, "replicas": 2},
        "a partition needs LeaderWorkerSet 0.7.0 in the cluster; an older one updates all groups",
        "check the controller's version, or write 0",
    ),
    "fluid-chart": (
        {"storage": FLUID, "operators": OLD_FLUID},
        "ack-fluid 1.0.10 is older than 1.0.11, the first version that adds the cache's client to pods of ACS "
        "(deployment.storage.sidecar: acs); the GPU pods may find no weights",
        "set the address of a newer chart, and its imageTag",
    ),
    "cache-identity": (
        {"storage": FLUID, "identity": RRSA},
        "storage of kind fluid reads the bucket with an AccessKey, but the identity is rrsa",
        "write ramUser or accessKey, or deployment.storage.kind: csi",
    ),
    "sidecar-size": (
        {"storage": {**FLUID, "sidecarMemory": "480Gi"}},
        "the client of the cache takes 4 vCPU and 480 GiB of a pod with 64 vCPU and 512 GiB, 32 GiB of it shared",
        "write smaller deployment.storage.sidecarCpu and deployment.storage.sidecarMemory, or larger deployment.",
    ),
    "cache-size": (
        {"storage": {**FLUID, "workers": 5}},
        "5 workers cache 575 GiB (90% of their memory), which is less than the 641 GiB of the model: the preload would "
        "evict what it has just loaded",
        "remove it, or write at least 7, or give each worker more memory",
    ),
    "cache-workers": (
        {"storage": {**FLUID, "workers": 6}},
        "the model fills 93% of 6 workers",
        "write 7, which have enough space and bandwidth",
    ),
    "oss-bandwidth": (
        {"region": "cn-wulanchabu", "throughput_mib_s": 600, "replicas": 2},
        "600 MiB/s is more than OSS delivers: an account has 10 Gbit/s in cn-wulanchabu, and 4 pods that start "
        "together "
        "get 298",
        "write 298, so that the timeouts allow for the real load time",
    ),
    "service-name": (
        {"service": {"name": "deepseek-r1"}},
        "it equals deployment.inference.name, and the LeaderWorkerSet controller creates a Service with that name for "
        "its pods",
        "write another name",
    ),
    "zone": (
        {"zone": "cn-beijing-a"},
        "cn-beijing-a is not a zone of cn-hangzhou",
        "write a zone of cn-hangzhou, such as cn-hangzhou-a, or change deployment.cloud.region",
    ),
    "load-balancer-clients": (
        {"security": CLIENTS, "service": LOAD_BALANCER},
        "it blocks all clients of the internal load balancer, which preserves client addresses",
        "set deployment.service.allowedCidrs, or add a client with a cidr",
    ),
    "service-account": (
        {"name": "default", "security": {"pods": {}}},
        "deployment.security.pods creates a service account with this name, and every namespace already has one "
        "called default, for all other pods",
        "write another name",
    ),
    "exposed-advisories": (
        {"service": {"kind": "internalLoadBalancer", "apiKey": True}},
        "by the load balancer, clients can use 4 published vulnerabilities of vLLM 0.7.2: CVE-2025-48956 (one huge",
        "use an image with vLLM 0.24.0 or newer; or name what you accept in deployment.security.acceptedAdvisories",
    ),
    "known-advisories": (
        {"security": {}},
        "this deployment has 8 published vulnerabilities of vLLM 0.7.2: CVE-2026-34756 (one request with a huge n",
        "use an image with vLLM 0.24.0 or newer, and close Ray's ports with deployment.security.networkPolicy or",
    ),
    "accepted-advisories": (
        {"security": {"acceptedAdvisories": ["CVE-2026-48746"]}},
        "CVE-2026-48746 does not concern this deployment",
        "remove it, so that it accepts nothing that comes later",
    ),
    "key-is-kept": (
        {"service": {"apiKey": True, "requestFilter": None}},
        "without it vLLM 0.7.2 asks for the key on some paths only: /invocations computes answers for everyone who",
        "remove the line, or let a proxy that forwards the paths of the API alone reach the port, and nothing else",
    ),
    "filter-is-in-front": (
        {"service": {"apiKey": True}, "env": {"VLLM_USE_RUST_FRONTEND": "1"}},
        "VLLM_USE_RUST_FRONTEND starts a server that loads no middleware, the filter included",
        "remove VLLM_USE_RUST_FRONTEND, or set deployment.service.requestFilter to null",
    ),
    "closed-doors": (
        {"env": {"VLLM_SERVER_DEV_MODE": "1"}},
        "VLLM_SERVER_DEV_MODE cannot be used: it opens /collective_rpc, /sleep and other endpoints of the engine "
        "without the key",
        "remove it",
    ),
    "closed-doors-inside": (
        {"extra_args": ("--allowed-local-media-path=/",)},
        "--allowed-local-media-path lets every pod of the cluster do more than send requests to the model: clients "
        "could then read files of the pod through file:// addresses in their requests",
        "remove it, or keep other pods out (docs/access.md)",
    ),
    "pickle-format": (
        {"extra_args": ("--load-format", "pt")},
        "--load-format=pt reads pickles, which run code when they are loaded",
        "remove it, or write deployment.weights.allowPickle: true",
    ),
    "secret-references": (
        {"extra_args": ("--x=$(VLLM_API_KEY)",)},
        "$(VLLM_API_KEY) would show a secret in the process list",
        "remove it; the engine reads the variable VLLM_API_KEY by itself",
    ),
    "references": (
        {"env": {"A": "a $(POD_IP) b"}},
        "$(POD_IP) reaches the engine literally: variable references in the stack file are not expanded",
        "write the value",
    ),
    "exposed-remote-code-is-pinned": (
        {"source": {"kind": "modelScope", "revision": "a" * 40}, "manifest_sha256": None, "service": LOAD_BALANCER},
        "deployment.inference.engine.trustRemoteCode is on, and all who can write to the bucket, or answer for the hub",
        "write what the Job says when it is done: kubectl -n default logs -l app.kubernetes.io/component=model-upload",
    ),
    "remote-code-is-pinned": (
        {"source": {"kind": "modelScope"}},
        "master is a branch or a tag, and who can move it runs code on the GPUs: deployment.inference.engine.trust",
        "write the commit that you have read",
    ),
    "remote-code-is-needed": (
        {"trust_remote_code": True, **NEW},
        "vLLM 0.33.0 has code of its own for deepseek-ai/DeepSeek-R1, and does not need that of the repository",
        "remove it",
    ),
    "weights-are-pinned": (
        {"service": {"apiKey": True}, "manifest_sha256": None, **NEW},
        "the pods load whatever is in the bucket: nothing of it is known here, and the manifest may be written by",
        "write what the Job says when it is done: kubectl -n default logs -l app.kubernetes.io/component=model-upload",
    ),
    "images-are-pinned": (
        {"service": {"apiKey": True}, "image": "vllm:v0.33.0"},
        "the registry may give another image for vllm:v0.33.0 tomorrow",
        "append the digest that you have tested: docs/access.md#images",
    ),
    "mover-rights-end": (
        {"source": {"kind": "modelScope"}, "upload": {"rightsEnd": "2026-01-31"}},
        "since 2026-01-31 the mover has no rights: a Job that has something to move fails",
        "write a later day, or deployment.weights.source.kind: bucket if the weights are moved",
    ),
    "mover-keeps-no-right": (
        {"source": {"kind": "modelScope"}},
        "the digest says that the weights are moved, and the mover's AccessKey may still write and delete them",
        "write bucket once they are: its policy then only reads",
    ),
    "ray-is-restricted": (
        {"service": LOAD_BALANCER, "security": {}},
        "Ray runs the code of all who reach its ports (CVE-2023-48022), and only a security group certainly keeps",
        "name a security group whose members reach each other on all ports and clients only port 8000; or prefer "
        "deployment.inference.engine.backend: mp with vLLM 0.11.1 or newer, which has no such ports",
    ),
    "ray-is-restricted-inside": (
        {"security": {}, **NEW},
        "Ray runs the code of all who reach its ports (CVE-2023-48022), and only a security group certainly keeps",
        "name a security group whose members reach each other on all ports and clients only port 8000; or prefer "
        "deployment.inference.engine.backend: mp, which has no such ports",
    ),
    "ray-asks-for-a-token": (
        {"image": "vllm:v0.12.0"},
        "Ray 2.52 and newer can ask for a token at its ports, and this one is not told to",
        "set the secret deepseek:rayToken and write true, or deployment.inference.engine.backend: mp",
    ),
    "ray-is-in-the-image": (
        {**NEW},
        "vLLM 0.33.0 brings no Ray with it, as versions before 0.18.0 did",
        "check that the image has it, or write mp",
    ),
    "ray-script-is-in-the-image": (
        {"image": "registry.example/vllm/vllm-openai:v0.8.5"},
        "/vllm-workspace/ray_init.sh is in the guide's image, and images of upstream have another script",
        "write /vllm-workspace/examples/online_serving/multi-node-serving.sh, or set",
    ),
    "narrow-networks": (
        {"service": {**LOAD_BALANCER, "allowedCidrs": ["10.0.0.0/8"]}},
        "10.0.0.0/8 admits 16,777,216 addresses, with all pods and hosts of the VPC that are among them",
        "list the clients' networks, each /16 or smaller; or use deployment.service.route, with a proxy as the only",
    ),
    "hardened-pods": (
        {"security": {"pods": None}},
        "it is null: the engine has the image's user, all default capabilities and no seccomp profile",
        "remove the line, unless the image needs it",
    ),
    "api-server-is-closed": (
        {"security": CLIENTS},
        "the stack does not know the addresses of the API server, so the pods reach it, if without a token",
        "list them in closedCidrs: kubectl get endpointslices -n default kubernetes",
    ),
    "secrets-are-encrypted-on-the-way": (
        {"service": {"kind": "internalLoadBalancer", "apiKey": True}},
        "the load balancer's listener is plain TCP: keys, prompts and answers cross the VPC unencrypted",
        "serve clients through deployment.service.route with TLS, or use the load balancer only for networks that you "
        "trust",
    ),
    "logs-of-reserved-pods": (
        {"compute_class": "gpu-hpn", "observability": {"logs": {"slsLogstore": "deepseek"}}},
        "it uses environment variables, which ACS ignores on pods of compute class gpu-hpn",
        "remove it, and collect the logs with a sidecar (docs/observability.md)",
    ),
    "benchmark-image": (
        {"verification": {"benchmark": {}}},
        "the image has vLLM 0.7.2, whose vllm bench serve does not have the options that are needed",
        "write an image with vLLM 0.10.1 or newer here; the engine's image can stay",
    ),
    "benchmark-length": (
        {"verification": {"benchmark": {"inputTokens": 2000}}},
        "inputTokens + outputTokens are 2,128, and the engine accepts requests of at most 2,048 tokens",
        "write fewer tokens, or raise deployment.inference.engine.maxModelLen",
    ),
    "kv-offload": (
        {"kv_offload_gib": 256, "shared_memory": "32Gi", **NEW},
        "vLLM 0.33.0 has all 256 GiB in /dev/shm of each pod, which has 32 GiB for them and for 8 GPUs",
        "write deployment.inference.resources.sharedMemory: 288Gi, or less here",
    ),
    "kv-offload-prefixes": (
        {"kv_offload_gib": 64, "prefix_caching": False, **NEW},
        "without the cache of prefixes no request finds what was offloaded",
        "remove it, or deployment.inference.engine.prefixCaching: false",
    ),
    "traces": (
        {"observability": {"traces": {"endpoint": "http://c:4317"}}, "image": "vllm:v0.9.1"},
        "vLLM 0.9.1 would fall back to the earlier generation of the engine",
        "use an image with vLLM 0.10.2 or newer, or remove it",
    ),
    "trace-packages": (
        {"observability": {"traces": {"endpoint": "http://c:4317"}}, "image": "vllm:v0.11.0"},
        "the engine does not start unless the image has OpenTelemetry's packages, which vLLM 0.11.0 does not require",
        "check with pip show opentelemetry-exporter-otlp in the image, or use one with vLLM 0.17.0 or newer",
    ),
    "objectives": (
        {"observability": {"alerts": {"interTokenSeconds": 3}}},
        "the histogram of vLLM 0.7.2 ends at 2.5 s, so an alert at 3 s would never fire",
        "write 2.5 or less, or remove the setting",
    ),
    "extra-arguments": (
        {"extra_args": ("--tensor-parallel-size=4",)},
        "--tensor-parallel-size is set by the program itself",
        "remove it and set deployment.inference.parallelism.tensor",
    ),
    "engine-metrics": (
        {"extra_args": ("--disable_log_stats",), "lifecycle": {}, "observability": {}},
        "--disable-log-stats disables the engine's metrics, which deployment.inference.lifecycle and "
        "deployment.observability read",
        "remove --disable-log-stats, or deployment.inference.lifecycle and deployment.observability",
    ),
    "measured-layout": (
        {"kv_cache_gib": 30.5, "gpus_per_pod": None},
        "the figure belongs to one layout, and the layout is not set",
        "write deployment.inference.gpu.perPod, deployment.inference.parallelism.tensor and deployment.inference.",
    ),
    "network-policies-hold": (
        {"security": CLIENTS},
        "Alibaba Cloud documents network policies for CPU pods of ACS with the component Poseidon, but not for GPU "
        "pods (",
        "test whether they are enforced (docs/access.md), or set deployment.security.securityGroups as well",
    ),
    "maintained-ingress-controller": (
        {"service": {"apiKey": True, "route": INGRESS_NGINX}},
        "nginx is the class of ingress-nginx, which has had no security fixes since March 2026",
        "use a route of kind gateway",
    ),
    "options-of-the-client": (
        {"storage": {"kind": "csi", "mountOptions": ["allow_other", "close_to_open=false"]}},
        "close_to_open=false: ossfs 2 has this option, and the volume is mounted with ossfs 1, which ends at it",
        "remove it",
    ),
    "weights-are-readable": (
        {
            "storage": {"kind": "csi", "mountOptions": ["umask=077", "allow_other"]},
            "security": {"securityGroups": ["sg-1"], "pods": {"runAsUser": 1000}},
        },
        "with umask=077 only root reads the weights, and the engine runs as 1000",
        "write umask=022 and allow_other, the default, or remove runAsUser",
    ),
    "cache-is-readable": (
        {"storage": FLUID, "security": {"securityGroups": ["sg-1"], "pods": {"runAsUser": 1000}}},
        "the engine runs as 1000, and it was not verified that the cache's client lets others than root read",
        "try it with one group, or remove runAsUser",
    ),
    "requests-are-not-cut-off": (
        {"service": {"apiKey": True, "route": POOL}, "replicas": 2, **NEW},
        "a pod that ends is gone after 30 s: each update, scale-down and eviction cuts off requests",
        "set it",
    ),
    "network-variables": (
        {"env": {"NCCL_SOCKET_IFNAME": "bond0"}},
        "NCCL_SOCKET_IFNAME=bond0 does not select eth0, the only interface of a pod on ACS",
        "remove it, or write eth0",
    ),
    "picker-version": (
        {
            "service": {
                "apiKey": True,
                "route": {**POOL, "endpointPicker": {"kind": "deploy", "image": "registry.k8s.io/x/epp:v1.3.1"}},
            }
        },
        "version 1.3 knows no metrics by the engine's version, and ends at its configuration",
        "write an image of 1.4.0 or newer",
    ),
    "pool-of-several": (
        {"service": {"apiKey": True, "route": POOL}, **NEW},
        "the pool has one leader, so the endpoint picker costs a pod and a hop, and chooses nothing",
        "raise deployment.inference.replicas, or write a route of kind gateway",
    ),
    "prefixes-are-kept": (
        {"service": {"apiKey": True, "route": POOL}, "replicas": 2},
        "vLLM 0.7.2 keeps no prefixes here, so requests follow each other to one leader for nothing",
        "write deployment.inference.engine.prefixCaching: true if the version can, or weight 0",
    ),
    "metrics-need-no-key": (
        {"service": {"apiKey": True, "route": POOL}, "replicas": 2, "security": {}, **NEW},
        "an endpoint picker sends no key, so /metrics of the leaders needs none: all pods of the cluster read the load",
        "list the clients in deployment.security.networkPolicy and write deployment.service.kind: clusterIP",
    ),
    "namespace-labelled": (
        {"create_namespace": False},
        "the stack did not create the namespace, so it does not label it",
        "label it: kubectl label namespace default pod-security.kubernetes.io/audit=restricted pod-security",
    ),
    "old-groups-keep-their-objects": (
        {"partition": 1, "replicas": 2, "service": {"apiKey": True}},
        "an update to another deepseek:apiKey, storage, model or bucket deletes the old one, which groups below 1 "
        "still use: pulumi up times out, and a failed pod of those groups is not",
        "finish the rollout (partition: 0) before you change them",
    ),
    "requests-are-finished": (
        {"service": LOAD_BALANCER, "request_seconds": 886},
        "the load balancer cuts connections to a terminating pod after 900 s, so requests of 886 s through it",
        "write 885 or less",
    ),
    "metrics-are-found": (
        {"scaling": QUEUE},
        "queue selects metrics by the labels namespace and leaderworkerset, which the PodMonitor of "
        "deployment.observability adds",
        "set deployment.observability, or check that your Prometheus has them",
    ),
    "something-is-verified": (
        {"verification": {"smoke": True}, "replicas": 0},
        "there are no groups at first, so nothing is verified",
        "run make verify once there is a group",
    ),
}

BROKEN["widths"] = (
    {"model": "meta-llama/Llama-3.1-8B", "tensor": 32, "pipeline": 1, "config_file": "{config}", **NEW},
    "the feed-forward width 14344 is not divisible by tensor parallel size 32",
    "choose tensor ",
)


PLACES = {
    "model-known": "model.name",
    "config-readable": "model.configFile",
    "model-size": "model.weightsGiB",
    "shapes-agree": "model.weightsGiB",
    "images": "inference.engine.extraArgs",
    "partition": "inference.engine.env",
    "model-class": "inference.engine.image",
    "memory-as-counted": "inference",
    "model-modelled": "model.name",
    "series-known": "inference.gpu.series",
    "gpus-per-pod": "inference.gpu.perPod",
    "pod-size": "inference.resources",
    "pod-rounded": "inference.resources",
    "shared-memory": "inference.resources",
    "rdma": "inference.network",
    "image-hardware": "inference.engine.image",
    "available-gpus": "inference.gpu.available",
    "series-spelling": "inference.gpu.series",
    "hpn-qos": "inference.qos",
    "hpn-gpus-per-pod": "inference.gpu.perPod",
    "ephemeral-storage": "inference.resources.extraEphemeralStorage",
    "reserved-ports": "inference.engine.port",
    "known-network-card": "inference.network",
    "listed-driver": "inference.gpu.driverVersion",
    "cuda-driver": "inference.gpu.driverVersion",
    "usual-resource": "inference.gpu.resource",
    "eviction-notice": "inference.lifecycle.requestSeconds",
    "pods-by-ticket": "weights.upload",
    "layout-known": "inference.gpu.gpuMemoryGiB",
    "whole-pods": "inference.parallelism",
    "heads": "inference.parallelism.tensor",
    "kv-heads": "inference.parallelism.tensor",
    "output-groups": "inference.parallelism.tensor",
    "layers": "inference.parallelism.pipeline",
    "widths": "inference.parallelism.tensor",
    "quantised-shards": "inference.parallelism.tensor",
    "tensor-in-pod": "inference.parallelism.tensor",
    "experts-even": "inference.engine.extraArgs",
    "image-version": "inference.engine.image",
    "engine-image": "inference.engine.image",
    "loadable-files": "weights.source",
    "planned-weights": "weights.source",
    "host-memory": "inference.resources",
    "features": "inference.engine.toolCalling",
    "arguments-in-full": "inference.engine.extraArgs",
    "arguments-together": "inference.engine.extraArgs",
    "idle-arguments": "inference.engine.extraArgs",
    "kernels-known": "inference.gpu.series",
    "long-prompts": "inference.engine.maxModelLen",
    "drafts-in-stages": "inference.parallelism.pipeline",
    "variables": "inference.engine.env",
    "idle-variables": "inference.engine.env",
    "backend": "inference.engine.backend",
    "context": "inference.engine.maxModelLen",
    "batched-tokens": "inference.engine.extraArgs",
    "arguments": "inference.engine.extraArgs",
    "extra-arguments": "inference.engine.extraArgs",
    "engine-metrics": "inference.engine.extraArgs",
    "port": "inference.engine.port",
    "expert-parallel": "inference.engine.extraArgs",
    "capability": "inference.gpu.series",
    "model-version": "inference.engine.image",
    "fp8-cache": "inference.engine.extraArgs",
    "cache-format": "inference.engine.extraArgs",
    "data-parallel": "inference.engine.extraArgs",
    "graphs": "inference.engine.gpuMemoryUtilization",
    "uncounted-flags": "inference.engine.extraArgs",
    "measured-layout": "inference.engine.kvCacheGiB",
    "memory": "inference",
    "memory-bound": "inference",
    "memory-close": "inference",
    "warm-up": "inference.engine.gpuMemoryUtilization",
    "startup": "inference.engine.startupSeconds",
    "drain": "inference.lifecycle.graceSeconds",
    "measured-throughput": "storage.throughputMiBps",
    "scale-to-zero": "inference.scaling.minReplicas",
    "startup-close": "inference.engine.startupSeconds",
    "update-downtime": "inference.rollout",
    "update-reaches": "inference.rollout.partition",
    "ending": "inference.lifecycle.requestSeconds",
    "budget-refuses": "inference.lifecycle.disruptionBudget",
    "budget-spares": "inference.lifecycle.disruptionBudget",
    "installed-lws": "inference.lifecycle.groupRestart",
    "expected-lws": "inference.rollout.partition",
    "fluid-chart": "operators.fluid.chart",
    "cache-identity": "weights.identity",
    "sidecar-size": "storage",
    "cache-size": "storage.workers",
    "cache-workers": "storage.workers",
    "oss-bandwidth": "storage.throughputMiBps",
    "service-name": "service.name",
    "zone": "inference.zone",
    "load-balancer-clients": "security.networkPolicy",
    "service-account": "inference.name",
    "exposed-advisories": "inference.engine.image",
    "known-advisories": "inference.engine.image",
    "accepted-advisories": "security.acceptedAdvisories",
    "key-is-kept": "service.requestFilter",
    "filter-is-in-front": "inference.engine.env",
    "closed-doors": "inference.engine.env",
    "closed-doors-inside": "inference.engine.extraArgs",
    "pickle-format": "inference.engine.extraArgs",
    "secret-references": "inference.engine.extraArgs",
    "references": "inference.engine.env",
    "exposed-remote-code-is-pinned": "weights.manifestSha256",
    "remote-code-is-pinned": "weights.source.revision",
    "remote-code-is-needed": "inference.engine.trustRemoteCode",
    "weights-are-pinned": "weights.manifestSha256",
    "images-are-pinned": "inference.engine.image",
    "mover-rights-end": "weights.upload.rightsEnd",
    "mover-keeps-no-right": "weights.source.kind",
    "ray-is-restricted": "security.securityGroups",
    "ray-is-restricted-inside": "security.securityGroups",
    "ray-asks-for-a-token": "inference.engine.rayToken",
    "ray-is-in-the-image": "inference.engine.backend",
    "ray-script-is-in-the-image": "inference.engine.rayScript",
    "narrow-networks": "service.allowedCidrs",
    "hardened-pods": "security.pods",
    "api-server-is-closed": "security.networkPolicy.egress",
    "secrets-are-encrypted-on-the-way": "service.kind",
    "logs-of-reserved-pods": "observability.logs.slsLogstore",
    "benchmark-image": "verification.benchmark.image",
    "benchmark-length": "verification.benchmark",
    "kv-offload": "inference.engine.kvOffloadGiB",
    "kv-offload-prefixes": "inference.engine.kvOffloadGiB",
    "traces": "observability.traces",
    "trace-packages": "observability.traces",
    "objectives": "observability.alerts.interTokenSeconds",
    "network-policies-hold": "security.networkPolicy",
    "maintained-ingress-controller": "service.route",
    "options-of-the-client": "storage.mountOptions",
    "weights-are-readable": "storage.mountOptions",
    "cache-is-readable": "security.pods",
    "requests-are-not-cut-off": "inference.lifecycle",
    "network-variables": "inference.engine.env",
    "picker-version": "service.route.endpointPicker.image",
    "pool-of-several": "service.route",
    "prefixes-are-kept": "service.route.endpointPicker.weights.prefix",
    "metrics-need-no-key": "service.route",
    "namespace-labelled": "security.pods",
    "old-groups-keep-their-objects": "inference.rollout.partition",
    "requests-are-finished": "inference.lifecycle.requestSeconds",
    "metrics-are-found": "inference.scaling",
    "something-is-verified": "verification",
    "preflight-knows-the-hardware": "inference.preflight",
    "gang-class": "inference.gang",
    "gang-of-one-group": "inference.gang",
    "gang-of-pods": "inference.gang",
    "guard-holds-back": "inference.guard.backOffSeconds",
    "update-weight": "update.weight",
    "update-limits": "update.limits",
    "update-first-token": "update.limits",
    "update-gpus": "update",
    "update-served-name": "update",
    "update-weights": "update",
    "update-of-groups": "update",
    "update-drains": "inference.lifecycle",
    "update-is-complete": "update",
    "gate-partition": "inference.rollout.partition",
    "gate-surge": "inference.rollout",
    "gate-long-prompt": "verification.gate.longPrompt",
    "compile-cache-variables": "inference.engine.env",
    "compile-cache-fits": "inference.engine.compileCache",
    "compile-cache-has-content": "inference.engine.compileCache",
    "compile-cache-identity": "inference.engine.compileCache",
    "compile-cache-reaches-oss": "security.networkPolicy.egress",
    "gate-answers": "verification.gate",
    "gate-of-one-group": "verification.gate",
    "guard-waits-for-a-start": "inference.guard.unreadySeconds",
    "guard-waits-for-pods": "inference.guard.pendingSeconds",
    "priced-tokens": "prices.tokensPerSecond",
}
"""The setting that each is about."""


def written(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``changes`` with the path of a config.json whose feed-forward width does not split by 32."""
    if changes.get("config_file") != "{config}":
        return changes
    path = folder / "config.json"
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14344,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    path.write_text(json.dumps(config), encoding="utf-8")
    return {**changes, "config_file": str(path)}


def test_every_rule_is_here() -> None:
    assert BROKEN.keys() == PLACES.keys() == {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.statement.endswith(".") and rule.source for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_broken(rule: Rule, tmp_path: Path) -> None:
    changes, problem, fix = BROKEN[rule.id]
    found = guide(**written(changes, tmp_path))
    assert not rule.is_kept(found)
    said = [f for f in stack_findings(found) if f.source == rule.source and f.problem.startswith(problem)]
    assert said, stack_findings(found)
    assert said[0].severity == rule.severity
    assert said[0].path == f"deployment.{PLACES[rule.id]}"
    assert said[0].fix.startswith(fix)
    assert not re.search("<[a-z_ .]+>", str(said[0])), "a field that is not spelled"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_kept(rule: Rule) -> None:
    everything_given = guide(
        create_namespace=True,
        cpu=64,
        memory="512Gi",
        shared_memory="32Gi",
        network="rdma",
        zone="cn-hangzhou-a",
        startup_seconds=4000,
        grace_seconds=645,
        request_seconds=600,
        replicas=2,
        available_gpus=48,
        max_surge=1,
        evictable_groups=1,
        image=f"{NEW['image']}@sha256:{DIGEST}",
        upload={"image": f"python:3.12@sha256:{DIGEST}"},
        driver_version="550.90.07",
        resource="nvidia.com/gpu",
        extra_ephemeral="50Gi",
        storage={"kind": "fluid", "workers": 7},
        operators={"lws": {"kind": "install"}, "fluid": {"kind": "install"}},
        security={
            "networkPolicy": {"clients": [{"cidr": "10.0.0.0/16"}], "egress": {"closedCidrs": ["192.168.0.1/32"]}},
            "securityGroups": ["sg-1"],
        },
        backend="mp",
        identity={"kind": "accessKey"},
        manifest_sha256=DIGEST,
        service={"apiKey": True},
        observability={"alerts": {"interTokenSeconds": 1}},
        verification={"smoke": True, "benchmark": {"inputTokens": 1024}},
        extra_args=("--seed=1",),
        env={"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"},
    )
    assert rule.is_kept(everything_given)


def rule_called(name: str) -> Rule:
    return next(rule for rule in RULES if rule.id == name)


@pytest.mark.parametrize(
    ("model", "works", "fails"),
    [
        ("deepseek-ai/DeepSeek-R1", 16, 32),
        ("Qwen/Qwen3-235B-A22B-FP8", 4, 8),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", 4, 8),
        ("MiniMaxAI/MiniMax-M2.5", 4, 8),
    ],
)
def test_fp8_blocks_as_the_recipes_say(model: str, works: int, fails: int) -> None:
    """https://github.com/vllm-project/vllm/issues/12256 and the models' pages in vllm-project/recipes."""
    rule = rule_called("quantised-shards")
    for tensor, broken in ((works, False), (fails, True)):
        case = guide(model=model, tensor=tensor, pipeline=1, gpus_per_pod=min(tensor, 16))
        assert rule.is_kept(case) is not broken


def test_whole_experts_per_gpu_need_no_whole_blocks_of_experts() -> None:
    rule = rule_called("quantised-shards")
    changes = {**QWEN_FP8, "extra_args": ("--enable-expert-parallel",)}
    assert rule.is_kept(guide(**changes))


@pytest.mark.parametrize(
    ("image", "arguments", "broken"),
    [
        ("vllm:v0.22.0", ("--kv-cache-dtype=fp8",), set()),
        ("vllm:v0.33.0", (), set()),
        ("vllm:v0.33.0", ("--kv-cache-dtype=bfloat16",), {"cache-format"}),
        ("vllm:v0.33.0", ("--block-size=64",), {"cache-format"}),
        ("vllm:v0.19.0", (), {"cache-format", "model-version"}),
    ],
)
def test_what_versions_know_of_deepseek_v4(image: str, arguments: tuple[str, ...], broken: set[str]) -> None:
    case = guide(**{**V4_PRO, "image": image, "extra_args": arguments})
    assert {rule.id for rule in RULES if rule.severity == "error" and not rule.is_kept(case)} == broken


@pytest.mark.parametrize(("version", "fails"), [("0.23.0", True), ("0.24.0", False)])
def test_shared_experts_of_deepseek_v4_are_padded_later(version: str, fails: bool) -> None:
    """https://github.com/vllm-project/vllm/issues/40955: 3072 over 16 GPUs is 192, not whole blocks of 128."""
    rule = rule_called("quantised-shards")
    arguments = ("--kv-cache-dtype=fp8",)
    changes = {**V4_PRO, "tensor": 16, "pipeline": 1, "image": f"vllm:v{version}", "extra_args": arguments}
    found = list(rule(guide(**changes)))
    assert bool(found) == fails
    assert all("192 is not divisible by weight quantization block_" in finding.problem for finding in found)


def test_deepseek_v4_needs_hopper() -> None:
    rule = rule_called("capability")
    (found,) = rule(guide(**{**V4_PRO, "series": "GN8IS"}))
    assert "needs compute capability 9.0, this GPU has 8.9" in found.problem


def test_a_recipe_with_data_parallelism_is_never_said_to_fit() -> None:
    """https://github.com/vllm-project/recipes/issues/381: this did not start with one image of April 2026, and did
    later. Eight engines of one GPU each are none of this program's layouts, whether or not the model fits on them."""
    arguments = ("--data-parallel-size=8", "--enable-expert-parallel", "--kv-cache-dtype=fp8")
    changes = {**V4_PRO, "max_model_len": 800_000, "gpus_per_pod": 8, "extra_args": arguments}
    for tensor in (1, 8):
        assert any(
            f.problem.startswith(f"--data-parallel-size 8 starts 8 engines, which need {8 * tensor} GPUs")
            for f in errors(guide(**{**changes, "tensor": tensor, "pipeline": 1}))
        )
    assert rule_called("data-parallel").is_kept(guide(extra_args=("--data-parallel-size=1",), **NEW))


def test_old_gpus_need_another_type_on_the_old_engine() -> None:
    rule = rule_called("capability")
    old = {"model": "Qwen/Qwen3-0.6B", "series": "T4", "gpus_per_pod": 1, "tensor": 1, "pipeline": 1}
    (found,) = rule(guide(**old))
    assert "Bfloat16 is only supported" in found.problem
    assert rule.is_kept(guide(**old, extra_args=("--dtype=half",)))
    assert rule.is_kept(guide(**old, image="vllm-openai:v0.33.0"))


WITH_RDMA = ", ".join(name for name, row in gpu_series().items() if row.rdma_gpus_per_pod)


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        (
            {"series": "P16EN"},
            "ACS supports RDMA for series P16EN only with 16 GPUs per pod, not with 8",
            "write deployment.inference.gpu.perPod: 16, or deployment.inference.network: standard",
        ),
        (
            {"series": "GN8IS", "pipeline": 3},
            "ACS does not support RDMA for series GN8IS",
            f"choose one of the series {WITH_RDMA}, or write deployment.inference.network: standard",
        ),
    ],
)
def test_rdma_by_series(changes: dict[str, Any], problem: str, fix: str) -> None:
    (found,) = [f for f in errors(guide(network="rdma", **changes)) if f.path == "deployment.inference.network"]
    assert (found.problem, found.fix) == (problem, fix)


@pytest.mark.parametrize(
    ("series", "gpus_per_pod"), [("GU8TF", 8), ("GU8TEF", 8), ("GX8SF", 8), ("P16EN", 16), ("NEW1", 12)]
)
def test_rdma_is_let_pass(series: str, gpus_per_pod: int) -> None:
    assert rule_called("rdma").is_kept(guide(network="rdma", series=series, gpus_per_pod=gpus_per_pod))


def test_gpus_per_pod_that_are_left_out_have_rdma() -> None:
    small = guide(model="Qwen/Qwen3-0.6B", network="rdma", gpus_per_pod=None, tensor=None, pipeline=None)
    assert small.layout.gpus_per_pod == 8


def test_layout_rules_stop_deployments() -> None:
    assert len(LAYOUT_RULES) == 17
    assert all(rule.severity == "error" for rule in LAYOUT_RULES)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("max-num-seqs=8",), "item 1 belongs to no argument"),
        (("--seed=1", "8"), "item 2 belongs to no argument"),
        (("--seed", "1", "--max num seqs=8"), "item 3 has a flag and its value with a space between"),
        (("--max-num-seqs",), "--max-num-seqs has no whole number above 0"),
        (("--max_num_seqs=eight",), "--max-num-seqs has no whole number above 0"),
        (("--max-num-batched-tokens", "0"), "--max-num-batched-tokens has no whole number above 0"),
        (("-dcp=-1",), "-dcp has no whole number above 0"),
        (("--max-num-seqs=8k",), "--max-num-seqs has no whole number above 0"),
        (("--max-num-batched-tokens=8k",), None),
        (("--max-num-batched-tokens", "8K"), None),
        (("--lora-modules", "a=/a", "b=/b", "--enable-lora", "--hf-overrides={'a': 1}", "-ep"), None),
        (("--kv-cache-dtype=fp8", "--max-num-seqs", "8", "--reasoning-parser=deepseek_r1"), None),
    ],
)
def test_arguments(arguments: tuple[str, ...], problem: str | None) -> None:
    found = argument_problem(arguments, Engine())
    assert (found is None) == (problem is None)
    assert not found or (problem and found[0].startswith(problem))


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({"port": 8265}, True),
        ({"port": 10001}, True),
        ({"port": 19999}, True),
        ({"port": 20000}, False),
        ({"port": 29501}, False),
        ({"port": 29501, "backend": "mp", **NEW}, True),
        ({"port": 6379, "backend": "mp", **NEW}, False),
        ({"port": 6379, "model": "Qwen/Qwen3-32B", "pipeline": 1}, False),
    ],
)
def test_ports_of_the_rendezvous(changes: dict[str, Any], *, is_taken: bool) -> None:
    assert rule_called("port").is_kept(guide(**changes)) is not is_taken


def test_a_group_that_is_larger_than_the_quota() -> None:
    (finding,) = errors(guide(available_gpus=8))
    assert finding.fix == "a single group needs 16: choose a smaller layout, or correct the number of available GPUs"


@pytest.mark.parametrize(("series", "meant"), [("GU8TE", "GU8TEF"), ("H20", "GU8TF")])
def test_a_series_that_may_be_another(series: str, meant: str) -> None:
    said = stack_findings(guide(series=series, gpu_memory_gib=96))
    (fix,) = (found.fix for found in said if found.path == "deployment.inference.gpu.series")
    assert fix.startswith(f"did you mean {meant}? Otherwise check the name")


def test_a_shorter_context_is_one_of_the_ways() -> None:
    case = guide(**{**NEW, "pipeline": 1, "max_model_len": 163_840})
    (finding,) = errors(case)
    assert re.search(r"^choose tensor .*, or set deployment\.inference\.engine\.maxModelLen to \d+$", finding.fix)


def test_units_of_numbers() -> None:
    assert serving_changes(["--max-num-batched-tokens=8k"]) == {"max_num_batched_tokens": 8000}
    assert serving_changes(["--max-num-batched-tokens=8K"]) == {"max_num_batched_tokens": 8192}
    assert argument_problem(["--max-num-batched-tokens=8k"], Engine(version=(0, 7, 2)))


@pytest.mark.parametrize(
    ("argument", "problem", "fix"),
    [
        ("--host=127.0.0.1", "--host cannot be used: the probes need vLLM to listen on all addresses", "remove"),
        (
            "--ssl-keyfile=/k",
            "--ssl-keyfile cannot be used: the probes use plain HTTP, so the engine would never become ready",
            "remove it; the proxy of deployment.service.route terminates TLS",
        ),
        (
            "--root-path=/llm",
            "--root-path cannot be used: the API key, the route and the checks rely on vLLM's own paths",
            "remove it",
        ),
        (
            "--master-port=1",
            "--master-port cannot be used: the probes of the workers expect the leader at vLLM's default port",
            "remove",
        ),
        (
            "--shutdown_timeout=60",
            "--shutdown-timeout is set by the program itself",
            "remove it and set deployment.inference.lifecycle.requestSeconds",
        ),
        (
            "--api-key=hunter2",
            "--api-key has a secret value that would be readable in the pod and in the state",
            "remove it and set deployment.service.apiKey",
        ),
        (
            "--hf-token=hunter2",
            "--hf-token has a secret value that would be readable in the pod",
            "remove it and set deployment.inference.engine.secretEnv",
        ),
    ],
)
def test_extra_arguments(argument: str, problem: str, fix: str) -> None:
    (found,) = errors(guide(extra_args=(argument,)))
    assert found.path == "deployment.inference.engine.extraArgs"
    assert found.problem.startswith(problem)
    assert found.fix.startswith(fix)
    assert "hunter2" not in str(found)


def test_metrics_that_an_autoscaler_reads() -> None:
    scaling = {"kind": "hpa", "maxReplicas": 2}
    (found,) = errors(guide(scaling=scaling, extra_args=("--disable-log-stats",)))
    assert "which deployment.inference.scaling read" in found.problem


def test_a_zone_without_a_hyphen() -> None:
    (found,) = errors(guide(region="ap-southeast-1", zone="ap-southeast-1"))
    assert "such as ap-southeast-1a" in found.fix


def test_flags_that_the_program_writes_are_no_secrets() -> None:
    assert not SECRET_FLAGS & PROGRAM_FLAGS.keys()


def test_other_origins_do_not_go_with_the_filter() -> None:
    for argument in ("--allowed_origins=[]", "--allowed-orig=[]"):
        (found,) = errors(guide(service={"apiKey": True}, extra_args=(argument,)))
        assert found.problem.startswith("--allowed-origins has no effect: deployment.service.requestFilter removes")
        assert not errors(guide(service={"apiKey": True, "requestFilter": None}, extra_args=(argument,)))


EXPOSED = [{"apiKey": True}, LOAD_BALANCER]


@pytest.mark.parametrize("service", EXPOSED)
@pytest.mark.parametrize("name", [name for name, danger in FLAGS.items() if danger.level == "exposed"])
def test_an_argument_that_lets_clients_in_stops_what_is_exposed(name: str, service: dict[str, Any]) -> None:
    said = [f for f in errors(guide(service=service, extra_args=(f"{name}=x",))) if f.problem.startswith(name)]
    assert [(f.problem, f.fix) for f in said] == [(f"{name} cannot be used: {FLAGS[name].reason}", "remove it")]
    assert not [f for f in errors(guide(extra_args=(f"{name}=x",))) if f.problem.startswith(name)]


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_lets_clients_in_stops_what_is_exposed(name: str) -> None:
    danger, service = VARIABLES[name], {"apiKey": True}
    (found,) = errors(guide(service=service, env={name: "1"}))
    assert found.problem == f"{name} cannot be used: {danger.reason}"
    assert not any(errors(guide(service=service, env={name: value})) for value in danger.harmless)
    (found,) = errors(guide(service=service, secret_env={name: {"secret": "s", "key": "k"}}))
    assert found.path == "deployment.inference.engine.secretEnv"


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--root-pat=/x", "--root-pat, which vLLM reads as --root-path, cannot be used"),
        ("--mid=a.b", "--mid, which vLLM reads as --middleware, cannot be used"),
        ("--profiler-config.profiler=torch", "--profiler-config cannot be used"),
        ("--trust_request_chat", "--trust-request-chat, which vLLM reads as --trust-request-chat-template, cannot"),
        ("--api-ke=hunter2", "--api-ke has a secret value that would be readable"),
        ("--tensor-parallel=4", "--tensor-parallel is set by the program itself: vLLM reads it as"),
        ("--", "-- ends the arguments"),
        ("-", "- ends the arguments"),
    ],
)
def test_abbreviated_arguments(argument: str, problem: str) -> None:
    found = errors(guide(service={"apiKey": True}, extra_args=(argument,)))
    assert any(finding.problem.startswith(problem) for finding in found), found
    assert "hunter2" not in str(found)


def test_an_argument_that_is_the_beginning_of_another_is_none_abbreviated() -> None:
    """argparse prefers what is written in full."""
    assert not errors(guide(service={"apiKey": True}, extra_args=("--reasoning-parser=deepseek_r1",), **NEW))
    assert meant("--seed", FLAGS) is None


def test_pickles_are_read_where_they_are_allowed() -> None:
    pickle = rule_called("pickle-format")
    assert pickle.is_kept(guide(extra_args=("--load-format=pt",), allow_pickle=True))
    assert not pickle.is_kept(guide(extra_args=("--load-for=npcache",)))
    assert pickle.is_kept(guide(extra_args=("--load-format=safetensors",)))


def test_a_secret_of_the_user_is_not_referred_to() -> None:
    secret = {"TOKEN": {"secret": "s", "key": "k"}}
    (found,) = errors(guide(secret_env=secret, env={"A": "$(TOKEN)"}))
    assert found.problem.startswith("$(TOKEN) would show a secret")
    assert found.path == "deployment.inference.engine.env"


def test_a_token_of_prometheus_by_plain_http() -> None:
    encrypted = rule_called("secrets-are-encrypted-on-the-way")
    for url, kept in (("http://p:9090", False), ("https://p:9090", True), ("http://127.0.0.1:9090", True)):
        scaling = {**QUEUE, "prometheus": {"url": url, "authorization": True}}
        assert encrypted.is_kept(guide(scaling=scaling, replicas=None)) is kept
    assert encrypted.is_kept(guide(scaling=QUEUE, replicas=None))


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "mp", **NEW},
        {"pipeline": 1, **NEW},
        {"endpoint": "http://127.0.0.1:9000"},
        {"security": {"securityGroups": ["sg-1"]}},
    ],
)
def test_ray_that_the_vpc_does_not_reach(changes: dict[str, Any]) -> None:
    """A stack of this machine is known by its cloud, not by its name."""
    for service in (LOAD_BALANCER, {}):
        found = guide(**{"security": {}, "service": service, **changes})
        assert rule_called("ray-is-restricted").is_kept(found)
        assert rule_called("ray-is-restricted-inside").is_kept(found)


def test_a_policy_of_the_cluster_does_not_protect_ray() -> None:
    found = guide(security=CLIENTS, service=LOAD_BALANCER)
    assert not rule_called("ray-is-restricted").is_kept(found)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "vLLM 0.7.2 is older than Ray 2.52, so its image has a Ray that asks for no token"),
        ({"pipeline": 1, **NEW}, "it is true, but Ray is not used: the group is one pod, or uses mp"),
        ({"backend": "mp", **NEW}, "it is true, but Ray is not used: the group is one pod, or uses mp"),
        ({"image": "vllm:v0.12.0"}, None),
    ],
)
def test_a_token_of_ray_without_effect(changes: dict[str, Any], problem: str | None) -> None:
    found = [f.problem for f in rule_called("ray-asks-for-a-token")(guide(ray_token=True, **changes))]
    assert found == ([problem] if problem else [])


def test_networks_of_clients_of_the_policies() -> None:
    clients = {"networkPolicy": {"clients": [{"cidr": "172.16.0.0/12"}, {"cidr": "10.0.0.0/16"}]}}
    (found,) = rule_called("narrow-networks")(guide(security=clients))
    assert found.problem.startswith("172.16.0.0/12 admits 1,048,576 addresses")


def test_what_goes_out_may_be_left_open() -> None:
    open_ = {"networkPolicy": {"clients": [{"namespace": "a"}], "egress": None}}
    assert rule_called("api-server-is-closed").is_kept(guide(security=open_))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {"source": {"kind": "modelScope"}, "manifest_sha256": None},
            ["weights.source.revision", "weights.manifestSha256"],
        ),
        (
            {"source": {"kind": "huggingFace", "revision": "a" * 40}, "manifest_sha256": None},
            ["weights.manifestSha256"],
        ),
        ({"source": {"kind": "huggingFace", "revision": "a" * 40}}, []),
        ({"source": {"kind": "modelScope"}, "manifest_sha256": None, **NEW}, []),
        ({"source": {"kind": "modelScope"}, "manifest_sha256": None, "trust_remote_code": False}, []),
    ],
)
def test_code_that_comes_with_the_model_is_pinned(changes: dict[str, Any], fields: list[str]) -> None:
    found = rule_called("remote-code-is-pinned")(guide(**changes))
    assert [STACK_PATHS[Field(finding.path)] for finding in found] == [f"deployment.{field}" for field in fields]


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"source": {"kind": "bucket"}, "upload": {"rightsEnd": "2026-01-31"}}, []),
        ({"source": {"kind": "modelScope"}, "upload": {"rightsEnd": "9999-12-31"}}, []),
        (
            {"identity": {"kind": "accessKey"}, "upload": {"rightsEnd": "9999-12-31"}},
            ["the mover uses your own AccessKey, whose rights are not set here"],
        ),
    ],
)
def test_the_day_on_which_the_movers_rights_end(changes: dict[str, Any], problems: list[str]) -> None:
    assert [finding.problem for finding in rule_called("mover-rights-end")(guide(**changes))] == problems


def test_a_mover_whose_rights_end_keeps_none() -> None:
    moved: dict[str, Any] = {"source": {"kind": "modelScope"}}
    assert not rule_called("mover-keeps-no-right").is_kept(guide(**moved))
    assert rule_called("mover-keeps-no-right").is_kept(guide(**moved, upload={"rightsEnd": "9999-12-31"}))


def test_unpinned_code_stops_what_clients_outside_reach() -> None:
    exposed: dict[str, Any] = {"service": LOAD_BALANCER, "source": {"kind": "modelScope"}, "manifest_sha256": None}
    names = ("exposed-remote-code-is-pinned", "remote-code-is-pinned")
    error, warning = (rule_called(name) for name in names)
    found = list(error(guide(**exposed)))
    assert [finding.severity for finding in found] == ["error", "error"]
    assert all(
        str(Field.REPLICAS) in finding.fix and finding.fix.endswith(": 0 moves the weights without running it")
        for finding in found
    )
    assert warning.is_kept(guide(**exposed))
    # The digest has to be learnt from something.
    assert error.is_kept(guide(**exposed, replicas=0))
    assert not warning.is_kept(guide(**exposed, replicas=0))
    assert error.is_kept(guide(**exposed, **NEW))


@pytest.mark.parametrize(
    ("model", "image", "trusts"),
    [
        ("deepseek-ai/DeepSeek-R1", "vllm:v0.7.2", True),
        ("deepseek-ai/DeepSeek-V3", "vllm:v0.8.2", True),
        ("deepseek-ai/DeepSeek-R1", "vllm:v0.8.3", False),
        ("deepseek-ai/DeepSeek-R1", "registry/mine:latest", False),
        ("deepseek-ai/DeepSeek-V2-Lite", "vllm:v0.9.2", True),
        ("deepseek-ai/DeepSeek-V2-Lite", "vllm:v0.10.1", False),
        ("Qwen/Qwen3-32B", "vllm:v0.7.2", False),
    ],
)
def test_code_that_comes_with_the_model_runs_where_it_is_needed(model: str, image: str, trusts: bool) -> None:
    found = spec(model=model, series="GU8TF", image=image)
    assert found.engine.trust_remote_code is trusts
    assert rule_called("remote-code-is-needed").is_kept(found)
    other = spec(model=model, series="GU8TF", image=image, trust_remote_code=not trusts)
    assert other.engine.trust_remote_code is not trusts
    (finding,) = rule_called("remote-code-is-needed")(other)
    assert ("may know" in finding.problem) is trusts


@pytest.mark.parametrize(
    ("env", "problems"),
    [
        ({"NCCL_SOCKET_IFNAME": "eth0"}, 0),
        ({"NCCL_SOCKET_IFNAME": "eth"}, 0),
        ({"NCCL_SOCKET_IFNAME": "bond0,eth"}, 0),
        ({"NCCL_SOCKET_IFNAME": "^lo,docker"}, 0),
        ({"NCCL_SOCKET_IFNAME": "=eth"}, 1),
        ({"NCCL_SOCKET_IFNAME": "^eth"}, 1),
        ({"GLOO_SOCKET_IFNAME": "ens3", "TP_SOCKET_IFNAME": "ens3"}, 2),
        ({"VLLM_PORT": "8001"}, 1),
    ],
)
def test_variables_of_the_network(env: dict[str, str], problems: int) -> None:
    assert len([*rule_called("network-variables").problems(guide(env=env))]) == problems


@pytest.mark.parametrize(
    ("options", "readable"),
    [
        (["umask=022", "allow_other"], True),
        (["allow_other"], True),
        (["umask=077", "allow_other", "uid=1000"], True),
        (["umask=027", "allow_other"], False),
        (["umask=022"], False),
    ],
)
def test_who_reads_the_volume(options: list[str], *, readable: bool) -> None:
    security = {"securityGroups": ["sg-1"], "pods": {"runAsUser": 1000}}
    found = guide(storage={"kind": "csi", "mountOptions": options}, security=security)
    assert rule_called("weights-are-readable").is_kept(found) is readable
    root = guide(storage={"kind": "csi", "mountOptions": options})
    assert rule_called("weights-are-readable").is_kept(root), "root reads them in any case"


def test_metrics_of_a_pool_behind_a_load_balancer_are_open_to_its_clients() -> None:
    pool = {**LOAD_BALANCER, "apiKey": True, "route": POOL}
    (problem,) = rule_called("metrics-need-no-key").problems(guide(service=pool, replicas=2, **NEW))
    assert "the load balancer's clients read the load" in problem[1]
    off = guide(service={**pool, "requestFilter": None}, replicas=2, **NEW)
    assert rule_called("metrics-need-no-key").is_kept(off), "vLLM asks for no key there anyway"
