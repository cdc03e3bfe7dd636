"""Checks that a group can work, before it reads hundreds of GiB: hardware, weights and network, in seconds.

It runs in the engine's container, with the image's Python and PyTorch, and then replaces itself with the engine. It
reaches the pod as a file in a ConfigMap (components/preflight.py)."""
