"""The chunk layer, both directions (§5.3)."""

from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.chunk_writer import ChunkWriter, shared_message
from gateway.protocols.rtmp.message import Message

__all__ = ["ChunkReader", "ChunkWriter", "Message", "shared_message"]
