//! Names that are made like those of mining pools: a coin or its algorithm, and that it is pooled or mined.

/// Words that stand for a coin or an algorithm wherever they stand in a name.
const COINS: &[&str] = &[
    "bitcoin",
    "cryptonight",
    "dogecoin",
    "ethereum",
    "kaspa",
    "litecoin",
    "monero",
    "randomx",
    "ravencoin",
    "xmr",
    "zcash",
];

/// Shorter ones, which must stand alone between dots, hyphens and digits.
const TICKERS: &[&str] = &[
    "btc", "doge", "erg", "etc", "eth", "etchash", "kas", "kawpow", "ltc", "rvn", "rx", "zec",
];

/// What says that it is mined together, standing alone.
const POOLED: &[&str] = &["miner", "miners", "mining", "pool", "pools", "stratum"];

/// What says so at the end of a label, with a coin's ticker in another: names of pools that are well known.
const POOLS: &[&str] = &[
    "antpool",
    "c3pool",
    "emcd",
    "ethermine",
    "f2pool",
    "flypool",
    "hashvault",
    "herominers",
    "miners",
    "nanopool",
    "nicehash",
    "poolin",
    "suprnova",
    "unmineable",
    "viabtc",
    "woolypooly",
    "zergpool",
    "zpool",
];

/// What in a name says that it is of a mining pool, if anything does.
pub(super) fn why_pool(name: &str) -> Option<String> {
    // Most names hold none of these.
    if !["pool", "min", "stratum", "hash", "btc"]
        .iter()
        .any(|part| name.contains(part))
    {
        return None;
    }
    let words = || {
        name.split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| !word.is_empty())
    };
    let labels = || name.split(['.', '-']);
    let pooled = words().find(|word| POOLED.contains(word));
    let known = labels().find(|label| POOLS.iter().any(|pool| label.ends_with(pool)));
    let coin = COINS.iter().find(|coin| name.contains(**coin)).copied();
    let ticker = words().find(|word| TICKERS.contains(word));
    let mined = pooled.or(known);
    if let (Some(coin), Some(mined)) = (coin, mined) {
        return Some(format!(
            "names a coin (“{coin}”) and that it is mined (“{mined}”)"
        ));
    }
    if let (Some(ticker), Some(known)) = (ticker, known.or(pooled.filter(|word| word.len() > 4))) {
        return Some(format!("names a coin (“{ticker}”) and a pool (“{known}”)"));
    }
    words()
        .any(|word| word == "stratum")
        .then(|| "names the protocol of mining (“stratum”)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_told_from_pools() {
        for pool in [
            "pool.supportxmr.example",
            "xmr-eu1.nanopool.example",
            "eth-eu.2miners.example",
            "stratum.example.com",
            "monero.pool.example",
            "rx.unmineable.example",
            "btc.antpool.example",
            "xmr.pool.example",
            "stratum-eu.rvn.example",
        ] {
            assert!(why_pool(pool).is_some(), "{pool}");
        }
        for other in [
            "0.pool.ntp.org",
            "whirlpool.com",
            "f2pool.info",
            "contract-miner.com",
            "monero.example",
            "eth.ch-carpool.example",
            "admin.example.com",
            "bethpoolsupply.com",
            "www.bitcoin.org",
            "ethz.ch",
            "hash.example",
            "etc.pool.example",
        ] {
            assert_eq!(why_pool(other), None, "{other}");
        }
    }
}
