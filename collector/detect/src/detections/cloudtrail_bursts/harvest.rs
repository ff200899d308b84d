//! Secrets and data taken in numbers: of secret stores, hosts, registries, buckets, and of people's own
//! portal.

use super::{Callers, Calls, Counts, FindingType, Rule, TEN_MINUTES, one};
use crate::detections::look::Look;

const SECRETS: FindingType = FindingType::picket("CredentialAccess:IAMUser/SecretsHarvested", 5.0);
const PASSWORDS: FindingType =
    FindingType::guardduty("CredentialAccess:EC2/UnsecuredCredentials", 5.0);
const USER_DATA: FindingType = FindingType::picket("CredentialAccess:EC2/UserDataRead", 5.0);
const PORTAL: FindingType =
    FindingType::picket("CredentialAccess:IAMUser/RoleCredentialsHarvested", 5.0);
const IMAGES: FindingType = FindingType::picket("Collection:IAMUser/ImagesPulled", 3.0);
const OBJECTS: FindingType = FindingType::picket("Collection:S3/ObjectsTaken", 5.0);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "secrets_read",
        kind: &SECRETS,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0), (15, 8.0)],
        calls: Calls::Named(&[("secretsmanager", &["GetSecretValue"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| one(look.asked("secretId")),
        noun: "read different secrets",
        mitre: &["T1555.006"],
        look_alikes: "people who move secrets elsewhere; the console, which reads one at a time",
        first_look: &[
            "Which secrets, and what they open.",
            "From where it was done.",
        ],
    },
    Rule {
        id: "parameters_decrypted",
        kind: &SECRETS,
        window_s: TEN_MINUTES,
        steps: &[(10, 5.0), (30, 8.0)],
        calls: Calls::Named(&[(
            "ssm",
            &["GetParameter", "GetParameters", "GetParametersByPath"],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: parameters,
        noun: "decrypted different parameters",
        mitre: &["T1555"],
        look_alikes: "people who start a program at their own desk",
        first_look: &[
            "Which parameters, and what they open.",
            "From where it was done.",
        ],
    },
    Rule {
        id: "host_passwords_fetched",
        kind: &PASSWORDS,
        window_s: TEN_MINUTES,
        steps: &[(1, 3.0), (3, 5.0), (10, 8.0)],
        calls: Calls::Named(&[("ec2", &["GetPasswordData"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| one(look.asked("instanceId")),
        noun: "asked for the passwords of different hosts",
        mitre: &["T1552"],
        look_alikes: "administrators of Windows hosts, who ask for one",
        first_look: &["Who logged in on these hosts since."],
    },
    Rule {
        id: "user_data_read",
        kind: &USER_DATA,
        window_s: TEN_MINUTES,
        steps: &[(3, 5.0), (8, 8.0)],
        calls: Calls::Named(&[(
            "ec2",
            &["DescribeInstanceAttribute", "GetLaunchTemplateData"],
        )]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| {
            let is_template = look.call.event_name.starts_with("GetLaunch");
            let reads = is_template || look.asked("attribute") == Some("userData");
            one(look
                .asked("instanceId")
                .filter(|_| reads && !look.is_console()))
        },
        noun: "read what different hosts run at their start",
        mitre: &["T1552.005", "T1580"],
        look_alikes: "inventories that people run",
        first_look: &["Whether secrets stand in it.", "What the caller did next."],
    },
    Rule {
        id: "role_credentials_taken",
        kind: &PORTAL,
        window_s: TEN_MINUTES,
        steps: &[(5, 5.0), (15, 8.0)],
        calls: Calls::Named(&[("sso", &["GetRoleCredentials"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: portal_role,
        noun: "took credentials of different roles from the portal",
        mitre: &["T1528", "T1078.004"],
        look_alikes: "tools that fill a person's profiles for all accounts",
        first_look: &[
            "From where the person's session is used else.",
            "Whether the person signed a device in before.",
        ],
    },
    Rule {
        id: "images_pulled",
        kind: &IMAGES,
        window_s: TEN_MINUTES,
        steps: &[(8, 3.0), (20, 5.0)],
        calls: Calls::Named(&[("ecr", &["BatchGetImage", "GetDownloadUrlForLayer"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| one(look.asked("repositoryName")),
        noun: "pulled images of different repositories",
        mitre: &["T1613", "T1005"],
        look_alikes: "developers who fetch everything once",
        first_look: &[
            "From where it was done.",
            "Whether secrets stand in the images.",
        ],
    },
    Rule {
        id: "keys_decrypt",
        kind: &SECRETS,
        window_s: TEN_MINUTES,
        steps: &[(4, 3.0), (8, 5.0)],
        calls: Calls::Named(&[("kms", &["Decrypt"])]),
        by: Callers::NotMachines,
        counts: Counts::Attempts,
        things: |look| {
            let keys = look
                .call
                .resources
                .iter()
                .filter_map(|one| one.arn.as_deref());
            let keys: Vec<String> = keys.map(str::to_owned).collect();
            match look.is_console() {
                true => Vec::new(),
                false if keys.is_empty() => one(look.asked("keyId")),
                false => keys,
            }
        },
        noun: "had things decrypted by different keys",
        mitre: &["T1555", "T1552"],
        look_alikes: "people who move data from one place to another",
        first_look: &[
            "What is encrypted with the keys.",
            "From where it was done.",
        ],
    },
    Rule {
        id: "objects_taken",
        kind: &OBJECTS,
        window_s: TEN_MINUTES,
        steps: &[(60, 3.0), (200, 5.0)],
        calls: Calls::Named(&[("s3", &["CopyObject", "GetObject"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: objects,
        noun: "read different objects by program",
        mitre: &["T1530", "T1119"],
        look_alikes: "people who fetch a data set",
        first_look: &[
            "What the objects hold.",
            "Whether this caller was ever there before, and from where it came.",
        ],
    },
    Rule {
        id: "objects_read_by_anybody",
        kind: &OBJECTS,
        window_s: TEN_MINUTES,
        // A web site is read so all day: it is low whatever the number.
        steps: &[(40, 3.0)],
        calls: Calls::Named(&[("s3", &["GetObject"])]),
        by: Callers::All,
        counts: Counts::Attempts,
        things: |look| {
            let key = look.asked("key").filter(|_| look.is_anybody());
            key.map(|key| format!("{} {key}", look.asked("bucketName").unwrap_or_default()))
                .into_iter()
                .collect()
        },
        noun: "whom nobody knows read different objects",
        mitre: &["T1530"],
        look_alikes: "visitors of a web site",
        first_look: &["Whether everybody is meant to read the bucket."],
    },
];

/// Objects that a call read, where it is not the caller's daily work: a person's by program, or anybody's
/// from where it never was.
fn objects(look: &Look<'_>) -> Vec<String> {
    let is_work = !look.is_person() || look.is_console() || look.is_usual();
    if is_work && !look.is_elsewhere() {
        return Vec::new();
    }
    let bucket = look.asked("bucketName").unwrap_or_default();
    let key = look.asked_any(&["key", "x-amz-copy-source"]);
    key.map(|key| format!("{bucket}/{key}"))
        .into_iter()
        .collect()
}

/// Parameters that a call had decrypted. A whole tree counts as ten.
fn parameters(look: &Look<'_>) -> Vec<String> {
    if look.flag("withDecryption") != Some(true) {
        return Vec::new();
    }
    match look.asked("path") {
        Some(path) => (0..10).map(|at| format!("{path} {at}")).collect(),
        None => {
            let mut names = look.all("names");
            names.extend(look.all("name"));
            names
        }
    }
}

/// The role in an account that the portal gave credentials of.
fn portal_role(look: &Look<'_>) -> Vec<String> {
    let told = &look.call.service_event_details;
    let role = look.asked("roleName").or_else(|| told.text("role_name"));
    let account = look.asked("accountId").or_else(|| told.text("account_id"));
    let both = role.map(|role| format!("{} {role}", account.unwrap_or_default()));
    both.into_iter().collect()
}
