//! What no order can block on this host, as far as its files say so.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;

use picket_wire::protected;

/// Bytes of a resolver configuration that are read; resolv.conf(5) takes three servers.
const RESOLV_BYTES_MAX: u64 = 64 << 10;

/// The resolvers that a `resolv.conf` names.
///
/// # Errors
/// It cannot be read. A file that is not there names none.
pub fn resolvers(path: &Path) -> io::Result<Vec<IpAddr>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(RESOLV_BYTES_MAX).read_to_end(&mut text)?;
    Ok(protected::resolvers(&String::from_utf8_lossy(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        assert!(resolvers(&path).unwrap().is_empty());
        fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        let expected: [IpAddr; 1] = ["10.0.0.2".parse().unwrap()];
        assert_eq!(resolvers(&path).unwrap(), expected);
    }
}
