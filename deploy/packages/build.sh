#!/bin/sh
# Builds into dist/ what users install.
#
#   build.sh packages              .deb and .rpm for this machine's architecture
#   build.sh release amd64 arm64   static programs, packages and archives of each
#                                  architecture, an SBOM, SHA256SUMS
#
# The same commit gives the same bytes: names, times and owners come from it.
set -eu
cd "$(dirname "$0")/../.."

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
VERSION=$(git describe --tags --always --dirty)
export SOURCE_DATE_EPOCH
umask 022

# package_version is $VERSION as dpkg and rpm take and order it: before the first
# tag 0.0.0~git20260102.abcdef0, behind a tag 1.2.3+4.gabcdef0.
package_version() {
	case "$VERSION" in
	v[0-9]*) echo "${VERSION#v}" | sed 's/-\([0-9]*\)-g/+\1.g/; s/-dirty/.dirty/; s/-/~/g' ;;
	*) echo "0.0.0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$VERSION" | sed 's/-/./g' ;;
	esac
}

# compile ARCH builds the static program as dist/ARCH/collectord.
compile() {
	echo "building for $1; the first build links DuckDB and takes a minute"
	cc=gcc cxx=g++
	if [ "$1" != "$(go env GOHOSTARCH)" ]; then
		triple=$(uname_of "$1")-linux-gnu
		cc=$triple-gcc cxx=$triple-g++
	fi
	command -v "$cc" >/dev/null || {
		echo "build.sh: $cc is missing: apt-get install gcc-$(uname_of "$1" | tr _ -)-linux-gnu g++-$(uname_of "$1" | tr _ -)-linux-gnu" >&2
		exit 1
	}
	CGO_ENABLED=1 GOOS=linux GOARCH=$1 CC=$cc CXX=$cxx go build -trimpath -buildvcs=true -tags netgo,osusergo \
		-ldflags "-s -w -X main.version=$VERSION -linkmode external -extldflags '-static -Wl,--build-id=none'" \
		-o "dist/$1/collectord" ./cmd/collectord
}

# uname_of names an architecture as the kernel and rpm do.
uname_of() {
	case "$1" in
	amd64) echo x86_64 ;;
	arm64) echo aarch64 ;;
	*) echo "$1" ;;
	esac
}

# stage PROGRAM HOST lays out in dist/stage what a package holds. HOST is a
# program of the same source that runs here.
stage() {
	s=dist/stage
	rm -rf $s
	install -D -m 0755 "$1" $s/usr/bin/collectord
	for unit in deploy/systemd/*; do
		install -D -m 0644 "$unit" "$s/usr/lib/systemd/system/${unit##*/}"
	done
	for unit in collectord.service collectord-once.service; do
		install -D -m 0644 deploy/packages/package.conf "$s/usr/lib/systemd/system/$unit.d/10-package.conf"
	done
	# Nothing may be collected before somebody has put in keys.
	install -d $s/etc/collectord
	sed 's/^TIO_/#&/' configs/service.env >$s/etc/collectord/collectord.env
	chmod 0640 $s/etc/collectord/collectord.env
	install -d $s/usr/share/man/man1 $s/usr/share/man/man5 $s/man
	"$2" man $s/man
	mv $s/man/*.1 $s/usr/share/man/man1/
	mv $s/man/*.5 $s/usr/share/man/man5/
	rmdir $s/man
	gzip -9n $s/usr/share/man/man?/*
	chmod 0644 $s/usr/share/man/man?/*
	complete bash usr/share/bash-completion/completions/collectord "$2"
	complete fish usr/share/fish/vendor_completions.d/collectord.fish "$2"
	complete zsh zsh "$2"
	doc=$s/usr/share/doc/collectord
	install -D -m 0644 LICENSE $doc/copyright
	install -m 0644 README.md $doc/README.md
	gzip -9nc CHANGELOG.md >$doc/CHANGELOG.md.gz
	install -D -m 0644 deploy/prometheus/alerts.yml $doc/prometheus/alerts.yml
	install -D -m 0644 deploy/grafana/collectord.json $doc/grafana/collectord.json
}

# complete SHELL PATH HOST writes a shell's completion.
complete() {
	install -d "$(dirname "$s/$2")"
	"$3" completion "$1" >"$s/$2"
}

# packages ARCH makes the .deb and the .rpm of what is staged.
packages() {
	PACKAGE_VERSION=$(package_version)
	export PACKAGE_VERSION ARCH="$1"
	find dist/stage -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	for kind in deb rpm; do
		bin/nfpm package --config deploy/packages/nfpm.yaml --packager $kind --target dist/
	done
}

# archive ARCH makes the .tar.gz of what is staged.
archive() {
	name=collectord-$(package_version)-linux-$1
	rm -rf "dist/$name"
	cp -a dist/stage "dist/$name"
	cp README.md LICENSE CHANGELOG.md "dist/$name/"
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C dist -c "$name" | gzip -9n >"dist/$name.tar.gz"
	rm -rf "dist/$name"
}

release() {
	rm -rf dist
	mkdir -p dist
	# Without it the machine's own program could be one of another source.
	host=dist/$(go env GOHOSTARCH)/collectord
	compile "$(go env GOHOSTARCH)"
	for arch in "$@"; do
		[ -e "dist/$arch/collectord" ] || compile "$arch"
		stage "dist/$arch/collectord" "$host"
		packages "$arch"
		archive "$arch"
	done
	echo "writing the SBOM"
	bin/cyclonedx-gomod bin -json -licenses -noserial -output "dist/collectord-$(package_version).cdx.json" "$host"
	rm -rf dist/stage
	(cd dist && sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json >SHA256SUMS)
	cat dist/SHA256SUMS
}

case "${1-}" in
packages)
	rm -rf dist
	mkdir -p dist
	host=$(go env GOHOSTARCH)
	compile "$host"
	stage "dist/$host/collectord" "dist/$host/collectord"
	packages "$host"
	rm -rf dist/stage
	ls dist/*.deb dist/*.rpm
	;;
release)
	shift
	release "$@"
	;;
*)
	echo "build.sh: want packages, or release ARCH ..., got: $*" >&2
	exit 2
	;;
esac
