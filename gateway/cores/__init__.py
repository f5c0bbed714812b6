"""Several worker processes on the same ports: a small master that starts them, and what a worker knows of it."""
