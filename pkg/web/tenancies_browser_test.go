package web

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// newShownTenancies returns a fixture with tenancies in every state.
func newShownTenancies(t testing.TB) *several {
	s := newSeveral(t)
	const interval = 6 * time.Hour
	for _, name := range []string{"acme", "Bäckerei Müller & Söhne", "globex", "initech", "umbrella"} {
		s.switchTo(name)
		s.addCollector("crowdstrike", interval, "crowdstrike_hosts", "crowdstrike_vulnerabilities")
		s.addSuccess("crowdstrike", "crowdstrike_hosts", 2*time.Hour, nil, `{"device_id":"h1"}`)
		s.addSuccess("crowdstrike", "crowdstrike_vulnerabilities", 3*time.Hour, []string{"file"}, `{"aid":"h1"}`)
		switch name {
		case "umbrella":
			s.addOkta(40*time.Hour, "okta: GET /api/v1/users: 401 Unauthorized: check OKTA_TOKEN "+hostileText)
		case "globex":
			s.addCollector("okta", interval, "okta_users")
		case "initech":
			s.addOkta(5*time.Hour, "okta: GET /api/v1/users: 503 Service Unavailable after 6 attempts")
		default:
			s.addOkta(5*time.Hour, "")
		}
	}
	s.addUnusable("wayne", "/etc/collectord/tenancies/wayne.env:3: OKTA_ORG: \"wayne\": want a URL such as https://example.okta.com "+hostileText)
	return s
}

func TestTenanciesInABrowser(t *testing.T) {
	t.Parallel()
	s := newShownTenancies(t)
	s.options.Token = "token-of-service"
	s.options.LastReload = func() (time.Time, error) { return shownAt, errors.New("acme.env: the first\nwayne.env: the second") }
	server := httptest.NewServer(NewTenancies(s.options).Handler())
	t.Cleanup(server.Close)
	b := openBrowserAt(t, server.URL, "/", "#tenancies")
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{"1 tenancy unusable", "acme.env: the first\nwayne.env: the second", "1 late", "1 never", "1 failing", "wayne.env:3", hostileText, "Bäckerei Müller & Söhne", "in 2\u202fh"} {
		if !strings.Contains(text, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	if evaluate[int](b, `document.querySelectorAll("main script, main img").length`) != 0 || evaluate[string](b, "document.title") != "collectord" {
		t.Error("a text is treated as markup")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("tenancies-" + scheme)
	}
	// A tenancy becomes late while the page is open: its row moves up, without a reload.
	evaluate[bool](b, `(window.same = true, document.querySelector("input[type=search]").value = "typed", true)`)
	first := evaluate[string](b, `document.querySelector("#tenancies tbody:nth-of-type(2) th").textContent`)
	s.tenancy = "acme"
	s.addFailure("okta", "okta_users", time.Minute, "okta: 500")
	b.waitUntil(`document.getElementById("t.acme.state").textContent === "failing"`)
	if first != "umbrella" || !evaluate[bool](b, `window.same && document.querySelector("input[type=search]").value === "typed"`) {
		t.Errorf("the first usable tenancy is %s, or the page was reloaded", first)
	}

	// The filter and the search are in the URL.
	b.click("#summary a.late")
	b.waitForPage(`location.search === "?label=late" && document.querySelectorAll("#streams tbody").length === 1`)
	b.saveScreenshot("tenancies-late")
	b.click(".search a")
	b.waitForPage(`location.search === "" && document.querySelectorAll("#tenancies tbody").length === 6`)
	b.setField("input[type=search]", "MÜLLER")
	b.click(".search button")
	b.waitForPage(`location.search.startsWith("?search=") && document.querySelectorAll("#streams tbody").length === 3 && document.querySelectorAll("#tenancies tbody").length === 1`)
	b.click("#streams tbody:nth-of-type(3) th a")
	b.waitForPage(`document.title === "okta_users · Bäckerei Müller & Söhne · collectord"`)
	b.waitUntil(`document.querySelector("#data pre")?.textContent.includes("user of Bäckerei") === true`)
	b.saveScreenshot("tenancies-stream")

	// The token is entered once for all tenancies.
	b.setField("#token", "token-of-service")
	b.click(`[data-post$="/streams/okta_users/run"]`)
	b.waitUntil(`document.getElementById("said").textContent.includes("okta_users has started")`)
	b.openURL(server.URL+"/tenancies/umbrella/", "#streams")
	b.click(`[data-post="/tenancies/umbrella/api/v1/streams/okta_users/run"]`)
	b.waitUntil(`document.getElementById("said").textContent.includes("okta_users has started")`)
	b.click("nav a")
	b.waitForPage(`location.pathname === "/" && document.getElementById("tenancies") !== null`)
	if got := fmt.Sprint(s.daemons["Bäckerei Müller & Söhne"].started, s.daemons["umbrella"].started, s.daemons["acme"].started); got != "[okta_users] [okta_users] []" {
		t.Errorf("started %s", got)
	}
	b.setColorScheme("light")
	b.setSize(360, 740)
	b.assertFits("the overview of tenancies on a phone")
	b.saveScreenshot("tenancies-phone")
	b.openURL(server.URL+"/?search=okta", "#streams")
	b.assertFits("the streams of a search on a phone")
	b.saveScreenshot("tenancies-search-phone")
	b.assertNoViolations()
}

// TestTokenInABrowser opens the pages of a tenancy with a token as the password of basic
// auth, as the dialog of a browser sends it.
func TestTokenInABrowser(t *testing.T) {
	t.Parallel()
	s := newShownTenancies(t)
	s.options.Tokens = readTokens(t, tokensText)
	server := httptest.NewServer(NewTenancies(s.options).Handler())
	t.Cleanup(server.Close)
	b := openBrowser(t, server.URL)
	b.setSize(1280, 800)
	// The password in the URL is what the dialog of the browser would ask for.
	address := strings.Replace(server.URL, "http://", "http://anyone:token-of-acme-all-1@", 1)
	b.execute(chromedp.Navigate(address + "/"))
	b.waitUntil(`document.getElementById("tenancies") !== null`)
	if rows := evaluate[string](b, `[...document.querySelectorAll("#tenancies th[scope=row]")].map((e) => e.textContent).join()`); rows != "acme" {
		t.Errorf("the token of acme sees %s", rows)
	}
	b.saveScreenshot("tenancies-token")
	b.openURL(server.URL+"/tenancies/acme/streams/okta_users", "#data pre")
	if evaluate[bool](b, `document.getElementById("token") !== null`) {
		t.Error("the page asks for a token")
	}
	b.click(`[data-post$="/streams/okta_users/run"]`)
	b.waitUntil(`document.getElementById("said").textContent.includes("okta_users has started")`)
	b.openURL(server.URL+"/tenancies/acme/query", "#sql")
	b.setField("#sql", "SELECT id FROM okta_users")
	b.click("#query .main")
	b.waitUntil(`document.getElementById("result").textContent.includes("user of acme")`)
	b.openURL(server.URL+"/tenancies/acme/", "#streams")
	evaluate[bool](b, `(document.getElementById("now").textContent = "", true)`)
	b.waitUntil(`document.getElementById("now").textContent !== ""`) // the refresh has the token, too
	b.violations = nil                                               // requests to an address with a password
}
