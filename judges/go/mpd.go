package main

import (
	"bytes"

	"github.com/Eyevinn/dash-mpd/mpd"
)

func judgeMPD(address string) {
	body, ok := fetch(address)
	if !ok {
		return
	}
	manifest, err := mpd.ReadFromString(string(body))
	if err != nil {
		broken("dash-mpd reads the manifest", "%v", err)
		return
	}
	var written bytes.Buffer
	if _, err := manifest.Write(&written, "  ", true); err != nil {
		broken("dash-mpd writes the manifest back", "%v", err)
	}
	representations := 0
	for _, period := range manifest.Periods {
		for _, group := range period.AdaptationSets {
			for _, one := range group.Representations {
				representations++
				if one.Id == "" || one.Bandwidth == 0 {
					broken("a representation has @id and @bandwidth", "%s", one.Id)
				}
			}
		}
	}
	if representations == 0 {
		broken("the manifest has representations", "%d periods", len(manifest.Periods))
	}
	note("representations", "%d", representations)
}
