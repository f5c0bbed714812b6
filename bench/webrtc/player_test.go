package main

import (
	"fmt"
	"testing"
)

const frameMicros = 33_333

// stream makes frames of three packets each, for a player that they are pushed into.
type stream struct {
	player   player
	sequence uint16
	now      int64
	number   int64
}

func newStream() *stream {
	return &stream{player: player{codec: "H264"}, sequence: 65_530, now: 1_000_000}
}

type late struct {
	sequence  uint16
	timestamp uint32
	payload   []byte
}

// frame pushes one frame less the packets of `without`, which it returns.
func (s *stream) frame(key bool, without ...int) (left []late) {
	s.now += frameMicros
	kind := byte(1)
	if key {
		kind = 5
	}
	for part := range 3 {
		payload := []byte{28, kind, 0, 0}
		if part == 0 {
			payload = stamped([]byte{0, 0, 0}, s.now, s.number)[4:] // the SEI alone
		}
		if part == 1 {
			payload[1] |= 0x80
		}
		if len(without) > 0 && without[0] == part {
			left, without = append(left, late{s.sequence, uint32(s.now * 9 / 100), payload}), without[1:]
		} else {
			s.player.packet(s.sequence, uint32(s.now*9/100), part == 2, payload, s.now)
		}
		s.sequence++
	}
	s.number++
	return left
}

func expect(t *testing.T, what string, got, wanted int64) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %d, not %d", what, got, wanted)
	}
}

func TestFramesCountFromTheFirstKeyFrame(t *testing.T) {
	s := newStream()
	s.frame(false)
	s.frame(true)
	for range 10 {
		s.frame(false)
	}
	expect(t, "frames", s.player.frames, 11)
	expect(t, "key frames", s.player.keyFrames, 1)
	expect(t, "holes", s.player.holes, 0)
	expect(t, "freezes", s.player.freezes, 0)
}

func TestFilledHoleLetsAllFramesOn(t *testing.T) {
	s := newStream()
	s.frame(true)
	left := s.frame(false, 0, 1)
	s.frame(false)
	expect(t, "frames before the repair", s.player.frames, 1)
	missing, _ := s.player.due(s.now + nackDelay)
	if len(missing) != 2 || missing[0] != left[0].sequence || missing[1] != left[1].sequence {
		t.Errorf("requested %v", missing)
	}
	for _, packet := range left {
		s.player.packet(packet.sequence, packet.timestamp, false, packet.payload, s.now)
	}
	expect(t, "frames", s.player.frames, 3)
	expect(t, "holes", s.player.holes, 2)
	expect(t, "recovered", s.player.recovered, 2)
	expect(t, "unrepaired", s.player.unrepaired(s.now+giveUpMicros), 0)
}

func TestUnrepairedHoleFreezesUntilTheNextKeyFrame(t *testing.T) {
	s := newStream()
	s.frame(true)
	s.frame(false, 1)
	for range 40 {
		s.frame(false)
		s.player.due(s.now)
	}
	expect(t, "frames without the lost packet", s.player.frames, 1)
	expect(t, "lost", s.player.lost, 1)
	_, keyFrame := s.player.due(s.now + pliMicros)
	if !keyFrame {
		t.Error("no key frame is requested")
	}
	s.frame(true)
	s.frame(false)
	expect(t, "frames", s.player.frames, 3)
	expect(t, "freezes", s.player.freezes, 1)
}

func TestPictureThatTheServerLeftOutBreaksTheNextOnes(t *testing.T) {
	s := newStream()
	s.frame(true)
	s.number += 2
	for range 5 {
		s.frame(false)
	}
	expect(t, "missing frames", s.player.missingFrames, 2)
	expect(t, "frames", s.player.frames, 1)
	s.frame(true)
	expect(t, "frames after the key frame", s.player.frames, 2)
}

func TestAnswerGivesKeysCandidatesAndPayloads(t *testing.T) {
	text := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=fingerprint:sha-256 ab:cd\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=setup:passive\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n" +
		"a=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n" +
		"a=candidate:1 1 udp 100 192.0.2.1 5000 typ host\r\na=candidate:1 1 udp 100 127.0.0.1 5000 typ host\r\n" +
		"a=candidate:2 1 tcp 90 127.0.0.1 5001 typ host tcptype passive\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\n"
	found, err := parseAnswer(text)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(found.ufrag, found.password, found.fingerprint, found.active, found.udp, found.tcp,
		found.payloads[96], found.payloads[97], found.payloads[111])
	wanted := "upAB:CDfalse [127.0.0.1:5000] [127.0.0.1:5001] {H264 false false} {H264 false true} {opus true false}"
	if got != wanted {
		t.Errorf("%s, not %s", got, wanted)
	}
}

func TestOpusPacketsComeOutOfOggPages(t *testing.T) {
	page := func(packets ...[]byte) []byte {
		data := append([]byte("OggS"), make([]byte, 23)...)
		data[26] = byte(len(packets))
		for _, packet := range packets {
			data = append(data, byte(len(packet)))
		}
		for _, packet := range packets {
			data = append(data, packet...)
		}
		return data
	}
	data := append(page([]byte("OpusHead")), page([]byte("OpusTags"))...)
	data = append(data, page([]byte{0xfc, 1}, []byte{0xfc, 2, 2})...)
	found, err := readOpus(data)
	if err != nil || len(found.samples) != 2 || found.samples[1].duration.Milliseconds() != 20 {
		t.Errorf("%v %v", found, err)
	}
	if _, err := readOpus(data[:len(data)-1]); err == nil {
		t.Error("a cut file is read")
	}
}
