# Step of picket's SSM documents: proves that packets flow from the network to the collector. Asks the
# running agent until its kernel programs have counted, matched and copied another packet of the agent's own
# (or, where there are no kernel programs, until other packets were seen), and until the collector has
# acknowledged another envelope. Exits with 1, and says what is missing, when that takes too long.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
limit_s=${SSM_Seconds:-60}
fail() {
    echo "picket: UNWELL: $*" >&2
    exit 1
}
[ -x /usr/bin/picket-agent ] || fail "picket-agent is not installed"
systemctl is-active --quiet picket-agent || fail "the service is $(systemctl is-active picket-agent || true)"

# Sets what is known now. `status` is one line of JSON without spaces between its tokens.
ask() {
    told=$(picket-agent status --config /etc/picket/agent.toml --format jsonl) || return 1
    canary=$(printf '%s' "$told" | sed -n 's/.*"canary":{\([^}]*\)}.*/\1/p')
    packets=$(printf '%s' "$told" | sed -n 's/.*"packets":{\([^}]*\)}.*/\1/p')
    ship=$(printf '%s' "$told" | sed -n 's/.*"ship":{\(.*\)/\1/p')
}
# number OBJECT KEY: 0 if it is not told.
number() {
    found=$(printf '%s' "$1" | sed -n "s/.*\"$2\":\([0-9][0-9]*\).*/\1/p")
    echo "${found:-0}"
}
# Whether packets were seen since the first answer, and by all parts of the kernel side.
moved() {
    if [ -z "$canary" ]; then
        [ "$(number "$packets" seen)" -gt "$seen" ]
        return
    fi
    case $canary in *'"failed":null'*) ;; *) return 1 ;; esac
    [ "$(number "$canary" counted)" -gt "$counted" ] &&
        [ "$(number "$canary" hit)" -gt "$hit" ] &&
        [ "$(number "$canary" copied)" -gt "$copied" ]
}
# Acknowledgements carry the second they came in.
shipped() { [ "$(number "$ship" last_ack_s)" -gt "$since" ]; }

since=$(date +%s)
ask || fail "the agent does not answer"
seen=$(number "$packets" seen)
counted=$(number "$canary" counted)
hit=$(number "$canary" hit)
copied=$(number "$canary" copied)
while ! { moved && shipped; }; do
    if [ $(($(date +%s) - since)) -ge "$limit_s" ]; then
        picket-agent status --config /etc/picket/agent.toml >&2 || true
        moved || fail "no packet came through in $limit_s s: ${canary:-no canary on this rung}"
        fail "packets come through, but the collector acknowledged nothing in $limit_s s"
    fi
    sleep 1
    ask || fail "the agent does not answer"
done
case $told in *'"fresh":true'*) ;; *) fail "the watching thread does not answer" ;; esac
case $packets in *'"equation_holds":true'*) ;; *) fail "packets do not add up: $packets" ;; esac
case $told in *'"interfaces":[]'*) fail "no interface is watched" ;; esac
echo "picket: well after $(($(date +%s) - since)) s: $(number "$packets" seen) packets seen, $(number "$packets" lost) lost;" \
    "canary ${canary:-none on this rung}"
