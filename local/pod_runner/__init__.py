"""A tiny kubelet: runs the containers of pods with one label as ordinary processes of this machine.

It runs next to kwok, which ignores these pods. Everything around a pod is as in a cluster: volumes, environment,
status, termination message, exit code, deletion. The pod itself is not: no image is pulled, nothing is isolated, and
neither users, resources, read-only mounts nor node placement mean anything. ``python3`` is this interpreter with its
standard library alone. Names of Services do not resolve here; in command lines those of engines are replaced by the
address of the server that plays them (``local/openai``). Tokens of service accounts are written once, and not renewed;
the API server is where ``KUBERNETES_SERVICE_HOST`` says, but not its Service."""

LABEL = "app.kubernetes.io/name"
PROGRAMS = ("modelmover", "preload", "verifier", "costguard", "canaryguard", "incidents", "gate")
"""Values of the label of the pods that are run: programs of this project. All others are kwok's."""
