# What install.sh, update.sh and uninstall.sh of the Distributor package do, on Debian and on RPM
# systems. Sourced; POSIX sh. SSM runs them as root in the folder of the unpacked zip and sets BWS_*;
# without those they work by hand too, as an installation without network is made.
#
#   SSM_PICKET_LOCK_WAIT_S  seconds to wait for another package manager; 600
#   SSM_PICKET_PURGE        "yes": uninstall takes key, spool, configuration and user as well
#
# Both are given as additionalArguments of aws:configurePackage.
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
DEBIAN_FRONTEND=noninteractive
export PATH LC_ALL DEBIAN_FRONTEND

name=picket-agent
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
lock_wait_s=${SSM_PICKET_LOCK_WAIT_S:-600}
# The package that is installed, to go back to when the next one fails.
shelf=/var/cache/picket
state=/var/lib/picket/agent

say() { echo "$name: $*"; }
fail() {
    echo "$name: $*" >&2
    exit 1
}

# kind: deb or rpm, by who has the system's packages.
find_kind() {
    if [ -s /var/lib/dpkg/status ] && command -v dpkg >/dev/null; then
        kind=deb
    elif command -v rpm >/dev/null; then
        kind=rpm
    else
        fail "neither dpkg nor rpm here"
    fi
}

# The version that is installed; nothing if none is.
installed() {
    if [ "$kind" = deb ]; then
        dpkg-query --show --showformat '${db:Status-Status} ${Version}\n' "$name" 2>/dev/null |
            sed -n 's/^\(installed\|half-configured\|unpacked\|half-installed\|triggers-[a-z]*\) //p'
    else
        rpm --query --queryformat '%{VERSION}-%{RELEASE}\n' "$name" 2>/dev/null | grep -v 'not installed' || true
    fi
}

# Whether it is installed and nothing of that is left to do.
is_whole() {
    [ "$kind" != deb ] || [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null)" = installed ]
}

version_of() {
    if [ "$kind" = deb ]; then
        dpkg-deb --field "$1" Version
    else
        rpm --query --package --nosignature --queryformat '%{VERSION}-%{RELEASE}' "$1"
    fi
}

# Sets file, the package for this host, and next, its version. Whatever does not fit is refused here,
# before anything has changed.
find_file() {
    machine=$(uname -m)
    case $machine in
        x86_64) bws=x86_64 ;;
        aarch64) bws=arm64 ;;
        *) fail "no package for $machine" ;;
    esac
    if [ "${BWS_ARCHITECTURE:-$bws}" != "$bws" ]; then
        fail "SSM says $BWS_ARCHITECTURE, this is $machine"
    fi
    set -- "$here/$name"*".$kind"
    if [ $# -ne 1 ] || [ ! -f "$1" ]; then fail "not one .$kind in $here"; fi
    file=$1
    (cd "$here" && sha256sum --check --quiet SHA256SUMS) || fail "the files in $here are not those that were packed"
    if [ "$kind" = deb ]; then
        made_for=$(dpkg-deb --field "$file" Architecture)
        wanted=$(dpkg --print-architecture)
    else
        made_for=$(rpm --query --package --nosignature --queryformat '%{ARCH}' "$file")
        wanted=$machine
    fi
    [ "$made_for" = "$wanted" ] || fail "$file is for $made_for, this is $wanted"
    next=$(version_of "$file")
}

# Runs a package manager; while another one holds the lock, again every five seconds.
patiently() {
    waited=0
    said=$(mktemp)
    while true; do
        code=0
        "$@" >"$said" 2>&1 || code=$?
        cat "$said"
        if [ "$code" -eq 0 ] || [ "$waited" -ge "$lock_wait_s" ] ||
            ! grep -Eqi 'lock.*(is|was) locked|is locked by another|(transaction|database) lock|resource temporarily unavailable' "$said"; then
            rm -f "$said"
            return "$code"
        fi
        say "another package manager is at work; waited $waited of $lock_wait_s s"
        sleep 5
        waited=$((waited + 5))
    done
}

# Configuration that was changed stays, whichever way the version goes.
put() {
    if [ "$kind" = deb ]; then
        patiently dpkg --force-confold --install "$1"
    else
        patiently rpm --upgrade --oldpackage --replacepkgs "$1"
    fi
}

runs() { [ -d /run/systemd/system ] && systemctl is-active --quiet "$name"; }

# Whether what was put works: the program starts, and the service is back if it ran before.
works() {
    is_whole && [ "$(installed)" = "$1" ] && "/usr/bin/$name" --version >/dev/null || return 1
    [ "$2" = idle ] || runs
}

shelve() {
    install -d -m 0700 "$shelf"
    install -m 0600 "$1" "$shelf/$name-$2.$kind"
    for other in "$shelf/$name"*; do
        [ "$other" = "$shelf/$name-$2.$kind" ] || rm -f "$other"
    done
}

take_away() {
    case $kind-$1 in
        rpm-everything) patiently env PICKET_PURGE=yes rpm --erase "$name" ;;
        rpm-*) patiently rpm --erase "$name" ;;
        deb-everything) patiently dpkg --purge "$name" ;;
        deb-*) patiently dpkg --remove "$name" ;;
    esac
}

# back BEFORE WAS KNEW: to what was there; never a success, as the new version was asked for.
back() {
    if [ -z "$1" ]; then
        if [ -n "$(installed)" ]; then
            if [ "$3" = state ]; then take_away program; else take_away everything; fi
        fi
        fail "$next does not work here; it was taken off again"
    fi
    old=$shelf/$name-$1.$kind
    [ -f "$old" ] || fail "$next does not work here, and there is no copy of $1 to go back to"
    put "$old" || fail "$next does not work here, and $1 could not be put back"
    if [ "$2" = running ]; then
        systemctl reset-failed "$name" 2>/dev/null || true
        systemctl start "$name" || fail "$next does not work here; $1 is back and does not start"
    fi
    fail "$next does not work here; $1 is back"
}

bring() {
    [ "$(id -u)" -eq 0 ] || fail "needs root"
    find_kind
    find_file
    before=$(installed)
    was=idle
    if runs; then was=running; fi
    if [ "$before" = "$next" ] && works "$next" idle; then
        shelve "$file" "$next"
        say "$next is installed already"
        return 0
    fi
    knew=nothing
    if [ -d "$state" ]; then knew=state; fi
    say "${before:-nothing} is installed, $next comes"
    put "$file" || back "$before" "$was" "$knew"
    works "$next" "$was" || back "$before" "$was" "$knew"
    shelve "$file" "$next"
    say "$next is installed"
}

# What RPM left at a removal before this one.
clear_up() {
    rm -rf "$state"
    rm -f /etc/picket/agent.toml.rpmsave
    rmdir /etc/picket/intel /etc/picket /var/lib/picket 2>/dev/null || true
    if [ ! -x /usr/bin/picket-collector ] && getent passwd picket >/dev/null; then userdel picket; fi
}

leave() {
    [ "$(id -u)" -eq 0 ] || fail "needs root"
    find_kind
    # dpkg's "purge" also takes what a removal before has kept.
    if [ -n "$(installed)" ] || { [ "$kind" = deb ] && dpkg-query --show "$name" >/dev/null 2>&1; }; then
        if [ "${SSM_PICKET_PURGE:-no}" = yes ]; then
            take_away everything || fail "could not be removed"
        else
            take_away program || fail "could not be removed"
        fi
    else
        say "is not installed"
    fi
    if [ "$kind" = rpm ] && [ "${SSM_PICKET_PURGE:-no}" = yes ]; then clear_up; fi
    rm -rf "$shelf"
    if [ -e /sys/fs/bpf/picket ]; then fail "removed, but /sys/fs/bpf/picket is still there"; fi
    say "is gone"
}
