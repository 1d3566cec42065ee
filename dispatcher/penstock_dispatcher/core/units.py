"""Time in the core: integer nanoseconds since the Unix epoch, so that arithmetic on rates and
leases is exact.
"""

from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
NEVER: Final = 2**62
"""Later than every deadline; compares and sorts like any other time."""
