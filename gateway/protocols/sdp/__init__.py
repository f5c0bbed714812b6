"""Session descriptions: lines of any, offers and answers of WebRTC, and the fragments of trickle ICE."""
