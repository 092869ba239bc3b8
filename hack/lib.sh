# Shared functions, sourced by the scripts in this directory. POSIX sh.

PATH=$PATH:/usr/sbin:/sbin
export PATH
cd "$(dirname "$0")/.." || exit 1

# One line per argument.
say() { printf '%s\n' "$@"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# need PROGRAM:PACKAGE… installs the Debian packages whose program is not there.
need() {
    packages=
    for pair; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
    done
    install_packages
}

# need_packages PACKAGE… does the same for packages that have no program.
need_packages() {
    packages=
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || packages="$packages $package"
    done
    install_packages
}

# install_packages installs $packages, if any.
install_packages() {
    [ -z "$packages" ] && return 0
    [ "$(id -u)" = 0 ] || die "missing:$packages (as root: apt-get install$packages)"
    command -v apt-get >/dev/null || die "missing:$packages (and there is no apt-get here)"
    say "installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine may have no package lists yet; try without fetching them first.
    # shellcheck disable=SC2086 # one word per package
    apt-get install -y -q --no-install-recommends $packages >/dev/null 2>&1 && return 0
    apt-get update -q >/dev/null || die "apt-get update failed"
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $packages >/dev/null || die "could not install$packages"
}

# A Rust new enough for Cargo.toml's rust-version, and a C compiler to link with.
need_rust() {
    need cc:"gcc libc6-dev"
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH
    if ! command -v cargo >/dev/null && [ "$(id -u)" = 0 ]; then
        offered=$(apt-cache policy cargo 2>/dev/null | sed -n 's/^  Candidate: \([0-9.]*\).*/\1/p')
        if [ -n "$offered" ] && at_least "$offered" "$want"; then need cargo:"cargo rustc"; fi
    fi
    command -v cargo >/dev/null ||
        die "cargo $want or newer is missing: apt-get install cargo where Debian has it, else see https://rustup.rs"
    have=$(rustc --version | cut -d' ' -f2)
    at_least "$have" "$want" || die "rustc $have is too old, $want is needed: rustup update, or see https://rustup.rs"
}

# build_release [OPTION]... builds the release with cargo and sets `program` to the path of what was built.
build_release() {
    program=$PWD/target/not-built
    choose_target
    built=$(cargo build --release --locked --quiet --target "$target" --message-format json-render-diagnostics "$@") || return 1
    program=$(say "$built" | sed -n 's|.*"executable":"\([^"]*/emergence-runc\)".*|\1|p')
    [ -n "$program" ] || die "cargo did not report the path of the program"
}

# choose_target sets `target`, the target of release builds: musl's where this machine can build for it, else the host's, and then
# it says why. CARGO_BUILD_TARGET, if set, decides.
choose_target() {
    host=$(rustc -vV | sed -n 's/^host: //p')
    target=${CARGO_BUILD_TARGET:-}
    [ -z "$target" ] || return 0
    target=$host
    case $host in *-linux-gnu) ;; *) return 0 ;; esac
    musl=${host%%-*}-unknown-linux-musl
    if ! has_target "$musl"; then
        say "building for $host: Rust's target $musl is missing (rustup target add $musl)" >&2
    elif ! has_musl_gcc; then
        say "building for $host: musl-gcc is missing (as root: apt-get install musl-tools)" >&2
    else
        target=$musl
    fi
}

# has_target TARGET: whether this Rust can build for it; rustup, if there, may have to fetch it.
has_target() {
    # A target of a distribution's own package is found in the same place.
    set -- "$1" "$(rustc --print sysroot)/lib/rustlib/$1/lib"
    [ -d "$2" ] && return 0
    command -v rustup >/dev/null && timeout 300 rustup target add "$1" >/dev/null 2>&1 && [ -d "$2" ]
}

# The compiler for the parts in C. In a subshell: need ends the script where it cannot install.
has_musl_gcc() { (need musl-gcc:musl-tools) >/dev/null 2>&1; }

# at_least HAVE WANT compares versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

# debian_mirror prints the address of the machine's own mirror of Debian's main archive (not that of security updates).
debian_mirror() {
    mirror=$(main_archive)
    if [ -z "$mirror" ]; then
        # A fresh machine has no package lists yet.
        apt-get update -q >/dev/null || die "apt-get update failed"
        mirror=$(main_archive)
    fi
    [ -n "$mirror" ] || die "no mirror of Debian's main archive among apt's sources"
    say "$mirror"
}
main_archive() {
    # shellcheck disable=SC2016 # the words in $() are apt's
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
        awk '$2 == "main" && $1 ~ /\/debian\/?$/ { print $1; exit }'
}
