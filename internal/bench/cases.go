package main

// A benchCase measures one thing. Its name repeats it: -only NAME.
type benchCase struct {
	name   string
	what   string
	target string
	run    func(*lab) (result, error)
}

// A result is what a case found out.
type result struct {
	// figure is the product's own figure, in units.
	figure string
	// ratio is the figure beside the other's in the same run.
	ratio string
	// met tells whether the target was reached.
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
	{"extract", "vendor on loopback (2 KB records) to a sealed snapshot", "at least 200 MB/s of JSON", benchExtract},
	{"memory", "the same, resident memory at 100,000 and 2,000,000 records", "both under 96 MB, the second within 10 % of the first", benchMemory},
	{"postgres", "snapshot into Postgres (json)", "not slower than `psql \\copy` of the same records", benchPostgres},
	{"duckdb", "snapshot into DuckDB", "not slower than DuckDB's own `INSERT … SELECT … FROM read_ndjson_objects`", benchDuckDB},
	{"duckmem", "2,000,000 records into DuckDB, peak memory of the whole process", "under 512 MB", benchDuckDBMemory},
	{"s3", "snapshot to S3 (.json)", "not slower than the AWS SDK's uploader given the finished file", benchS3},
	{"s3link", "the same over a link of 1 Gbit/s", "not slower than the AWS SDK's uploader given the finished file", benchS3Link},
	{"file", "snapshot to a local .json", "at least 400 MB/s, or the disk's own speed if less", benchFile},
	{"four", "all four destinations at once", "at most 1.25 times the slowest alone, or all cores used", benchFour},
	{"vulns", "200,000 vulnerabilities at 100 ms a request", "at least 20 times faster than serial pages of 400", benchVulnerabilities},
	{"vendors", "ten vendors at once, each rate-limited", "within 5 % of the slowest vendor's own limit", benchVendors},
	{"growth", "time from 10,000 to 2,000,000 records", "linear", benchGrowth},
	{"daemon", "idle daemon: memory, start", "under 40 MB, ready within 300 ms", benchDaemon},
	{"history", "status page and metrics with a year of history (5 collectors, hourly)", "flat", benchHistory},
	{"python", "the same job by a plain Python program: pages of 400 into memory, one INSERT per row", "no target: what a change over brings", benchPython},
}
