"""Keeps what an engine has compiled in the bucket, and gives it to the next engine that would compile the same.

It runs in two containers of each pod of a group, with the engine's image: ``restore`` before the engine, ``save`` next
to it. Whatever goes wrong, the engine starts, and compiles. It reaches the pods as one zip file in a ConfigMap
(components/compile_cache.py), and uses the OSS client of ``modelmover``."""
