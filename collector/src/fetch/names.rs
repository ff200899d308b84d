//! Where the names of feeds' servers lead: nowhere that no feed is, whoever answers for the name.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::settings::is_no_server;

/// Asks the system, and passes over addresses where no feed is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = servers(name.as_str(), found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a server.
fn servers(name: &str, found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_home = name == "localhost" || name.ends_with(".localhost");
    let is_server = |one: &SocketAddr| {
        let address = one.ip().to_canonical();
        !is_no_server(&address) && (is_home || !address.is_loopback())
    };
    let mut last = None;
    let addresses: Vec<SocketAddr> = found
        .inspect(|one| last = Some(*one))
        .filter(is_server)
        .collect();
    match (addresses.is_empty(), last) {
        (true, Some(last)) => Err(io::Error::other(format!(
            "{name} leads to {}, where nothing is fetched from",
            last.ip()
        ))),
        _ => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_home_leads_nowhere() {
        let check = |name: &str, found: &[&str], left: Option<usize>| {
            let found = found
                .iter()
                .map(|text| SocketAddr::new(text.parse().unwrap(), 0));
            let servers = servers(name, found);
            assert_eq!(servers.ok().map(|all| all.len()), left, "{name}");
        };
        check("feeds.example", &["192.0.2.1", "2001:db8::1"], Some(2));
        check("feeds.example", &["169.254.169.254", "192.0.2.1"], Some(1));
        check("feeds.example", &["169.254.169.254"], None);
        check("feeds.example", &["127.0.0.1"], None);
        check("feeds.example", &["::ffff:127.0.0.1"], None);
        check("localhost", &["127.0.0.1", "::1"], Some(2));
        check("feeds.example", &[], Some(0));
    }
}
