//! Who is believed: trust policies of roles, identity providers, trust anchors, access of people.

use super::{Behaviour, Deed, FindingType, Look};
use crate::detections::evidence_of::quote;
use crate::policy::Policy;

const ACCOUNT: FindingType = FindingType::guardduty("Persistence:IAM/AccountManipulation", 8.0);
const ANCHOR: FindingType =
    FindingType::guardduty("Persistence:RolesAnywhere/AccountManipulation", 5.0);
const PROVIDER: FindingType =
    FindingType::picket("Persistence:IAMUser/IdentityProviderChanged", 5.0);
const CLUSTER: FindingType =
    FindingType::picket("PrivilegeEscalation:EKS/ClusterAccessGranted", 5.0);

pub(super) const LIST: &[Behaviour] = &[
    Behaviour {
        id: "role_trust_opened",
        kind: &ACCOUNT,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[("iam", &["UpdateAssumeRolePolicy", "CreateRole"])],
        judge: role_trust_opened,
        mitre: &["T1098.003", "T1199"],
        look_alikes: "roles for a vendor, which ask for an external id",
        first_look: &[
            "Whose account it is, and who agreed to let it in.",
            "What the role may do, and who took it since.",
        ],
    },
    Behaviour {
        id: "identity_provider_changed",
        kind: &PROVIDER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "iam",
            &[
                "AddClientIDToOpenIDConnectProvider",
                "CreateOpenIDConnectProvider",
                "CreateSAMLProvider",
                "DeleteSAMLProvider",
                "UpdateOpenIDConnectProviderThumbprint",
                "UpdateSAMLProvider",
            ],
        )],
        judge: |look| {
            let keys = ["name", "url", "sAMLProviderArn", "openIDConnectProviderArn"];
            let provider = quote(look.asked_any(&keys).unwrap_or("a provider"));
            Some(Deed::new(format!(
                "changed whom the account believes: {provider}"
            )))
        },
        mitre: &["T1484.002", "T1556.007"],
        look_alikes: "set-up of single sign-on, renewal of its certificate",
        first_look: &[
            "Who runs the provider.",
            "Which roles it opens, and who took them since.",
        ],
    },
    Behaviour {
        id: "sign_on_redirected",
        kind: &PROVIDER,
        severity: 8.0,
        planned: Some(3.0),
        calls: &[
            (
                "sso-directory",
                &[
                    "CreateExternalIdPConfigurationForDirectory",
                    "EnableExternalIdPConfigurationForDirectory",
                    "ImportExternalIdPCertificate",
                    "UpdateExternalIdPConfigurationForDirectory",
                ],
            ),
            ("sso", &["AssociateDirectory", "DisassociateDirectory"]),
        ],
        judge: |_| {
            Some(Deed::new(
                "changed who vouches for people in IAM Identity Center",
            ))
        },
        mitre: &["T1484.002"],
        look_alikes: "set-up of IAM Identity Center, once",
        first_look: &["Who runs the provider.", "Who signed in since."],
    },
    Behaviour {
        id: "people_made_admins",
        kind: &PROVIDER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[(
            "sso",
            &[
                "AttachManagedPolicyToPermissionSet",
                "PutInlinePolicyToPermissionSet",
            ],
        )],
        judge: |look| {
            let is_admin = look.mentions(":aws:policy/AdministratorAccess")
                || look
                    .policy("inlinePolicy")
                    .is_some_and(|policy| policy.is_admin());
            is_admin.then(|| Deed::new("let a permission set of IAM Identity Center do everything"))
        },
        mitre: &["T1098.003"],
        look_alikes: "set-up of IAM Identity Center",
        first_look: &["Who has the permission set, in which accounts."],
    },
    Behaviour {
        id: "trust_anchor_created",
        kind: &ANCHOR,
        severity: 5.0,
        planned: Some(3.0),
        calls: &[("rolesanywhere", &["CreateTrustAnchor", "UpdateTrustAnchor"])],
        judge: |look| {
            let name = quote(look.asked("name").unwrap_or("an anchor"));
            let deed = Deed::new(format!(
                "let a certificate authority vouch for roles: {name}"
            ));
            let is_bundle =
                look.mentions("x509CertificateData") || look.mentions("CERTIFICATE_BUNDLE");
            Some(if is_bundle { deed } else { deed.severity(3.0) })
        },
        mitre: &["T1098.001", "T1556"],
        look_alikes: "set-up of hosts outside AWS",
        first_look: &[
            "Who holds the authority's key.",
            "Which roles its profiles open.",
        ],
    },
    Behaviour {
        id: "cluster_admin_granted",
        kind: &CLUSTER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("eks", &["AssociateAccessPolicy"])],
        judge: |look| {
            let policy = look.asked("policyArn")?;
            let who = quote(look.asked("principalArn").unwrap_or("somebody"));
            let what = format!("made {who} an administrator of a cluster");
            policy.contains("AdminPolicy").then(|| Deed::new(what))
        },
        mitre: &["T1098.006"],
        look_alikes: "clusters being set up",
        first_look: &["Who the principal is, and what it did in the cluster."],
    },
    Behaviour {
        id: "cluster_opened",
        kind: &CLUSTER,
        severity: 5.0,
        planned: Some(2.0),
        calls: &[("eks", &["UpdateClusterConfig"])],
        judge: |look| {
            let access = "resourcesVpcConfig";
            let is_public = look.flag(&format!("{access}.endpointPublicAccess")) == Some(true);
            let from = look.all(&format!("{access}.publicAccessCidrs"));
            let anywhere = from.is_empty() || from.iter().any(|net| net == "0.0.0.0/0");
            (is_public && anywhere).then(|| Deed::new("opened a cluster's endpoint to everybody"))
        },
        mitre: &["T1133"],
        look_alikes: "clusters without a private network",
        first_look: &["Who called the endpoint since."],
    },
];

fn role_trust_opened(look: &Look<'_>) -> Option<Deed> {
    let policy: Policy = look
        .policy("policyDocument")
        .or_else(|| look.policy("assumeRolePolicyDocument"))?;
    let role = quote(look.asked("roleName").unwrap_or("a role"));
    if policy.open_to_everyone().is_some() {
        return Some(Deed::new(format!("let everybody take role {role}")).issue("*"));
    }
    let mut foreign = policy
        .accounts()
        .filter(|(_, account)| look.is_foreign(account));
    if let Some((statement, account)) = foreign.next() {
        let deed = Deed::new(format!(
            "let account {account}, which is not ours, take role {role}"
        ));
        let deed = deed.issue(account);
        return Some(if statement.asks_external_id() {
            deed.severity(5.0)
        } else {
            deed
        });
    }
    let provider = quote(policy.unconditional_provider()?);
    let what = format!("let whomever {provider} vouches for take role {role}");
    Some(Deed::new(what).severity(5.0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ME, check, check_all, event};

    #[test]
    fn roles() {
        let trust = |principal: &str, rest: &str, expected: &[(&str, f64)]| {
            let document = format!(
                r#"{{"Statement":[{{"Effect":"Allow","Principal":{{{principal}}},"Action":"sts:AssumeRole"{rest}}}]}}"#
            )
            .replace('"', "\\\"");
            let asked = format!(r#"{{"roleName":"r","policyDocument":"{document}"}}"#);
            check("iam", "UpdateAssumeRolePolicy", &asked, expected);
            let asked = asked.replace("policyDocument", "assumeRolePolicyDocument");
            check("iam", "CreateRole", &asked, expected);
        };
        let id = "role_trust_opened";
        trust(r#""AWS":"*""#, "", &[(id, 8.0)]);
        trust(
            r#""AWS":"arn:aws:iam::999988887777:root""#,
            "",
            &[(id, 8.0)],
        );
        let vendor = r#","Condition":{"StringEquals":{"sts:ExternalId":"x"}}"#;
        trust(r#""AWS":"999988887777""#, vendor, &[(id, 5.0)]);
        trust(&format!(r#""AWS":"arn:aws:iam::{ME}:user/bob""#), "", &[]);
        trust(r#""Service":"ec2.amazonaws.com""#, "", &[]);
        trust(r#""Federated":"arn:p""#, "", &[(id, 5.0)]);
        trust(r#""Federated":"arn:p""#, vendor, &[]);
        check("iam", "UpdateAssumeRolePolicy", "null", &[]);
        check(
            "iam",
            "UpdateAssumeRolePolicy",
            r#"{"policyDocument":"x"}"#,
            &[],
        );
    }

    #[test]
    fn an_account_whose_trail_is_read_is_ours() {
        let asked = r#"{"roleName":"r","policyDocument":{"Statement":
            {"Effect":"Allow","Principal":{"AWS":"999988887777"},"Action":"sts:AssumeRole"}}}"#;
        let change = || event("iam", "UpdateAssumeRolePolicy", asked, "");
        let crate::event::Event::Api(mut other) = event("iam", "GetUser", "{}", "") else {
            unreachable!("it is a call")
        };
        other.recipient_account = Some("999988887777".into());
        check_all(vec![crate::event::Event::Api(other), change()], &[]);
        check_all(vec![change()], &[("role_trust_opened", 8.0)]);
    }

    #[test]
    fn providers_and_anchors() {
        let id = "identity_provider_changed";
        check("iam", "CreateSAMLProvider", r#"{"name":"x"}"#, &[(id, 5.0)]);
        check("iam", "GetSAMLProvider", r#"{"name":"x"}"#, &[]);
        let bundle = r#"{"name":"x","source":{"sourceData":{"x509CertificateData":"-"}}}"#;
        let id = "trust_anchor_created";
        check("rolesanywhere", "CreateTrustAnchor", bundle, &[(id, 5.0)]);
        let own = r#"{"name":"x","source":{"sourceType":"AWS_ACM_PCA"}}"#;
        check("rolesanywhere", "CreateTrustAnchor", own, &[(id, 3.0)]);
        check("rolesanywhere", "ListTrustAnchors", "{}", &[]);
        let admin = r#"{"managedPolicyArn":"arn:aws:iam::aws:policy/AdministratorAccess"}"#;
        let id = "people_made_admins";
        check(
            "sso",
            "AttachManagedPolicyToPermissionSet",
            admin,
            &[(id, 5.0)],
        );
        check("sso", "AttachManagedPolicyToPermissionSet", "{}", &[]);
    }

    #[test]
    fn clusters() {
        let grant = |policy: &str| format!(r#"{{"principalArn":"p","policyArn":"arn:{policy}"}}"#);
        let id = "cluster_admin_granted";
        check(
            "eks",
            "AssociateAccessPolicy",
            &grant("AmazonEKSClusterAdminPolicy"),
            &[(id, 5.0)],
        );
        check(
            "eks",
            "AssociateAccessPolicy",
            &grant("AmazonEKSViewPolicy"),
            &[],
        );
        let open = |nets: &str| {
            format!(
                r#"{{"resourcesVpcConfig":{{"endpointPublicAccess":true,"publicAccessCidrs":[{nets}]}}}}"#
            )
        };
        check(
            "eks",
            "UpdateClusterConfig",
            &open(r#""0.0.0.0/0""#),
            &[("cluster_opened", 5.0)],
        );
        check(
            "eks",
            "UpdateClusterConfig",
            &open(r#""192.0.2.0/24""#),
            &[],
        );
    }
}
