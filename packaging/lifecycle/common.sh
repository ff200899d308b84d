# What both packages do, on Debian and on RPM systems alike. `xtask package` puts this file, the one
# of the program and a few lines that say which system calls into each maintainer script.

# Whether systemd runs here: not while an image is built.
systemd_runs() { [ -d /run/systemd/system ]; }

# add_user NAME: a user without home, shell or password, and a group of the same name.
add_user() {
    getent group "$1" >/dev/null || groupadd --system "$1"
    getent passwd "$1" >/dev/null || useradd --system --gid "$1" --no-create-home \
        --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

# remove_user NAME
remove_user() {
    if getent passwd "$1" >/dev/null; then userdel "$1"; fi
    if getent group "$1" >/dev/null; then groupdel "$1" 2>/dev/null || true; fi
}

reload_units() {
    if systemd_runs; then systemctl daemon-reload; fi
}

# make_run_folder UNIT: where sockets are. At boot tmpfiles.d makes it.
make_run_folder() {
    if systemd_runs; then systemd-tmpfiles --create "/usr/lib/tmpfiles.d/$1.conf"; fi
}

# Whether the other of the two packages is here, which shares folders and a group.
other_is_here() { [ -x "/usr/bin/$1" ]; }

# remove_if_empty FOLDER…
remove_if_empty() {
    for folder in "$@"; do
        if [ -d "$folder" ]; then rmdir "$folder" 2>/dev/null || true; fi
    done
}
