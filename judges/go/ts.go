package main

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/asticode/go-astits"
)

const (
	packetSize  = 188
	nullPID     = 0x1fff
	typeH264    = 0x1b
	typeHEVC    = 0x24
	typeAAC     = 0x0f
	maxPCRPause = 0.1 // seconds (ISO/IEC 13818-1 §2.7.2)
)

// tsReader reads the segments of one playlist in their order.
type tsReader struct {
	counters map[uint16]uint8
	last     map[uint16]int64
	pcr      float64 // of the packet before; negative: none
	pause    float64 // the longest between two PCRs
}

func (r *tsReader) restart() {
	r.counters, r.last, r.pcr = map[uint16]uint8{}, map[uint16]int64{}, -1
}

func judgeTS(address string) {
	body, ok := fetch(address)
	if !ok {
		return
	}
	reader := &tsReader{}
	reader.restart()
	segments := 0
	for _, line := range lines(body) {
		if line == "#EXT-X-DISCONTINUITY" {
			reader.restart()
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if data, ok := fetch(resolve(address, line)); ok {
			segments++
			reader.packets(line, data)
			reader.units(line, data)
		}
	}
	if segments == 0 {
		broken("segments are listed", "%s", address)
	}
	note("segments", "%d, longest pause between PCRs %.1f ms", segments, reader.pause*1000)
	if reader.pause > maxPCRPause {
		broken("13818-1 2.7.2 PCRs are 100 ms apart at most", "%.1f ms", reader.pause*1000)
	}
}

// packets judges headers and adaptation fields (ISO/IEC 13818-1 §2.4.3).
func (r *tsReader) packets(name string, data []byte) {
	if len(data)%packetSize != 0 {
		broken("a segment has whole packets", "%s %d bytes", name, len(data))
	}
	for at := 0; at+packetSize <= len(data); at += packetSize {
		packet := data[at : at+packetSize]
		if packet[0] != 0x47 {
			broken("2.4.3.3 the sync byte", "%s at %d", name, at)
			return
		}
		pid := uint16(packet[1]&0x1f)<<8 | uint16(packet[2])
		if at == 0 && pid != 0 {
			broken("a segment begins with its PAT", "%s PID %d", name, pid)
		}
		if packet[1]&0x80 != 0 {
			broken("2.4.3.3 no transport error", "%s at %d", name, at)
		}
		r.counter(name, pid, packet)
		r.clock(name, packet)
	}
}

func (r *tsReader) counter(name string, pid uint16, packet []byte) {
	count, hasPayload := packet[3]&15, packet[3]&0x10 != 0
	if before, ok := r.counters[pid]; ok && pid != nullPID {
		expected := before
		if hasPayload {
			expected = (before + 1) & 15
		}
		if count != expected {
			broken("2.4.3.3 continuity counters go on", "%s PID %d is %d, expected %d", name, pid, count, expected)
		}
	}
	r.counters[pid] = count
}

func (r *tsReader) clock(name string, packet []byte) {
	if packet[3]&0x20 == 0 || packet[4] == 0 || packet[5]&0x10 == 0 {
		return
	}
	base := int64(packet[6])<<25 | int64(packet[7])<<17 | int64(packet[8])<<9 | int64(packet[9])<<1 | int64(packet[10])>>7
	extension := int64(packet[10]&1)<<8 | int64(packet[11])
	seconds := float64(base)/90000 + float64(extension)/27e6
	if r.pcr >= 0 && packet[5]&0x80 == 0 {
		if seconds < r.pcr {
			broken("PCRs go forward", "%s %.6f after %.6f", name, seconds, r.pcr)
		} else if seconds-r.pcr > r.pause {
			r.pause = seconds - r.pcr
		}
	}
	r.pcr = seconds
}

// units judges tables and PES packets as astits reads them.
func (r *tsReader) units(name string, data []byte) {
	demuxer := astits.NewDemuxer(context.Background(), bytes.NewReader(data))
	types := map[uint16]byte{}
	clockPID, pictures := uint16(0), 0
	for {
		unit, err := demuxer.NextData()
		if errors.Is(err, astits.ErrNoMorePackets) {
			break
		}
		if err != nil {
			broken("astits reads the segment", "%s %v", name, err)
			break
		}
		if unit.PMT != nil {
			clockPID = unit.PMT.PCRPID
			for _, stream := range unit.PMT.ElementaryStreams {
				types[stream.ElementaryPID] = byte(stream.StreamType)
			}
		}
		if unit.PES == nil {
			continue
		}
		kind, known := types[unit.PID]
		if !known {
			broken("a PMT comes before its streams", "%s PID %d", name, unit.PID)
		}
		r.times(name, unit)
		switch kind {
		case typeH264, typeHEVC:
			if pictures == 0 {
				firstPicture(name, unit.PES.Data, kind)
			}
			pictures++
		case typeAAC:
			adts(name, unit.PES.Data)
		}
	}
	if _, ok := types[clockPID]; !ok {
		broken("the PCR's PID is one of the streams", "%s %d", name, clockPID)
	}
}

func (r *tsReader) times(name string, unit *astits.DemuxerData) {
	header := unit.PES.Header.OptionalHeader
	if header == nil || header.PTS == nil {
		broken("a PES packet has a PTS", "%s PID %d", name, unit.PID)
		return
	}
	dts := header.PTS.Base
	if header.DTS != nil {
		dts = header.DTS.Base
		if header.PTS.Base < dts {
			broken("a picture is shown after it is decoded", "%s PID %d", name, unit.PID)
		}
	}
	if last, ok := r.last[unit.PID]; ok && dts <= last {
		broken("decode times go forward", "%s PID %d: %d after %d", name, unit.PID, dts, last)
	}
	r.last[unit.PID] = dts
}

// firstPicture demands parameter sets, a picture to begin with, and for H.264 an access unit delimiter.
func firstPicture(name string, data []byte, kind byte) {
	sps, pps, key, delimiter := false, false, false, false
	for at := 0; at+4 < len(data); at++ {
		if data[at] != 0 || data[at+1] != 0 || data[at+2] != 1 {
			continue
		}
		if kind == typeH264 {
			switch data[at+3] & 0x1f {
			case 5:
				key = true
			case 6: // a recovery point may stand in for an IDR picture (14496-10 §D.2.8)
				key = key || recoveryPoint(data[at+4:])
			case 7:
				sps = true
			case 8:
				pps = true
			case 9:
				delimiter = delimiter || at <= 1
			}
			continue
		}
		delimiter = true
		switch unit := data[at+3] >> 1 & 0x3f; {
		case unit == 33:
			sps = true
		case unit == 34:
			pps = true
		case unit >= 16 && unit <= 21:
			key = true
		}
	}
	if !longGOPs && (!sps || !pps || !key) {
		broken("a segment begins with a key frame and its parameter sets", "%s type %#x SPS %v PPS %v key %v", name, kind, sps, pps, key)
	}
	if !delimiter {
		broken("H.222.0 2.14.1 an H.264 picture begins with a delimiter", "%s", name)
	}
}

// recoveryPoint tells whether the first SEI message is a recovery point (payload type 6).
func recoveryPoint(payload []byte) bool {
	return len(payload) > 0 && payload[0] == 6
}

func adts(name string, data []byte) {
	for len(data) > 0 {
		if len(data) < 7 || data[0] != 0xff || data[1]&0xf6 != 0xf0 {
			broken("13818-7 6.2 the header of ADTS", "%s % x", name, data[:min(8, len(data))])
			return
		}
		size := int(data[3]&3)<<11 | int(data[4])<<3 | int(data[5])>>5
		if size < 7 || size > len(data) {
			broken("13818-7 6.2 the length of an ADTS frame", "%s %d of %d", name, size, len(data))
			return
		}
		data = data[size:]
	}
}
