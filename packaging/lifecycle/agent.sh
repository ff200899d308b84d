# The agent's life: installed, upgraded, leaving (its files are still there), left, erased.

prepare() {
    add_user picket
    # Before the unit's first start makes it: who enrols writes the key there.
    install -d -m 0755 /var/lib/picket
    install -d -m 0700 -o picket -g picket /var/lib/picket/agent
    make_run_folder picket-agent
    reload_units
}

installed() {
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
    /usr/bin/picket-agent detach --config /etc/picket/agent.toml ||
        /usr/bin/picket-agent detach || true
    remove_if_empty /sys/fs/bpf/picket
}

left() {
    reload_units
    rm -f /run/picket/agent.sock
    rm -rf /run/picket/agent.told*
    remove_if_empty /run/picket
}

# Key, spool and what the collector gave. Who installs again enrols again.
purged() {
    rm -rf /var/lib/picket/agent /etc/systemd/system/picket-agent.service.d
    remove_if_empty /etc/picket/intel /etc/picket /var/lib/picket
    if other_is_here picket-collector; then return; fi
    remove_user picket
}

# Without a word for "and everything of yours" the sensor takes its things with it: nothing in them
# is of use to another.
erased() { purged; }
