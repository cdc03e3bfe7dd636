"""The program that watches the engine from within its pods: liveness checks and stop hooks.

It reaches the pods as a ConfigMap (components/lifecycle.py) and needs nothing but Python 3.9.
"""
