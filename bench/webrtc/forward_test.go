package main

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func badNetwork(loss float64) *network {
	return &network{loss: loss, random: rand.New(rand.NewPCG(1, 0)), udp: map[string]int{}, tcp: map[string]int{}}
}

// echo answers each datagram with itself.
func echo(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		room := make([]byte, 100)
		for {
			count, from, err := socket.ReadFromUDP(room)
			if err != nil {
				return
			}
			if _, err := socket.WriteToUDP(room[:count], from); err != nil {
				return
			}
		}
	}()
	return socket
}

func TestAnswerNamesTheForwarderAndItsPacketsPassThere(t *testing.T) {
	server := echo(t)
	n := badNetwork(0)
	text := "v=0\r\na=candidate:1 1 udp 100 " + strings.Replace(server.LocalAddr().String(), ":", " ", 1) + " typ host\r\n"
	response := &http.Response{Header: http.Header{"Content-Type": {"application/sdp"}},
		Body: io.NopCloser(strings.NewReader(text))}
	if err := n.rewriteAnswer(response); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(body)) // v=0, candidate, component, transport, priority, address, port
	if len(fields) < 9 || string(body) == text {
		t.Fatalf("the answer is %q", body)
	}
	client, err := net.Dial("udp4", net.JoinHostPort(fields[5], fields[6]))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	room := make([]byte, 100)
	count, err := client.Read(room)
	if err != nil || string(room[:count]) != "hello" {
		t.Errorf("%q came back: %v", room[:count], err)
	}
}

func TestLossIsTheShareThatWasAskedFor(t *testing.T) {
	n := badNetwork(0.05)
	out := n.newLine(func([]byte) error { return nil })
	for range 10_000 {
		out.put([]byte{1}, true)
	}
	if dropped := n.report.Dropped; dropped < 400 || dropped > 600 {
		t.Errorf("%d of 10,000 were dropped", dropped)
	}
}

func TestOfferLosesItsCandidates(t *testing.T) {
	request, err := http.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader(
		"v=0\r\na=candidate:1 1 udp 100 127.0.0.1 5000 typ host\r\na=mid:0\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/sdp")
	badNetwork(0).cleanOffer(request)
	body, err := io.ReadAll(request.Body)
	if err != nil || string(body) != "v=0\r\na=mid:0\r\n" || request.ContentLength != int64(len(body)) {
		t.Errorf("%q %v", body, err)
	}
}
