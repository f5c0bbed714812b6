"""FLV: tags, the tag bodies that RTMP messages share with files, and Enhanced RTMP's additions to both."""
