package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return "stopped by " + e.signal.String() }

func (e *signalError) code() int {
	if e.signal == syscall.SIGTERM {
		return exitTERM
	}
	return exitINT
}

// signals are those that the program was sent.
type signals struct {
	// ctx ends at the first SIGINT or SIGTERM.
	ctx context.Context
	// hurry ends at the second.
	hurry context.Context
	// asks has SIGHUP and SIGUSR1. They are caught from the start on: a service
	// must not be killed by a reload that comes early.
	asks chan os.Signal
	// patience is how many signals it takes until the program ends on the spot.
	patience atomic.Int32
	ends     chan os.Signal
	done     chan struct{}
	cancel   func()
}

// catchSignals begins to catch signals.
func catchSignals() *signals {
	ctx, stop := context.WithCancelCause(context.Background())
	hurry, cancel := context.WithCancelCause(context.Background())
	s := &signals{
		ctx: ctx, hurry: hurry, asks: make(chan os.Signal, 8), ends: make(chan os.Signal, 3), done: make(chan struct{}),
		cancel: func() { stop(nil); cancel(nil) },
	}
	s.patience.Store(2)
	signal.Notify(s.asks, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Notify(s.ends, os.Interrupt, syscall.SIGTERM)
	go func() {
		for n := int32(1); ; n++ {
			select {
			case sent := <-s.ends:
				e := &signalError{sent}
				if n >= s.patience.Load() {
					os.Exit(e.code()) // somebody has no patience left
				}
				if n > 1 {
					cancel(e)
				}
				stop(e)
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// serve leaves the second signal to whoever watches hurry.
func (s *signals) serve() { s.patience.Store(3) }

// release gives SIGHUP and SIGUSR1 their usual meaning back, for commands that
// end by themselves.
func (s *signals) release() {
	signal.Stop(s.asks)
	signal.Reset(syscall.SIGHUP, syscall.SIGUSR1)
}

// stop catches no more.
func (s *signals) stop() {
	signal.Stop(s.asks)
	signal.Stop(s.ends)
	close(s.done)
	s.cancel()
}
