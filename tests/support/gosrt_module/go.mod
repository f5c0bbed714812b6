module millrace/gosrt

go 1.24.0

require github.com/datarhei/gosrt v0.10.0

require (
	github.com/benburkert/openpgp v0.0.0-20160410205803-c2471f86866c // indirect
	golang.org/x/sys v0.41.0 // indirect
)
