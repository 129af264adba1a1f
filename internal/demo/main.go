// Command demo runs collectord as a user would: it collects from simulated
// vendors, stores the records in the directory data/ of the checkout, and then
// shows what was stored.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/vendorsim"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("demo: ")
	binary := flag.String("binary", "bin/collectord", "the `program` to run")
	data := flag.String("data", "data", "the `directory` to store records in")
	records := flag.Int("records", 2000, "`number` of records of the largest stream")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *data, *records); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, binary, data string, records int) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	sim, err := vendorsim.Start(vendorsim.Options{Vendors: vendorsim.AllVendors(), Counts: counts(records)})
	if err != nil {
		return err
	}
	defer sim.Close()
	file := filepath.Join(data, "collectord.duckdb")
	fmt.Printf("simulated vendors: %s\n\n$ %s --once\n", vendorNames(sim), binary)
	cmd := exec.CommandContext(ctx, binary, "--once")
	cmd.Env = environment(sim, data, file)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	fmt.Println("\nfiles:")
	if err := listFiles(filepath.Join(data, "source")); err != nil {
		return err
	}
	return showQuery(ctx, file)
}

// counts returns the numbers of records of the large streams, which are at most
// records.
func counts(records int) map[string]int {
	return map[string]int{
		vendorsim.TenableVulns: records, vendorsim.TenableAssets: records / 4,
		vendorsim.TenableFindings: records / 2, vendorsim.TenableWAS: records / 10,
	}
}

// environment returns an environment without the caller's settings, which could
// enable other collectors or destinations.
func environment(sim *vendorsim.Server, data, file string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR"), "TERM=" + os.Getenv("TERM"),
		"TENANCY=demo",
		"STATE_DIR=" + filepath.Join(data, "state"),
		"STORE_FILE=" + filepath.Join(data, "source", "%TAG", "%TENANCY.json"),
		"STORE_DUCKDB=" + file,
		"LOG_FORMAT=console", "NO_PROXY=127.0.0.1",
	}
	for _, h := range sim.Hosts() {
		env = append(env, h.Env()...)
	}
	return env
}

func vendorNames(sim *vendorsim.Server) string {
	var names []string
	for _, h := range sim.Hosts() {
		names = append(names, h.Name()+" at "+h.URL())
	}
	return strings.Join(names, ", ")
}

func listFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		_, err = fmt.Printf("  %9d bytes  %s\n", info.Size(), path)
		return err
	})
}

// showQuery prints a query that joins the stored findings with public feeds, and its
// result.
func showQuery(ctx context.Context, file string) error {
	db, err := duckdb.Open(ctx, file, duckdb.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	const sql = `WITH findings AS (
  SELECT unnest(from_json(json_data -> '$.plugin.cve', '["VARCHAR"]')) AS cve, json_data ->> '$.asset.uuid' AS host, 'tenable' AS source
  FROM tenable_vulnerabilities_latest WHERE json_data ->> '$.state' IN ('OPEN', 'REOPENED')
  UNION ALL
  SELECT json_data ->> '$.cve.id', json_data ->> '$.aid', 'crowdstrike'
  FROM crowdstrike_vulnerabilities_latest WHERE json_data ->> '$.status' IN ('open', 'reopen')
)
SELECT f.cve, k.json_data ->> '$.dueDate' AS due, k.json_data ->> '$.knownRansomwareCampaignUse' AS ransomware,
       (e.json_data ->> '$.epss')::DOUBLE AS epss, count(DISTINCT f.host) AS hosts, string_agg(DISTINCT f.source, ', ' ORDER BY f.source) AS sources
FROM findings f
JOIN cisa_kev_vulnerabilities_latest k ON k.json_data ->> '$.cveID' = f.cve
JOIN epss_scores_latest e ON e.json_data ->> '$.cve' = f.cve
GROUP BY ALL ORDER BY count(DISTINCT f.source) DESC, epss DESC, f.cve LIMIT 10`
	fmt.Println("\nexploited elsewhere and open here: findings of Tenable and CrowdStrike, CISA's catalogue, and EPSS:")
	fmt.Printf("\n$ duckdb %s\n%s\n\n", file, sql)
	rows, err := db.QueryContext(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  cve\tdue\transomware\tepss\thosts\tsources")
	for rows.Next() {
		var cve, due, ransomware, sources string
		var score float64
		var hosts int64
		if err := rows.Scan(&cve, &due, &ransomware, &score, &hosts, &sources); err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%.5f\t%d\t%s\n", cve, due, ransomware, score, hosts, sources)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return w.Flush()
}
