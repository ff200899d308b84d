#!/usr/bin/env bash
# Installs what building and testing picket needs and this machine lacks, and says what it did.
#
#   scripts/setup.sh            for build, test, demo
#   scripts/setup.sh kernels    for that, and to boot other kernels
#   scripts/setup.sh aarch64    for that, and to boot those of aarch64 too
#   scripts/setup.sh bench      for that, and what ours is measured against
#   scripts/setup.sh system     for that, and to boot a systemd and install packages in it
#   scripts/setup.sh machine    for that, and to boot it on a kernel of its own
#   scripts/setup.sh package    for that, and to pack for x86-64 and aarch64, .deb and .rpm
#   scripts/setup.sh rollout    for that, and to check what rolls the packages out
#
# Every check is cheap, so a second run is quick. Two machines are known:
#   Debian 12        the kernel toolchain comes from the packages rustc-web, cargo-web and
#                    libstd-rust-web-dev-bpf, which hold core built for bpfel-unknown-none;
#   rustup           nightly with rust-src builds core itself.
# A machine that has either is left as it is. Nothing set here reaches the workspace's own build.
set -u

purpose=${1:-build}
rustc_min=1.95.0
bpf_linker_version=0.13.0
zigbuild_version=0.24.0
ziglang_version=0.17.1
moto_version=5.2.5
cache=${PICKET_CACHE:-$HOME/.cache/picket}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
PATH=$PATH:$cargo_home/bin:/usr/sbin:/sbin
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_BOOTSTRAP CARGO_BUILD_TARGET RUSTUP_TOOLCHAIN

quiet=1 # until something was done or is lacking
say() { echo "set-up: $*"; }
done_now() {
    quiet=0
    say "$*"
}
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command up to four times, waiting 5, 15 and 45 seconds in between.
retried() {
    local wait
    for wait in 5 15 45 last; do
        "$@" && return 0
        [ "$wait" = last ] && return 1
        say "\"$*\" failed, again in $wait s"
        sleep "$wait"
    done
}

# --- what is here ---------------------------------------------------------------------------

debian_toolchain() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || return 1
    compgen -G "$(/usr/bin/rustc --print sysroot)/lib/rustlib/bpfel-unknown-none/lib/libcore-*.rlib" >/dev/null
}
rustup_toolchain() {
    have rustup && [ -f "$(rustup run nightly rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core/Cargo.toml" ]
}
right_bpf_linker() { [ "$(bpf-linker --version 2>/dev/null)" = "bpf-linker $bpf_linker_version" ]; }

# --- packages -------------------------------------------------------------------------------

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"
}

# Packages are never removed for ours: a conflict is a refusal that apt explains.
apt_install() { apt_get install -y --no-install-recommends --no-remove "$@" >/dev/null; }

offered() { [ -n "$(apt-cache madison "$1" 2>/dev/null)" ]; }

wanted=()
want() {
    local command=$1 package=$2
    have "$command" || wanted+=("$package")
}

install_wanted() {
    [ ${#wanted[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "missing: ${wanted[*]}. Run as root: apt-get install --no-install-recommends ${wanted[*]}"
        return 1
    fi
    say "installing ${wanted[*]}"
    if retried apt_install "${wanted[@]}"; then
        done_now "installed ${wanted[*]}"
        return 0
    fi
    local package missing=()
    for package in "${wanted[@]}"; do
        apt_install "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "could not be had: ${missing[*]}"
    return 1
}

packages() {
    want cc build-essential
    want ip iproute2
    want ethtool ethtool
    want dnsmasq dnsmasq-base
    # Moves the clock of one process in tests.
    want faketime faketime
    # Runs the server that stands in for AWS in tests.
    want python3 python3-venv
    if [ "$purpose" = aarch64 ]; then
        want qemu-system-aarch64 qemu-system-arm
        want python3 python3-venv
    fi
    if [ "$purpose" = kernels ] || [ "$purpose" = aarch64 ]; then
        want readelf binutils
        want qemu-system-x86_64 qemu-system-x86
        want busybox busybox-static
        want xz xz-utils
    fi
    if [ "$purpose" = bench ]; then
        want tshark tshark
        want softflowd softflowd
        want tcpdump tcpdump
    fi
    if [ "$purpose" = machine ]; then
        want qemu-system-x86_64 qemu-system-x86
        want mke2fs e2fsprogs
    fi
    if [ "$purpose" = system ] || [ "$purpose" = machine ]; then
        want debootstrap debootstrap
        want systemd-nspawn systemd-container
        want bpftool bpftool
        want dpkg-deb dpkg
    fi
    if [ "$purpose" = rollout ]; then
        want shellcheck shellcheck
        want python3 python3-venv
        want dpkg-deb dpkg
        want rpmbuild rpm
        want debootstrap debootstrap
        want systemd-nspawn systemd-container
    fi
    if [ "$purpose" = package ]; then
        want dpkg-deb dpkg
        want lintian lintian
        want rpmbuild rpm
        want readelf binutils
        want gpg gpg
        want python3 python3-venv
    fi
    # Where Debian's cargo builds the workspace too, its linter and formatter are packages.
    if [ "$(command -v cargo || echo /usr/bin/cargo)" = /usr/bin/cargo ]; then
        want cargo-fmt rustfmt-web
        want cargo-clippy rust-web-clippy
    fi
    local toolchain=no
    if ! debian_toolchain && ! rustup_toolchain; then
        toolchain=yes
    fi
    if [ ${#wanted[@]} -eq 0 ] && [ "$toolchain" = no ]; then
        return 0
    fi
    if ! have apt-get; then
        [ ${#wanted[@]} -eq 0 ] || say "missing: ${wanted[*]} (names of Debian packages; this machine has no apt-get)"
        return 0
    fi
    if [ "$(id -u)" -eq 0 ]; then
        retried apt_get update || say "package lists could not be refreshed; going on with those here"
    fi
    if [ "$toolchain" = yes ]; then
        if offered libstd-rust-web-dev-bpf; then
            wanted+=(rustc-web cargo-web libstd-rust-web-dev-bpf)
        else
            say "no package libstd-rust-web-dev-bpf on offer, so rustup's nightly has to do"
        fi
    fi
    install_wanted || quiet=0
}

# --- Rust -----------------------------------------------------------------------------------

version_at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

workspace_rustc() {
    local version
    if ! have cargo || ! have rustc; then
        say "no cargo here. Remedy: install rustup (https://rustup.rs), or on Debian 12 the packages rustc-web and cargo-web"
        return 1
    fi
    version=$(rustc --version | cut -d ' ' -f 2)
    if ! version_at_least "$rustc_min" "${version%%-*}"; then
        say "rustc is $version, at least $rustc_min is needed. Remedy: rustup update stable && rustup default stable"
        return 1
    fi
}

kernel_toolchain() {
    if debian_toolchain; then
        if have rustup && ! rustup toolchain list 2>/dev/null | grep -q '^debian\b'; then
            rustup toolchain link debian /usr && done_now "linked rustup's toolchain \"debian\" to /usr"
        fi
        return 0
    fi
    rustup_toolchain && return 0
    if ! have rustup; then
        say "no toolchain for the kernel programs. Remedy, as root on Debian 12:" \
            "apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf; elsewhere: rustup"
        return 1
    fi
    if retried rustup toolchain install nightly --profile minimal --component rust-src; then
        done_now "installed rustup's nightly with rust-src"
        return 0
    fi
    say "rustup's nightly with rust-src could not be had"
    return 1
}

# bpf-linker must be built against the LLVM of the compiler that feeds it.
bpf_linker() {
    right_bpf_linker && return 0
    local rustc library search flags=() major prefix=$cache/llvm
    if debian_toolchain; then
        rustc=(/usr/bin/rustc)
        search=("/usr/lib/$(uname -m)-linux-gnu" /usr/lib/llvm-*/lib)
    else
        rustc=(rustup run nightly rustc)
        search=("$("${rustc[@]}" --print sysroot)/lib")
        flags=(-C "link-arg=-Wl,-rpath,${search[0]}")
    fi
    major=$("${rustc[@]}" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    library=$(find "${search[@]}" -maxdepth 1 -name "libLLVM.so.$major.*" 2>/dev/null | head -n 1)
    if [ -z "$library" ]; then
        say "no libLLVM.so.$major.* in ${search[*]}, so bpf-linker cannot be built"
        return 1
    fi
    rm -rf "$prefix" && mkdir -p "$prefix/lib" || return 1
    ln -s "$library" "$prefix/lib/libLLVM.so" || return 1
    say "building bpf-linker $bpf_linker_version against LLVM $major (about a minute)"
    if LLVM_PREFIX=$prefix RUSTFLAGS=${flags[*]} CARGO_TARGET_DIR=$cache/bpf-linker \
        retried cargo install bpf-linker --quiet --force --version "$bpf_linker_version" \
        --locked --no-default-features --features "llvm-$major"; then
        rm -rf "$cache/bpf-linker"
        done_now "installed bpf-linker $bpf_linker_version in $cargo_home/bin"
        return 0
    fi
    say "bpf-linker $bpf_linker_version could not be had"
    return 1
}

# --- a server for tests ----------------------------------------------------------------------

# A server that speaks S3, SQS, SNS, EventBridge and STS, for the tests that read logs from AWS.
aws_server() {
    local folder=$cache/aws stamp=$cache/aws/moto-$moto_version
    [ -e "$stamp" ] && return 0
    rm -rf "$folder"
    say "installing moto $moto_version, which stands in for AWS in tests (about a minute)"
    if python3 -m venv "$folder" && retried "$folder/bin/pip" install --quiet \
        "moto[server,s3,sqs,sns,events,sts]==$moto_version"; then
        touch "$stamp"
        done_now "installed moto $moto_version in $folder"
        return 0
    fi
    say "moto could not be had, so tests that read logs from AWS are skipped. Remedy: python3 with venv," \
        "and a way to PyPI"
    return 1
}

# --- packages for other machines ------------------------------------------------------------

# Zig's compiler brings every old C library, so that what is built here starts on older systems.
zig() {
    local folder=$cache/zig stamp=$cache/zig/$zigbuild_version-$ziglang_version
    [ -e "$stamp" ] && return 0
    rm -rf "$folder"
    if python3 -m venv "$folder" && retried "$folder/bin/pip" install --quiet \
        "ziglang==$ziglang_version" "cargo-zigbuild==$zigbuild_version"; then
        touch "$stamp"
        done_now "installed cargo-zigbuild $zigbuild_version and zig $ziglang_version in $folder"
        return 0
    fi
    say "cargo-zigbuild could not be had. Remedy: python3 with venv, and a way to PyPI"
    return 1
}

has_std() { compgen -G "$("$@" --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib/libstd-*.rlib" >/dev/null; }

# The standard library for Graviton: rustup's, or on Debian 12 the one of its own compiler.
aarch64_std() {
    has_std rustc && return 0
    { [ -x /usr/bin/rustc ] && has_std /usr/bin/rustc; } && return 0
    if have rustup && rustup target add aarch64-unknown-linux-gnu >/dev/null 2>&1; then
        done_now "installed rustup's target aarch64-unknown-linux-gnu"
        return 0
    fi
    if debian_toolchain && [ "$(id -u)" -eq 0 ] && dpkg --add-architecture arm64 &&
        retried apt_get update && retried apt_install libstd-rust-web-dev:arm64; then
        done_now "installed libstd-rust-web-dev:arm64"
        return 0
    fi
    say "no standard library for aarch64. Remedy: rustup target add aarch64-unknown-linux-gnu"
    return 1
}

# --- the run --------------------------------------------------------------------------------

mkdir -p "$cache" || exit 1
packages # what the lab lacks is said there, and by the tests that skip for want of it
workspace_rustc || exit 1
have cc || exit 1
kernel_toolchain || exit 1
bpf_linker || exit 1
aws_server || true # the tests that need it say that they skip
if [ "$purpose" = package ] || [ "$purpose" = aarch64 ]; then
    zig || exit 1
    aarch64_std || exit 1
fi
[ "$quiet" -eq 0 ] || say "nothing to do"
