package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pion/webrtc/v4"
)

// sample is one frame of a file.
type sample struct {
	data     []byte
	duration time.Duration
	key      bool
}

// film is a file of one track, read whole.
type film struct {
	mimeType  string
	clockRate uint32
	channels  uint16
	samples   []sample
}

// readFilm reads .h264 (Annex B, at `fps`), .ivf (VP8, VP9, AV1) or .ogg (Opus).
func readFilm(path string, fps float64) (*film, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found *film
	switch filepath.Ext(path) {
	case ".h264":
		found = readH264(data, time.Duration(float64(time.Second)/fps))
	case ".ivf":
		found, err = readIVF(data)
	case ".ogg":
		found, err = readOpus(data)
	default:
		err = errors.New("only .h264, .ivf and .ogg are read")
	}
	if err == nil && len(found.samples) == 0 {
		err = errors.New("no frame is in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

// readH264 groups NAL units into access units, ITU-T H.264 7.4.1.2.3; a slice whose first_mb_in_slice is 0 begins one.
func readH264(data []byte, each time.Duration) *film {
	found := &film{mimeType: webrtc.MimeTypeH264, clockRate: 90_000}
	var unit []byte
	picture, key := false, false
	end := func() {
		if picture {
			found.samples = append(found.samples, sample{unit, each, key})
			unit, picture, key = nil, false, false
		}
	}
	for _, nal := range bytes.Split(data, []byte{0, 0, 1}) {
		nal = bytes.TrimRight(nal, "\x00") // the first zero of a longer start code
		if len(nal) < 2 {
			continue
		}
		kind := nal[0] & 0x1f
		slice := kind == 1 || kind == 5
		if kind >= 6 && kind <= 9 || slice && nal[1]&0x80 != 0 {
			end()
		}
		picture, key = picture || slice, key || kind == 5
		unit = append(append(unit, 0, 0, 0, 1), nal...)
	}
	end()
	return found
}

func readIVF(data []byte) (*film, error) {
	if len(data) < 32 || string(data[:4]) != "DKIF" {
		return nil, errors.New("no IVF file")
	}
	codecs := map[string]string{"VP80": webrtc.MimeTypeVP8, "VP90": webrtc.MimeTypeVP9, "AV01": webrtc.MimeTypeAV1}
	found := &film{mimeType: codecs[string(data[8:12])], clockRate: 90_000}
	if found.mimeType == "" {
		return nil, fmt.Errorf("codec %q is not known", data[8:12])
	}
	rate, scale := binary.LittleEndian.Uint32(data[16:]), binary.LittleEndian.Uint32(data[20:])
	if rate == 0 {
		return nil, errors.New("the frame rate is 0")
	}
	each := time.Duration(float64(time.Second) * float64(scale) / float64(rate))
	for rest := data[32:]; len(rest) >= 12; {
		size := int(binary.LittleEndian.Uint32(rest))
		if size > len(rest)-12 {
			return nil, errors.New("the last frame is cut")
		}
		frame := rest[12 : 12+size]
		key := len(found.samples) == 0 || found.mimeType == webrtc.MimeTypeVP8 && size > 0 && frame[0]&1 == 0
		found.samples = append(found.samples, sample{frame, each, key})
		rest = rest[12+size:]
	}
	return found, nil
}

// readOpus takes the packets out of Ogg pages, RFC 3533 6, less the two headers of RFC 7845.
func readOpus(data []byte) (*film, error) {
	found := &film{mimeType: webrtc.MimeTypeOpus, clockRate: 48_000, channels: 2}
	var packet []byte
	headers := 0
	for len(data) > 0 {
		if len(data) < 27 || string(data[:4]) != "OggS" || len(data) < 27+int(data[26]) {
			return nil, errors.New("no Ogg page where one should begin")
		}
		table := data[27 : 27+int(data[26])]
		data = data[27+len(table):]
		for _, size := range table {
			if len(data) < int(size) {
				return nil, errors.New("the last page is cut")
			}
			packet = append(packet, data[:size]...)
			data = data[size:]
			if size == 255 {
				continue
			}
			if headers++; headers > 2 && len(packet) > 0 {
				found.samples = append(found.samples, sample{packet, opusDuration(packet), true})
			}
			packet = nil
		}
	}
	return found, nil
}

// opusDuration reads the TOC byte, RFC 6716 3.1.
func opusDuration(packet []byte) time.Duration {
	configuration := packet[0] >> 3
	each := 20 * time.Millisecond
	switch {
	case configuration < 12:
		each = []time.Duration{10, 20, 40, 60}[configuration%4] * time.Millisecond
	case configuration < 16:
		each = []time.Duration{10, 20}[configuration%2] * time.Millisecond
	default:
		each = []time.Duration{2500, 5000, 10_000, 20_000}[configuration%4] * time.Microsecond
	}
	switch count := packet[0] & 3; {
	case count == 0:
		return each
	case count < 3:
		return 2 * each
	case len(packet) > 1:
		return time.Duration(packet[1]&0x3f) * each
	}
	return each
}

// stamped puts an SEI before an access unit of H.264: the time, as rtmppush does, and the number of the picture.
func stamped(unit []byte, now, number int64) []byte {
	sei := append([]byte{0, 0, 0, 1, 6, 5, byte(len(stamp) + stampHexBytes + numberHexBytes)}, stamp...)
	sei = append(fmt.Appendf(sei, "%016x%08x", now, number), 0x80)
	return append(sei, unit...)
}
