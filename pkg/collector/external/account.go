package external

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/pkg/collector"
)

// An account is an opened collector.
type account struct {
	*File
	values map[string]string // of the variables
	redact *redact.Set
	log    *zap.Logger

	mu       sync.Mutex
	sessions map[*collector.Group]*session
}

// minSecret is the length below which a secret is too common a text to be hidden.
const minSecret = 4

// open returns the collector for settings that newSettings returned.
func (f *File) open(settings any, o collector.Options) (*collector.Collector, error) {
	a := &account{File: f, values: f.valuesOf(settings), log: o.Log, sessions: map[*collector.Group]*session{}}
	a.redact = redact.NewSet(minSecret, f.secretsIn(a.values)...)
	if a.log == nil {
		a.log = zap.NewNop()
	}
	c := &collector.Collector{Name: f.collector, Check: func(ctx context.Context) error { return a.nameError(a.checkProgram(ctx)) }}
	for _, s := range f.streams {
		c.Streams = append(c.Streams, collector.Stream{
			Name: s.name,
			Extract: func(ctx context.Context, out collector.Output) error {
				return a.nameError(a.extractStream(ctx, s.name, out))
			},
			Check: func(context.Context) error {
				for _, err := range a.checkParts([]string{s.name}, a.command) {
					return a.nameError(err)
				}
				return nil
			},
		})
	}
	return c, nil
}

// nameError adds the name of the collector to an error.
func (a *account) nameError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a.collector, err)
}

// checkProgram checks that the program can be started, and runs the check command if the
// file has one.
func (a *account) checkProgram(ctx context.Context) error {
	if _, err := a.resolve(a.command); err != nil {
		return err
	}
	if len(a.check) == 0 {
		return nil
	}
	p, err := a.startProgram(a.check, a.StreamNames(), func() {})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, p.Stop)()
	p.discardOutput()
	if err := p.waitSuccess(); ctx.Err() == nil || err == nil {
		return err
	}
	return context.Cause(ctx)
}

// extractStream takes part in the session of the run of ctx and waits for its end.
func (a *account) extractStream(ctx context.Context, name string, out collector.Output) error {
	stats := collector.StatsFrom(ctx)
	s := a.joinSession(ctx, name, participant{out: out, stats: stats})
	defer stats.BeginWaitOn("the program", s.stats)()
	defer context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })()
	<-s.done
	return s.err
}

// joinSession returns the session of the group of ctx with the stream as a participant. The
// first stream creates it.
func (a *account) joinSession(ctx context.Context, name string, p participant) *session {
	group := collector.GroupFrom(ctx)
	if group == nil {
		group = collector.NewGroup(name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[group]
	if s == nil {
		s = a.newSession(ctx, group)
		a.sessions[group] = s
		go func() {
			defer close(s.done)
			s.err = s.extract()
			s.cancel(nil)
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.sessions, group)
		}()
	}
	s.join(name, p)
	return s
}

// A session is one run of the program, for some of the streams. All of them succeed or none.
type session struct {
	*account
	group  *collector.Group
	ctx    context.Context
	cancel context.CancelCauseFunc
	stats  *collector.Stats // its activity is that of each stream
	done   chan struct{}
	err    error // after done

	joined map[string]chan struct{}
	mu     sync.Mutex
	taking map[string]participant
}

// A participant is a stream that takes part in a session.
type participant struct {
	out   collector.Output
	stats *collector.Stats
}

func (a *account) newSession(ctx context.Context, group *collector.Group) *session {
	s := &session{
		account: a, group: group, stats: &collector.Stats{}, done: make(chan struct{}),
		joined: map[string]chan struct{}{}, taking: map[string]participant{},
	}
	// The run of any stream ends the session, not only that of the first.
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	for _, name := range group.Streams() {
		s.joined[name] = make(chan struct{})
	}
	return s
}

// join adds a stream.
func (s *session) join(name string, p participant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taking[name] = p
	close(s.joined[name])
}

// gather waits until each stream of the group takes part or has ended, and returns the
// names of those that take part, in the order of the file.
func (s *session) gather() (names []string, err error) {
	for _, name := range s.group.Streams() {
		select {
		case <-s.joined[name]:
		case <-s.group.Ended(name):
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.StreamNames() {
		if _, takes := s.taking[name]; takes {
			names = append(names, name)
		}
	}
	return names, nil
}

// extract runs the program and passes its records to the streams that take part.
func (s *session) extract() error {
	names, err := s.gather()
	if err != nil {
		return err
	}
	ctx := s.ctx
	if s.timeout > 0 {
		tooLong := &tooLongError{timeout: s.timeout, file: s.Name}
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, s.timeout, tooLong)
		defer stop()
	}
	idle := s.watchIdle()
	defer idle.Stop()
	p, err := s.startProgram(s.command, names, func() {
		s.stats.CountReceived(1)
		if s.idle > 0 {
			idle.Reset(s.idle)
		}
	})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, p.Stop)()
	out := s.newSplitter(names)
	defer out.discard()
	readErr := p.readLines(out.protocol.readLine)
	if readErr == nil {
		readErr = ctx.Err() // the program may have ended well when it was stopped
	}
	var cut *cutLineError // of a program that is ending, whose exit says why
	isCut := errors.As(readErr, &cut)
	if readErr != nil && !isCut {
		p.Stop()
	}
	exitErr := p.waitSuccess()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case exitErr != nil && (readErr == nil || isCut):
		return exitErr
	case readErr != nil:
		return readErr
	}
	if err := out.protocol.finish(); err != nil {
		return err
	}
	return out.commit()
}

// A tooLongError is the error of a program that reached its timeout. It matches
// context.DeadlineExceeded, whose text would say nothing more.
type tooLongError struct {
	timeout time.Duration
	file    string
}

func (e *tooLongError) Error() string {
	return fmt.Sprintf("the program took longer than its timeout, %v: raise timeout in %s", e.timeout, e.file)
}

func (e *tooLongError) Is(target error) bool { return target == context.DeadlineExceeded }

// watchIdle returns a timer that ends the session when the program has printed nothing for
// as long as the file allows.
func (s *session) watchIdle() *time.Timer {
	timer := time.AfterFunc(max(s.idle, time.Second), func() {
		s.cancel(fmt.Errorf("%w for %v: the program printed nothing: raise idle_timeout in %s, or let the program print its progress to standard error",
			collector.ErrIdle, s.idle, s.Name))
	})
	if s.idle == 0 {
		timer.Stop()
	}
	return timer
}

// describeStreams returns names for a message.
func describeStreams(names []string) string { return strings.Join(names, ", ") }
