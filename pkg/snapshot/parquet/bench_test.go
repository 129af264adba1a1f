package parquet

import (
	"fmt"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// benchmarkRecord returns a record with the shape of a vulnerability: scalars,
// times, objects and lists of objects.
func benchmarkRecord(n int) string {
	return fmt.Sprintf(`{"id":"%032x","aid":"%032x","vulnerability_id":"CVE-2025-%05d","status":"open","created_timestamp":"2025-03-%02dT04:05:06Z","updated_timestamp":"2025-10-%02dT04:05:06Z","closed":null,"confidence":"confirmed","cve":{"id":"CVE-2025-%05d","base_score":%d.%d,"severity":"HIGH","exploit_status":%d,"exprt_rating":"MEDIUM","description":"A flaw in a component of the product lets an attacker read memory beyond the end of a buffer by a crafted file, see \"advisory\" %d.","published_date":"2025-01-02T00:00:00Z","vector":"CVSS:3.1/AV:L/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H","references":["https://example.com/a/%d","https://example.com/b/%d"]},"app":{"product_name_version":"Example %d","sub_status":"open","remediation":{"ids":["%x"]}},"apps":[{"product_name_version":"Example %d","evaluation_logic":{"id":"%x"},"remediation":{"ids":["%x","%x"]}}],"host_info":{"hostname":"host-%06d","local_ip":"10.0.%d.%d","machine_domain":"example.com","os_version":"Windows 11","ou":null,"site_name":"Default","tags":["a/b","c/d"],"groups":[{"id":"%x","name":"group %d"}],"has_run_container_sensor":false,"internet_exposure":"No"},"data_providers":[{"provider":"sensor","rating":%d}],"suppression_info":{"is_suppressed":false},"remediation":{"entities":[{"id":"%x","action":"Update the product to the newest version","reference":"KB%d"}]},"_tenancy":"default","_upload_timestamp":"2026-02-03 04:05:06","_upload_id":"id-1"}`,
		n, n%997, n%20000, n%28+1, n%28+1, n%20000, n%10, n%7, n%90, n, n, n+1, n%50, n%3000, n%50, n%3000, n%3000, n%3001, n%5000, n%250, n%200, n%40, n%40, n%5, n%3000, n%7000)
}

// BenchmarkEncode measures the encoding of a snapshot of 20,000 records.
func BenchmarkEncode(b *testing.B) {
	var records []string
	var size int64
	for n := range 20_000 {
		record := benchmarkRecord(n)
		records = append(records, record)
		size += int64(len(record))
	}
	s := sealSnapshot(b, records...)
	for name, rules := range map[string]columns.Rules{"files": columns.FileRules, "queries": columns.QueryRules} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				f, err := Encode(b.Context(), s, Options{TempDir: b.TempDir(), Rules: rules})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(f.Size), "bytes")
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInfer measures the inference of the types of 20,000 records.
func BenchmarkInfer(b *testing.B) {
	var records []string
	var size int64
	for n := range 20_000 {
		record := benchmarkRecord(n)
		records = append(records, record)
		size += int64(len(record))
	}
	s := sealSnapshot(b, records...)
	b.SetBytes(size)
	for b.Loop() {
		if _, _, err := inferTypes(b.Context(), s, Options{}, columns.Types{}); err != nil {
			b.Fatal(err)
		}
	}
}
