# What appliance/demo and appliance/test both need: packages, a toolchain, root. Sourced from the top of the repository.

# say WORDS...: what happens next.
say() {
    printf '\n== %s\n' "$*"
}

# die WORDS...: why it ends, and what to do.
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# as_root COMMAND...: runs it, with sudo if we are not root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "This needs root: run it as root, or install sudo. It wanted to run: $*"
    fi
}

# need PROGRAM:PACKAGE...: installs the Debian packages of the programs that are missing.
need() {
    missing=""
    for pair in "$@"; do
        # Programs of the system administrator need not be on a user's path.
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || die "Install these first (this is no Debian, so their names may differ):$missing"
    say "Installing Debian packages:$missing"
    # shellcheck disable=SC2086 # a list of words on purpose
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
        { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } ||
        die "apt-get could not install:$missing"
}

# need_rust: a toolchain as new as Cargo.toml asks for. Debian's is older, and a toolchain is the user's to choose.
need_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$PATH:$HOME/.cargo/bin"
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || found=""
    oldest=$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | head -n 1)
    if ! command -v cargo >/dev/null 2>&1 || [ "$oldest" != "$wanted" ]; then
        die "fwlb needs Rust $wanted or newer; here is ${found:-none}.
Get it from https://rustup.rs (as the user who builds):
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
then open a new shell and run this again. With rustup already there: rustup update stable"
    fi
}

# captures: fetches real packet captures for the tests, once, and names their directory in FWLB_CAPTURES. Without them the tests
# have fewer.
captures() {
    FWLB_CAPTURES=$PWD/target/captures
    if [ ! -d "$FWLB_CAPTURES" ]; then
        say "Fetching packet captures (of the Debian package pathspider)"
        rm -rf "$FWLB_CAPTURES.part"
        mkdir -p "$FWLB_CAPTURES.part"
        (cd "$FWLB_CAPTURES.part" && apt-get download pathspider && dpkg-deb -x pathspider_*.deb .) &&
            mv "$FWLB_CAPTURES.part" "$FWLB_CAPTURES" || FWLB_CAPTURES=""
    fi
    if [ -n "$FWLB_CAPTURES" ]; then export FWLB_CAPTURES; else unset FWLB_CAPTURES; fi
}
