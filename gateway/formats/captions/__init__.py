"""Caption formats: WebVTT, SubRip and closed captions, as bytes and cues."""
