"""The passphrase with which Pulumi encrypts the secrets of a stack, in its file and in its state."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

LOCAL_PASSPHRASE = "local"  # noqa: S105 - see variables
"""The passphrase of every stack whose cluster and cloud are on the loopback interface."""

TEXT = "PULUMI_CONFIG_PASSPHRASE"
FILE = "PULUMI_CONFIG_PASSPHRASE_FILE"
"""Of these two the CLI prefers the text."""


def unwanted(environ: Mapping[str, str], *, on_loopback: bool) -> tuple[str, ...]:
    """Variables of `environ` that are not the user's own: in the shell of ``make env`` there is the passphrase of the
    local stacks, and the secrets of another one would be encrypted with it."""
    return (TEXT,) if not on_loopback and environ.get(TEXT) == LOCAL_PASSPHRASE else ()


def variables(state: Path, environ: Mapping[str, str], *, on_loopback: bool) -> dict[str, str]:
    """What to set for a stack, by where its cluster and its cloud are and not by what it is called. A passphrase is
    made in `state` if the user has none."""
    if on_loopback:
        # Fixed, because the salt that belongs to it is committed in Pulumi.local.yaml. It keeps nothing secret.
        return {TEXT: LOCAL_PASSPHRASE}
    if TEXT in environ or environ.get(FILE):
        return {}
    return {FILE: os.fspath(_generated(state / "passphrase"))}


def _generated(file: Path) -> Path:
    if not file.exists():
        # Linked into place, so that of two first runs at once both see the same whole file.
        draft = file.with_name(f"passphrase.{secrets.token_hex(8)}")
        with open(draft, "x", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="ascii") as new:
            new.write(secrets.token_urlsafe(32))
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file
