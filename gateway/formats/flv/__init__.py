"""FLV: tags, the tag bodies that RTMP messages share with FLV files, and the additions of Enhanced RTMP."""
