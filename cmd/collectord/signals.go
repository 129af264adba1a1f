package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// signalError is the cause of a context that a signal has cancelled.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return "stopped by " + signalName(e.signal) }

// signalName returns the name of SIGTERM or SIGINT.
func signalName(s os.Signal) string {
	if s == syscall.SIGTERM {
		return "SIGTERM"
	}
	return "SIGINT"
}

func (e *signalError) code() int {
	if e.signal == syscall.SIGTERM {
		return exitTERM
	}
	return exitINT
}

// signals are the signals that the program receives.
type signals struct {
	// ctx is cancelled by the first SIGINT or SIGTERM.
	ctx context.Context
	// forced is cancelled by the second.
	forced context.Context
	// control receives SIGHUP and SIGUSR1. They are caught from the start, so
	// that an early reload does not kill a service.
	control chan os.Signal
	// stop receives SIGINT and SIGTERM.
	stop chan os.Signal
	// exitAt is the number of the stop signal that ends the program at once.
	exitAt atomic.Int32
	done   chan struct{}
	cancel func()
}

// catchSignals starts catching signals. The second SIGINT or SIGTERM ends the
// program at once.
func catchSignals() *signals {
	ctx, stop := context.WithCancelCause(context.Background())
	forced, force := context.WithCancelCause(context.Background())
	s := &signals{
		ctx: ctx, forced: forced, control: make(chan os.Signal, 8), stop: make(chan os.Signal, 3), done: make(chan struct{}),
		cancel: func() { stop(nil); force(nil) },
	}
	s.exitAt.Store(2)
	signal.Notify(s.control, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Notify(s.stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		for n := int32(1); ; n++ {
			select {
			case received := <-s.stop:
				e := &signalError{received}
				if n >= s.exitAt.Load() {
					os.Exit(e.code())
				}
				if n > 1 {
					force(e)
				}
				stop(e)
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// enableForcedStop lets the second stop signal cancel forced; the third ends the
// program at once.
func (s *signals) enableForcedStop() { s.exitAt.Store(3) }

// divertInterrupts returns a channel that receives SIGINT from now on, for a command that
// continues after it. SIGTERM still cancels ctx.
func (s *signals) divertInterrupts() <-chan os.Signal {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	signal.Stop(s.stop)
	signal.Notify(s.stop, syscall.SIGTERM)
	return interrupts
}

// releaseControl restores the default action of SIGHUP and SIGUSR1, for commands
// that end on their own.
func (s *signals) releaseControl() {
	signal.Stop(s.control)
	signal.Reset(syscall.SIGHUP, syscall.SIGUSR1)
}

// ignore stops catching signals.
func (s *signals) ignore() {
	signal.Stop(s.control)
	signal.Stop(s.stop)
	close(s.done)
	s.cancel()
}
