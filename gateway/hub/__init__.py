"""The hub: who publishes what, who consumes it, and what happens when either goes away."""
