"""Moves a model's files from a hub or a folder into an OSS bucket: streamed, verified, resumable.

Data flow: ``sources`` (list, open a stream) → ``transfer`` (hash, count, send) → ``oss`` (parts, objects). ``files``
decides what is moved, ``resume`` what of it is still to do, and ``manifest`` records what was proven. Standard library
only, so that one zip file of it runs in any image that has Python and nothing else.
"""

__version__ = "1.0.0"
