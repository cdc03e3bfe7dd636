"""Asks the first new group of an update, before the others are updated: questions with what an answer must hold, one
long prompt, and the speed at a fixed load. All of it is compared with the last accepted record.

Good: the other groups are updated, and the record becomes the accepted one. Bad: the update is held, or the accepted
template is put back. The program reaches its pod as a ConfigMap (components/gate.py). Where it stands is in the cluster
(docs/adr/0007-a-gate-moves-the-partition.md), so another pod can continue for one that was killed."""
