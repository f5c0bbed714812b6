package main

import (
	"bytes"

	"github.com/Eyevinn/hls-m3u8/m3u8"
)

func judgeHLS(address string) {
	for _, media := range mediaPlaylists(address) {
		body, ok := fetch(media)
		if !ok {
			continue
		}
		playlist, kind, err := m3u8.DecodeFrom(bytes.NewReader(body), true)
		if err != nil {
			broken("hls-m3u8 reads the playlist strictly", "%s %v", media, err)
			continue
		}
		if kind != m3u8.MEDIA {
			broken("a multivariant playlist lists media playlists", "%s", media)
			continue
		}
		one := playlist.(*m3u8.MediaPlaylist)
		note(media, "%d segments, target %d, number %d", one.Count(), one.TargetDuration, one.SeqNo)
	}
}
