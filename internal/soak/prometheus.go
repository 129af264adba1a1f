package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
)

const (
	// shippedFrom is the shortest soak with the alert rules as they are shipped.
	shippedFrom = time.Hour
	// ruleFactor divides the durations of the rules in shorter soaks: minutes become
	// seconds.
	ruleFactor = 60
	// longFrom is the shortest soak with faults that last until an alert with a
	// duration fires.
	longFrom = 5 * time.Minute
)

// prometheus is a Prometheus that scrapes the daemon and evaluates the alert rules.
type prometheus struct {
	s        *soak
	url      string
	cmd      *exec.Cmd
	interval time.Duration // of scrapes and evaluations
	factor   int           // that divides the durations of the rules
	started  time.Time
	stopping atomic.Bool
	ended    chan struct{}
}

// newPrometheus prepares a Prometheus.
func newPrometheus(s *soak) *prometheus {
	if s.opts.time >= shippedFrom {
		return &prometheus{s: s, interval: 15 * time.Second, factor: 1}
	}
	return &prometheus{s: s, interval: time.Second, factor: ruleFactor}
}

// ruleDuration matches the durations of the rules: those after for and
// keep_firing_for, and the ranges of expressions.
var ruleDuration = regexp.MustCompile(`(?m)(^\s+(?:for|keep_firing_for):\s*|\[)([0-9]+[smhdwy])(\]|\s*$)`)

// shortenRules divides the durations of alert rules.
func shortenRules(rules string, factor int) string {
	return ruleDuration.ReplaceAllStringFunc(rules, func(found string) string {
		part := ruleDuration.FindStringSubmatch(found)
		d, err := model.ParseDuration(part[2])
		if err != nil {
			return found // Prometheus reports it
		}
		return part[1] + (d / model.Duration(factor)).String() + part[3]
	})
}

// start starts Prometheus.
func (p *prometheus) start(root string) error {
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.url = "http://" + free.Addr().String()
	config := fmt.Sprintf("global: {scrape_interval: %[1]v, scrape_timeout: %[1]v, evaluation_interval: %[1]v}\nrule_files: [alerts.yml]\n"+
		"scrape_configs: [{job_name: collectord, static_configs: [{targets: [%[2]q]}]}]\n", p.interval, p.s.daemon.addr)
	dir := p.s.file("prometheus")
	err = errors.Join(
		free.Close(), os.Mkdir(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "alerts.yml"), []byte(shortenRules(string(rules), p.factor)), 0o600),
		os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600),
	)
	if err != nil {
		return err
	}
	return p.execute(dir, free.Addr().String())
}

// execute starts the program with the configuration in dir.
func (p *prometheus) execute(dir, address string) error {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+address)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%w; run: make test-servers", err)
	}
	p.ended = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // it is killed
		if !p.stopping.Load() {
			p.s.violations.addf("the soak itself failed: Prometheus ended: %v; see prometheus/log", p.cmd.ProcessState)
		}
		close(p.ended)
	}()
	p.started = time.Now()
	return nil
}

// waitForScrape waits until Prometheus has scraped the daemon, which takes some seconds
// after its start.
func (p *prometheus) waitForScrape(ctx context.Context) {
	err := waitUntil(ctx, "the first scrape of Prometheus", func() (bool, error) {
		found, err := p.query(`up{job="collectord"} == 1`, time.Now())
		return len(found) > 0, err
	})
	p.s.events.record(scrapeEvent, "", p.started, time.Now())
	if err != nil && ctx.Err() == nil {
		p.s.violations.addf("the soak itself failed: %v", err)
	}
}

// kill ends Prometheus, if it was started.
func (p *prometheus) kill() {
	if p.ended == nil {
		return
	}
	p.stopping.Store(true)
	_ = p.cmd.Process.Kill() // it may already have ended
	<-p.ended
}

// get requests a path of Prometheus's API and decodes the data of the response.
func (p *prometheus) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(p.s.ctx, waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("request Prometheus: %w", err)
	}
	defer resp.Body.Close()
	var response struct {
		Error string          `json:"error"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&response); err != nil {
		return fmt.Errorf("request Prometheus: GET %s: status %d: %w", path, resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("request Prometheus: GET %s: status %d: %s", path, resp.StatusCode, response.Error)
	}
	return json.Unmarshal(response.Data, into)
}

// A series is a time series of the result of a query, with the values of a range.
type series struct {
	Metric map[string]string `json:"metric"`
	Values [][2]any          `json:"values"`
}

// query evaluates an expression.
func (p *prometheus) query(expression string, at time.Time) ([]series, error) {
	var data struct {
		Result []series `json:"result"`
	}
	values := url.Values{"query": {expression}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}
	err := p.get("/api/v1/query?"+values.Encode(), &data)
	return data.Result, err
}

// An activeAlert is an alert that is pending or firing now.
type activeAlert struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"`
}

func (a activeAlert) String() string { return alertTitle(a.Labels) + ": " + a.State }

// alertTitle describes an alert by its labels.
func alertTitle(labels map[string]string) string {
	title := labels["alertname"]
	for _, name := range []string{"collector", "stream", "sink", "outcome"} {
		if value := labels[name]; value != "" && (name != "collector" || labels["stream"] == "") {
			title += " " + value
		}
	}
	return title
}

func (p *prometheus) activeAlerts() ([]activeAlert, error) {
	var data struct {
		Alerts []activeAlert `json:"alerts"`
	}
	err := p.get("/api/v1/alerts", &data)
	return data.Alerts, err
}

// waitFor waits until an alert fires, for a destination unless sink is "". It returns
// false if it does not within limit.
func (p *prometheus) waitFor(name, sink string, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; {
		active, err := p.activeAlerts()
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(active, func(a activeAlert) bool {
			return a.State == "firing" && a.Labels["alertname"] == name && (sink == "" || a.Labels["sink"] == sink)
		}) {
			return true, nil
		}
		if time.Now().After(end) {
			return false, nil
		}
		if !sleepContext(p.s.ctx, 200*time.Millisecond) {
			return false, context.Cause(p.s.ctx)
		}
	}
}

// requireFiring waits until an alert fires. If it does not, that is a violation.
func (p *prometheus) requireFiring(name, sink string) error {
	rules, err := p.rules()
	if err != nil {
		return err
	}
	limit := 2*time.Duration(rules[name].Duration*float64(time.Second)) + waitLimit
	fires, err := p.waitFor(name, sink, limit)
	if err == nil && !fires {
		p.s.violations.addf("the alert %s %s does not fire, although its cause has lasted for %v", name, sink, limit)
	}
	return err
}

// A rule is an alert rule.
type rule struct {
	Name     string  `json:"name"`
	Query    string  `json:"query"`
	Duration float64 `json:"duration"` // in seconds
}

// looksBack reports whether the rule is about a time, so that it fires until that is
// over.
func (r rule) looksBack() bool { return strings.Contains(r.Query, "[") }

// rules returns the rules by name.
func (p *prometheus) rules() (map[string]rule, error) {
	var data struct {
		Groups []struct {
			Rules []rule `json:"rules"`
		} `json:"groups"`
	}
	if err := p.get("/api/v1/rules", &data); err != nil {
		return nil, err
	}
	rules := map[string]rule{}
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			rules[r.Name] = r
		}
	}
	return rules, nil
}

// requireQuiet waits until no alert is active. One that stays is a violation, unless
// its rule looks back.
func (p *prometheus) requireQuiet() {
	var left []string
	err := waitUntil(p.s.ctx, "no alert", func() (bool, error) {
		rules, err := p.rules()
		if err != nil {
			return false, err
		}
		active, err := p.activeAlerts()
		left = nil
		for _, a := range active {
			if !rules[a.Labels["alertname"]].looksBack() {
				left = append(left, a.String())
			}
		}
		return err == nil && len(left) == 0, err
	})
	if err != nil {
		p.s.violations.addf("alerts stay after everything was delivered: %s: %v", strings.Join(left, ", "), err)
	}
}

// An alertEpisode is the time in which an alert was pending and perhaps fired.
type alertEpisode struct {
	labels          map[string]string
	from, fired, to time.Time // fired is zero if it only was pending
}

func (a *alertEpisode) String() string { return alertTitle(a.labels) }

// readAlerts reads the alerts of the whole soak.
func (p *prometheus) readAlerts() ([]*alertEpisode, error) {
	found, err := p.query(fmt.Sprintf("ALERTS[%ds]", int(p.s.quiet.Sub(p.s.began).Seconds())+1), p.s.quiet)
	if err != nil {
		return nil, err
	}
	type moment struct {
		at     time.Time
		firing bool
	}
	moments, labels := map[string][]moment{}, map[string]map[string]string{}
	for _, one := range found {
		title := alertTitle(one.Metric)
		labels[title] = one.Metric
		for _, v := range one.Values {
			seconds, ok := v[0].(float64)
			if !ok {
				return nil, fmt.Errorf("read from Prometheus: ALERTS has the time %v", v[0])
			}
			moments[title] = append(moments[title], moment{time.UnixMilli(int64(seconds * 1000)), one.Metric["alertstate"] == "firing"})
		}
	}
	var all []*alertEpisode
	for title, list := range moments {
		slices.SortFunc(list, func(a, b moment) int { return a.at.Compare(b.at) })
		var last *alertEpisode
		for _, m := range list {
			if last == nil || m.at.Sub(last.to) > 5*p.interval/2 {
				last = &alertEpisode{labels: labels[title], from: m.at}
				all = append(all, last)
			}
			last.to = m.at
			if m.firing && last.fired.IsZero() {
				last.fired = m.at
			}
		}
	}
	slices.SortFunc(all, func(a, b *alertEpisode) int { return a.from.Compare(b.from) })
	return all, nil
}
