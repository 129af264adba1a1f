package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// A Target takes notifications.
type Target struct {
	// name is what the log calls it: the variable and its kind, never the URL.
	name    string
	service types.Service
	format  func(string) string
	// hide takes what the URL holds out of a text.
	hide func(string) string
	busy atomic.Bool // a send is under way, perhaps one that never ends
}

// String names the target without its URL.
func (t *Target) String() string { return t.name }

// Parse makes the targets that SLACK_WEBHOOK (a URL) and NOTIFY_URLS (several,
// with blanks or commas between them) name. It does no I/O. The error names
// the variable and shows no URL.
func Parse(slack, urls string) ([]*Target, error) {
	var targets []*Target
	var errs []error
	if slack = strings.TrimSpace(slack); slack != "" {
		t, err := slackTarget(slack)
		targets, errs = append(targets, t), append(errs, err)
	}
	for i, one := range split(urls) {
		t, err := newTarget(fmt.Sprintf("NOTIFY_URLS, URL %d", i+1), one, one)
		targets, errs = append(targets, t), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return targets, nil
}

// between finds the commas that end a URL: one may hold commas itself.
var between = regexp.MustCompile(`,\s*([A-Za-z][A-Za-z0-9+.-]*://)`)

func split(urls string) []string {
	return strings.FieldsFunc(between.ReplaceAllString(urls, "\n$1"), func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) })
}

// slackTarget posts JSON with a text to a webhook of Slack, or of whatever
// takes the same.
func slackTarget(webhook string) (*Target, error) {
	u, err := url.Parse(webhook)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("SLACK_WEBHOOK: the value is not a webhook's URL: want https://hooks.slack.com/services/T000/B000/XXXX")
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
		return nil, fmt.Errorf("%s: it is no URL: want one such as generic+https://example.com/hook", name)
	}
	service, err := new(router.ServiceRouter).Locate(address)
	if err != nil { // its text may hold the URL
		if errors.Is(err, router.ErrUnknownService) {
			return nil, fmt.Errorf("%s: no notification service is called %q: want one such as generic+https, discord, teams, telegram, smtp", name, scheme)
		}
		return nil, fmt.Errorf("%s: the URL does not fit the service %q: see docs/notifications.md", name, scheme)
	}
	return &Target{
		name: name + " (" + scheme + ")", service: service,
		format: func(text string) string { return text }, hide: hider(secret),
	}, nil
}

var anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// hider returns what takes URLs, and the parts of address that may be secret,
// out of a text.
func hider(address string) func(string) string {
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
			parts = append(parts, u.Host) // with some services it is a token
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, p := range parts {
		if len(p) >= shortest {
			pairs = append(pairs, p, "[redacted]")
		}
	}
	replacer := strings.NewReplacer(pairs...)
	return func(text string) string {
		return replacer.Replace(anyURL.ReplaceAllString(text, "[URL]"))
	}
}

// tryFor bounds one try.
const tryFor = 10 * time.Second

// usualWaits are those before each try.
var usualWaits = []time.Duration{0, time.Second, 4 * time.Second}

// deliver tries to send, once after each wait, until it succeeds. The error
// shows no URL.
func (t *Target) deliver(ctx context.Context, text string, waits []time.Duration) (err error) {
	for _, wait := range waits {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return cmp.Or(err, context.Cause(ctx))
		case <-timer.C:
		}
		if err = t.send(ctx, text); err == nil {
			return nil
		}
	}
	return err
}

// send tries once. The service knows no context, so that one that hangs is
// left behind, and asked nothing more until it has ended.
func (t *Target) send(ctx context.Context, text string) error {
	if !t.busy.CompareAndSwap(false, true) {
		return errors.New("it still has the last message, without an answer")
	}
	done := make(chan error, 1)
	go func() {
		err := t.guarded(text)
		t.busy.Store(false)
		done <- err
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, tryFor, fmt.Errorf("no answer within %v", tryFor))
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			return errors.New(shorten(t.hide(err.Error())))
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// guarded turns a panic of the service into an error.
func (t *Target) guarded(text string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return t.service.Send(t.format(text), &types.Params{})
}
