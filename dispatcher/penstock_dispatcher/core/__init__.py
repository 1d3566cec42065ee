"""The dispatcher's core: pure state machines.

Standard library only; no I/O, no clock, no randomness, no asyncio. Every verb is synchronous, takes
the time as an argument (`now`: integer nanoseconds since the Unix epoch, never going back within a
process), and either returns a frozen decision with a reason or leaves effects for the shell to act
on. Invariants hold between any two verbs.
"""
