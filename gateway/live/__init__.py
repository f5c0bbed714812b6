"""Live streams in memory: publisher, fan-out to consumers, GOP cache, supervision of outputs.

The modules open no sockets. They parse FLV bodies (`flv_intake`) and metadata, and pass other media on unread.
"""
