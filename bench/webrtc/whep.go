package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// viewer is one WHEP viewer, with pion's whole stack or with the small one for crowds.
type viewer interface {
	join(address string) error
	leave() error
	// figures are read while the viewer runs on; a window begins with them where `begin` says so.
	figures(begin bool) viewerFigures
}

// viewerFigures are the figures of one viewer until now; times are microseconds of the monotonic clock.
type viewerFigures struct {
	counts
	audioPackets, audioBytes          int64
	unrepaired                        int64
	asked, answered, connected, first int64
	latencies                         int // how many there are
	allLatencies                      []float64
	lastFrame                         int64
	playing                           bool
	failure                           string
	unknownPayloads                   int64
}

type whepOptions struct {
	bearer  string
	codecs  []string
	tcp     bool
	buffer  int
	probes  int
	viewers int
}

type viewerReport struct {
	Viewers         int         `json:"viewers"`
	Connected       int         `json:"connected"`
	Failed          int         `json:"failed"`
	Playing         int         `json:"playing"`
	Status          string      `json:"status"`
	Seconds         float64     `json:"seconds"`
	Bytes           int64       `json:"bytes"`
	Packets         int64       `json:"packets"`
	AudioPackets    int64       `json:"audio_packets"`
	Holes           int64       `json:"holes"`
	Recovered       int64       `json:"recovered"`
	Lost            int64       `json:"lost"`
	Duplicates      int64       `json:"duplicates"`
	AuthFailures    int64       `json:"auth_failures"`
	UnknownPayloads int64       `json:"unknown_payloads"`
	SocketDrops     int64       `json:"socket_drops"`
	ViewersLosing   int         `json:"viewers_losing"`
	Nacks           int64       `json:"nacks"`
	Plis            int64       `json:"plis"`
	Frames          int64       `json:"frames"`
	KeyFrames       int64       `json:"key_frames"`
	MissingFrames   int64       `json:"missing_frames"`
	Freezes         int64       `json:"freezes"`
	FrozenMs        float64     `json:"frozen_ms"`
	LongestMs       float64     `json:"longest_ms"`
	AnswerMs        percentiles `json:"answer_ms"`
	ConnectedMs     percentiles `json:"connected_ms"`
	FirstPictureMs  percentiles `json:"first_picture_ms"`
	LatencyMs       percentiles `json:"latency_ms"`
	ViewerBytes     percentiles `json:"viewer_bytes"`
	ViewerFrames    percentiles `json:"viewer_frames"`
	ClientCPU       float64     `json:"client_cpu_s"`
}

func whep(arguments []string) error {
	flags := flag.NewFlagSet("whep", flag.ExitOnError)
	where := addressFlags(flags)
	n := flags.Int("n", 1, "viewers")
	rate := flags.Float64("rate", 50, "joins a second")
	warm := flags.Float64("warm", 3, "seconds between the last join and the measured window")
	seconds := flags.Float64("seconds", 20, "length of the measured window")
	tcp := flags.Bool("tcp", false, "ICE over TCP")
	bearer := flags.String("bearer", "", "token of the Authorization header")
	codecs := flags.String("video", "H264", "video codecs of the offer, comma-separated")
	whole := flags.Bool("pion", false, "pion's whole stack for each viewer, as an application has it")
	probes := flags.Int("probes", 10, "viewers that read the stamps in the pictures, spread over all")
	threads := flags.Int("threads", 1, "threads that read the sockets")
	pause := flags.Duration("pause", 2*time.Millisecond, "sleep of such a thread between two rounds")
	buffer := flags.Int("buffer", 1<<20, "receive buffer of a socket in bytes")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	urls, err := where.read()
	if err != nil {
		return err
	}
	options := whepOptions{*bearer, strings.Split(*codecs, ","), *tcp, *buffer, *probes, *n}
	runtime.GOMAXPROCS(*threads + 1)
	make1, ports, err := viewerFactory(*whole, *threads, *pause, options)
	if err != nil {
		return err
	}
	viewers := make([]viewer, *n)
	failures := make([]error, *n)
	var joining sync.WaitGroup
	pace := time.NewTicker(time.Duration(float64(time.Second) / *rate))
	for i := range viewers {
		viewers[i] = make1(i)
		joining.Add(1)
		go func() {
			defer joining.Done()
			failures[i] = viewers[i].join(urls[i%len(urls)])
		}()
		<-pace.C
	}
	joining.Wait()
	fmt.Println("RAMPED")
	time.Sleep(time.Duration(*warm * float64(time.Second)))
	before, cpu := snapshot(viewers, true), cpuSeconds()
	dropsBefore, err := socketDrops(ports())
	if err != nil {
		return err
	}
	began := nowMicros()
	fmt.Println("MEASURE_START")
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	fmt.Println("MEASURE_END")
	after := snapshot(viewers, false)
	ended := nowMicros()
	cpu = cpuSeconds() - cpu
	dropsAfter, err := socketDrops(ports())
	if err != nil {
		return err
	}
	report := compare(before, after, began, ended)
	report.ClientCPU, report.SocketDrops = rounded(cpu), dropsAfter-dropsBefore
	for i, failure := range failures {
		if failure != nil {
			report.Failed++
			report.Status = failure.Error()
			continue
		}
		if err := viewers[i].leave(); err != nil && report.Status == "" {
			report.Status = err.Error()
		}
	}
	report.Connected = *n - report.Failed
	return printJSON(report)
}

// viewerFactory returns what makes the viewer of an index, and what lists the ports of their sockets.
func viewerFactory(whole bool, threads int, pause time.Duration, options whepOptions) (
	func(int) viewer, func() map[int]bool, error) {
	if whole {
		return func(i int) viewer { return newPionViewer(i, options) }, func() map[int]bool { return nil }, nil
	}
	certificate, err := newCertificate()
	if err != nil {
		return nil, nil, err
	}
	readers := make([]*reader, threads)
	for i := range readers {
		if readers[i], err = newReader(pause); err != nil {
			return nil, nil, err
		}
		go func() {
			runtime.LockOSThread()
			if err := readers[i].run(); err != nil {
				panic(err) // epoll itself has failed
			}
		}()
	}
	made := []*crowdViewer{}
	ports := func() map[int]bool {
		found := map[int]bool{}
		for _, v := range made {
			if v.peer.local != nil {
				found[v.peer.local.Port] = true
			}
		}
		return found
	}
	return func(i int) viewer {
		v := &crowdViewer{reader: readers[i%threads], certificate: certificate, options: options,
			peer: &peer{index: i, stream: options.tcp, checked: make(chan struct{}), dtlsIn: make(chan []byte, 64)}}
		spread := max(1, options.viewers/max(1, options.probes))
		v.peer.video.probe = i%spread == 0
		made = append(made, v)
		return v
	}, ports, nil
}

func newCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// crowdViewer is a viewer with the small stack.
type crowdViewer struct {
	reader      *reader
	certificate *tls.Certificate
	options     whepOptions
	peer        *peer
	asked       int64
	answered    int64
	connected   int64
}

func (v *crowdViewer) join(address string) error {
	p := v.peer
	err := v.joinOnce(address)
	if err != nil {
		v.reader.mu.Lock()
		v.reader.drop(p, err.Error())
		v.reader.mu.Unlock()
	}
	return err
}

func (v *crowdViewer) joinOnce(address string) (err error) {
	p := v.peer
	if p.ufrag, err = randomText(4); err != nil {
		return err
	}
	if p.password, err = randomText(12); err != nil {
		return err
	}
	candidate := "1 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active"
	if !p.stream {
		if err := p.openUDP(v.options.buffer); err != nil {
			return err
		}
		candidate = fmt.Sprintf("1 1 udp 2130706431 127.0.0.1 %d typ host", p.local.Port)
	}
	offer, err := viewerOffer(p.ufrag, p.password, fingerprintOf(v.certificate.Certificate[0]), candidate, v.options.codecs)
	if err != nil {
		return err
	}
	v.asked = nowMicros()
	text, session, err := exchange(address, v.options.bearer, offer)
	if err != nil {
		return err
	}
	v.answered = nowMicros()
	p.session = session
	if p.answer, err = parseAnswer(text); err != nil {
		return err
	}
	if err := p.connect(); err != nil {
		return err
	}
	if err := v.reader.add(p); err != nil {
		return err
	}
	if err := p.establish(v.certificate); err != nil {
		return err
	}
	v.connected = nowMicros()
	return nil
}

func (v *crowdViewer) leave() error { return endSession(v.peer.session, v.options.bearer) }

func (v *crowdViewer) figures(begin bool) viewerFigures {
	v.reader.mu.Lock()
	defer v.reader.mu.Unlock()
	p := v.peer
	if begin {
		p.video.longestMicros = 0
	}
	return viewerFigures{counts: p.video.counts, audioPackets: p.audio.packets, audioBytes: p.audio.bytes,
		unrepaired: p.video.unrepaired(nowMicros()), asked: v.asked, answered: v.answered, connected: v.connected,
		first: p.video.firstPicture, latencies: len(p.video.latencies), allLatencies: p.video.latencies,
		lastFrame: p.video.lastFrame, playing: p.video.playing, failure: p.failure, unknownPayloads: p.unknownPayloads}
}

func snapshot(viewers []viewer, begin bool) []viewerFigures {
	found := make([]viewerFigures, len(viewers))
	for i, v := range viewers {
		found[i] = v.figures(begin)
	}
	return found
}

// compare gives the figures of a window; times of joining are of the whole run.
func compare(before, after []viewerFigures, began, ended int64) viewerReport {
	report := viewerReport{Viewers: len(after), Seconds: rounded(float64(ended-began) / 1e6)}
	var answers, connects, firsts, latencies, bytes, frames []float64
	for i, now := range after {
		then := before[i]
		received := now.bytes + now.audioBytes - then.bytes - then.audioBytes
		report.Bytes += received
		report.Packets += now.packets - then.packets
		report.AudioPackets += now.audioPackets - then.audioPackets
		report.Holes += now.holes - then.holes
		report.Recovered += now.recovered - then.recovered
		lost := max(0, now.unrepaired-then.unrepaired)
		report.Lost += lost
		if lost > 0 {
			report.ViewersLosing++
		}
		report.Duplicates += now.duplicates - then.duplicates
		report.AuthFailures += now.authFailure - then.authFailure
		report.UnknownPayloads += now.unknownPayloads - then.unknownPayloads
		report.Nacks += now.nacks - then.nacks
		report.Plis += now.plis - then.plis
		report.Frames += now.frames - then.frames
		report.KeyFrames += now.keyFrames - then.keyFrames
		report.MissingFrames += now.missingFrames - then.missingFrames
		report.Freezes += now.freezes - then.freezes
		report.FrozenMs += float64(now.frozenMicros-then.frozenMicros) / 1e3
		report.LongestMs = max(report.LongestMs, float64(now.longestMicros)/1e3)
		if now.lastFrame > 0 && ended-now.lastFrame > freezeMicros { // a freeze that has not ended
			report.Freezes++
			report.FrozenMs += float64(ended-now.lastFrame) / 1e3
			report.LongestMs = max(report.LongestMs, float64(ended-now.lastFrame)/1e3)
		}
		if now.playing {
			report.Playing++
		}
		if now.failure != "" {
			report.Status = now.failure
		}
		if now.answered > 0 {
			answers = append(answers, float64(now.answered-now.asked)/1e3)
		}
		if now.connected > 0 {
			connects = append(connects, float64(now.connected-now.answered)/1e3)
		}
		if now.first > 0 {
			firsts = append(firsts, float64(now.first-now.answered)/1e3)
		}
		latencies = append(latencies, now.allLatencies[then.latencies:now.latencies]...)
		bytes, frames = append(bytes, float64(received)), append(frames, float64(now.frames-then.frames))
	}
	report.FrozenMs, report.LongestMs = rounded(report.FrozenMs), rounded(report.LongestMs)
	report.AnswerMs, report.ConnectedMs = percentilesOf(answers), percentilesOf(connects)
	report.FirstPictureMs, report.LatencyMs = percentilesOf(firsts), percentilesOf(latencies)
	report.ViewerBytes, report.ViewerFrames = percentilesOf(bytes), percentilesOf(slices.Clone(frames))
	return report
}
