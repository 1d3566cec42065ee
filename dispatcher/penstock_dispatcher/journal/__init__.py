"""Where the dispatcher remembers: what a journal is, and its kinds (`memory`, `sqlite`)."""
