//! Profiles of the shared files, `~/.aws/credentials` and `~/.aws/config`.
//!
//! ```text
//! [default]                  of credentials, and of config
//! [profile member]           of config; in credentials it is [member]
//! role_arn = arn:…           assumed with the credentials of source_profile or credential_source
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::limits::PROFILES_MAX;
use super::super::sts;
use super::{AwsError, Credentials, Means, Role, SESSION, environment, local, read};

type Section = BTreeMap<String, String>;

fn named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The sections of both files by the name of their profile; those of `credentials` come first.
#[derive(Debug, Default)]
struct Profiles(BTreeMap<String, Section>);

impl Profiles {
    fn of_this_user() -> Result<Self, AwsError> {
        let home = named("HOME").map(PathBuf::from);
        let place = |name: &str, file: &str| {
            let own = home.as_ref().map(|home| home.join(".aws").join(file));
            named(name).map(PathBuf::from).or(own)
        };
        let mut profiles = Self::default();
        for (place, is_config) in [
            (place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false),
            (place("AWS_CONFIG_FILE", "config"), true),
        ] {
            if let Some(path) = place.filter(|path| path.exists()) {
                profiles.add(&read(&path)?, is_config);
            }
        }
        Ok(profiles)
    }

    /// Takes the text of a file in; what is there already stays.
    fn add(&mut self, text: &str, is_config: bool) {
        let mut section = None;
        for line in text.lines() {
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(head) = line
                .strip_prefix('[')
                .and_then(|line| line.split(']').next())
            {
                let mut words = head.split_whitespace();
                section = match (words.next(), words.next()) {
                    (Some(name), None) => Some(name.to_owned()),
                    (Some("profile"), Some(name)) if is_config => {
                        Some(name.trim_matches('"').to_owned())
                    }
                    // `[sso-session x]` and its like.
                    _ => None,
                };
                continue;
            }
            // Lines that are set in belong to the one above: settings of single services.
            let Some((key, value)) = line.split_once('=').filter(|_| !is_nested) else {
                continue;
            };
            if let Some(name) = &section {
                let value = value.split(" #").next().unwrap_or_default().trim();
                self.0
                    .entry(name.clone())
                    .or_default()
                    .entry(key.trim().to_ascii_lowercase())
                    .or_insert_with(|| value.to_owned());
            }
        }
    }
}

fn chosen() -> (String, bool) {
    named("AWS_PROFILE").map_or_else(|| ("default".to_owned(), false), |name| (name, true))
}

/// The region of the profile in use.
pub(super) fn region() -> Option<String> {
    let profiles = Profiles::of_this_user().ok()?;
    profiles.0.get(&chosen().0)?.get("region").cloned()
}

/// Credentials of the profile in use; `None` if it has none to give.
pub(super) async fn find(means: &Means) -> Result<Option<Credentials>, AwsError> {
    let profiles = Profiles::of_this_user()?;
    let (name, is_asked_for) = chosen();
    if !is_asked_for && !profiles.0.contains_key(&name) {
        return Ok(None);
    }
    let plan = plan(&profiles, &name)?;
    let mut credentials = match plan.begin {
        Begin::Static(credentials) => credentials,
        Begin::Nothing if !is_asked_for && plan.roles.is_empty() => return Ok(None),
        Begin::Nothing => {
            return Err(AwsError::Credentials(format!("profile {name} gives none")));
        }
        Begin::Environment => environment()?.ok_or_else(|| {
            AwsError::Credentials(format!(
                "profile {name} asks for the environment's; it has none"
            ))
        })?,
        Begin::Instance => local::instance().await?,
        Begin::Container => local::container(means).await?.ok_or_else(|| {
            AwsError::Credentials(format!(
                "profile {name} asks for a container's; this is none"
            ))
        })?,
        Begin::Token { file, role } => {
            sts::assume_with_token(means, read(file.as_ref())?.trim(), &role).await?
        }
    };
    for role in &plan.roles {
        credentials = sts::assume(means, &credentials, role).await?;
    }
    Ok(Some(credentials))
}

/// What a profile comes down to.
#[derive(Debug)]
struct Plan {
    begin: Begin,
    /// Assumed one after the other.
    roles: Vec<Role>,
}

#[derive(Debug)]
enum Begin {
    Nothing,
    Static(Credentials),
    Environment,
    Instance,
    Container,
    Token { file: String, role: Role },
}

fn plan(profiles: &Profiles, name: &str) -> Result<Plan, AwsError> {
    let bad = |why: String| AwsError::Credentials(why);
    let (mut roles, mut at) = (Vec::new(), name.to_owned());
    for _ in 0..PROFILES_MAX {
        let section = profiles
            .0
            .get(&at)
            .ok_or_else(|| bad(format!("there is no profile {at}")))?;
        let of = |key: &str| section.get(key).cloned();
        let role = of("role_arn").map(|arn| Role {
            arn,
            external_id: of("external_id"),
            session: of("role_session_name").unwrap_or_else(|| SESSION.to_owned()),
        });
        let is_itself = of("source_profile").is_some_and(|source| source == at);
        let begin = match (role, of("web_identity_token_file")) {
            (Some(role), Some(file)) => Begin::Token { file, role },
            (Some(role), None) => {
                roles.push(role);
                match (of("source_profile"), of("credential_source").as_deref()) {
                    (Some(source), _) if !is_itself => {
                        at = source;
                        continue;
                    }
                    (Some(_), _) => fixed(section),
                    (None, Some("Environment")) => Begin::Environment,
                    (None, Some("Ec2InstanceMetadata")) => Begin::Instance,
                    (None, Some("EcsContainer")) => Begin::Container,
                    _ => {
                        return Err(bad(format!(
                            "profile {at} has a role and neither source_profile nor credential_source"
                        )));
                    }
                }
            }
            (None, _) => match fixed(section) {
                Begin::Nothing => {
                    let other = section
                        .keys()
                        .find(|key| key.starts_with("sso_") || *key == "credential_process");
                    if let Some(key) = other {
                        return Err(bad(format!(
                            "profile {at} asks for {key}, which is not supported"
                        )));
                    }
                    Begin::Nothing
                }
                begin => begin,
            },
        };
        roles.reverse();
        return Ok(Plan { begin, roles });
    }
    Err(bad(format!("profile {name} leads in a circle")))
}

fn fixed(section: &Section) -> Begin {
    let of = |key: &str| section.get(key).cloned();
    match (of("aws_access_key_id"), of("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Begin::Static(Credentials {
            id,
            secret,
            token: of("aws_session_token"),
            until: None,
        }),
        _ => Begin::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s1 \n\n\
        [other]\nAWS_ACCESS_KEY_ID = AKIA2\naws_secret_access_key = s2\naws_session_token = t2\n";
    const CONFIG: &str = "[default]\nregion = eu-central-1 # home\naws_access_key_id = NOT\ns3 =\n    \
        max_concurrent_requests = 20\n[profile member]\nrole_arn = arn:aws:iam::2:role/a\n\
        source_profile = middle\nexternal_id = 42\n[profile middle]\nrole_arn = arn:aws:iam::1:role/b\n\
        source_profile = other\nrole_session_name = me\n[profile \"host\"]\nrole_arn = r\n\
        credential_source = Ec2InstanceMetadata\n[profile circle]\nrole_arn = r\nsource_profile = round\n\
        [profile round]\nrole_arn = r\nsource_profile = circle\n[sso-session x]\nsso_region = y\n\
        [profile single]\nsso_session = x\n[profile half]\nrole_arn = r\n[profile self]\nrole_arn = r\n\
        source_profile = self\naws_access_key_id = AKIA3\naws_secret_access_key = s\n[profile token]\n\
        role_arn = r\nweb_identity_token_file = /token\n";

    fn profiles() -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(CREDENTIALS, false);
        profiles.add(CONFIG, true);
        profiles
    }

    fn begins(name: &str) -> (String, Vec<Role>) {
        match plan(&profiles(), name) {
            Ok(plan) => (format!("{:?}", plan.begin), plan.roles),
            Err(error) => (error.to_string(), Vec::new()),
        }
    }

    #[test]
    fn profiles_come_down_to_a_beginning_and_roles() {
        for (name, expected) in [
            ("default", "Static(credentials AKIA1)"),
            ("other", "Static(credentials AKIA2)"),
            ("member", "Static(credentials AKIA2)"),
            ("self", "Static(credentials AKIA3)"),
            ("host", "Instance"),
            ("circle", "circle"),
            ("single", "sso_session, which is not supported"),
            ("half", "neither source_profile"),
            ("none", "no profile none"),
        ] {
            let (begins, _) = begins(name);
            assert!(begins.contains(expected), "{name}: {begins}");
        }
        let (_, roles) = begins("member");
        let told: Vec<_> = roles
            .iter()
            .map(|role| {
                (
                    role.arn.as_str(),
                    role.external_id.as_deref(),
                    role.session.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("arn:aws:iam::1:role/b", None, "me"),
                ("arn:aws:iam::2:role/a", Some("42"), SESSION)
            ]
        );
        let region = profiles().0["default"].get("region").cloned();
        assert_eq!(region.as_deref(), Some("eu-central-1"));
        assert!(begins("token").0.contains("/token"));
    }
}
