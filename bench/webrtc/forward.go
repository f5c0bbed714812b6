package main

import (
	"bytes"
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxQueued  = 20_000 // packets of a forwarder on their way; more are dropped
	maxClients = 2_000
	maxBody    = 1 << 20
)

type forwardReport struct {
	Forwarded int64 `json:"forwarded"`
	Dropped   int64 `json:"dropped"`
	Overflow  int64 `json:"overflow"`
	Clients   int64 `json:"clients"`
}

// network is a bad network: HTTP passes as it is, UDP is dropped and delayed, TCP is delayed. The candidates of answers
// are replaced with the forwarder's own; those of offers are removed, so that no server finds a way around it.
type network struct {
	loss, delay, jitter float64 // share; seconds one way
	reorder             bool
	mu                  sync.Mutex // guards random, udp and tcp
	random              *rand.Rand
	udp, tcp            map[string]int // forwarded addresses and our ports for them
	report              forwardReport
}

func forward(arguments []string) error {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "HTTP address")
	server := flags.String("server", "", "HTTP address of the server: http://127.0.0.1:8080")
	loss := flags.Float64("loss", 0, "percent of the UDP packets that are dropped, each way")
	rtt := flags.Float64("rtt", 0, "round-trip time in ms, half of it each way")
	jitter := flags.Float64("jitter", 0, "ms that a packet is later at most")
	reorder := flags.Bool("reorder", false, "let jitter change the order of packets")
	seed := flags.Uint64("seed", 1, "of the random numbers")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	target, err := url.Parse(*server)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return err
	}
	for _, name := range []string{target.Hostname(), host} {
		if err := onThisMachine(name); err != nil {
			return err
		}
	}
	n := &network{loss: *loss / 100, delay: *rtt / 2000, jitter: *jitter / 1000, reorder: *reorder,
		random: rand.New(rand.NewPCG(*seed, 0)), udp: map[string]int{}, tcp: map[string]int{}}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target); n.cleanOffer(r.Out) },
		ModifyResponse: n.rewriteAnswer,
	}
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, proxy) }()
	fmt.Println("LISTENING", listener.Addr().(*net.TCPAddr).Port)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-stop:
	}
	return printJSON(forwardReport{
		atomic.LoadInt64(&n.report.Forwarded), atomic.LoadInt64(&n.report.Dropped),
		atomic.LoadInt64(&n.report.Overflow), atomic.LoadInt64(&n.report.Clients)})
}

var candidateLine = regexp.MustCompile(`(?m)^a=candidate:.*\r?\n`)

func isSDP(header http.Header) bool {
	kind := header.Get("Content-Type")
	return strings.HasPrefix(kind, "application/sdp") || strings.HasPrefix(kind, "application/trickle-ice-sdpfrag")
}

func (n *network) cleanOffer(request *http.Request) {
	if request.Body == nil || !isSDP(request.Header) {
		return
	}
	body, err := io.ReadAll(io.LimitReader(request.Body, maxBody))
	if err != nil {
		return // the server sees a request that is cut
	}
	body = candidateLine.ReplaceAll(body, nil)
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

func (n *network) rewriteAnswer(response *http.Response) error {
	if !isSDP(response.Header) {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	body = candidateLine.ReplaceAllFunc(body, func(line []byte) []byte {
		fields := strings.Fields(string(line)) // a=candidate:foundation component transport priority address port …
		if len(fields) < 8 || net.ParseIP(fields[4]).To4() == nil || onThisMachine(fields[4]) != nil {
			return nil
		}
		stream := strings.EqualFold(fields[2], "tcp")
		port, err2 := n.portFor(net.JoinHostPort(fields[4], fields[5]), stream)
		if err2 != nil {
			err = err2
			return nil
		}
		fields[4], fields[5] = "127.0.0.1", strconv.Itoa(port)
		rewritten := strings.Join(fields, " ") + "\r\n"
		if seen[rewritten] {
			return nil
		}
		seen[rewritten] = true
		return []byte(rewritten)
	})
	if err != nil {
		return err
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// portFor is our port that stands for an address of the server.
func (n *network) portFor(address string, stream bool) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ports := n.udp
	if stream {
		ports = n.tcp
	}
	if port := ports[address]; port != 0 {
		return port, nil
	}
	if stream {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		go n.acceptStreams(listener, address)
		ports[address] = listener.Addr().(*net.TCPAddr).Port
		return ports[address], nil
	}
	remote, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return 0, err
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	go n.readClients(socket, remote)
	ports[address] = socket.LocalAddr().(*net.UDPAddr).Port
	return ports[address], nil
}

// readClients forwards datagrams; each client has a socket of its own towards the server.
func (n *network) readClients(socket *net.UDPConn, server *net.UDPAddr) {
	type client struct {
		conn *net.UDPConn
		line *line
	}
	clients := map[string]client{}
	room := make([]byte, 65_536)
	for {
		count, from, err := socket.ReadFromUDPAddrPort(room)
		if err != nil {
			fmt.Fprintln(os.Stderr, "the forwarder's socket:", err)
			return
		}
		known, there := clients[from.String()]
		if !there {
			if len(clients) == maxClients {
				continue
			}
			conn, err := net.DialUDP("udp4", nil, server)
			if err != nil {
				fmt.Fprintln(os.Stderr, "the forwarder's socket to the server:", err)
				continue
			}
			atomic.AddInt64(&n.report.Clients, 1)
			known = client{conn, n.newLine(func(b []byte) error { _, err := conn.Write(b); return err })}
			clients[from.String()] = known
			back := n.newLine(func(b []byte) error { _, err := socket.WriteToUDPAddrPort(b, from); return err })
			go func() {
				room := make([]byte, 65_536)
				for {
					count, err := conn.Read(room)
					if errors.Is(err, syscall.ECONNREFUSED) {
						continue // the server is not there for the moment
					}
					if err != nil {
						return
					}
					back.put(room[:count], true)
				}
			}()
		}
		known.line.put(room[:count], true)
	}
}

func (n *network) acceptStreams(listener net.Listener, server string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the forwarder's listener:", err)
			return
		}
		there, err := net.Dial("tcp4", server)
		if err != nil {
			fmt.Fprintln(os.Stderr, "the forwarder's connection to the server:", err)
			conn.Close()
			continue
		}
		atomic.AddInt64(&n.report.Clients, 1)
		pass := func(from, to net.Conn) {
			defer from.Close()
			defer to.Close()
			out := n.newLine(func(b []byte) error { _, err := to.Write(b); return err })
			room := make([]byte, 65_536)
			for {
				count, err := from.Read(room)
				if err != nil {
					return
				}
				out.put(room[:count], false)
			}
		}
		go pass(conn, there)
		go pass(there, conn)
	}
}

// line delays the packets of one direction.
type line struct {
	network *network
	write   func([]byte) error
	mu      sync.Mutex // guards queue and last
	queue   queued
	last    time.Time
	more    chan struct{}
}

type packetDue struct {
	due  time.Time
	data []byte
}

type queued []packetDue

func (q queued) Len() int           { return len(q) }
func (q queued) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queued) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queued) Push(x any)        { *q = append(*q, x.(packetDue)) }
func (q *queued) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (n *network) newLine(write func([]byte) error) *line {
	l := &line{network: n, write: write, more: make(chan struct{}, 1)}
	go l.run()
	return l
}

// put takes a packet; one that may be lost is dropped by chance.
func (l *line) put(data []byte, lossy bool) {
	n := l.network
	n.mu.Lock()
	drop := lossy && n.random.Float64() < n.loss
	wait := n.delay + n.random.Float64()*n.jitter
	n.mu.Unlock()
	if drop {
		atomic.AddInt64(&n.report.Dropped, 1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lossy && len(l.queue) >= maxQueued {
		atomic.AddInt64(&n.report.Overflow, 1)
		return
	}
	due := time.Now().Add(time.Duration(wait * float64(time.Second)))
	if !(n.reorder && lossy) && !due.After(l.last) {
		due = l.last.Add(time.Nanosecond)
	}
	l.last = due
	heap.Push(&l.queue, packetDue{due, append([]byte(nil), data...)})
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *line) run() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.mu.Unlock()
			<-l.more
			continue
		}
		next := l.queue[0]
		if wait := time.Until(next.due); wait > 0 {
			l.mu.Unlock()
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-l.more: // perhaps an earlier one
				timer.Stop()
			}
			continue
		}
		heap.Pop(&l.queue)
		l.mu.Unlock()
		if err := l.write(next.data); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return // the connection has ended
		}
		atomic.AddInt64(&l.network.report.Forwarded, 1)
	}
}
