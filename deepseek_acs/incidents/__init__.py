"""Keeps evidence of the groups' ends: LeaderWorkerSet deletes the pods of a failed group, and their logs with them.

The program reaches its pod as a ConfigMap (components/incidents.py) and uses only the API server, with the pod's
service account, and the leaders' ``/metrics``. It follows the logs of all pods of the groups. At the first end of a
group that was not requested it writes a report into a ConfigMap. What it knows is on a volume of its pod, so a restart
of the program loses nothing."""
