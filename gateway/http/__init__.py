"""The HTTP server of playback, and the listener of the API: connections, requests, responses, WebSocket.

It does not know routes or streams; other packages pass a handler.
"""
