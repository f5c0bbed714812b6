"""Tests of the HTTP side of WebRTC."""
