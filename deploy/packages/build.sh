#!/bin/sh
# Builds the files of a release into dist/.
#
#   build.sh packages [PROGRAM]    .deb and .rpm for this machine's architecture,
#                                  from an existing program if given
#   build.sh program               only the program, as in a release
#   build.sh release amd64 arm64   static programs, packages and archives of each
#                                  architecture, an SBOM, SHA256SUMS
#
# The same commit gives the same bytes: names, times and owners derive from it.
# $DIST sets another directory, $PACKAGE_VERSION another version.
set -eu
cd "$(dirname "$0")/../.."

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
VERSION=$(git describe --tags --always --dirty)
export SOURCE_DATE_EPOCH
DIST=${DIST:-dist}
export STAGE="$DIST/stage"
TAGS=netgo,osusergo,embedroots
umask 022

# package_version prints $VERSION in a form that dpkg and rpm accept and sort: before
# the first tag 0.0.0~git20260102.abcdef0, after a tag 1.2.3+4.gabcdef0.
package_version() {
	case "$VERSION" in
	v[0-9]*) echo "${VERSION#v}" | sed 's/-\([0-9]*\)-g/+\1.g/; s/-dirty/.dirty/; s/-/~/g' ;;
	*) echo "0.0.0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$VERSION" | sed 's/-/./g' ;;
	esac
}

# compile ARCH builds the program as dist/ARCH/collectord. On amd64 it is static. On
# arm64, where DuckDB's library is too large for a static C library, it needs only
# glibc.
compile() {
	echo "building for $1; the first build of an architecture takes two minutes"
	cc=gcc flags=
	if [ "$1" != "$(go env GOHOSTARCH)" ]; then
		cc=$(uname_of "$1")-linux-gnu-gcc
	fi
	command -v "$cc" >/dev/null || {
		echo "build.sh: $cc is missing: apt-get install gcc-$(uname_of "$1" | tr _ -)-linux-gnu libstdc++-12-dev-$1-cross" >&2
		exit 1
	}
	if [ "$1" = amd64 ]; then
		# The linker warns about libraries that are loaded at run time; collectord
		# loads none.
		flags="-static -Wl,--no-warnings"
	else
		# In this directory the linker finds only the static C++ library. The path is
		# relative because the program's bytes depend on it.
		mkdir -p "$DIST/lib"
		ln -sf "$($cc -print-file-name=libstdc++.a)" "$DIST/lib/libstdc++.a"
		flags="-L$DIST/lib -static-libgcc"
	fi
	CGO_ENABLED=1 GOOS=linux GOARCH=$1 CC=$cc go build -trimpath -tags "$TAGS" \
		-ldflags "-s -w -X main.version=$VERSION -linkmode external -extldflags '$flags -Wl,--build-id=none'" \
		-o "$DIST/$1/collectord" ./cmd/collectord
	if LC_ALL=C readelf -d "$DIST/$1/collectord" | grep NEEDED | grep -v 'lib[cm]\.so\|ld-linux'; then
		echo "build.sh: the program for $1 also needs these libraries; a package requires only glibc" >&2
		exit 1
	fi
}

# glibc_of PROGRAM prints the oldest glibc version that a program runs with, and
# nothing for a static program. The version depends on the glibc of the linker.
glibc_of() {
	LC_ALL=C readelf --version-info --wide "$1" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 | cut -d_ -f2
}

# uname_of prints the name of an architecture in the kernel and in rpm.
uname_of() {
	case "$1" in
	amd64) echo x86_64 ;;
	arm64) echo aarch64 ;;
	*) echo "$1" ;;
	esac
}

# stage PROGRAM HOST writes the files of a package into $STAGE. HOST is a program
# from the same source that runs on this machine.
stage() {
	s=$STAGE
	rm -rf "$s"
	install -D -m 0755 "$1" "$s/usr/bin/collectord"
	for unit in deploy/systemd/*; do
		install -D -m 0644 "$unit" "$s/usr/lib/systemd/system/${unit##*/}"
	done
	for unit in collectord.service collectord-once.service; do
		install -D -m 0644 deploy/packages/package.conf "$s/usr/lib/systemd/system/$unit.d/10-package.conf"
	done
	# No collector is enabled before the user has added keys.
	install -d "$s/etc/collectord"
	sed 's/^TIO_/#&/' configs/service.env >"$s/etc/collectord/collectord.env"
	chmod 0640 "$s/etc/collectord/collectord.env"
	install -d "$s/usr/share/man/man1" "$s/usr/share/man/man5" "$s/man"
	"$2" man "$s/man"
	gzip -9n "$s"/man/*
	chmod 0644 "$s"/man/*
	mv "$s"/man/*.1.gz "$s/usr/share/man/man1/"
	mv "$s"/man/*.5.gz "$s/usr/share/man/man5/"
	rmdir "$s/man"
	completion bash usr/share/bash-completion/completions/collectord "$2"
	completion fish usr/share/fish/vendor_completions.d/collectord.fish "$2"
	completion zsh zsh "$2"
	doc="$s/usr/share/doc/collectord"
	install -D -m 0644 LICENSE "$doc"/copyright
	install -m 0644 README.md "$doc"/README.md
	gzip -9nc CHANGELOG.md >"$doc"/CHANGELOG.md.gz
	install -m 0644 configs/tenancy.env "$doc"/tenancy.env
	install -D -m 0644 deploy/prometheus/alerts.yml "$doc"/prometheus/alerts.yml
	install -D -m 0644 deploy/prometheus/alerts-timer.yml "$doc"/prometheus/alerts-timer.yml
	install -D -m 0644 deploy/grafana/collectord.json "$doc"/grafana/collectord.json
}

# completion SHELL PATH HOST writes a shell's completion.
completion() {
	install -d "$(dirname "$s/$2")"
	"$3" completion "$1" >"$s/$2"
}

# packages ARCH builds the .deb and the .rpm from the staged files.
packages() {
	glibc=$(glibc_of "$STAGE/usr/bin/collectord")
	libc_deb=${glibc:+libc6 (>= $glibc)} libc_rpm=${glibc:+glibc >= $glibc}
	export libc_deb libc_rpm
	find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	for kind in deb rpm; do
		ARCH=$1 PACKAGE_VERSION=$version bin/nfpm package --config deploy/packages/nfpm.yaml --packager $kind --target "$DIST/"
	done
}

# archive ARCH builds the .tar.gz from the staged files. No user is created where it
# is unpacked, so its units have dynamic users.
archive() {
	name=collectord-$version-linux-$1
	cp -a "$STAGE" "$DIST/$name"
	rm -r "$DIST/$name"/usr/lib/systemd/system/*.d
	install -d "$DIST/$name/usr/share/zsh/site-functions"
	mv "$DIST/$name/zsh" "$DIST/$name/usr/share/zsh/site-functions/_collectord"
	cp README.md LICENSE CHANGELOG.md "$DIST/$name/"
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$DIST" -c "$name" |
		gzip -9n >"$DIST/$name.tar.gz"
	rm -rf "${DIST:?}/$name"
}

# sbom lists every module in the program with its licence.
sbom() {
	file=$DIST/collectord-$version.cdx.json
	GOFLAGS="-tags=$TAGS" bin/cyclonedx-gomod app -json -licenses -noserial -main cmd/collectord -output "$file" .
	now=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
	sed -i "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$now\"/" "$file"
}

host=$(go env GOHOSTARCH)
version=${PACKAGE_VERSION:-$(package_version)}
case "${1-}" in
packages)
	mkdir -p "$DIST"
	rm -f "$DIST"/*.deb "$DIST"/*.rpm
	program=${2-}
	if [ -z "$program" ]; then
		program=$DIST/$host/collectord
		compile "$host"
	fi
	stage "$program" "$program"
	packages "$host"
	rm -rf "$STAGE"
	;;
program)
	mkdir -p "$DIST"
	compile "$host"
	;;
release)
	shift
	rm -rf "$DIST"
	mkdir -p "$DIST"
	# A program from the same source that runs on this machine writes the manual.
	compile "$host"
	for arch in "$@"; do
		[ -e "$DIST/$arch/collectord" ] || compile "$arch"
		stage "$DIST/$arch/collectord" "$DIST/$host/collectord"
		packages "$arch"
		archive "$arch"
	done
	sbom
	rm -rf "$STAGE" "${DIST:?}/lib"
	(cd "$DIST" && sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json >SHA256SUMS && cat SHA256SUMS)
	;;
*)
	echo "build.sh: expected packages, program, or release ARCH ..., got: $*" >&2
	exit 2
	;;
esac
