"""Session descriptions: their lines, the offers and answers of WebRTC, and the fragments of trickle ICE."""
