"""The gRPC services: each handler checks, calls the core, waits for durability, and answers."""
