"""What a handler raises to say how its attempt ended. Any other exception is a failure that is
retried.
"""

import math


class PermanentError(Exception):
    """Trying again is of no use: the task goes to the dead letters."""


class RetryLater(Exception):  # noqa: N818 - reads as what the handler asks for
    """Failed; try again after `delay_seconds` (within the pool's maximum; 0 or less = at once),
    which charges an attempt. Raises ValueError or TypeError for what is no number of seconds.
    """

    def __init__(self, delay_seconds: float, message: str = "") -> None:
        seconds = float(delay_seconds)
        if not math.isfinite(seconds):
            raise ValueError(f"RetryLater: delay_seconds must be a finite number, is {seconds}")
        super().__init__(message or f"try again in {seconds:g} s")
        self.delay_seconds = seconds


class Release(Exception):  # noqa: N818 - reads as what the handler asks for
    """Hand the task back: some other worker should run it. Charges nothing."""


class Cancelled(Exception):  # noqa: N818 - an outcome, not an error
    """What `Task.check_cancelled` raises once the attempt was asked to stop."""
