"""The program that sees to it that a Fluid cache is filled: it waits for the DataLoad, judges it, and has it made anew.

Fluid never repeats a DataLoad that is over. One that was over, and no good, before this program began is deleted and
made anew; so whatever starts the program again repeats the preload. It reaches its pod as a ConfigMap
(components/preload.py) and talks to the API server alone, with the pod's service account.
"""
