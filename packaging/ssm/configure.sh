# Step of picket's SSM documents: writes the configuration if one is given, enrols the host if it is not
# yet, and starts the agent. A second run changes nothing. The values come as SSM_* variables, so that none
# of them is ever a part of this text.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
fail() {
    echo "picket: $*" >&2
    exit 1
}
if [ -z "${SSM_Collector+x}" ]; then
    fail "SSM Agent sets no variable for the parameter Collector; it must be 3.3.2746.0 or later"
fi
[ -x /usr/bin/picket-agent ] || fail "picket-agent is not installed"
[ -n "$SSM_Collector" ] || fail "parameter Collector: missing"

config=/etc/picket/agent.toml
changed=no
if [ -n "${SSM_Configuration:-}" ]; then
    next=$(mktemp /etc/picket/agent.toml.XXXXXX)
    trap 'rm -f "$next"' EXIT
    printf '%s\n' "$SSM_Configuration" >"$next"
    if ! cmp -s "$next" "$config"; then
        code=0
        said=$(picket-agent doctor --config "$next" 2>&1) || code=$?
        [ "$code" -ne 78 ] || fail "parameter Configuration: $(printf '%s\n' "$said" | grep -m 1 -E 'NO +config|picket-agent:')"
        chmod 0644 "$next"
        if [ -f "$config" ]; then cp -p "$config" "$config.before"; fi
        mv "$next" "$config"
        changed=yes
    fi
fi

# enrolment.json names the collector that this host is enrolled with.
if ! grep -Fqs "\"$SSM_Collector\"" /var/lib/picket/agent/enrolment.json; then
    set -- --collector "$SSM_Collector"
    if [ -n "${SSM_AuthoritySha256:-}" ]; then set -- "$@" --ca-sha256 "$SSM_AuthoritySha256"; fi
    token=/dev/null
    if [ -n "${SSM_TokenFile:-}" ]; then
        [ -f "$SSM_TokenFile" ] || fail "parameter TokenFile: no file $SSM_TokenFile"
        token=$SSM_TokenFile
        set -- "$@" --token-file - --account "${SSM_Account:-}" --region "${SSM_Region:-}" \
            --instance "${SSM_Instance:-$(uname -n)}"
    fi
    picket-agent enroll "$@" <"$token" || fail "not enrolled"
fi

start() {
    if [ "$changed" = yes ]; then
        systemctl restart picket-agent
    else
        systemctl start picket-agent
    fi
}
systemctl --quiet enable picket-agent
if ! start; then
    journalctl --unit picket-agent --lines 10 --no-pager --output cat >&2 || true
    if [ "$changed" = no ] || [ ! -f "$config.before" ]; then fail "does not start"; fi
    mv "$config.before" "$config"
    systemctl reset-failed picket-agent || true
    systemctl restart picket-agent || fail "does not start, nor with the configuration before"
    fail "does not start with the new configuration; the one before is back"
fi
rm -f "$config.before"
systemctl show --property StatusText --value picket-agent
