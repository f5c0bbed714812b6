"""The HTTP side of WebRTC (RFC 9725 and the WHEP draft): sessions as resources, and viewers (`whep`)."""
