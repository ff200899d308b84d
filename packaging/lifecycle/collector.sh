# The collector's life: installed, upgraded, leaving (its files are still there), left, erased.

prepare() {
    # The agent's group, for the folder of the sockets alone.
    getent group picket >/dev/null || groupadd --system picket
    add_user picket-collector
    usermod --append --groups picket picket-collector
    make_run_folder picket-collector
    reload_units
}

installed() {
    prepare
    echo "picket-collector: see /etc/picket/collector.toml, then: systemctl enable --now picket-collector"
}

# Agents keep what they have to tell until the new one answers.
upgraded() {
    prepare
    if systemd_runs; then systemctl try-restart picket-collector.service; fi
}

leaving() {
    if systemd_runs; then systemctl disable --now picket-collector.service; fi
}

left() {
    reload_units
    rm -f /run/picket/collector.sock
    remove_if_empty /run/picket
}

# Findings, the authority that agents pin, the signing key.
purged() {
    rm -rf /var/lib/picket/collector /etc/systemd/system/picket-collector.service.d
    remove_if_empty /etc/picket/collector-intel /etc/picket /var/lib/picket
    remove_user picket-collector
    if other_is_here picket-agent; then return; fi
    remove_user picket
    if getent group picket >/dev/null; then groupdel picket 2>/dev/null || true; fi
}

# Findings and the authority of a whole fleet are not thrown away by taking a package off.
erased() {
    if [ -d /var/lib/picket/collector ]; then
        echo "picket-collector: /var/lib/picket/collector stays; remove it by hand, and the user picket-collector"
    fi
}
