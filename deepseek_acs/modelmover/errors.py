"""What can go wrong, by what helps: another attempt, or a person.

Exit codes are those of sysexits.h. ``CONTINUE_EXIT_CODES`` are for the podFailurePolicy of a Job: another pod is to
continue at once. With any other one it would fail in the same way.
"""

import errno
import signal


class MoveError(Exception):
    """Base of all; the text says where, what and how to fix it, and never holds a secret or a signed URL."""

    exit_code: int
    """Each subclass has its own."""


class UnavailableError(MoveError):
    """The network, the hub or OSS failed too often, and nothing was moved in between (EX_UNAVAILABLE). It may be a
    matter of time, or of a missing way to the hub."""

    exit_code = 69


class UnfinishedError(MoveError):
    """The same, but some of the model was moved before: a further run gets further (EX_TEMPFAIL)."""

    exit_code = 75


class DataError(MoveError):
    """What came is not what it should be: wrong hash, missing shard, unusable listing, a request that the hub or OSS
    refuses as malformed (EX_DATAERR)."""

    exit_code = 65


class NotFoundError(MoveError):
    """There is no such repository, revision, folder, bucket or manifest (EX_NOINPUT)."""

    exit_code = 66


class NoSpaceError(MoveError):
    """The bucket or the account takes no more data: quota, or overdue payment (EX_CANTCREAT)."""

    exit_code = 73


class PermissionDeniedError(MoveError):
    """Credentials are missing, wrong, or not allowed to do this (EX_NOPERM)."""

    exit_code = 77


class UnsuitablePythonError(MoveError):
    """This Python lacks what the program needs (EX_SOFTWARE)."""

    exit_code = 70


class InternalError(MoveError):
    """A fault of this program (EX_SOFTWARE)."""

    exit_code = 70


class ResourceError(MoveError):
    """The system gives no more memory, threads or file descriptors (EX_OSERR)."""

    exit_code = 71


class UsageError(MoveError):
    """The command line asks for something impossible (as argparse)."""

    exit_code = 2


CONTINUE_EXIT_CODES = (UnfinishedError.exit_code, 128 + signal.SIGTERM)
"""Each run that ends so has moved something, or was told to stop, so that there is an end to them."""


class TransientError(Exception):
    """One attempt failed and another may not. ``wait`` is what the server asked for, in seconds; ``final`` is what it
    was if it never heals. A ``refusal`` is tried again only a few times: it rarely heals."""

    def __init__(
        self,
        message: str,
        *,
        wait: float | None = None,
        final: type[MoveError] = UnavailableError,
        refusal: bool = False,
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.final = final
        self.refusal = refusal


class StoppedError(Exception):
    """The run is being ended: by SIGTERM, Ctrl-C, or the failure of another thread."""


EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def is_exhaustion(error: BaseException) -> bool:
    """Whether the system refuses memory, threads or file descriptors."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in EXHAUSTED)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
    )


def exhausted(error: BaseException) -> ResourceError:
    """``error``, of which ``is_exhaustion`` is true, with what helps."""
    what = getattr(error, "strerror", None) or str(error) or "out of memory"
    return ResourceError(
        f"this machine gives no more memory, threads or file descriptors ({what}); raise the limits of the pod or "
        "shell, or use --part-size 1 --streams 2 --uploads 2"
    )
