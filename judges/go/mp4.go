package main

import (
	"bytes"
	"strings"

	"github.com/Eyevinn/mp4ff/avc"
	"github.com/Eyevinn/mp4ff/hevc"
	"github.com/Eyevinn/mp4ff/mp4"
)

func judgeMP4(address string) {
	for _, media := range mediaPlaylists(address) {
		body, ok := fetch(media)
		if !ok {
			continue
		}
		reader := cmafReader{playlist: media}
		for _, line := range lines(body) {
			switch {
			case strings.HasPrefix(line, "#EXT-X-MAP:"):
				reader.header(quotedURI(line))
			case strings.HasPrefix(line, "#EXT-X-PART:"):
				reader.media(quotedURI(line), true)
			case line != "" && !strings.HasPrefix(line, "#"):
				reader.media(line, false)
			}
		}
		note(media, "%d segments, %d parts", reader.segments, reader.parts)
		if reader.segments == 0 {
			broken("segments are listed", "%s", media)
		}
	}
}

// cmafReader reads the files of one media playlist in their order.
type cmafReader struct {
	playlist        string
	init            *mp4.File
	video           bool
	segments, parts int
	// end is the decode time behind the last segment, known where continues is true.
	end       uint64
	continues bool
}

// writesBack demands that mp4ff writes the very bytes that it read.
func writesBack(name string, data []byte, file *mp4.File) {
	var written bytes.Buffer
	file.FragEncMode = mp4.EncModeBoxTree
	if err := file.Encode(&written); err != nil {
		broken("mp4ff writes the file back", "%s %v", name, err)
	} else if !bytes.Equal(written.Bytes(), data) {
		broken("mp4ff writes the same bytes back", "%s %d of %d bytes", name, written.Len(), len(data))
	}
}

func (r *cmafReader) header(uri string) {
	r.init, r.continues = nil, false
	data, ok := fetch(resolve(r.playlist, uri))
	if !ok {
		return
	}
	file, err := mp4.DecodeFile(bytes.NewReader(data))
	if err != nil || file.Init == nil {
		broken("mp4ff reads the CMAF header", "%s %v", uri, err)
		return
	}
	writesBack(uri, data, file)
	r.init = file
	track := file.Init.Moov.Trak
	r.video = track.Mdia.Hdlr.HandlerType == "vide"
	for _, child := range track.Mdia.Minf.Stbl.Stsd.Children {
		if entry, ok := child.(*mp4.VisualSampleEntryBox); ok {
			sampleEntry(entry)
		}
	}
}

func sampleEntry(entry *mp4.VisualSampleEntryBox) {
	if entry.AvcC != nil {
		sps, err := avc.ParseSPSNALUnit(entry.AvcC.SPSnalus[0], true)
		if err != nil {
			broken("mp4ff reads the SPS of avcC", "%v", err)
		} else if uint(entry.Width) != sps.Width || uint(entry.Height) != sps.Height {
			broken("the sample entry has the size of the SPS", "%dx%d, %dx%d", entry.Width, entry.Height, sps.Width, sps.Height)
		}
	}
	if entry.HvcC == nil {
		return
	}
	for _, array := range entry.HvcC.NaluArrays {
		if array.NaluType() == hevc.NALU_SPS {
			if _, err := hevc.ParseSPSNALUnit(array.Nalus[0]); err != nil {
				broken("mp4ff reads the SPS of hvcC", "%v", err)
			}
		}
	}
}

func (r *cmafReader) media(uri string, part bool) {
	if r.init == nil {
		return
	}
	data, ok := fetch(resolve(r.playlist, uri))
	if !ok {
		return
	}
	file, err := mp4.DecodeFile(bytes.NewReader(data))
	if err != nil {
		broken("mp4ff reads the media", "%s %v", uri, err)
		return
	}
	writesBack(uri, data, file)
	if part {
		r.parts++
	} else {
		r.segments++
	}
	for _, segment := range file.Segments {
		if segment.Styp == nil && !part {
			broken("a segment begins with styp", "%s", uri)
		}
		for index, fragment := range segment.Fragments {
			r.fragment(uri, fragment, index == 0, part)
		}
	}
}

func (r *cmafReader) fragment(uri string, fragment *mp4.Fragment, first, part bool) {
	if len(fragment.Moof.Trafs) != 1 {
		broken("CMAF 7.5.15 a fragment has one track", "%s", uri)
		return
	}
	samples, err := fragment.GetFullSamples(r.init.Init.Moov.Mvex.Trex)
	if err != nil || len(samples) == 0 {
		broken("mp4ff reads the samples", "%s %v", uri, err)
		return
	}
	var duration, size uint64
	for i := range samples {
		duration += uint64(samples[i].Dur)
		size += uint64(samples[i].Size)
		r.sample(uri, i, &samples[i])
	}
	if size != fragment.Mdat.DataLength() {
		broken("samples fill mdat", "%s %d of %d", uri, size, fragment.Mdat.DataLength())
	}
	if part {
		return
	}
	start := fragment.Moof.Traf.Tfdt.BaseMediaDecodeTime()
	if r.continues && start != r.end {
		broken("tfdt goes on", "%s %d, expected %d", uri, start, r.end)
	}
	r.end, r.continues = start+duration, true
	if first && r.video && !longGOPs && !samples[0].IsSync() {
		broken("a segment begins with a sync sample", "%s", uri)
	}
}

func (r *cmafReader) sample(uri string, index int, sample *mp4.FullSample) {
	if sample.Dur == 0 {
		broken("a sample has a duration", "%s sample %d", uri, index)
	}
	if !r.video {
		if !sample.IsSync() {
			broken("samples of sound are sync samples", "%s sample %d", uri, index)
		}
		return
	}
	if r.init.Init.Moov.Trak.Mdia.Minf.Stbl.Stsd.AvcX == nil {
		return
	}
	units, err := avc.GetNalusFromSample(sample.Data)
	if err != nil {
		broken("lengths of NAL units fill the sample", "%s sample %d %v", uri, index, err)
		return
	}
	idr := false
	for _, unit := range units {
		switch avc.GetNaluType(unit[0]) {
		case avc.NALU_IDR:
			idr = true
		case avc.NALU_SPS, avc.NALU_PPS:
			broken("14496-15 5.4.2.1 avc1 has no parameter sets in samples", "%s sample %d", uri, index)
		}
	}
	if idr != sample.IsSync() {
		broken("14496-15 5.4.1.2 a sync sample is an IDR picture", "%s sample %d IDR %v, sync %v", uri, index, idr, sample.IsSync())
	}
}
