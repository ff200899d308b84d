//! Where anybody gets a name for nothing and without being asked who they are.

/// What is given away below a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gift {
    /// A name for an address that changes.
    Dynamic,
    /// A name for an address written in it.
    Spelled,
    /// A way from the Internet to a program behind a firewall.
    Relay,
    /// A name that tells whoever made it who looked it up: what testers and intruders make servers call.
    Callback,
}

impl Gift {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Dynamic => "is a name of a dynamic DNS service",
            Self::Spelled => "is a name for an address that is written in it",
            Self::Relay => "is a relay to a program behind somebody's firewall",
            Self::Callback => "is a call-back name, which tells its maker who looked it up",
        }
    }

    /// Points of ten that it alone is worth: a call-back is made by hand for one server; the others have
    /// their ordinary users, though few on servers.
    pub(super) fn points(self) -> u32 {
        match self {
            Self::Callback => 5,
            Self::Dynamic | Self::Relay => 3,
            Self::Spelled => 2,
        }
    }
}

/// Zones of such providers, sorted; written down by hand from their own pages.
const ZONES: &[(&str, Gift)] = &[
    ("3322.org", Gift::Dynamic),
    ("a.pinggy.link", Gift::Relay),
    ("accesscam.org", Gift::Dynamic),
    ("bore.pub", Gift::Relay),
    ("bounceme.net", Gift::Dynamic),
    ("burpcollaborator.net", Gift::Callback),
    ("camdvr.org", Gift::Dynamic),
    ("canarytokens.com", Gift::Callback),
    ("casacam.net", Gift::Dynamic),
    ("ceye.io", Gift::Callback),
    ("chickenkiller.com", Gift::Dynamic),
    ("ddns.net", Gift::Dynamic),
    ("ddnsfree.com", Gift::Dynamic),
    ("devtunnels.ms", Gift::Relay),
    ("dnslog.cn", Gift::Callback),
    ("duckdns.org", Gift::Dynamic),
    ("dynu.net", Gift::Dynamic),
    ("dynv6.net", Gift::Dynamic),
    ("f3322.net", Gift::Dynamic),
    ("freeddns.org", Gift::Dynamic),
    ("freemyip.com", Gift::Dynamic),
    ("giize.com", Gift::Dynamic),
    ("gleeze.com", Gift::Dynamic),
    ("gotdns.ch", Gift::Dynamic),
    ("hopto.org", Gift::Dynamic),
    ("ignorelist.com", Gift::Dynamic),
    ("interact.sh", Gift::Callback),
    ("jumpingcrab.com", Gift::Dynamic),
    ("kozow.com", Gift::Dynamic),
    ("lhr.life", Gift::Relay),
    ("loca.lt", Gift::Relay),
    ("localhost.run", Gift::Relay),
    ("localto.net", Gift::Relay),
    ("loseyourip.com", Gift::Dynamic),
    ("mooo.com", Gift::Dynamic),
    ("myddns.me", Gift::Dynamic),
    ("myftp.biz", Gift::Dynamic),
    ("myftp.org", Gift::Dynamic),
    ("mywire.org", Gift::Dynamic),
    ("ngrok-free.app", Gift::Relay),
    ("ngrok-free.dev", Gift::Relay),
    ("ngrok.app", Gift::Relay),
    ("ngrok.dev", Gift::Relay),
    ("ngrok.io", Gift::Relay),
    ("nip.io", Gift::Spelled),
    ("no-ip.biz", Gift::Dynamic),
    ("no-ip.info", Gift::Dynamic),
    ("no-ip.org", Gift::Dynamic),
    ("nsupdate.info", Gift::Dynamic),
    ("oast.fun", Gift::Callback),
    ("oast.live", Gift::Callback),
    ("oast.me", Gift::Callback),
    ("oast.online", Gift::Callback),
    ("oast.pro", Gift::Callback),
    ("oast.site", Gift::Callback),
    ("oastify.com", Gift::Callback),
    ("ooguy.com", Gift::Dynamic),
    ("pinggy.io", Gift::Relay),
    ("playit.gg", Gift::Relay),
    ("portmap.host", Gift::Relay),
    ("portmap.io", Gift::Relay),
    ("redirectme.net", Gift::Dynamic),
    ("requestrepo.com", Gift::Callback),
    ("servebeer.com", Gift::Dynamic),
    ("serveftp.com", Gift::Dynamic),
    ("servegame.com", Gift::Dynamic),
    ("servehttp.com", Gift::Dynamic),
    ("serveminecraft.net", Gift::Dynamic),
    ("serveo.net", Gift::Relay),
    ("sslip.io", Gift::Spelled),
    ("strangled.net", Gift::Dynamic),
    ("sytes.net", Gift::Dynamic),
    ("theworkpc.com", Gift::Dynamic),
    ("trycloudflare.com", Gift::Relay),
    ("twilightparadox.com", Gift::Dynamic),
    ("webhop.me", Gift::Dynamic),
    ("webredirect.org", Gift::Dynamic),
    ("ydns.eu", Gift::Dynamic),
    ("zapto.org", Gift::Dynamic),
];

/// The zone that a name was given below, and what it is; the zone's own name is nobody's.
pub(super) fn given(name: &str) -> Option<(&'static str, Gift)> {
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Ok(at) = ZONES.binary_search_by(|(zone, _)| (*zone).cmp(parent)) {
            return ZONES.get(at).copied();
        }
        rest = parent;
    }
    None
}

/// Tops where a name costs next to nothing, so that many are taken for a day. Chosen by hand from those that
/// the yearly reports on abuse of names (Interisle, Spamhaus) keep naming, sorted.
const CHEAP_TOPS: &[&str] = &[
    "bond", "buzz", "cam", "cc", "cf", "cfd", "click", "cyou", "ga", "gq", "icu", "lol", "ml",
    "monster", "mov", "pw", "quest", "rest", "sbs", "shop", "su", "surf", "tk", "top", "vip",
    "wang", "work", "xyz", "zip",
];

/// Says whether a registered domain stands below a top where names cost next to nothing.
pub(super) fn is_cheap(domain: &str) -> bool {
    let top = domain.rsplit('.').next().unwrap_or_default();
    CHEAP_TOPS.binary_search(&top).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_cut_at_labels() {
        assert!(ZONES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(CHEAP_TOPS.is_sorted_by(|a, b| a < b));
        let check =
            |name, expected| assert_eq!(given(name).map(|(_, gift)| gift), expected, "{name}");
        check("me.duckdns.org", Some(Gift::Dynamic));
        check("a.b.ngrok.io", Some(Gift::Relay));
        check("x1.oast.fun", Some(Gift::Callback));
        check("10-0-0-1.nip.io", Some(Gift::Spelled));
        check("duckdns.org", None);
        check("notduckdns.org", None);
        check("duckdns.org.example.com", None);
    }
}
