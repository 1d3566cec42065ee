"""What the compiler is told about a class (decision 0028). Where nothing is compiled it says
nothing: the sources need neither a compiler nor `mypy_extensions`. It lies outside the core because
all of that is compiled, and this must not be.

`@mypyc_attr(acyclic=True)` is for objects that are made for each task, and that never lead back to
themselves once they are over: the collector of cycles is not told of them. A task and its lease
know each other; `LeaseTable.end` parts them, and a pool that is purged ends its leases.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_: Any) -> Any:
        """Leaves the class as it is."""
        return lambda kind: kind
