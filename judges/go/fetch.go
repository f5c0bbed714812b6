package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Eyevinn/hls-m3u8/m3u8"
)

var client = &http.Client{Timeout: 30 * time.Second}

// fetch returns the body of a 200 answer; anything else is recorded as a broken rule.
func fetch(address string) ([]byte, bool) {
	response, err := client.Get(address)
	if err != nil {
		broken("a listed file is available", "%v", err)
		return nil, false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %d", address, response.StatusCode)
	}
	if err != nil {
		broken("a listed file is available", "%v", err)
		return nil, false
	}
	return body, true
}

func resolve(base, reference string) string {
	from, err := url.Parse(base)
	if err != nil {
		return reference
	}
	to, err := from.Parse(reference)
	if err != nil {
		return reference
	}
	return to.String()
}

// mediaPlaylists returns the addresses of the media playlists that a playlist lists, or its own.
func mediaPlaylists(address string) []string {
	body, ok := fetch(address)
	if !ok {
		return nil
	}
	playlist, kind, err := m3u8.DecodeFrom(bytes.NewReader(body), true)
	if err != nil {
		broken("hls-m3u8 reads the playlist strictly", "%s %v", address, err)
		return nil
	}
	if kind != m3u8.MASTER {
		return []string{address}
	}
	var found []string
	master := playlist.(*m3u8.MasterPlaylist)
	for _, variant := range master.Variants {
		found = append(found, resolve(address, variant.URI))
	}
	for _, alternative := range master.GetAllAlternatives() {
		if alternative.URI != "" {
			found = append(found, resolve(address, alternative.URI))
		}
	}
	return found
}

func lines(body []byte) []string {
	return strings.Split(strings.ReplaceAll(string(body), "\r", ""), "\n")
}

// quotedURI returns the value of URI="…" in the attributes of a tag.
func quotedURI(line string) string {
	_, rest, _ := strings.Cut(line, `URI="`)
	found, _, _ := strings.Cut(rest, `"`)
	return found
}
