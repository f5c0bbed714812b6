"""Push over WebSocket: recordings of MediaRecorder and frames of WebCodecs.

The messages are in `gateway.protocols.push`; a worker process reads recordings.
"""
