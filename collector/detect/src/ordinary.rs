//! Names that are ordinary to call.

/// Names that hosts call by themselves, on which AWS, makers of distributions and of common agents sit.
pub(crate) const ORDINARY_NAMES: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    "api.aws",
    "ubuntu.com",
    "snapcraft.io",
    "debian.org",
    "fedoraproject.org",
    "redhat.com",
    "pool.ntp.org",
    "datadoghq.com",
    "datadoghq.eu",
    "newrelic.com",
    "nr-data.net",
];

/// Labels of AWS's names below which anybody rents one: hosts, load balancers, API gateways, buckets.
pub(crate) const RENTED_LABELS: &[&str] = &[
    "compute",
    "compute-1",
    "elb",
    "execute-api",
    "s3",
    "s3-website",
];

/// Says whether `name` is one of `ordinary` or below one, and has none of the labels below which anybody
/// rents a name.
pub(crate) fn is_ordinary(name: &str, ordinary: &[String], rented: &[String]) -> bool {
    let below = |suffix: &String| {
        let head = name.strip_suffix(suffix.as_str());
        head.is_some_and(|head| head.is_empty() || head.ends_with('.'))
    };
    let is_rented = |label: &str| rented.iter().any(|rented| rented == label);
    ordinary.iter().any(below) && !name.split('.').any(is_rented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_labels_and_rented_ones_are_not_ordinary() {
        let ordinary = ["amazonaws.com".to_owned()];
        let rented = ["compute".to_owned()];
        let check = |name, expected| {
            assert_eq!(is_ordinary(name, &ordinary, &rented), expected, "{name}");
        };
        check("amazonaws.com", true);
        check("ssm.eu-west-1.amazonaws.com", true);
        check("notamazonaws.com", false);
        check("amazonaws.com.example.com", false);
        check("ec2-192-0-2-1.eu-west-1.compute.amazonaws.com", false);
    }
}
