"""Gives up groups that hold GPUs and cannot become ready: scales them away, instead of paying for them for ever.

LeaderWorkerSet recreates a failed group at once and without end, and one pod of a group may wait for a GPU while the
others are paid for. The program reaches its pod as a ConfigMap (components/cost_guard.py) and uses only the API server,
with the pod's service account. What it has seen is in a ConfigMap, so a restart of the program changes nothing."""
