//! Ways opened: security groups, network lists, peers, databases that face the world.

use serde_json::Value;

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::texts;

const REMOTE: FindingType = FindingType::guardduty("Persistence:EC2/ExternalRemoteServices", 5.0);
const DATABASE: FindingType =
    FindingType::guardduty("InitialAccess:RDS/ExploitPublicFacingApplication", 8.0);
const NETWORK: FindingType = FindingType::picket("DefenseEvasion:EC2/NetworkPathOpened", 5.0);
const DOMAIN: FindingType = FindingType::picket("Impact:IAMUser/DomainHijack", 8.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "port_opened",
        kind: &REMOTE,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "ec2",
            &["AuthorizeSecurityGroupIngress", "ModifySecurityGroupRules"],
        )],
        judge: port_opened,
        mitre: &["T1133", "T1562.007"],
        look_alikes: "experiments, hosts that anybody is meant to reach",
        first_look: &["Which hosts are in the group.", "Who connected since."],
    },
    Behaviour {
        id: "database_group_opened",
        kind: &REMOTE,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("rds", &["AuthorizeDBSecurityGroupIngress"])],
        judge: |look| {
            let from = quote(
                look.asked_any(&["cIDRIP", "eC2SecurityGroupName"])
                    .unwrap_or("somewhere"),
            );
            Some(Deed::new(format!("opened a database to {from}")))
        },
        mitre: &["T1133"],
        look_alikes: "old databases outside a network of their own",
        first_look: &["Who connected since."],
    },
    Behaviour {
        id: "database_public",
        kind: &DATABASE,
        severity: 8.0,
        planned: Some(5.0),
        calls: &[(
            "rds",
            &[
                "ModifyDBInstance",
                "ModifyDBCluster",
                "RestoreDBInstanceFromDBSnapshot",
                "RestoreDBInstanceToPointInTime",
            ],
        )],
        judge: |look| {
            let public = look.flag("publiclyAccessible") == Some(true);
            let name = quote(
                look.asked_any(&["dBInstanceIdentifier", "dBClusterIdentifier"])
                    .unwrap_or("?"),
            );
            public.then(|| Deed::new(format!("let database {name} be reached from everywhere")))
        },
        mitre: &["T1190", "T1578.005"],
        look_alikes: "experiments",
        first_look: &["What its security group lets in.", "What it holds."],
    },
    Behaviour {
        id: "network_path_opened",
        kind: &NETWORK,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "ec2",
            &[
                "AcceptVpcPeeringConnection",
                "CreateNetworkAclEntry",
                "CreateVpcPeeringConnection",
                "ReplaceNetworkAclEntry",
            ],
        )],
        judge: network_path_opened,
        mitre: &["T1562.007", "T1599"],
        look_alikes: "networks that are joined to a partner's",
        first_look: &["Whose network it is.", "What it can reach now."],
    },
    Behaviour {
        id: "domain_moved",
        kind: &DOMAIN,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[(
            "route53domains",
            &[
                "DisableDomainTransferLock",
                "TransferDomain",
                "TransferDomainToAnotherAwsAccount",
                "UpdateDomainNameservers",
            ],
        )],
        judge: |look| {
            let domain = quote(look.asked("domainName").unwrap_or("a domain"));
            Some(Deed::new(format!(
                "moved domain {domain}, or unlocked it to be moved"
            )))
        },
        mitre: &["T1584.001"],
        look_alikes: "a change of registrar",
        first_look: &[
            "Who asked for it.",
            "Where the name points now, and its mail.",
        ],
    },
];

/// Ports that nobody else is meant to reach: log-in, file shares, remote desktops, databases, control
/// planes. Web ports are for everybody.
const PRIVATE_PORTS: &[u64] = &[
    20, 21, 22, 23, 135, 139, 445, 1433, 1434, 1521, 2375, 2376, 2379, 3306, 3389, 5432, 5439,
    5601, 5900, 5985, 5986, 6379, 6443, 9042, 9200, 9300, 10250, 11211, 27017, 27018,
];

/// One rule of a group, as far as it is told.
struct Rule {
    anywhere: bool,
    protocol: String,
    from: u64,
    to: u64,
}

impl Rule {
    fn of(value: &Value) -> Self {
        let number = |keys: [&str; 2]| keys.iter().find_map(|key| value.get(key)?.as_u64());
        let protocol = ["ipProtocol", "IpProtocol"]
            .iter()
            .find_map(|key| value.get(key));
        let protocol = protocol
            .map(texts)
            .and_then(|mut all| all.pop())
            .unwrap_or_default();
        Self {
            anywhere: is_anywhere(value, 0),
            protocol,
            from: number(["fromPort", "FromPort"]).unwrap_or(0),
            to: number(["toPort", "ToPort"]).unwrap_or(65_535),
        }
    }

    fn private_port(&self) -> Option<String> {
        if !self.anywhere {
            return None;
        }
        let (from, to) = match self.protocol.as_str() {
            "-1" => (0, 65_535),
            "tcp" | "udp" | "6" | "17" => (self.from, self.to),
            // ICMP and others have no ports.
            _ => return None,
        };
        if from == 0 && to >= 65_535 {
            return Some("every port".to_owned());
        }
        let port = PRIVATE_PORTS
            .iter()
            .find(|port| (from..=to).contains(*port))?;
        Some(format!("port {port}"))
    }
}

/// Levels down to which ranges of addresses stand below a rule.
const RANGES_DEPTH_MAX: u8 = 5;

/// Says whether every address is named anywhere below.
fn is_anywhere(value: &Value, depth: u8) -> bool {
    match value {
        Value::String(text) => matches!(text.as_str(), "0.0.0.0/0" | "::/0"),
        _ if depth >= RANGES_DEPTH_MAX => false,
        Value::Array(items) => items.iter().any(|item| is_anywhere(item, depth + 1)),
        Value::Object(members) => members.values().any(|item| is_anywhere(item, depth + 1)),
        _ => false,
    }
}

fn port_opened(look: &Look<'_>) -> Option<Deed> {
    let group = quote(
        look.asked_any(&["groupId", "groupName"])
            .unwrap_or("a group"),
    );
    let lists = [
        look.asked_at("ipPermissions.items"),
        look.asked_at("ModifySecurityGroupRulesRequest.SecurityGroupRule"),
    ];
    let mut rules: Vec<Rule> = Vec::new();
    for list in lists.into_iter().flatten() {
        let items = list
            .as_array()
            .map_or(std::slice::from_ref(list), Vec::as_slice);
        rules.extend(
            items
                .iter()
                .map(|item| Rule::of(item.get("SecurityGroupRule").unwrap_or(item))),
        );
    }
    // The short form names one range beside the group.
    if rules.is_empty() {
        rules.push(Rule::of(&look.call.request_parameters));
    }
    let port = rules.iter().find_map(Rule::private_port)?;
    Some(Deed::new(format!(
        "opened {port} of group {group} to everybody"
    )))
}

fn network_path_opened(look: &Look<'_>) -> Option<Deed> {
    if look.call.event_name.ends_with("AclEntry") {
        let allows = look.asked("ruleAction") == Some("allow") && look.flag("egress") != Some(true);
        let anywhere = look.asked("cidrBlock") == Some("0.0.0.0/0")
            || look.asked("ipv6CidrBlock") == Some("::/0");
        let all = look.asked("aclProtocol") == Some("-1");
        return (allows && anywhere && all)
            .then(|| Deed::new("let every packet into a subnet").severity(3.0));
    }
    let answer = &look.call.response_elements;
    let of_answer = |side: &str| {
        let side = answer.get("vpcPeeringConnection")?.get(side)?;
        side.get("ownerId")?.as_str()
    };
    let named = look.asked("peerOwnerId");
    let sides = [
        named,
        of_answer("requesterVpcInfo"),
        of_answer("accepterVpcInfo"),
    ];
    let foreign = sides
        .into_iter()
        .flatten()
        .find(|account| look.is_foreign(account))?;
    let what = format!("joined a network to one of account {foreign}, which is not ours");
    Some(Deed::new(what).issue(foreign))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn ports() {
        let open = |rule: &str, expected: &[(&str, f64)]| {
            let asked = format!(r#"{{"groupId":"sg-1","ipPermissions":{{"items":[{rule}]}}}}"#);
            check("ec2", "AuthorizeSecurityGroupIngress", &asked, expected);
        };
        let rule = |protocol: &str, from: u32, to: u32, net: &str| {
            format!(
                r#"{{"ipProtocol":"{protocol}","fromPort":{from},"toPort":{to},"ipRanges":{{"items":[{{"cidrIp":"{net}"}}]}}}}"#
            )
        };
        let found: &[(&str, f64)] = &[("port_opened", 5.0)];
        open(&rule("tcp", 22, 22, "0.0.0.0/0"), found);
        open(&rule("tcp", 0, 65_535, "0.0.0.0/0"), found);
        open(&rule("tcp", 3000, 4000, "::/0"), found);
        open(&rule("-1", 0, 0, "0.0.0.0/0"), found);
        open(&rule("tcp", 443, 443, "0.0.0.0/0"), &[]);
        open(&rule("tcp", 22, 22, "192.0.2.0/24"), &[]);
        open(&rule("icmp", 0, 0, "0.0.0.0/0"), &[]);
        let short = r#"{"groupId":"sg","ipPermissions":{},"ipProtocol":"tcp","fromPort":22,"toPort":22,"cidrIp":"0.0.0.0/0"}"#;
        check("ec2", "AuthorizeSecurityGroupIngress", short, found);
        check("ec2", "RevokeSecurityGroupIngress", short, &[]);
    }

    #[test]
    fn databases() {
        let modify = |public: bool| {
            format!(r#"{{"dBInstanceIdentifier":"d","publiclyAccessible":{public}}}"#)
        };
        check(
            "rds",
            "ModifyDBInstance",
            &modify(true),
            &[("database_public", 8.0)],
        );
        check("rds", "ModifyDBInstance", &modify(false), &[]);
        let net = r#"{"cIDRIP":"192.0.2.0/24"}"#;
        check(
            "rds",
            "AuthorizeDBSecurityGroupIngress",
            net,
            &[("database_group_opened", 5.0)],
        );
        check("rds", "RevokeDBSecurityGroupIngress", net, &[]);
    }

    #[test]
    fn networks_and_domains() {
        let entry = |action: &str, protocol: &str| {
            format!(
                r#"{{"ruleAction":"{action}","egress":false,"aclProtocol":"{protocol}","cidrBlock":"0.0.0.0/0"}}"#
            )
        };
        let id = "network_path_opened";
        check(
            "ec2",
            "CreateNetworkAclEntry",
            &entry("allow", "-1"),
            &[(id, 3.0)],
        );
        check("ec2", "CreateNetworkAclEntry", &entry("deny", "-1"), &[]);
        check("ec2", "CreateNetworkAclEntry", &entry("allow", "6"), &[]);
        let peer = |account: &str| format!(r#"{{"peerOwnerId":"{account}"}}"#);
        check(
            "ec2",
            "CreateVpcPeeringConnection",
            &peer("999988887777"),
            &[(id, 5.0)],
        );
        check(
            "ec2",
            "CreateVpcPeeringConnection",
            &peer("111122223333"),
            &[],
        );
        check(
            "route53domains",
            "DisableDomainTransferLock",
            "{}",
            &[("domain_moved", 8.0)],
        );
        check("route53domains", "GetDomainDetail", "{}", &[]);
    }
}
