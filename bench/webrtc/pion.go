package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// newPion makes pion's API as applications have it: its default codecs, NACK, RTX, reports and transport-wide feedback.
func newPion(tcp bool) (*webrtc.API, error) {
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	chain := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(media, chain); err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	if tcp {
		settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	} else {
		settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(chain),
		webrtc.WithSettingEngine(settings)), nil
}

// connect offers by WHIP or WHEP with all candidates, and waits until the connection is made.
func connect(connection *webrtc.PeerConnection, address, bearer string) (session string, asked, answered int64, err error) {
	over := make(chan error, 1)
	var once sync.Once
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			once.Do(func() { over <- nil })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			once.Do(func() { over <- fmt.Errorf("the connection is %s", state) })
		}
	})
	offer, err := connection.CreateOffer(nil)
	if err != nil {
		return "", 0, 0, err
	}
	gathered := webrtc.GatheringCompletePromise(connection)
	if err := connection.SetLocalDescription(offer); err != nil {
		return "", 0, 0, err
	}
	<-gathered
	asked = nowMicros()
	text, session, err := exchange(address, bearer, connection.LocalDescription().SDP)
	if err != nil {
		return "", asked, 0, err
	}
	answered = nowMicros()
	err = connection.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text})
	if err != nil {
		return session, asked, answered, err
	}
	select {
	case err = <-over:
	case <-time.After(handshakeTimeout):
		err = fmt.Errorf("not connected after %s", handshakeTimeout)
	}
	return session, asked, answered, err
}

// pionViewer is a viewer with pion's whole stack.
type pionViewer struct {
	options    whepOptions
	connection *webrtc.PeerConnection
	session    string
	mu         sync.Mutex // guards what follows: the tracks' goroutines and figures
	found      viewerFigures
	video      player
}

func newPionViewer(index int, options whepOptions) *pionViewer {
	v := &pionViewer{options: options}
	v.video.probe = index%max(1, options.viewers/max(1, options.probes)) == 0
	return v
}

func (v *pionViewer) join(address string) error {
	api, err := newPion(v.options.tcp)
	if err != nil {
		return err
	}
	if v.connection, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return err
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		receive := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := v.connection.AddTransceiverFromKind(kind, receive); err != nil {
			return err
		}
	}
	v.connection.OnTrack(v.take)
	session, asked, answered, err := connect(v.connection, address, v.options.bearer)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.session, v.found.asked, v.found.answered = session, asked, answered
	if err == nil {
		v.found.connected = nowMicros()
	}
	return err
}

// take reads one track; pion has put retransmitted packets among the others, and asks for what is missing itself.
func (v *pionViewer) take(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	video := track.Kind() == webrtc.RTPCodecTypeVideo
	if video {
		v.mu.Lock()
		v.video.codec = strings.ToUpper(strings.TrimPrefix(track.Codec().MimeType, "video/"))
		v.video.ssrc = uint32(track.SSRC())
		v.mu.Unlock()
		go v.askForKeyFrames()
	}
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return // the connection has ended
		}
		now := nowMicros()
		v.mu.Lock()
		if video {
			v.video.packets++
			v.video.bytes += int64(packet.MarshalSize())
			v.video.packet(packet.SequenceNumber, packet.Timestamp, packet.Marker, packet.Payload, now)
		} else {
			v.found.audioPackets++
			v.found.audioBytes += int64(packet.MarshalSize())
		}
		v.mu.Unlock()
	}
}

func (v *pionViewer) askForKeyFrames() {
	for range time.Tick(timersMicros * time.Microsecond) {
		v.mu.Lock()
		_, keyFrame := v.video.due(nowMicros())
		ssrc := v.video.ssrc
		v.mu.Unlock()
		if !keyFrame {
			continue
		}
		if v.connection.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}) != nil {
			return // the connection has ended
		}
	}
}

func (v *pionViewer) figures(begin bool) viewerFigures {
	v.mu.Lock()
	defer v.mu.Unlock()
	if begin {
		v.video.longestMicros = 0
	}
	now := v.found
	now.counts, now.unrepaired = v.video.counts, v.video.unrepaired(nowMicros())
	now.nacks = 0 // pion's interceptor sends them
	now.first, now.lastFrame, now.playing = v.video.firstPicture, v.video.lastFrame, v.video.playing
	now.latencies, now.allLatencies = len(v.video.latencies), v.video.latencies
	return now
}

func (v *pionViewer) leave() error {
	if err := endSession(v.session, v.options.bearer); err != nil {
		return err
	}
	return v.connection.Close()
}
