"""DeepSeek-R1 671B on Alibaba Cloud ACS: its weights in a bucket, a volume over them, and the service."""

import pulumi
from deepseek_acs.components import ModelService, ModelStorage, ModelWeights

weights = ModelWeights("weights", {})

storage = ModelStorage(
    "storage",
    {
        "bucket_name": weights.bucket_name,
        "endpoint": weights.endpoint,
        "access_key_id": weights.access_key_id,
        "access_key_secret": weights.access_key_secret,
    },
)

service = ModelService(
    "deepseek-r1",
    {
        "claim_name": storage.claim_name,
        "gpu_series": "GU8TF",
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 2,
        "max_model_len": 32768,
    },
)

pulumi.export("url", service.url)
