package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/collectord/collectord/internal/redact"
)

// A Target is a service that accepts notifications.
type Target struct {
	// name is the variable and the kind of service; it does not contain the URL.
	name    string
	service types.Service
	format  func(string) string
	// redact removes URLs, and what may be secret in the target's, from a text.
	redact func(string) string
	busy   atomic.Bool // an attempt is running, which may hang forever
}

// String returns the name of the target, without its URL.
func (t *Target) String() string { return t.name }

// Parse returns the targets that SLACK_WEBHOOK (one URL) and NOTIFY_URLS (URLs
// separated by spaces or commas) name. It does no I/O. The error names the variable
// and contains no URL.
func Parse(slack, urls string) ([]*Target, error) {
	var targets []*Target
	var errs []error
	if slack = strings.TrimSpace(slack); slack != "" {
		t, err := slackTarget(slack)
		targets, errs = append(targets, t), append(errs, err)
	}
	for i, one := range splitURLs(urls) {
		t, err := newTarget(fmt.Sprintf("NOTIFY_URLS, URL %d", i+1), one, one)
		targets, errs = append(targets, t), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return targets, nil
}

// nextURL matches a comma between two URLs. A URL may contain other commas.
var nextURL = regexp.MustCompile(`,\s*([A-Za-z][A-Za-z0-9+.-]*://)`)

func splitURLs(urls string) []string {
	isSpace := func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) }
	return strings.FieldsFunc(nextURL.ReplaceAllString(urls, "\n$1"), isSpace)
}

// slackTarget returns a target that posts a JSON object with a text to a webhook of
// Slack, or of a service with the same interface.
func slackTarget(webhook string) (*Target, error) {
	u, err := url.Parse(webhook)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("SLACK_WEBHOOK: the value is not the URL of a webhook: want https://hooks.slack.com/services/T000/B000/XXXX")
	}
	query := u.Query()
	query.Set("template", "json")
	query.Set("messagekey", "text")
	u.Scheme, u.RawQuery = "generic+"+u.Scheme, query.Encode()
	t, err := newTarget("SLACK_WEBHOOK", u.String(), webhook)
	if err != nil {
		return nil, err
	}
	t.name, t.format = "SLACK_WEBHOOK", strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	return t, nil
}

func newTarget(name, address, secret string) (*Target, error) {
	scheme, _, found := strings.Cut(address, "://")
	if !found {
		return nil, fmt.Errorf("%s: the value is not a URL: want one such as generic+https://example.com/hook", name)
	}
	service, err := new(router.ServiceRouter).Locate(address)
	if err != nil { // its text may contain the URL
		if errors.Is(err, router.ErrUnknownService) {
			return nil, fmt.Errorf("%s: no notification service is called %q: "+
				"want one such as generic+https, discord, teams, telegram, smtp", name, scheme)
		}
		return nil, fmt.Errorf("%s: the URL does not fit the service %q: see docs/guide/notifications.md", name, scheme)
	}
	return &Target{
		name: name + " (" + scheme + ")", service: service,
		format: func(text string) string { return text }, redact: redactorOf(secret),
	}, nil
}

var anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// redactorOf returns a function that removes from a text all URLs, and the parts of
// an address that may be secret.
func redactorOf(address string) func(string) string {
	const shortest = 4
	parts := []string{address}
	if u, err := url.Parse(address); err == nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.Username(), password)
		parts = append(parts, strings.Split(u.Path, "/")...)
		for _, values := range u.Query() {
			parts = append(parts, values...)
		}
		if scheme := strings.ToLower(u.Scheme); !strings.HasPrefix(scheme, "http") && !strings.HasPrefix(scheme, "generic") {
			parts = append(parts, u.Host) // a token of some services
		}
	}
	secrets := redact.NewSet(shortest, parts...)
	return func(text string) string {
		return secrets.Redact(anyURL.ReplaceAllString(text, "[URL]"))
	}
}

// attemptTimeout bounds one attempt to send.
const attemptTimeout = 10 * time.Second

// lastResponse is how long a response may take after an attempt was cancelled.
const lastResponse = time.Second

// defaultWaits are the waits before each attempt.
var defaultWaits = []time.Duration{0, time.Second, 4 * time.Second}

// sendWithRetries attempts to send a text, once after each wait, until it succeeds.
// The error contains no URL.
func (t *Target) sendWithRetries(ctx context.Context, text string, waits []time.Duration) (err error) {
	for _, wait := range waits {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return cmp.Or(err, context.Cause(ctx))
		case <-timer.C:
		}
		if err = t.attempt(ctx, text); err == nil {
			return nil
		}
	}
	return err
}

// attempt sends a text once. The service accepts no context, so that the goroutine
// of an attempt that hangs is abandoned; until it ends, further attempts fail.
func (t *Target) attempt(ctx context.Context, text string) error {
	if !t.busy.CompareAndSwap(false, true) {
		return errors.New("it has not responded to the last message yet")
	}
	done := make(chan error, 1)
	go func() {
		err := t.sendRecovering(text)
		t.busy.Store(false)
		done <- err
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("no response within %v", attemptTimeout))
	defer cancel()
	select {
	case err := <-done:
		return t.redactError(err)
	case <-ctx.Done():
	}
	// A message that is accepted while the program ends must not be sent again.
	select {
	case err := <-done:
		return t.redactError(err)
	case <-time.After(lastResponse):
		return context.Cause(ctx)
	}
}

// redactError returns an error of the service without URLs and secrets.
func (t *Target) redactError(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(truncate(t.redact(err.Error())))
}

// sendRecovering sends a text, and returns a panic of the service as an error.
func (t *Target) sendRecovering(text string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return t.service.Send(t.format(text), &types.Params{})
}
