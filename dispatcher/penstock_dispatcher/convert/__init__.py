"""Between the wire's messages and the core's values; everything that comes in is checked here."""
