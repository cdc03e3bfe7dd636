"""Where the mover keeps its own objects: next to the model's folder and not in it, so that no cache loads them."""

OWN_FOLDER = ".modelmover"


def model_key(prefix: str, path: str) -> str:
    """The object of the model's file ``path``."""
    return f"{prefix}/{path}"


def manifest_key(prefix: str) -> str:
    """The object that says what was moved and proven."""
    return f"{OWN_FOLDER}/{prefix}/manifest.json"


def claim_key(prefix: str) -> str:
    """The object that says which model is being moved there."""
    return f"{OWN_FOLDER}/{prefix}/claim.json"


def states_prefix(prefix: str) -> str:
    """What the keys of all states begin with."""
    return f"{OWN_FOLDER}/{prefix}/uploads/"


def state_key(prefix: str, path: str) -> str:
    """The object with the state of the unfinished upload of ``path``."""
    return f"{states_prefix(prefix)}{path}.json"
