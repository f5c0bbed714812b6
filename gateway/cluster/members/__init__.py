"""The nodes of a cluster: their identity, which of them are alive, and which node holds a stream."""
