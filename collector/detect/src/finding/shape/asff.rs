//! AWS Security Finding Format, for Security Hub CSPM (its user guide, "Required top-level ASFF attributes" and
//! "Optional top-level ASFF attributes", which give the lengths).

use serde_json::{Map, Value, json};

use super::{cut, lean};
use crate::finding::{Action, Band, Finding, Resource, Role, tactic};

/// Characters of a title.
const TITLE_MAX: usize = 256;

/// Characters of a description.
const DESCRIPTION_MAX: usize = 1_024;

/// Characters of a recommendation.
const RECOMMENDATION_MAX: usize = 512;

/// Characters of a value of `ProductFields`.
const FIELD_MAX: usize = 2_048;

/// What stands for an account that is not known.
const ACCOUNT_UNKNOWN: &str = "000000000000";

/// Members of GuardDuty's actions that ASFF has too.
const ACTION_MEMBERS: &[&str] = &[
    "Api",
    "Blocked",
    "CallerType",
    "ConnectionDirection",
    "Domain",
    "DomainDetails",
    "IpAddressV4",
    "LocalPortDetails",
    "Port",
    "PortName",
    "PortProbeDetails",
    "Protocol",
    "RemoteIpDetails",
    "RemotePortDetails",
    "ServiceName",
];

/// A finding in this shape.
pub(super) fn of(finding: &Finding) -> Value {
    let (partition, region) = (&finding.partition, &finding.region);
    // Logs of a database may not tell whose it is, and Security Hub takes nothing without an account.
    let account = match finding.account_id.as_str() {
        "" => ACCOUNT_UNKNOWN,
        known => known,
    };
    let service = &finding.service;
    let picket = &finding.picket;
    let severity = json!({
        "Label": label(finding.severity),
        "Original": format!("{:.1}", finding.severity),
    });
    let types = [kind(&finding.type_name)];
    lean(json!({
        "SchemaVersion": "2018-10-08",
        "Id": finding.arn,
        "ProductArn": format!("arn:{partition}:securityhub:{region}:{account}:product/{account}/default"),
        "ProductName": "picket",
        "CompanyName": "picket",
        "GeneratorId": format!("picket/{}", picket.rule),
        "AwsAccountId": account,
        "Region": region,
        "Types": types,
        "FirstObservedAt": service.event_first_seen,
        "LastObservedAt": service.event_last_seen,
        "CreatedAt": finding.created_at,
        "UpdatedAt": finding.updated_at,
        "Severity": severity,
        "FindingProviderFields": { "Severity": severity, "Types": types },
        "Confidence": (picket.confidence.clamp(0.0, 1.0) * 100.0).round() as u64,
        "Title": cut(&finding.title, TITLE_MAX),
        "Description": cut(&finding.description, DESCRIPTION_MAX),
        "Remediation": { "Recommendation": { "Text": cut(&picket.first_look.join(" "), RECOMMENDATION_MAX) } },
        "ProductFields": fields(finding),
        "Resources": [resource(finding)],
        "Action": action(&service.action),
        "RecordState": if service.archived { "ARCHIVED" } else { "ACTIVE" },
        "Workflow": { "Status": "NEW" },
    }))
}

/// Severity labels as Security Hub gives them to GuardDuty's numbers.
fn label(severity: f64) -> &'static str {
    match Band::of(severity) {
        Band::Low => "LOW",
        Band::Medium => "MEDIUM",
        Band::High => "HIGH",
        Band::Critical => "CRITICAL",
    }
}

/// A type in the taxonomy of ASFF: namespace, category, classifier. Slashes divide, so ours becomes a dash.
fn kind(type_name: &str) -> String {
    let purpose = type_name.split(':').next().unwrap_or_default();
    let place = match (purpose, tactic(type_name)) {
        ("Exfiltration", _) => "Effects/Data Exfiltration".to_owned(),
        // The taxonomy has no tactic of this name.
        ("Impact", _) => "Effects/Data Destruction".to_owned(),
        ("CryptoCurrency", _) => "Effects/Resource Consumption".to_owned(),
        ("Policy", _) => "Software and Configuration Checks/AWS Security Best Practices".to_owned(),
        (_, tactic) => format!("TTPs/{tactic}"),
    };
    format!("{place}/{}", type_name.replace('/', "-"))
}

/// What ASFF has no place for. Names that begin with `aws/` are AWS's own.
fn fields(finding: &Finding) -> Value {
    let service = &finding.service;
    let picket = &finding.picket;
    let mut fields = Map::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            fields.insert(
                format!("picket/{name}"),
                Value::String(cut(&value, FIELD_MAX)),
            );
        }
    };
    put("type", finding.type_name.clone());
    put("rule", picket.rule.clone());
    put("why", picket.why.clone());
    put("mitre", picket.mitre.join(","));
    put("incident", picket.incident.clone().unwrap_or_default());
    put("service/count", service.count.to_string());
    let role = match service.resource_role {
        Role::Actor => "ACTOR",
        Role::Target => "TARGET",
    };
    put("service/resourceRole", role.to_owned());
    put("service/detectorId", service.detector_id.clone());
    // Fifty fields are allowed.
    for (name, value) in service.additional_info.iter().take(40) {
        put(&format!("service/additionalInfo/{name}"), value.clone());
    }
    Value::Object(fields)
}

fn resource(finding: &Finding) -> Value {
    let (partition, region) = (&finding.partition, &finding.region);
    // Logs of a database may not tell whose it is, and Security Hub takes nothing without an account.
    let account = match finding.account_id.as_str() {
        "" => ACCOUNT_UNKNOWN,
        known => known,
    };
    let (kind, id, details) = match &finding.resource {
        Resource::Instance { instance } => {
            let addresses = |v6: bool| -> Vec<&str> {
                let all = instance.network_interfaces.iter();
                all.flat_map(|one| {
                    let v4 = one.private_ip_address.iter().filter(move |_| !v6);
                    v4.chain(one.ipv6_addresses.iter().filter(move |_| v6))
                })
                .map(String::as_str)
                .collect()
            };
            (
                "AwsEc2Instance",
                format!(
                    "arn:{partition}:ec2:{region}:{account}:instance/{}",
                    instance.instance_id
                ),
                json!({ "AwsEc2Instance": { "IpV4Addresses": addresses(false), "IpV6Addresses": addresses(true) } }),
            )
        }
        Resource::AccessKey { access_key } => {
            let id = access_key.access_key_id.as_deref();
            let id = id
                .or(access_key.principal_id.as_deref())
                .unwrap_or(&access_key.user_name);
            (
                "AwsIamAccessKey",
                format!("AWS::IAM::AccessKey:{id}"),
                json!({ "AwsIamAccessKey": {
                    "AccessKeyId": access_key.access_key_id,
                    "AccountId": account,
                    "PrincipalId": access_key.principal_id,
                    "PrincipalName": access_key.user_name,
                    "PrincipalType": access_key.user_type,
                } }),
            )
        }
        Resource::RdsDbInstance { instance, .. } => {
            let name = &instance.db_instance_identifier;
            let arn = instance.db_instance_arn.clone();
            (
                "AwsRdsDbInstance",
                arn.unwrap_or_else(|| format!("arn:{partition}:rds:{region}:{account}:db:{name}")),
                json!({ "AwsRdsDbInstance": {
                    "DBInstanceIdentifier": name,
                    "DBClusterIdentifier": instance.db_cluster_identifier,
                    "Engine": instance.engine,
                } }),
            )
        }
        Resource::Lambda { function } => {
            let name = &function.function_name;
            (
                "AwsLambdaFunction",
                format!("arn:{partition}:lambda:{region}:{account}:function:{name}"),
                json!({ "AwsLambdaFunction": { "FunctionName": name } }),
            )
        }
    };
    json!({ "Type": kind, "Id": id, "Partition": partition, "Region": region, "Details": details })
}

/// GuardDuty's action in the spelling of ASFF, which knows four kinds.
fn action(action: &Action) -> Value {
    let kind = match action {
        Action::NetworkConnection { .. }
        | Action::DnsRequest { .. }
        | Action::PortProbe { .. }
        | Action::AwsApiCall { .. } => action,
        Action::RdsLoginAttempt { .. } | Action::Sensor {} => return Value::Null,
    };
    let Value::Object(members) = super::json(kind) else {
        return Value::Null;
    };
    let members = members.into_iter().map(|(name, value)| {
        let name = capital(&name);
        let value = if value.is_object() {
            spelled(value)
        } else {
            value
        };
        (name, value)
    });
    Value::Object(members.collect())
}

/// Names with a capital, and none that ASFF does not have.
fn spelled(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members
                .into_iter()
                .map(|(name, value)| (capital(&name), spelled(value)));
            Value::Object(
                members
                    .filter(|(name, _)| ACTION_MEMBERS.contains(&&**name))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(spelled).collect()),
        other => other,
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_stand_in_the_taxonomy() {
        let check = |name, expected| assert_eq!(kind(name), expected);
        check(
            "Backdoor:EC2/C&CActivity.B!DNS",
            "TTPs/Command and Control/Backdoor:EC2-C&CActivity.B!DNS",
        );
        check(
            "CryptoCurrency:EC2/BitcoinTool.B",
            "Effects/Resource Consumption/CryptoCurrency:EC2-BitcoinTool.B",
        );
        check(
            "Exfiltration:S3/AnomalousBehavior",
            "Effects/Data Exfiltration/Exfiltration:S3-AnomalousBehavior",
        );
        check(
            "Policy:IAMUser/RootCredentialUsage",
            "Software and Configuration Checks/AWS Security Best Practices/Policy:IAMUser-RootCredentialUsage",
        );
    }

    #[test]
    fn labels_are_those_of_the_bands() {
        for (severity, expected) in [
            (1.0, "LOW"),
            (3.9, "LOW"),
            (4.0, "MEDIUM"),
            (7.0, "HIGH"),
            (9.0, "CRITICAL"),
            (10.0, "CRITICAL"),
        ] {
            assert_eq!(label(severity), expected);
        }
    }
}
