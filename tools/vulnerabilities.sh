#!/bin/sh
# Looks for known vulnerabilities in what the code calls: fails on a finding, and
# says so when the database (GOVULNDB, by default vuln.go.dev) cannot be reached.
# A database that answers nonsense fails.
# A check that does not end within GOVULN_TIMEOUT seconds fails, too: it may have
# had something to find.
#
#   vulnerabilities.sh [packages]
set -u
limit=${GOVULN_TIMEOUT:-180}
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- ./...
out=$(timeout "$limit" go tool -modfile=tools/go.mod govulncheck -db "${GOVULNDB:-https://vuln.go.dev}" "$@" 2>&1)
code=$?
case "$code $out" in
"0 "*"No vulnerabilities found"*) ;;
"0 "*)
	echo "vulnerabilities.sh: the check ended without a word of what it found:" >&2
	code=1
	;;
"124 "*) echo "vulnerabilities.sh: the check did not end within $limit s: set GOVULN_TIMEOUT higher on a slow machine, or GOVULNDB to a database that answers" >&2 ;;
*"fetching vulnerabilities: Get "* | *"fetching vulnerabilities: HTTP "*)
	echo "NOT CHECKED: the vulnerability database cannot be reached: $out"
	exit 0
	;;
esac
echo "$out"
exit $code
