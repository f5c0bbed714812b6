// judge-go judges a live gateway's outputs with libraries of other projects:
//
//	play URL SECONDS   gohlslib as player: frames arrive, their times go forward
//	hls  URL           Eyevinn hls-m3u8, strict: a multivariant playlist and all its media playlists
//	mp4  URL           Eyevinn mp4ff: the CMAF headers, and every listed segment and part
//	ts   URL           astits: every listed MPEG-TS segment
//	flv  URL SECONDS   yutopp go-flv: tags, timestamps, sequence headers
//	mpd  URL           Eyevinn dash-mpd: reads a manifest and writes it back
//
// It prints "BROKEN rule: example" and "NOTE name: value" lines; exit 1 where a rule is broken, 2 for usage.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// longGOPs says that GOPs are longer than the target, so that some segments cannot begin with a key frame.
var longGOPs = os.Getenv("JUDGE_LONG_GOPS") != ""

func main() {
	judges := map[string]func(url string, watch time.Duration){
		"play": judgePlay,
		"hls":  func(url string, _ time.Duration) { judgeHLS(url) },
		"mp4":  func(url string, _ time.Duration) { judgeMP4(url) },
		"ts":   func(url string, _ time.Duration) { judgeTS(url) },
		"flv":  judgeFLV,
		"mpd":  func(url string, _ time.Duration) { judgeMPD(url) },
	}
	if len(os.Args) < 3 || judges[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: judge-go play|hls|mp4|ts|flv|mpd URL [SECONDS]")
		os.Exit(2)
	}
	seconds := 20.0
	if len(os.Args) > 3 {
		var err error
		if seconds, err = strconv.ParseFloat(os.Args[3], 64); err != nil {
			fmt.Fprintln(os.Stderr, "SECONDS is no number:", os.Args[3])
			os.Exit(2)
		}
	}
	judges[os.Args[1]](os.Args[2], time.Duration(seconds*float64(time.Second)))
	os.Exit(printFindings())
}
