//go:build tools

// Package go608 names the programs that the tests build: they write and read captions in fragmented MP4.
package go608

import (
	_ "github.com/Eyevinn/go-608/cmd/go608-extract"
	_ "github.com/Eyevinn/go-608/cmd/go608-inject"
)
