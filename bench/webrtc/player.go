package main

import (
	"bytes"
	"slices"
	"strconv"
)

const (
	// of the time, and of the number that whip puts behind it
	stampHexBytes  = 16
	numberHexBytes = 8

	giveUpMicros = 1_000_000 // a hole that is older is passed, and pictures wait for a key frame
	freezeMicros = 500_000
	nackMicros   = 100_000 // between two requests for one packet
	nackDelay    = 10_000  // packets that overtake others are no loss
	pliMicros    = 1_000_000
	largestHole  = 2_000 // packets; a larger step is a new sequence
)

// stamp precedes the sending time in an SEI of every picture of rtmppush and of whip (bench/common.h).
var stamp = []byte("\xa5\x5a#LATENCY-PROBE")

// counts is what has arrived, decrypted; all fields grow only, but the longest pause is that of the window.
type counts struct {
	packets, bytes                                  int64
	holes, recovered, lost, duplicates, authFailure int64
	frames, keyFrames, freezes, frozenMicros        int64
	longestMicros                                   int64
	nacks, plis                                     int64
	missingFrames                                   int64 // that the server never sent, by the numbers in the pictures
}

type held struct {
	timestamp   uint32
	marker, key bool
	number      int64 // of the picture that begins here, -1 where it has none
}

// player follows the sequence of one video track as a decoder would: a frame counts when all its packets, and those of
// all frames before it since a key frame, are there. It reads no clock.
type player struct {
	counts
	codec        string
	probe        bool // read the stamps
	ssrc         uint32
	started      bool
	next         uint16 // the first packet that is missing
	highest      uint16
	cycles       uint32
	held         map[uint16]held  // packets behind a hole
	asked        map[uint16]int64 // when a missing packet was last requested
	missedAt     map[uint16]int64 // when it was found missing
	holeSince    int64
	timestamp    uint32 // of the frame that is being received
	key          bool
	number       int64 // of the last picture
	numbered     bool
	broken       uint32 // timestamp of the frame behind a hole that was passed
	hasBroken    bool
	playing      bool
	startedAt    int64 // the first packet
	firstPicture int64
	lastFrame    int64
	lastPLI      int64
	transit      int64
	jitter       int64 // RFC 3550 A.8, units of the clock times 16
	latencies    []float64
}

// packet takes one decrypted packet of the video track, retransmissions unwrapped.
func (p *player) packet(sequence uint16, timestamp uint32, marker bool, payload []byte, now int64) {
	if !p.started {
		p.started, p.next, p.highest, p.timestamp = true, sequence, sequence, timestamp-1
		p.startedAt = now
	}
	if step := int16(sequence - p.highest); step > 0 {
		if sequence < p.highest {
			p.cycles++
		}
		p.highest = sequence
	}
	p.countJitter(timestamp, now)
	arrived := held{timestamp, marker, beginsKeyFrame(p.codec, payload), -1}
	if timestamp != p.timestamp {
		arrived.number = p.readStamp(payload, now)
	}
	ahead := int16(sequence - p.next)
	switch {
	case ahead < 0:
		p.duplicates++
	case ahead == 0:
		if len(p.asked) > 0 {
			p.arrivedLate(sequence)
		}
		p.advance(arrived, now)
		p.next++
		p.drain(now)
	default:
		p.hold(sequence, ahead, arrived, now)
	}
}

// hold keeps a packet behind a hole.
func (p *player) hold(sequence uint16, ahead int16, packet held, now int64) {
	if _, there := p.held[sequence]; there {
		p.duplicates++
		return
	}
	if ahead > largestHole {
		p.skipTo(sequence)
		p.advance(packet, now)
		p.next++
		return
	}
	if p.held == nil {
		p.held, p.asked, p.missedAt = map[uint16]held{}, map[uint16]int64{}, map[uint16]int64{}
	}
	if len(p.held) == 0 {
		p.holeSince = now
	}
	if p.asked[sequence] != 0 {
		p.arrivedLate(sequence)
	}
	for missing := sequence - 1; missing != p.next-1; missing-- { // the packets just found missing
		if _, there := p.held[missing]; there {
			break
		}
		if p.asked[missing] != 0 {
			break
		}
		p.asked[missing], p.missedAt[missing] = now+nackDelay-nackMicros, now
		p.holes++
	}
	p.held[sequence] = packet
}

func (p *player) arrivedLate(sequence uint16) {
	if _, missing := p.asked[sequence]; missing {
		delete(p.asked, sequence)
		delete(p.missedAt, sequence)
		p.recovered++
	}
}

// drain passes on what a filled hole held back.
func (p *player) drain(now int64) {
	for len(p.held) > 0 {
		packet, there := p.held[p.next]
		if !there {
			p.holeSince = now // another hole; the first one has just been filled
			return
		}
		delete(p.held, p.next)
		p.advance(packet, now)
		p.next++
	}
}

// advance takes the packets in order, without holes.
func (p *player) advance(packet held, now int64) {
	if packet.timestamp != p.timestamp {
		p.timestamp, p.key = packet.timestamp, false
	}
	if packet.number >= 0 {
		if skipped := packet.number - p.number - 1; p.numbered && skipped > 0 {
			p.missingFrames += skipped
			p.playing = false // what refers to a missing picture is broken
		}
		p.number, p.numbered = packet.number, true
	}
	p.key = p.key || packet.key && !(p.hasBroken && packet.timestamp == p.broken)
	if !packet.marker {
		return
	}
	if p.key {
		p.keyFrames++
		if p.firstPicture == 0 {
			p.firstPicture = now
		}
		p.playing = true
	}
	if p.playing {
		p.noteGap(now)
		p.frames++
		p.lastFrame = now
	}
}

// noteGap counts a freeze that ends now.
func (p *player) noteGap(now int64) {
	if p.lastFrame == 0 {
		return
	}
	gap := now - p.lastFrame
	p.longestMicros = max(p.longestMicros, gap)
	if gap > freezeMicros {
		p.freezes++
		p.frozenMicros += gap
	}
}

// skipTo passes a hole; pictures go on with the next key frame.
func (p *player) skipTo(sequence uint16) {
	p.lost += int64(len(p.asked))
	clear(p.asked)
	clear(p.missedAt)
	clear(p.held)
	p.next, p.playing = sequence, false
}

// due gives the packets to request now, and whether a key frame is needed.
func (p *player) due(now int64) (missing []uint16, keyFrame bool) {
	if len(p.held) > 0 && now-p.holeSince > giveUpMicros {
		p.passHole(now)
	}
	for sequence, last := range p.asked {
		if now-last >= nackMicros {
			p.asked[sequence] = now
			missing = append(missing, sequence)
			p.nacks++
		}
	}
	slices.SortFunc(missing, func(a, b uint16) int { return int(int16(a - b)) })
	waiting := p.started && !p.playing && now-p.startedAt > freezeMicros
	if waiting && now-p.lastPLI >= pliMicros {
		p.lastPLI = now
		p.plis++
		return missing, true
	}
	return missing, false
}

// passHole gives up the oldest missing packets.
func (p *player) passHole(now int64) {
	for {
		if behind, there := p.held[p.next]; there {
			p.broken, p.hasBroken = behind.timestamp, true
			break
		}
		if _, missing := p.asked[p.next]; missing {
			delete(p.asked, p.next)
			delete(p.missedAt, p.next)
			p.lost++
		}
		p.next++
	}
	p.playing = false
	p.drain(now)
}

// missing is the number of packets that have not come until now.
func (p *player) missing() int64 { return p.lost + int64(len(p.asked)) }

// unrepaired is the number of packets that have been missing for longer than a picture may stand still.
func (p *player) unrepaired(now int64) int64 {
	count := p.lost
	for _, at := range p.missedAt {
		if now-at > freezeMicros {
			count++
		}
	}
	return count
}

// readStamp notes the age of a picture, and returns its number or -1.
func (p *player) readStamp(payload []byte, now int64) int64 {
	at := bytes.Index(payload, stamp)
	if at < 1 || len(payload) < at+len(stamp)+stampHexBytes {
		return -1
	}
	size, text := int(payload[at-1]), payload[at+len(stamp):]
	sent, err := strconv.ParseInt(string(text[:stampHexBytes]), 16, 64)
	if err != nil {
		return -1
	}
	if p.probe {
		p.latencies = append(p.latencies, float64(now-sent)/1e3)
	}
	if size != len(stamp)+stampHexBytes+numberHexBytes || len(text) < stampHexBytes+numberHexBytes {
		return -1
	}
	number, err := strconv.ParseInt(string(text[stampHexBytes:stampHexBytes+numberHexBytes]), 16, 64)
	if err != nil {
		return -1
	}
	return number
}

func (p *player) countJitter(timestamp uint32, now int64) {
	transit := now*90/1000 - int64(timestamp)
	difference := int64(int32(transit - p.transit))
	if p.transit != 0 {
		p.jitter += max(difference, -difference) - (p.jitter+8)>>4
	}
	p.transit = transit
}
