package main

import (
	"math"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// nowMicros is CLOCK_MONOTONIC in microseconds: the clock of the stamps in the pictures of all load clients.
func nowMicros() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the kernel always has this clock
	}
	return ts.Sec*1e6 + ts.Nsec/1e3
}

// cpuSeconds is the user and system time of this process.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only an invalid argument fails
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// percentiles of samples, in the unit of the samples.
type percentiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentilesOf(samples []float64) percentiles {
	if len(samples) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := func(share float64) float64 { return rounded(sorted[int(share*float64(len(sorted)-1))]) }
	return percentiles{len(sorted), at(0.5), at(0.95), at(0.99), at(1)}
}

func rounded(value float64) float64 { return math.Round(value*100) / 100 }
