//! Maltrail's trails: one per line, a domain, an address, either with a port, or a URL; `#` begins a
//! comment. A trail with a path names a page. What a file is about, its name says: a family of
//! malware, or one of the few in [`BY_NAME`].

use super::lines::each_line;
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "maltrail",
    usual: Usual::of(Category::C2),
    recognise,
    read,
};

/// Files whose trails are no servers of malware, by how their names begin. Those of dynamic names,
/// proxies and their like are services that anybody may use: policy, if at all.
const BY_NAME: [(&str, Category); 7] = [
    ("anonymous_web_proxy", Category::Custom),
    ("crypto_mining", Category::Mining),
    ("dns_tunneling_service", Category::Custom),
    ("dynamic_domain", Category::Custom),
    ("mass_scanner", Category::Scanner),
    ("sinkhole_", Category::Blackhole),
    ("tor_", Category::Tor),
];

fn recognise(head: &Head<'_>) -> bool {
    head.has("Maltrail developers")
}

/// What a file of trails is about.
pub(super) fn category_of(format: &Format, file: &str) -> Option<Category> {
    let mut known = BY_NAME.iter().filter(|(begin, _)| file.starts_with(begin));
    let (_, category) = known.next().filter(|_| format.name == FORMAT.name)?;
    Some(*category)
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        match line.split('#').next().unwrap_or_default().trim() {
            "" => Ok(()),
            trail => sink.put(at, clue::any(trail)),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::category::Category;
    use crate::format::testing::{check, read, recognised};
    use crate::report::Reason;

    const TEXT: &str = "# Copyright (c) Maltrail developers\n# See the file 'LICENSE'\n\n# Reference: x\n\n\
                        evil.example\n192.0.2.1:4444\nhttp://192.0.2.2\nbad.example:8080\n\
                        http://192.0.2.3/gate.php\n192.0.2.4/gate.php\nshared.example/gate.php\n/xmrig/\n";

    #[test]
    fn trails_and_pages() {
        assert_eq!(recognised(TEXT), Some("maltrail"));
        let expected = "192.0.2.1:4444 192.0.2.2 192.0.2.3:80 bad.example evil.example";
        check("maltrail", TEXT, expected, &[(Reason::NotAHost, 3)]);
    }

    #[test]
    fn a_file_says_by_its_name_what_it_is_about() {
        let category = |file| read(file, TEXT.as_bytes()).unwrap().list.category;
        assert_eq!(category("apt_x.txt"), Category::C2);
        assert_eq!(category("crypto_mining.txt"), Category::Mining);
        assert_eq!(category("sinkhole_x.txt"), Category::Blackhole);
        assert_eq!(category("dynamic_domain.txt"), Category::Custom);
    }
}
