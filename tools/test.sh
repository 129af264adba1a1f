#!/bin/sh
# Runs Go tests. If at most five fail, counting subtests, each is run once more after all
# others have ended. One that passes then does not fail the run, and is reported as
# UNSTABLE: it is a defect, of the test or of the program. A test that fails twice, more
# failures, a timeout and a program that does not compile fail the run.
#
# It does not run vet, which make lint does, and links without debug information, which
# takes half the time.
#
#   test.sh "packages" [flags of go test]
set -u
# Otherwise each program that is built with the race detector sleeps for a second at its
# end, and the tests start thousands.
export GORACE=atexit_sleep_ms=0
cd "$(dirname "$0")/.." || exit 1
packages=$1
shift
unstable=$(mktemp) || exit 1
trap 'rm -f "$unstable"' EXIT
go tool -modfile=tools/go.mod gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg \
	--rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-run-root-test \
	--rerun-fails-report="$unstable" --packages="$packages" -- -vet=off -ldflags='-s -w' "$@"
code=$?
if [ $code = 0 ] && [ -s "$unstable" ]; then
	echo "UNSTABLE: these failed, and passed when they were run again; the output above has the failures:"
	cat "$unstable"
fi
exit $code
