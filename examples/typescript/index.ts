// DeepSeek-R1 671B on Alibaba Cloud ACS: its weights in a bucket, a volume over them, and the service.
import * as acs from "@pulumi/deepseek-acs";

const weights = new acs.ModelWeights("weights");

const storage = new acs.ModelStorage("storage", {
    bucketName: weights.bucketName,
    endpoint: weights.endpoint,
    accessKeyId: weights.accessKeyId,
    accessKeySecret: weights.accessKeySecret,
});

const service = new acs.ModelService("deepseek-r1", {
    claimName: storage.claimName,
    gpuSeries: "GU8TF",
    tensorParallelSize: 8,
    pipelineParallelSize: 2,
    maxModelLen: 32768,
});

export const url = service.url;
