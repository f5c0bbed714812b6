package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const jumpEvery = 500 * time.Millisecond // a request for a key frame is heard this often

type publisherReport struct {
	Publishers  int         `json:"publishers"`
	Live        int         `json:"live_at_end"`
	Failed      int         `json:"failed"`
	Status      string      `json:"status"`
	Seconds     float64     `json:"seconds"`
	Frames      int64       `json:"frames"`
	Bytes       int64       `json:"bytes"`
	Nacked      int64       `json:"nacked"`
	Plis        int64       `json:"plis"`
	Jumps       int64       `json:"jumps"`
	LateMaxMs   float64     `json:"late_max_ms"`
	ConnectedMs percentiles `json:"connected_ms"`
	ClientCPU   float64     `json:"client_cpu_s"`
}

// publisher pushes films by WHIP in real time, from their begin again after their end.
type publisher struct {
	connection          *webrtc.PeerConnection
	session             string
	connectedMs         float64
	frames, bytes       atomic.Int64
	nacked, plis, jumps atomic.Int64
	lateMicros          atomic.Int64
	keyWanted           atomic.Bool
	ended               atomic.Bool
}

func whip(arguments []string) error {
	flags := flag.NewFlagSet("whip", flag.ExitOnError)
	where := addressFlags(flags)
	file := flags.String("file", "", "video: .h264 (Annex B, no B-frames) or .ivf")
	sound := flags.String("sound", "", "sound: Opus in .ogg")
	fps := flags.Float64("fps", 30, "frames a second of a .h264 file")
	rate := flags.Float64("rate", 20, "new publishers a second")
	seconds := flags.Float64("seconds", 0, "how long (0: until SIGTERM)")
	tcp := flags.Bool("tcp", false, "ICE over TCP")
	bearer := flags.String("bearer", "", "token of the Authorization header")
	stamps := flags.Bool("stamp", true, "an SEI with the sending time and a number in each H.264 picture")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	urls, err := where.read()
	if err != nil {
		return err
	}
	var films []*film
	for _, path := range []string{*file, *sound} {
		if path == "" {
			continue
		}
		found, err := readFilm(path, *fps)
		if err != nil {
			return err
		}
		films = append(films, found)
	}
	if len(films) == 0 {
		return errors.New("-file or -sound is needed")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	publishers := make([]*publisher, len(urls))
	failures := make([]error, len(urls))
	var joining sync.WaitGroup
	pace := time.NewTicker(time.Duration(float64(time.Second) / *rate))
	for i, address := range urls {
		publishers[i] = &publisher{}
		joining.Add(1)
		go func() {
			defer joining.Done()
			failures[i] = publishers[i].begin(address, *bearer, *tcp, *stamps, films)
		}()
		<-pace.C
	}
	joining.Wait()
	report := publisherReport{Publishers: len(urls)}
	for _, failure := range failures {
		if failure != nil {
			report.Failed++
			report.Status = failure.Error()
		}
	}
	fmt.Println("PUBLISHING", len(urls)-report.Failed)
	if report.Status != "" {
		fmt.Fprintln(os.Stderr, report.Status)
	}
	began := time.Now()
	var over <-chan time.Time
	if *seconds > 0 {
		over = time.After(time.Duration(*seconds * float64(time.Second)))
	}
	select {
	case <-stop:
	case <-over:
	}
	report.Seconds = rounded(time.Since(began).Seconds())
	report.ClientCPU = rounded(cpuSeconds())
	var connects []float64
	for i, p := range publishers {
		if failures[i] != nil {
			continue
		}
		if !p.ended.Load() {
			report.Live++
		}
		report.Frames += p.frames.Load()
		report.Bytes += p.bytes.Load()
		report.Nacked += p.nacked.Load()
		report.Plis += p.plis.Load()
		report.Jumps += p.jumps.Load()
		report.LateMaxMs = max(report.LateMaxMs, float64(p.lateMicros.Load())/1e3)
		connects = append(connects, p.connectedMs)
		if err := endSession(p.session, *bearer); err != nil {
			report.Status = err.Error()
		}
	}
	report.ConnectedMs = percentilesOf(connects)
	return printJSON(report)
}

// begin connects and starts the tracks.
func (p *publisher) begin(address, bearer string, tcp, stamps bool, films []*film) error {
	api, err := newPion(tcp)
	if err != nil {
		return err
	}
	if p.connection, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return err
	}
	tracks := make([]*webrtc.TrackLocalStaticSample, len(films))
	for i, film := range films {
		capability := webrtc.RTPCodecCapability{MimeType: film.mimeType, ClockRate: film.clockRate, Channels: film.channels}
		if tracks[i], err = webrtc.NewTrackLocalStaticSample(capability, film.mimeType, "load"); err != nil {
			return err
		}
		way := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}
		transceiver, err := p.connection.AddTransceiverFromTrack(tracks[i], way)
		if err != nil {
			return err
		}
		go p.listen(transceiver.Sender())
	}
	session, asked, _, err := connect(p.connection, address, bearer)
	p.session = session
	if err != nil {
		return err
	}
	p.connectedMs = float64(nowMicros()-asked) / 1e3
	p.connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state != webrtc.PeerConnectionStateConnected {
			p.ended.Store(true)
		}
	})
	began := time.Now()
	for i, film := range films {
		go p.play(tracks[i], film, began, stamps && film.mimeType == webrtc.MimeTypeH264)
	}
	return nil
}

// listen counts what the server says of a track; pion's interceptors send what is missing again.
func (p *publisher) listen(sender *webrtc.RTPSender) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return // the connection has ended
		}
		for _, packet := range packets {
			switch said := packet.(type) {
			case *rtcp.TransportLayerNack:
				for _, pair := range said.Nacks {
					p.nacked.Add(int64(len(pair.PacketList())))
				}
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.plis.Add(1)
				p.keyWanted.Store(true)
			}
		}
	}
}

// play sends a track; a file cannot make key frames, so that a request for one jumps to the next in the file.
func (p *publisher) play(track *webrtc.TrackLocalStaticSample, film *film, due time.Time, stamps bool) {
	video := film.channels == 0
	lastKey, number := time.Time{}, int64(0)
	for at := 0; !p.ended.Load(); at = (at + 1) % len(film.samples) {
		if video && time.Since(lastKey) > jumpEvery && p.keyWanted.Swap(false) {
			for skipped := 0; !film.samples[at].key && skipped < len(film.samples); skipped++ {
				at = (at + 1) % len(film.samples)
			}
			p.jumps.Add(1)
		}
		sample := film.samples[at]
		time.Sleep(time.Until(due))
		if late := time.Since(due).Microseconds(); late > p.lateMicros.Load() {
			p.lateMicros.Store(late)
		}
		if video && sample.key {
			lastKey = time.Now()
		}
		data := sample.data
		if stamps {
			data = stamped(data, nowMicros(), number)
			number++
		}
		if err := track.WriteSample(media.Sample{Data: data, Duration: sample.duration}); err != nil {
			fmt.Fprintln(os.Stderr, "a track ended:", err)
			p.ended.Store(true)
			return
		}
		p.frames.Add(1)
		p.bytes.Add(int64(len(data)))
		due = due.Add(sample.duration)
	}
}
