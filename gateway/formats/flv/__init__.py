"""FLV: tags, the tag bodies that RTMP messages share with FLV files, and Enhanced RTMP's additions to both."""
