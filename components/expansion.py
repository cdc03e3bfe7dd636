"""Texts on their way through Kubernetes and a shell, unchanged.

Kubernetes fills in ``$(VARIABLE)`` in commands, arguments and variables before any shell reads them, also between the
quotes of a shell. Only variables that this program writes are expanded."""

import shlex


def literal(text: str) -> str:
    """What Kubernetes passes on as ``text``: it makes one dollar of two
    (https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/)."""
    return text.replace("$", "$$")


def interruptible(command: str) -> str:
    """A shell command that exits when its shell gets SIGTERM. As the first process of a container, the shell would
    otherwise ignore the signal and hold its GPUs until the grace period is over."""
    # A shell runs a trap immediately only while it waits for a background process.
    return f"trap 'exit 143' TERM; {command} & wait $!"


def shell_path(path: str) -> str:
    """A path for a command that a person copies: quoted, but for the home folder's ``~``."""
    home, slash, rest = path.partition("/")
    return f"~/{shlex.quote(rest)}" if home == "~" and slash and rest else shlex.quote(path)
