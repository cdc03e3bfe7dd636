"""What the APIs refuse."""


class RefusalError(Exception):
    """A request that is answered with an error, in the format of whom was asked; ``code`` is their name for it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
