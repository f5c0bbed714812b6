package main

// beginsKeyFrame tells whether an RTP payload holds the begin of a key frame or its parameter sets.
func beginsKeyFrame(codec string, payload []byte) bool {
	if len(payload) < 3 {
		return false
	}
	switch codec {
	case "H264":
		return h264Key(payload)
	case "H265":
		return h265Key(payload)
	case "VP8":
		return vp8Key(payload)
	case "VP9": // draft-ietf-payload-vp9: P is 0 for a picture without prediction, B begins a frame
		return payload[0]&0x48 == 0x08
	case "AV1": // AV1 RTP specification 4.4: N begins a coded video sequence
		return payload[0]&0x08 != 0
	}
	return false
}

// RFC 6184: single NAL units, STAP-A (24) and FU-A (28).
func h264Key(payload []byte) bool {
	key := func(unit byte) bool { return unit&0x1f == 5 || unit&0x1f == 7 }
	switch payload[0] & 0x1f {
	case 24:
		for rest := payload[1:]; len(rest) > 2; {
			size := int(rest[0])<<8 | int(rest[1])
			if key(rest[2]) {
				return true
			}
			if size+2 > len(rest) {
				return false
			}
			rest = rest[2+size:]
		}
		return false
	case 28:
		return payload[1]&0x80 != 0 && key(payload[1])
	}
	return key(payload[0])
}

// RFC 7798: intra random access pictures (16 to 23) and parameter sets (32 to 34); 48 aggregates, 49 fragments.
func h265Key(payload []byte) bool {
	key := func(kind byte) bool { return kind >= 16 && kind <= 23 || kind >= 32 && kind <= 34 }
	switch kind := payload[0] >> 1 & 0x3f; kind {
	case 48:
		return len(payload) > 4 && key(payload[4]>>1&0x3f)
	case 49:
		return payload[2]&0x80 != 0 && key(payload[2]&0x3f)
	default:
		return key(kind)
	}
}

// RFC 7741: a descriptor of 1 to 6 bytes, then the frame header, whose first bit is 0 in a key frame.
func vp8Key(payload []byte) bool {
	if payload[0]&0x10 == 0 || payload[0]&0x07 != 0 { // not the begin of the first partition
		return false
	}
	at := 1
	if payload[0]&0x80 != 0 {
		extension := payload[1]
		at = 2
		if extension&0x80 != 0 {
			if payload[2]&0x80 != 0 {
				at++
			}
			at++
		}
		if extension&0x40 != 0 {
			at++
		}
		if extension&0x30 != 0 {
			at++
		}
	}
	return at < len(payload) && payload[at]&1 == 0
}
