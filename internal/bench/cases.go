package main

// A benchCase measures one thing. -only NAME runs it alone.
type benchCase struct {
	name   string
	what   string
	target string
	run    func(*lab) (result, error)
}

// A result is the outcome of a case.
type result struct {
	// figure is the product's result, with units.
	figure string
	// ratio compares the figure with that of the other side in the same run.
	ratio string
	// met reports whether the target was reached.
	met   bool
	notes []string
}

func (r result) verdict() string {
	if r.met {
		return "met"
	}
	return "MISSED"
}

var cases = []benchCase{
	{
		name:   "extract",
		what:   "vendor on loopback (2 KB records) to a sealed snapshot",
		target: "at least 200 MB/s of JSON",
		run:    benchExtract,
	},
	{
		name:   "memory",
		what:   "the same, resident memory at 100,000 and 2,000,000 records",
		target: "both under 96 MB, the second within 10 % of the first",
		run:    benchMemory,
	},
	{
		name:   "postgres",
		what:   "snapshot into Postgres (json)",
		target: "not slower than `psql \\copy` of the same records",
		run:    benchPostgres,
	},
	{
		name:   "latest",
		what:   "`_latest` in Postgres over a year of daily snapshots of 10,000 records",
		target: "at most 1.2 times the same rows read by their own timestamp",
		run:    benchLatestPostgres,
	},
	{
		name:   "duckdb",
		what:   "snapshot into DuckDB",
		target: "not slower than DuckDB's own `INSERT … SELECT … FROM read_ndjson_objects`",
		run:    benchDuckDB,
	},
	{
		name:   "duckmem",
		what:   "2,000,000 records into DuckDB, peak memory of the whole process",
		target: "under 512 MB",
		run:    benchDuckDBMemory,
	},
	{
		name:   "ducklatest",
		what:   "`_latest` in DuckDB over the same history",
		target: "at most 1.2 times the same rows read by their own timestamp, or 10 ms more",
		run:    benchLatestDuckDB,
	},
	{
		name:   "s3",
		what:   "snapshot to S3 (.json)",
		target: "not slower than the AWS SDK's uploader given the finished file",
		run:    benchS3,
	},
	{
		name:   "s3link",
		what:   "the same over a link of 1 Gbit/s",
		target: "not slower than the AWS SDK's uploader given the finished file",
		run:    benchS3Link,
	},
	{
		name:   "restore",
		what:   "restore of a backup of 2 GB from S3 (.json)",
		target: "at most the time of the AWS SDK's download plus one verification, under 96 MB",
		run:    benchRestore,
	},
	{name: "file", what: "snapshot to a local .json", target: "at least 400 MB/s, or the disk's own speed if less", run: benchFile},
	{
		name:   "four",
		what:   "all four destinations at once",
		target: "at most 1.25 times the slowest alone, or all cores used",
		run:    benchFourDestinations,
	},
	{
		name:   "columns",
		what:   "copy of 2,000,000 vulnerabilities in columns, for queries",
		target: "at least 60 MB/s of JSON, under 512 MB",
		run:    benchColumns,
	},
	{
		name:   "count",
		what:   "`collectord query` that counts them",
		target: "under 0.3 s",
		run:    benchQuery("SELECT count(*) AS n FROM "+stream, 0.3, 0),
	},
	{
		name:   "group",
		what:   "`collectord query` that groups all of them",
		target: "under 2 s, at most 1.3 times DuckDB's driver over the same files",
		run: benchQuery("SELECT cve.severity AS severity, status, count(*) AS n, count(DISTINCT aid) AS hosts FROM "+stream+
			" GROUP BY ALL ORDER BY ALL", 2, queryMost),
	},
	{
		name:   "join",
		what:   "`collectord query` that joins them with 20,000 hosts",
		target: "under 2 s, at most 1.3 times DuckDB's driver over the same files",
		run: benchQuery("SELECT h.platform_name AS platform, cve.severity AS severity, count(*) AS n FROM "+stream+" AS v JOIN "+
			hostStream+" AS h ON h.device_id = v.aid GROUP BY ALL ORDER BY ALL", 2, queryMost),
	},
	{
		name:   "controls",
		what:   "22 controls over 500,000 vulnerabilities and 20,000 hosts",
		target: "under 60 s, under 1.5 GiB",
		run:    benchControls,
	},
	{
		name:   "vendormem",
		what:   "resident memory of five further collectors at 100,000 and 1,000,000 records (EPSS: 30,000 and 300,000)",
		target: "under 96 MB, or the second within 10 % of the first",
		run:    benchVendorMemory,
	},
	{
		name:   "vulns",
		what:   "200,000 vulnerabilities at 100 ms a request",
		target: "at least 20 times faster than serial pages of 400",
		run:    benchVulnerabilities,
	},
	{
		name:   "vendors",
		what:   "all vendors twice at once, each rate-limited",
		target: "within 5 % of the slowest vendor's own limit",
		run:    benchVendors,
	},
	{
		name:   "cluster",
		what:   "three vendors in three services that share a state, half a second a request",
		target: "at most 1.15 times the slowest vendor alone",
		run:    benchClusterRuns,
	},
	{name: "growth", what: "time from 10,000 to 2,000,000 records", target: "linear", run: benchGrowth},
	{name: "daemon", what: "idle daemon: memory, start", target: "under 40 MB, ready within 300 ms", run: benchDaemon},
	{
		name:   "history",
		what:   "status page and metrics with a year of history (5 collectors, hourly)",
		target: "flat",
		run:    benchHistory,
	},
	{
		name:   "tenancies",
		what:   "service with 100 tenancies of 13 streams: start, memory, pages, metrics",
		target: "ready within 2 s, under 96 MB idle and 160 MB under load, pages within 50 ms, metrics flat",
		run:    benchTenancies,
	},
	{
		name:   "python",
		what:   "the same job by a plain Python program: pages of 400 into memory, one INSERT per row",
		target: "no target: shows the gain of a migration",
		run:    benchPython,
	},
}
