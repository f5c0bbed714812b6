"""Media processing in child processes: what crosses to them, how they are started, what they do."""
