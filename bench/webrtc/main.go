// webrtcload: load and interop client for WHIP and WHEP, and a forwarder that drops and delays packets.
//
//	webrtcload whep -url URL -n 400 -seconds 30    viewers; what arrives is decrypted and counted
//	webrtcload whip -url URL -file FILE.h264       publishers, in real time
//	webrtcload forward -server URL -loss 5         a bad network between a client and a server
//
// Every command prints its options with -h, talks to this machine only, and prints one JSON line at its end.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

func main() {
	commands := map[string]func([]string) error{"whep": whep, "whip": whip, "forward": forward}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: webrtcload whep|whip|forward -h")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "webrtcload %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// addresses are the URLs of -url and of -list, a file with one URL a line.
type addresses struct{ one, list *string }

func addressFlags(flags *flag.FlagSet) addresses {
	return addresses{
		flags.String("url", "", "WHIP or WHEP address"),
		flags.String("list", "", "file of such addresses, one a line, taken in turn"),
	}
}

func (a addresses) read() ([]string, error) {
	found := strings.Fields(*a.one)
	if *a.list != "" {
		text, err := os.ReadFile(*a.list)
		if err != nil {
			return nil, err
		}
		found = append(found, strings.Fields(string(text))...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("-url or -list is needed")
	}
	for _, address := range found {
		parsed, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		if err := onThisMachine(parsed.Hostname()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// onThisMachine refuses hosts that are not an address of this machine.
func onThisMachine(host string) error {
	if host == "localhost" {
		return nil
	}
	ip := net.ParseIP(host)
	if ip != nil && ip.IsLoopback() {
		return nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range own {
		if network, ok := address.(*net.IPNet); ok && ip != nil && network.IP.Equal(ip) {
			return nil
		}
	}
	return fmt.Errorf("%q is not an address of this machine", host)
}

func printJSON(value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(line))
	return err
}
