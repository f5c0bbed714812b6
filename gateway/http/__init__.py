"""The HTTP server of playback, and the listener under the API: connections, requests, responses, WebSocket.

It has no routes and no streams; other packages give it a handler.
"""
