"""The processes around a dispatcher under load: each is a program that prints one line of JSON.

They speak the wire as plainly as they can, so that what is measured is the dispatcher and not they
themselves; `sdk_producer` and `handlers` are what people use instead.
"""
