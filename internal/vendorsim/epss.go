package vendorsim

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// EPSSScores is the stream of [EPSS]. Its records are those of the collector, with
// the model and the date of the file.
const EPSSScores = "epss_scores"

// Forms of the file of [EPSS], beside "" for the usual one.
const (
	// EPSSRedirect serves the file under its date, to which the usual address
	// redirects.
	EPSSRedirect = "redirect"
	// EPSSEncoded declares the compression as that of the transfer, so that a
	// client decodes the file once already.
	EPSSEncoded = "encoded"
	// EPSSNoComment leaves out the line with the model and the date.
	EPSSNoComment = "no comment"
	// EPSSShort leaves out the value of the last row's last column.
	EPSSShort = "short row"
)

// EPSS simulates the daily file of exploit prediction scores.
type EPSS struct{ feed }

// NewEPSS returns a simulated file for one [Server].
func NewEPSS() *EPSS { return &EPSS{} }

// Name returns "epss".
func (e *EPSS) Name() string { return "epss" }

// Env returns the EPSS settings.
func (e *EPSS) Env(url string) []string {
	return []string{"EPSS=true", "EPSS_URL=" + url + "/epss_scores-current.csv.gz"}
}

// epssModel is the version of the model.
const epssModel = "v2025.03.14"

// epssDate returns the date of the scores as the file has it.
func epssDate(g Gen) string { return g.Base.Format("2006-01-02T15:04:05Z") }

// Routes returns the file, by its usual name and by its date.
func (e *EPSS) Routes(h *Host) *http.ServeMux {
	e.host = h
	dated := "/epss_scores-" + h.server.gen.Base.Format("2006-01-02") + ".csv.gz"
	mux := http.NewServeMux()
	serve := func(w http.ResponseWriter, r *http.Request) {
		if e.feedBehaviour().Form == EPSSEncoded {
			w.Header().Set("Content-Encoding", "gzip")
		}
		e.serveFile(w, r, "application/gzip", []string{EPSSScores}, e.writeScores)
	}
	mux.HandleFunc("GET /epss_scores-current.csv.gz", func(w http.ResponseWriter, r *http.Request) {
		if e.feedBehaviour().Form == EPSSRedirect {
			http.Redirect(w, r, dated, http.StatusFound)
			return
		}
		serve(w, r)
	})
	mux.HandleFunc("GET "+dated, serve)
	return mux
}

func (e *EPSS) writeScores(w io.Writer, form string) {
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
	b := bufio.NewWriterSize(z, 64<<10)
	if form != EPSSNoComment {
		fmt.Fprintf(b, "#model_version:%s,score_date:%s\n", epssModel, epssDate(e.host.server.gen))
	}
	_, _ = b.WriteString("cve,epss,percentile\n")
	st := e.host.server.mustStream(EPSSScores)
	count := int(st.count.Load())
	var row []byte
	for i := range count {
		r := st.recAt(i)
		row = append(appendEPSSID(row[:0], r), ',')
		row = append(appendEPSSScore(row, r), ',')
		row = append(appendEPSSPercentile(row, r), '\n')
		if form == EPSSShort && i == count-1 {
			row = append(appendEPSSID(row[:0], r), ",0.1\n"...)
		}
		if _, err := b.Write(row); err != nil {
			return
		}
	}
	_ = b.Flush()
	_ = z.Close()
}

// Specs describes the scores.
func (e *EPSS) Specs(g Gen) []Spec {
	return []Spec{{
		Name: EPSSScores, Count: 12 * simulatedCVEs, Bytes: 130, ID: appendEPSSID,
		Templates: []string{`{"cve":"<<id>>","epss":"<<score>>","percentile":"<<percentile>>","_model_version":"` + epssModel + `","_score_date":"` + epssDate(g) + `"}`},
		Slots:     map[string]Slot{"id": appendEPSSID, "score": appendEPSSScore, "percentile": appendEPSSPercentile},
	}}
}

func appendEPSSID(dst []byte, r Rec) []byte { return appendSimulatedCVE(dst, r.Index) }

// epssScore returns a probability: most are small, and those of CVEs that are known
// to be exploited are large.
func epssScore(r Rec) float64 {
	x := float64(r.Hash>>12%100_000) / 100_000
	if r.Index%27 == 0 {
		return 0.3 + 0.68*x
	}
	return x * x * x * x * x * 0.9
}

// appendEPSSScore appends a score in one of the forms that the file has: with five
// decimals, or with an exponent.
func appendEPSSScore(dst []byte, r Rec) []byte {
	score := epssScore(r)
	if score < 0.0001 {
		return append(dst, "1e-05"...)
	}
	return strconv.AppendFloat(dst, score, 'f', 5, 64)
}

func appendEPSSPercentile(dst []byte, r Rec) []byte {
	return strconv.AppendFloat(dst, min(0.99999, 0.05+epssScore(r)), 'f', 5, 64)
}
