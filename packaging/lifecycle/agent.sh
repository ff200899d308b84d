# The agent's life: installed, upgraded, leaving (its files are still there), left, erased.

# Parts of the unit for systems that lack something; `fit_unit` takes those that are needed.
parts=/usr/lib/picket-agent
fitted=/etc/systemd/system/picket-agent.service.d

# The number of the service manager here, which need not run; nothing if there is none.
systemd_number() { systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'; }

# The highest capability that the kernel knows (capabilities(7)).
last_capability() { cat /proc/sys/kernel/cap_last_cap 2>/dev/null || true; }

# fit PART yes|no: has the unit go by a part, or not any more.
fit() {
    if [ "$2" = yes ]; then
        install -d -m 0755 "$fitted"
        install -m 0644 "$parts/$1" "$fitted/10-$1"
    else
        rm -f "$fitted/10-$1"
        remove_if_empty "$fitted"
    fi
}

# fit_unit SYSTEMD LAST: what is not known changes nothing. 239 knows the last of what the unit is made
# of (the group @system-service); 39 is CAP_BPF, since Linux 5.8.
fit_unit() {
    if [ -n "$1" ]; then
        if [ "$1" -lt 239 ]; then fit old-systemd.conf yes; else fit old-systemd.conf no; fi
    fi
    if [ -n "$2" ]; then
        if [ "$2" -lt 39 ]; then fit old-kernel.conf yes; else fit old-kernel.conf no; fi
    fi
}

prepare() {
    add_user picket
    # Before the unit's first start makes it: who enrols writes the key there.
    install -d -m 0755 /var/lib/picket
    install -d -m 0700 -o picket -g picket /var/lib/picket/agent
    make_run_folder picket-agent
    # While an image is built the kernel is another's.
    if systemd_runs; then fit_unit "$(systemd_number)" "$(last_capability)"; else fit_unit "$(systemd_number)" ""; fi
    reload_units
}

installed() {
    # RPM set it aside when the package was taken off, and what it goes with is still here.
    if [ -d /var/lib/picket/agent ] && [ -f /etc/picket/agent.toml.rpmsave ]; then
        mv -f /etc/picket/agent.toml.rpmsave /etc/picket/agent.toml
    fi
    prepare
    echo "picket-agent: enrol this host, then: systemctl enable --now picket-agent (man picket-agent-enroll)"
}

# The programs in the kernel go on counting and matching until the new agent has put its own in their
# place: no packet passes between the two.
upgraded() {
    prepare
    if systemd_runs; then systemctl try-restart picket-agent.service; fi
}

leaving() {
    if systemd_runs; then systemctl disable --now picket-agent.service; fi
    # Nothing is left to count for.
    picket-agent detach --config /etc/picket/agent.toml || picket-agent detach || true
    remove_if_empty /sys/fs/bpf/picket
}

left() {
    reload_units
    rm -f /run/picket/agent.sock
    rm -rf /run/picket/agent.told*
    fit old-systemd.conf no
    fit old-kernel.conf no
    remove_if_empty /run/picket
}

# Key, spool and what the collector gave. Who installs again enrols again.
purged() {
    rm -rf /var/lib/picket/agent /etc/systemd/system/picket-agent.service.d
    rm -f /etc/picket/agent.toml.rpmsave
    remove_if_empty /etc/picket/intel /etc/picket /var/lib/picket
    if other_is_here picket-collector; then return; fi
    remove_user picket
}

# RPM has no word for "and everything of yours", so the environment has one. Without it the host stays
# who it is: its next key would be a second one, which no collector takes.
erased() {
    if [ "${PICKET_PURGE:-no}" = yes ]; then
        purged
    elif [ -d /var/lib/picket/agent ]; then
        echo "picket-agent: the key of this host stays; to remove that too: rm -r /var/lib/picket/agent && userdel picket"
    fi
}
