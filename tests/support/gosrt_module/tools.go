//go:build tools

// Package gosrt names the programs that the tests build: gosrt's client, which also listens.
package gosrt

import _ "github.com/datarhei/gosrt/contrib/client"
