"""Live streams in memory: publisher, fan-out to consumers, GOP cache, supervision of outputs.

The modules pass media on. They parse nothing and open no sockets.
"""
