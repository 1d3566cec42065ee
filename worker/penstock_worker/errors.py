"""What a handler raises to say how its attempt ended. Any other exception is a failure that is
retried.
"""


class PermanentError(Exception):
    """Trying again is of no use: the task goes to the dead letters."""


class RetryLater(Exception):  # noqa: N818 - reads as what the handler asks for
    """Failed; try again after `delay_seconds` (within the pool's maximum), which charges an
    attempt.
    """

    def __init__(self, delay_seconds: float, message: str = "") -> None:
        super().__init__(message or f"try again in {delay_seconds:g} s")
        self.delay_seconds = delay_seconds


class Release(Exception):  # noqa: N818 - reads as what the handler asks for
    """Hand the task back: some other worker should run it. Charges nothing."""


class Cancelled(Exception):  # noqa: N818 - an outcome, not an error
    """What `Task.check_cancelled` raises once the attempt was asked to stop."""
