package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5/deadline"
	"golang.org/x/sys/unix"
)

const (
	maxEarly         = 256 // packets that came before the keys
	checkEvery       = 50 * time.Millisecond
	consentMicros    = 5_000_000
	reportMicros     = 1_000_000
	handshakeTimeout = 15 * time.Second
)

// peer is one viewer without a media stack of its own: ICE checks of one candidate, DTLS, SRTP. Its socket is read by
// one reader, under the reader's lock; the handshake runs in a goroutine besides and takes its packets from dtlsIn.
type peer struct {
	fd              int
	stream          bool // ICE-TCP
	local, remote   *net.UDPAddr
	ufrag, password string
	answer          *answer
	checked         chan struct{}
	checkedOnce     sync.Once
	dtlsIn          chan []byte
	keys            atomic.Pointer[srtpKeys]
	early           [][]byte
	incoming        []byte // of a TCP stream, the begin of a frame
	lastCheck       int64
	lastReport      int64
	lostBefore      int64
	expectedBefore  uint32
	senderReport    uint32 // middle 32 bits of its NTP time
	senderReportAt  int64
	audio           counts
	video           player
	index           int
	session         string
	dead            bool
	failure         string
	unknownPayloads int64
	unsent          atomic.Int64 // packets that the socket's buffer had no room for
}

type srtpKeys struct{ in, out *srtp.Context }

// openUDP binds the socket whose address is in the offer.
func (p *peer) openUDP(bufferBytes int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.fd = fd
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	// Root may have more than the system's limit for everybody.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	p.local = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	return nil
}

func (p *peer) connect() error {
	list := p.answer.udp
	if p.stream {
		list = p.answer.tcp
	}
	if len(list) == 0 {
		return errors.New("the answer has no candidate of the wanted kind on this machine")
	}
	remote, err := net.ResolveUDPAddr("udp4", list[0])
	if err != nil {
		return err
	}
	p.remote = remote
	to := &unix.SockaddrInet4{Port: remote.Port, Addr: [4]byte(remote.IP.To4())}
	if !p.stream {
		return unix.Connect(p.fd, to)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.fd = fd
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return unix.SetNonblock(fd, true)
}

// send writes one packet. A full socket buffer drops it: all that is sent is small and repeated.
func (p *peer) send(packet []byte) {
	if p.stream { // RFC 4571
		packet = append([]byte{byte(len(packet) >> 8), byte(len(packet))}, packet...)
	}
	if _, err := unix.Write(p.fd, packet); err != nil {
		p.unsent.Add(1)
	}
}

// establish makes ICE checks and the DTLS handshake; the reader has the socket already.
func (p *peer) establish(certificate *tls.Certificate) error {
	last := time.Now().Add(handshakeTimeout)
	for checks := time.NewTicker(checkEvery); ; {
		if err := p.check(); err != nil {
			return err
		}
		select {
		case <-p.checked:
		case <-checks.C:
			if time.Now().Before(last) {
				continue
			}
			return errors.New("no ICE check was answered")
		}
		checks.Stop()
		break
	}
	config := &dtls.Config{
		Certificates:       []tls.Certificate{*certificate},
		InsecureSkipVerify: true, // the fingerprint of the answer is the proof
		ClientAuth:         dtls.RequireAnyClientCert,
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{
			dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80,
		},
		VerifyPeerCertificate: func(certificates [][]byte, _ [][]*x509.Certificate) error {
			if len(certificates) == 0 || fingerprintOf(certificates[0]) != p.answer.fingerprint {
				return errors.New("the certificate is not that of the answer")
			}
			return nil
		},
	}
	begin := dtls.Client
	if p.answer.active {
		begin = dtls.Server
	}
	conn, err := begin(&handshakeConn{peer: p, deadline: deadline.New()}, p.remote, config)
	if err != nil {
		return fmt.Errorf("DTLS: %w", err)
	}
	limit, cancel := context.WithDeadline(context.Background(), last)
	defer cancel()
	if err := conn.HandshakeContext(limit); err != nil {
		return fmt.Errorf("DTLS: %w", err)
	}
	return p.takeKeys(conn)
}

func (p *peer) takeKeys(conn *dtls.Conn) error {
	profile, _ := conn.SelectedSRTPProtectionProfile()
	config := &srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	state, ok := conn.ConnectionState()
	if !ok {
		return errors.New("DTLS has no state")
	}
	if err := config.ExtractSessionKeysFromDTLS(&state, !p.answer.active); err != nil {
		return err
	}
	in, err := srtp.CreateContext(config.Keys.RemoteMasterKey, config.Keys.RemoteMasterSalt, config.Profile)
	if err != nil {
		return err
	}
	out, err := srtp.CreateContext(config.Keys.LocalMasterKey, config.Keys.LocalMasterSalt, config.Profile)
	if err != nil {
		return err
	}
	p.keys.Store(&srtpKeys{in, out})
	return nil
}

// check sends an ICE check that nominates (RFC 8445 7.2.5: the only pair is good enough).
func (p *peer) check() error {
	message, err := stun.Build(stun.TransactionID, stun.BindingRequest,
		stun.NewUsername(p.answer.ufrag+":"+p.ufrag),
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{0x6e, 0x7f, 0x1e, 0xff}},
		stun.RawAttribute{Type: stun.AttrICEControlling, Value: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		stun.RawAttribute{Type: stun.AttrUseCandidate},
		stun.NewShortTermIntegrity(p.answer.password), stun.Fingerprint)
	if err != nil {
		return err
	}
	p.send(message.Raw)
	return nil
}

// stunPacket takes the answer to a check, or a check of a server that is no ICE-lite.
func (p *peer) stunPacket(packet []byte) {
	var message stun.Message
	if stun.Decode(packet, &message) != nil {
		return
	}
	switch message.Type {
	case stun.BindingSuccess:
		if p.answer != nil && stun.NewShortTermIntegrity(p.answer.password).Check(&message) == nil {
			p.checkedOnce.Do(func() { close(p.checked) })
		}
	case stun.BindingRequest:
		integrity := stun.NewShortTermIntegrity(p.password)
		if integrity.Check(&message) != nil {
			return
		}
		reply, err := stun.Build(stun.NewTransactionIDSetter(message.TransactionID), stun.BindingSuccess,
			&stun.XORMappedAddress{IP: p.remote.IP, Port: p.remote.Port}, integrity, stun.Fingerprint)
		if err == nil {
			p.send(reply.Raw)
		}
	}
}

func fingerprintOf(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	pairs := make([]string, 0, len(sum))
	for at := 0; at < len(text); at += 2 {
		pairs = append(pairs, text[at:at+2])
	}
	return strings.Join(pairs, ":")
}

// handshakeConn is the net.PacketConn of the DTLS handshake: what the reader puts aside, and the peer's socket.
type handshakeConn struct {
	peer     *peer
	deadline *deadline.Deadline
	closed   atomic.Bool
}

func (c *handshakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet := <-c.peer.dtlsIn:
		return copy(b, packet), c.peer.remote, nil
	case <-c.deadline.Done():
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *handshakeConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	c.peer.send(b)
	return len(b), nil
}

func (c *handshakeConn) Close() error                       { c.closed.Store(true); return nil }
func (c *handshakeConn) LocalAddr() net.Addr                { return c.peer.local }
func (c *handshakeConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *handshakeConn) SetWriteDeadline(_ time.Time) error { return nil }
func (c *handshakeConn) SetReadDeadline(t time.Time) error  { c.deadline.Set(t); return nil }
