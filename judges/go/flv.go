package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	flv "github.com/yutopp/go-flv"
	"github.com/yutopp/go-flv/tag"
)

// apart is how far a tag's time may lie behind the latest one's, in milliseconds.
const apart = 1000

func judgeFLV(address string, watch time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), watch)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		broken("the stream is available", "%v", err)
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		broken("the stream is available", "%v", err)
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		broken("the stream is available", "%d", response.StatusCode)
		return
	}
	decoder, err := flv.NewDecoder(response.Body)
	if err != nil {
		broken("go-flv reads the header", "%v", err)
		return
	}
	reader := flvReader{last: map[tag.TagType]uint32{}, counts: map[tag.TagType]int{}}
	for {
		var one tag.FlvTag
		if err := decoder.Decode(&one); err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) {
				broken("go-flv reads the tags", "%v", err)
			}
			break
		}
		reader.read(&one)
		one.Close()
	}
	if len(reader.counts) < 2 {
		broken("media arrives", "%v", reader.counts)
	}
	note("tags", "%v", reader.counts)
}

type flvReader struct {
	last   map[tag.TagType]uint32
	counts map[tag.TagType]int
	latest uint32
}

func (r *flvReader) read(one *tag.FlvTag) {
	if last, ok := r.last[one.TagType]; ok && one.Timestamp < last {
		broken("timestamps of a kind do not go back", "%v %d after %d", one.TagType, one.Timestamp, last)
	}
	if one.Timestamp+apart < r.latest {
		broken("timestamps of all tags stay together", "%v %d after %d", one.TagType, one.Timestamp, r.latest)
	}
	r.last[one.TagType], r.latest = one.Timestamp, one.Timestamp
	r.counts[one.TagType]++
	video, ok := one.Data.(*tag.VideoData)
	if !ok || video.CodecID != tag.CodecIDAVC {
		return
	}
	if r.counts[one.TagType] == 1 && video.AVCPacketType != tag.AVCPacketTypeSequenceHeader {
		broken("the first video tag is the sequence header", "%v", video.AVCPacketType)
	}
	if r.counts[one.TagType] == 2 && video.FrameType != tag.FrameTypeKeyFrame {
		broken("the first picture is a key frame", "%v", video.FrameType)
	}
}
