package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bluenviron/gohlslib/v2"
	"github.com/bluenviron/gohlslib/v2/pkg/codecs"
)

// minUnits that a track brings within the time of watching.
const minUnits = 10

// received counts the units of one track and watches their decode times.
type received struct {
	lock  sync.Mutex
	name  string
	count int
	last  int64
}

func (r *received) add(dts int64) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.count > 0 && dts <= r.last {
		broken("decode times go forward", "%s %d after %d", r.name, dts, r.last)
	}
	r.last = dts
	r.count++
}

func judgePlay(address string, watch time.Duration) {
	player := &gohlslib.Client{URI: address}
	var lock sync.Mutex
	var tracks []*received
	player.OnDecodeError = func(err error) { broken("gohlslib reads the media", "%v", err) }
	player.OnTracks = func(found []*gohlslib.Track) error {
		lock.Lock()
		defer lock.Unlock()
		for _, track := range found {
			tracks = append(tracks, follow(player, track))
		}
		return nil
	}
	if err := player.Start(); err != nil {
		broken("gohlslib starts", "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), watch)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- player.Wait2() }()
	select {
	case err := <-ended:
		if !errors.Is(err, gohlslib.ErrClientEOS) {
			broken("gohlslib goes on playing", "%v", err)
		}
	case <-ctx.Done():
		player.Close()
	}
	lock.Lock()
	defer lock.Unlock()
	if len(tracks) == 0 {
		broken("tracks are found", "none")
	}
	for _, track := range tracks {
		track.lock.Lock()
		note(track.name, "%d units", track.count)
		if track.count < minUnits {
			broken("media arrives", "%s %d units", track.name, track.count)
		}
		track.lock.Unlock()
	}
}

func follow(player *gohlslib.Client, track *gohlslib.Track) *received {
	state := &received{name: fmt.Sprintf("%T", track.Codec)}
	switch track.Codec.(type) {
	case *codecs.AV1:
		player.OnDataAV1(track, func(pts int64, _ [][]byte) { state.add(pts) })
	case *codecs.H264, *codecs.H265:
		player.OnDataH26x(track, func(pts, dts int64, _ [][]byte) {
			if pts < dts {
				broken("a picture is shown after it is decoded", "%d < %d", pts, dts)
			}
			state.add(dts)
		})
	case *codecs.MPEG4Audio:
		player.OnDataMPEG4Audio(track, func(pts int64, _ [][]byte) { state.add(pts) })
	case *codecs.Opus:
		player.OnDataOpus(track, func(pts int64, _ [][]byte) { state.add(pts) })
	}
	return state
}
