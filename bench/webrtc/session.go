package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
)

const maxAnswer = 65_536 // bytes

var httpClient = &http.Client{Timeout: 20 * time.Second}

// codec is what a payload type of the answer means.
type codec struct {
	name  string // "H264", "opus", …
	audio bool
	rtx   bool // name is the codec that is retransmitted
}

// answer is what a viewer needs of the server's session description.
type answer struct {
	ufrag, password, fingerprint string
	active                       bool // the server begins the DTLS handshake
	payloads                     map[uint8]codec
	udp, tcp                     []string // addresses of the candidates, host:port
}

// exchange sends an offer; it returns the answer and the address of the session.
func exchange(address, bearer, offer string) (text, session string, err error) {
	request, err := http.NewRequest(http.MethodPost, address, strings.NewReader(offer))
	if err != nil {
		return "", "", err
	}
	request.Header.Set("Content-Type", "application/sdp")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", "", err
	}
	if response.StatusCode != http.StatusCreated {
		return "", "", fmt.Errorf("answer %d: %.200s", response.StatusCode, bytes.TrimSpace(body))
	}
	where, err := response.Location()
	if err != nil {
		return "", "", fmt.Errorf("the answer has no Location: %w", err)
	}
	return string(body), where.String(), nil
}

// endSession sends the DELETE of WHIP and WHEP.
func endSession(session, bearer string) error {
	request, err := http.NewRequest(http.MethodDelete, session, nil)
	if err != nil {
		return err
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("DELETE answered %d", response.StatusCode)
	}
	return nil
}

// viewerOffer asks for video in one of the codecs, and for Opus or G.711, as browsers do.
func viewerOffer(ufrag, password, fingerprint, candidate string, codecs []string) (string, error) {
	var formats, lines strings.Builder
	for i, name := range codecs {
		pt := 96 + 2*i
		fmt.Fprintf(&formats, " %d %d", pt, pt+1)
		fmt.Fprintf(&lines, "a=rtpmap:%d %s/90000\r\n", pt, name)
		for _, feedback := range []string{"nack", "nack pli", "ccm fir"} {
			fmt.Fprintf(&lines, "a=rtcp-fb:%d %s\r\n", pt, feedback)
		}
		if name == "H264" {
			fmt.Fprintf(&lines, "a=fmtp:%d level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n", pt)
		}
		fmt.Fprintf(&lines, "a=rtpmap:%d rtx/90000\r\na=fmtp:%d apt=%d\r\n", pt+1, pt+1, pt)
	}
	id := make([]byte, 7)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	var offer strings.Builder
	fmt.Fprintf(&offer, "v=0\r\no=- %d 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n",
		new56(id))
	section := func(kind, formats, mid, lines string) {
		fmt.Fprintf(&offer, "m=%s 9 UDP/TLS/RTP/SAVPF%s\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n", kind, formats)
		fmt.Fprintf(&offer, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\n", ufrag, password)
		fmt.Fprintf(&offer, "a=fingerprint:sha-256 %s\r\na=setup:actpass\r\na=mid:%s\r\n", fingerprint, mid)
		fmt.Fprintf(&offer, "a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n%s", lines)
		if mid == "0" {
			fmt.Fprintf(&offer, "a=candidate:%s\r\na=end-of-candidates\r\n", candidate)
		}
	}
	section("video", formats.String(), "0", lines.String())
	section("audio", " 111 0 8", "1", "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n")
	return offer.String(), nil
}

func new56(id []byte) (number uint64) {
	for _, b := range id {
		number = number<<8 | uint64(b)
	}
	return number
}

func randomText(bytesOf int) (string, error) {
	text := make([]byte, bytesOf)
	_, err := rand.Read(text)
	return hex.EncodeToString(text), err
}

// parseAnswer reads what is said once, in the session or in the first media section that has it.
func parseAnswer(text string) (*answer, error) {
	var session sdp.SessionDescription
	if err := session.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("the answer is not understood: %w", err)
	}
	found := &answer{payloads: map[uint8]codec{}}
	attributes := session.Attributes
	for _, media := range session.MediaDescriptions {
		attributes = append(attributes, media.Attributes...)
		if err := found.readPayloads(media.MediaName.Media == "audio", media.Attributes); err != nil {
			return nil, err
		}
	}
	once := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	for _, a := range attributes {
		switch a.Key {
		case "ice-ufrag":
			once(&found.ufrag, a.Value)
		case "ice-pwd":
			once(&found.password, a.Value)
		case "fingerprint":
			if kind, value, _ := strings.Cut(a.Value, " "); kind == "sha-256" {
				once(&found.fingerprint, strings.ToUpper(value))
			}
		case "setup":
			found.active = a.Value == "active"
		case "candidate":
			found.readCandidate(a.Value)
		}
	}
	if found.ufrag == "" || found.password == "" || found.fingerprint == "" {
		return nil, fmt.Errorf("the answer has no ice-ufrag, ice-pwd or sha-256 fingerprint")
	}
	return found, nil
}

func (a *answer) readPayloads(audio bool, attributes []sdp.Attribute) error {
	repeats := map[uint8]uint8{}
	for _, attribute := range attributes {
		number, rest, _ := strings.Cut(attribute.Value, " ")
		if attribute.Key != "rtpmap" && attribute.Key != "fmtp" {
			continue
		}
		pt, err := strconv.ParseUint(number, 10, 7)
		if err != nil {
			return fmt.Errorf("the answer has a payload type %q", number)
		}
		name, _, _ := strings.Cut(rest, "/")
		switch apt, isRepeat := strings.CutPrefix(rest, "apt="); {
		case attribute.Key == "rtpmap" && name != "rtx":
			a.payloads[uint8(pt)] = codec{name: name, audio: audio}
		case isRepeat:
			of, err := strconv.ParseUint(apt, 10, 7)
			if err != nil {
				return fmt.Errorf("the answer has an apt of %q", apt)
			}
			repeats[uint8(pt)] = uint8(of)
		}
	}
	for pt, of := range repeats {
		a.payloads[pt] = codec{name: a.payloads[of].name, audio: audio, rtx: true}
	}
	return nil
}

// readCandidate keeps candidates of this machine, loopback first.
func (a *answer) readCandidate(value string) {
	fields := strings.Fields(value) // foundation component transport priority address port "typ" kind …
	if len(fields) < 8 || fields[1] != "1" || onThisMachine(fields[4]) != nil {
		return
	}
	list := &a.udp
	if strings.EqualFold(fields[2], "tcp") {
		if !strings.Contains(value, "tcptype passive") {
			return
		}
		list = &a.tcp
	}
	address := net.JoinHostPort(fields[4], fields[5])
	if ip := net.ParseIP(fields[4]); ip != nil && ip.IsLoopback() && ip.To4() != nil {
		*list = append([]string{address}, *list...)
	} else {
		*list = append(*list, address)
	}
}
