"""How ``pulumi`` is called with the policy pack: levels for a local stack, and a file with those of a company."""

import json
from pathlib import Path
from typing import Any

from local.stack import StackError

PACK_FOLDER = Path("policy")
LOCAL_LEVELS = Path(".state") / "policy.json"

OFF = "off"
ON = "on"


def pack_options(root: Path, policy: str, *, on_loopback: bool) -> list[str]:
    """Options for ``pulumi up`` and ``pulumi preview``.

    :param policy: ``on``, ``off``, or the path of a JSON file with levels and options of the rules.
    :param on_loopback: the stack is on this machine only. Then a broken rule does not stop it, unless the file says so
        about this rule.
    :raises StackError: the pack is not installed, or the file cannot be used.
    """
    if policy == OFF:
        return []
    if not (root / PACK_FOLDER / ".venv").is_dir():
        raise StackError(
            "the policy pack is not installed: use make up or make preview, which install it once, or leave it out "
            "with POLICY=off"
        )
    options = ["--policy-pack", str(root / PACK_FOLDER)]
    own = None if policy == ON else Path(policy)
    levels = _read(own) if own else {}
    if on_loopback:
        file = root / LOCAL_LEVELS
        file.parent.mkdir(parents=True, exist_ok=True)
        # A level of a single rule wins over that of all.
        file.write_text(json.dumps({"all": "advisory", **levels}), encoding="utf-8")
        own = file
    return [*options, "--policy-pack-config", str(own)] if own else options


def _read(file: Path) -> dict[str, Any]:
    fix = 'write POLICY=off, or a JSON file such as {"disallow-mutable-tags": {"requireDigest": true}} (docs/policy.md)'
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StackError(f"POLICY={file}: the file cannot be read ({error.strerror}); {fix}") from None
    except ValueError:
        raise StackError(f"POLICY={file}: the file is not JSON; {fix}") from None
    if not isinstance(found, dict):
        raise StackError(f"POLICY={file}: the file has no rules by name; {fix}")
    return found
