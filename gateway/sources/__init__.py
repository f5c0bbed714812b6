"""Where a stream's units come from: an encoder's FLV bodies now, a file or another server later."""
