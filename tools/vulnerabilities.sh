#!/bin/sh
# Checks whether the code calls functions with known vulnerabilities, and fails if
# it does. If the database (GOVULNDB, by default vuln.go.dev) cannot be reached, the
# script prints NOT CHECKED and succeeds. It fails if the response of the database is
# invalid, and if the check does not finish within GOVULN_TIMEOUT seconds.
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
	echo "vulnerabilities.sh: the check ended without a result:" >&2
	code=1
	;;
"124 "*) echo "vulnerabilities.sh: the check did not end within $limit s: set GOVULN_TIMEOUT higher on a slow machine, or GOVULNDB to a database that responds" >&2 ;;
*"fetching vulnerabilities: Get "* | *"fetching vulnerabilities: HTTP "*)
	echo "NOT CHECKED: the vulnerability database cannot be reached: $out"
	exit 0
	;;
esac
echo "$out"
exit $code
