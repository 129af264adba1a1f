package vendorsim

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// Streams of [EndOfLife].
const (
	EOLProducts = "eol_products"
	EOLReleases = "eol_releases"
)

// EndOfLifeTotalWrong is a form of the list of [EndOfLife] that declares one more
// product than there are.
const EndOfLifeTotalWrong = "total is wrong"

// EndOfLife simulates the API of endoflife.date, as far as it lists all products.
type EndOfLife struct{ feed }

// NewEndOfLife returns a simulated API for one [Server].
func NewEndOfLife() *EndOfLife { return &EndOfLife{} }

// Name returns "endoflife".
func (e *EndOfLife) Name() string { return "endoflife" }

// Env returns the ENDOFLIFE settings.
func (e *EndOfLife) Env(url string) []string {
	return []string{"ENDOFLIFE=true", "ENDOFLIFE_URL=" + url}
}

// Routes returns the list, and its address without the slash, which redirects.
func (e *EndOfLife) Routes(h *Host) *http.ServeMux {
	e.host = h
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/products/full", func(w http.ResponseWriter, r *http.Request) {
		e.serveFile(w, r, "application/json", []string{EOLProducts, EOLReleases}, e.writeProducts)
	})
	return mux
}

func (e *EndOfLife) writeProducts(w io.Writer, form string) {
	count := e.host.server.RecordCount(EOLProducts)
	total := count
	if form == EndOfLifeTotalWrong {
		total++
	}
	_ = e.host.server.WriteRecords(w, `{"schema_version":"1.2.1","generated_at":"`+e.host.server.gen.Base.Format(time.RFC3339)+
		`","total":`+strconv.Itoa(total)+`,"result":[`, EOLProducts, indexRange(0, count), "]}")
}

// releasesOf returns the indices of the releases of a product, from and up to.
func (e *EndOfLife) releasesOf(product int) (from, to int) {
	products, releases := e.host.server.RecordCount(EOLProducts), e.host.server.RecordCount(EOLReleases)
	return product * releases / products, (product + 1) * releases / products
}

// ReleaseRecord returns a release with the name of its product, as the collector
// stores it.
func (e *EndOfLife) ReleaseRecord(i int) []byte {
	product := 0
	for _, to := e.releasesOf(product); to <= i; _, to = e.releasesOf(product) {
		product++
	}
	record := e.host.server.Record(EOLReleases, i)
	return append(record[:len(record)-1], `,"_product":"`+e.host.server.RecordID(EOLProducts, product)+`"}`...)
}

// Specs describes the products, which contain their releases.
func (e *EndOfLife) Specs(g Gen) []Spec {
	product := func(dst []byte, r Rec) []byte { return AppendInt(append(dst, "product-"...), int64(r.Index)) }
	release := func(dst []byte, r Rec) []byte {
		return AppendInt(append(AppendInt(dst, int64(r.Index%4)), '.'), int64(r.Index))
	}
	date := func(from, days int) Slot {
		return func(dst []byte, r Rec) []byte {
			return append(dst, g.Base.AddDate(0, 0, from+int(r.Hash>>16%uint64(days))).Format(time.DateOnly)...)
		}
	}
	return []Spec{
		{
			Name: EOLProducts, Count: 460, Bytes: 700, ID: product, Templates: endOfLifeProducts,
			Slots: map[string]Slot{"id": product, "releases": func(dst []byte, r Rec) []byte {
				from, to := e.releasesOf(r.Index)
				for i := from; i < to; i++ {
					if i > from {
						dst = append(dst, ',')
					}
					dst = e.host.server.AppendRecord(dst, EOLReleases, i)
				}
				return dst
			}},
		},
		{
			Name: EOLReleases, Count: 2000, Bytes: 420, ID: release, Templates: endOfLifeReleases,
			Slots: map[string]Slot{"id": release, "released": date(-2000, 1000), "past": date(-900, 890), "future": date(10, 900)},
		},
	}
}

// endOfLifeProducts is the template of a product.
var endOfLifeProducts = []string{
	`{"name":"<<id>>","aliases":["<<id>>-alias"],"label":"<<text>>","category":"server-app","tags":["java-runtime","server-app"],"versionCommand":"<<id>> --version",` +
		`"identifiers":[{"id":"pkg:github/example/<<id>>","type":"purl"},{"id":"cpe:2.3:a:example:<<id>>","type":"cpe"}],"labels":{"eoas":null,"discontinued":null,"eol":"Security Support","eoes":null},` +
		`"links":{"icon":null,"html":"https://endoflife.example/<<id>>","releasePolicy":null},"releases":[<<releases>>]<<edge>>}`,
}

// endOfLifeReleases are the templates of a release: maintained, at its end, and
// without a latest version.
var endOfLifeReleases = []string{
	`{"name":"<<id>>","codename":null,"label":"<<id>>","releaseDate":"<<released>>","isLts":false,"ltsFrom":null,"isEol":false,"eolFrom":"<<future>>","isMaintained":true,` +
		`"latest":{"name":"<<id>>.7","date":"<<past>>","link":"https://example.test/<<id>>"},"custom":null<<edge>>}`,
	`{"name":"<<id>>","codename":"Zesty","label":"<<id>> 'Zesty' (LTS)","releaseDate":"<<released>>","isLts":true,"ltsFrom":"<<released>>","isEoas":true,"eoasFrom":"<<past>>","isEol":true,"eolFrom":"<<past>>",` +
		`"isEoes":false,"eoesFrom":"<<future>>","isMaintained":false,"latest":{"name":"<<id>>.9","date":"<<past>>","link":null},"custom":{"supportedPhpVersions":"8.1 - 8.4"}<<edge>>}`,
	`{"name":"<<id>>","codename":null,"label":"<<id>>","releaseDate":null,"isLts":false,"ltsFrom":null,"isEol":true,"eolFrom":null,"isDiscontinued":true,"discontinuedFrom":null,"isMaintained":false,"latest":null,"custom":null<<edge>>}`,
}
