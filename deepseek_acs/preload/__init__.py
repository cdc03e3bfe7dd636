"""Fills a Fluid cache: waits for the DataLoad, evaluates it, and recreates it if it failed.

Fluid never repeats a finished DataLoad. A DataLoad that had already failed when this program starts is deleted and
recreated, so a rerun repeats the preload. The program reaches its pod as a ConfigMap (components/preload.py) and uses
only the API server, with the pod's service account."""
