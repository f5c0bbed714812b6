package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"golang.org/x/sys/unix"
)

const (
	batch         = 32
	packetRoom    = 65_536 // a datagram, or several of one sender's segmentation offload
	controlRoom   = 64
	timersMicros  = 20_000
	maxEvents     = 512
	maxBatchTurns = 64 // of one socket in one round
)

// reader reads the sockets of many peers in one thread: epoll, then batches of datagrams by recvmmsg. It sleeps `pause`
// between rounds, so that a round finds many packets; arrival times have this resolution.
type reader struct {
	mu       sync.Mutex // held while a round runs: guards the peers and their figures
	epoll    int
	pause    time.Duration
	peers    map[int32]*peer
	room     []byte
	headers  [batch]mmsghdr
	vectors  [batch]unix.Iovec
	controls [batch][controlRoom]byte
	header   rtp.Header
}

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

func newReader(pause time.Duration) (*reader, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	r := &reader{epoll: epoll, pause: pause, peers: map[int32]*peer{}, room: make([]byte, batch*packetRoom)}
	for i := range r.headers {
		r.vectors[i].Base = &r.room[i*packetRoom]
		r.vectors[i].SetLen(packetRoom)
		r.headers[i].header.Iov = &r.vectors[i]
		r.headers[i].header.SetIovlen(1)
		r.headers[i].header.Control = &r.controls[i][0]
	}
	return r, nil
}

func (r *reader) add(p *peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers[int32(p.fd)] = p
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, p.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.fd)})
}

func (r *reader) drop(p *peer, why string) {
	if p.dead {
		return
	}
	p.dead, p.failure = true, why
	// Only a descriptor that is not there fails.
	_ = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, p.fd, nil)
}

// run reads until the process ends.
func (r *reader) run() error {
	events := make([]unix.EpollEvent, maxEvents)
	for nextTimers := int64(0); ; {
		count, err := unix.EpollWait(r.epoll, events, timersMicros/1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		r.mu.Lock()
		now := nowMicros()
		for _, event := range events[:max(count, 0)] {
			if p := r.peers[event.Fd]; p.stream {
				r.readStream(p, now)
			} else {
				r.readDatagrams(p, now)
			}
		}
		if now >= nextTimers {
			nextTimers = now + timersMicros
			for _, p := range r.peers {
				p.timers(now)
			}
		}
		r.mu.Unlock()
		if r.pause > 0 {
			time.Sleep(r.pause)
		}
	}
}

func (r *reader) readDatagrams(p *peer, now int64) {
	for range maxBatchTurns {
		for i := range r.headers {
			r.headers[i].header.SetControllen(controlRoom)
		}
		got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&r.headers[0])), batch,
			unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.ECONNREFUSED {
			continue // an ICMP error of an earlier check
		}
		if errno != 0 {
			if errno != unix.EAGAIN && errno != unix.EINTR {
				r.drop(p, "recvmmsg: "+errno.Error())
			}
			return
		}
		for i := range int(got) {
			datagram := r.room[i*packetRoom : i*packetRoom+int(r.headers[i].length)]
			size := segmentSize(r.controls[i][:r.headers[i].header.Controllen])
			for size > 0 && len(datagram) > size {
				r.packet(p, datagram[:size:size], now)
				datagram = datagram[size:]
			}
			r.packet(p, datagram, now)
		}
		if got < batch {
			return
		}
	}
}

// segmentSize is the length of the packets that UDP_GRO has put together, 0 for a single one.
func segmentSize(control []byte) int {
	if len(control) < unix.SizeofCmsghdr+4 {
		return 0
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if header.Level != unix.SOL_UDP || header.Type != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(control[unix.SizeofCmsghdr:])))
}

func (r *reader) readStream(p *peer, now int64) {
	count, err := unix.Read(p.fd, r.room)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || count == 0 {
		r.drop(p, fmt.Sprintf("the TCP connection ended: %v", err))
		return
	}
	data := r.room[:count]
	if len(p.incoming) > 0 {
		data = append(p.incoming, data...)
	}
	for len(data) >= 2 {
		size := int(data[0])<<8 | int(data[1])
		if len(data) < 2+size {
			break
		}
		r.packet(p, data[2:2+size:2+size], now)
		data = data[2+size:]
	}
	p.incoming = append([]byte(nil), data...)
}

// packet sorts by the first byte, RFC 7983.
func (r *reader) packet(p *peer, packet []byte, now int64) {
	if len(packet) < 12 {
		return
	}
	switch first := packet[0]; {
	case first < 4:
		p.stunPacket(packet)
	case first >= 20 && first < 64:
		select {
		case p.dtlsIn <- append([]byte(nil), packet...):
		default: // a handshake repeats its flights
		}
	case first >= 128 && first < 192:
		keys := p.keys.Load()
		if keys == nil {
			if len(p.early) < maxEarly {
				p.early = append(p.early, append([]byte(nil), packet...))
			}
			return
		}
		for _, before := range p.early {
			p.media(keys, &r.header, before, now)
		}
		p.early = nil
		p.media(keys, &r.header, packet, now)
	}
}

// media decrypts a packet in place and counts it.
func (p *peer) media(keys *srtpKeys, header *rtp.Header, packet []byte, now int64) {
	if kind := packet[1] & 0x7f; kind >= 64 && kind < 96 { // RFC 5761
		plain, err := keys.in.DecryptRTCP(nil, packet, nil)
		if err != nil {
			p.video.authFailure++
			return
		}
		p.control(plain, now)
		return
	}
	plain, err := keys.in.DecryptRTP(packet, packet, header)
	if err != nil {
		p.video.authFailure++
		return
	}
	payload := plain[header.MarshalSize():]
	if header.Padding && len(payload) > 0 {
		payload = payload[:max(0, len(payload)-int(payload[len(payload)-1]))]
	}
	what, known := p.answer.payloads[header.PayloadType]
	if !known {
		p.unknownPayloads++
		return
	}
	if what.audio {
		p.audio.packets++
		p.audio.bytes += int64(len(plain))
		return
	}
	sequence := header.SequenceNumber
	if what.rtx { // RFC 4588
		if len(payload) < 2 {
			return // padding only, a probe for bandwidth
		}
		sequence = binary.BigEndian.Uint16(payload)
		payload = payload[2:]
	} else {
		p.video.ssrc = header.SSRC
	}
	if len(payload) == 0 && !p.video.started {
		return
	}
	p.video.codec = what.name
	p.video.packets++
	p.video.bytes += int64(len(plain))
	p.video.packet(sequence, header.Timestamp, header.Marker, payload, now)
}

func (p *peer) control(plain []byte, now int64) {
	packets, err := rtcp.Unmarshal(plain)
	if err != nil {
		return
	}
	for _, packet := range packets {
		if report, ok := packet.(*rtcp.SenderReport); ok && report.SSRC == p.video.ssrc {
			p.senderReport, p.senderReportAt = uint32(report.NTPTime>>16), now
		}
	}
}

// timers sends what is due: requests for packets and key frames, receiver reports, consent checks.
func (p *peer) timers(now int64) {
	keys := p.keys.Load()
	if keys == nil || p.dead {
		return
	}
	if now-p.lastCheck > consentMicros {
		p.lastCheck = now
		if err := p.check(); err != nil {
			panic(err) // the attributes are the same as in the first one
		}
	}
	var packets []rtcp.Packet
	missing, keyFrame := p.video.due(now)
	if len(missing) > 0 {
		packets = append(packets, &rtcp.TransportLayerNack{
			SenderSSRC: 1, MediaSSRC: p.video.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(missing),
		})
	}
	if keyFrame {
		packets = append(packets, &rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: p.video.ssrc})
	}
	if p.video.started && (len(packets) > 0 || now-p.lastReport > reportMicros) {
		packets = append([]rtcp.Packet{p.report(now)}, packets...)
	}
	if len(packets) == 0 {
		return
	}
	plain, err := rtcp.Marshal(packets)
	if err != nil {
		panic(err) // we have made them
	}
	encrypted, err := keys.out.EncryptRTCP(nil, plain, nil)
	if err != nil {
		panic(err) // the keys have been checked
	}
	p.send(encrypted)
}

// report is a receiver report, RFC 3550 6.4.2.
func (p *peer) report(now int64) rtcp.Packet {
	v := &p.video
	highest := v.cycles<<16 | uint32(v.highest)
	lost := v.missing()
	block := rtcp.ReceptionReport{
		SSRC: v.ssrc, LastSequenceNumber: highest, TotalLost: uint32(lost), Jitter: uint32(v.jitter >> 4),
		LastSenderReport: p.senderReport,
	}
	if p.senderReport != 0 {
		block.Delay = uint32((now - p.senderReportAt) * 65_536 / 1_000_000)
	}
	if expected := highest - p.expectedBefore; p.lastReport != 0 && expected > 0 && lost > p.lostBefore {
		block.FractionLost = uint8(min(255, (lost-p.lostBefore)*256/int64(expected)))
	}
	p.lastReport, p.expectedBefore, p.lostBefore = now, highest, lost
	return &rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{block}}
}

// socketDrops is how many datagrams the kernel dropped because this client read too late.
func socketDrops(ports map[int]bool) (dropped int64, err error) {
	text, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n")[1:] {
		fields := strings.Fields(line)
		if len(fields) < 13 {
			continue
		}
		var address, port int
		if _, err := fmt.Sscanf(fields[1], "%X:%X", &address, &port); err != nil || !ports[port] {
			continue
		}
		var drops int64
		if _, err := fmt.Sscan(fields[12], &drops); err != nil {
			return 0, err
		}
		dropped += drops
	}
	return dropped, nil
}
