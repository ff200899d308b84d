//! IAM policy documents: who may do what to what, and under which conditions.
//!
//! Elements as in the IAM user guide, "IAM JSON policy elements reference". A policy comes from whoever
//! made the call, so anything may stand anywhere: what is not understood grants nothing, and a condition
//! that is not understood narrows nothing.

use serde_json::Value;

/// A policy document.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    statements: Vec<Statement>,
}

/// One statement. Actions are in lower case, as IAM compares them.
#[derive(Debug)]
pub(crate) struct Statement {
    allows: bool,
    principals: Vec<Principal>,
    /// `NotPrincipal`: everybody but those.
    all_but: bool,
    actions: Vec<String>,
    /// `NotAction`: everything but those.
    all_actions_but: bool,
    resources: Vec<String>,
    /// `NotResource`.
    all_resources_but: bool,
    conditions: Vec<Condition>,
}

/// Whom a statement is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Principal {
    /// `*`.
    Everyone,
    /// An account, or somebody in it.
    Account(String),
    /// A SAML or OpenID provider.
    Federated(String),
    /// A service, a canonical user, anything else.
    Other,
}

#[derive(Debug)]
struct Condition {
    operator: String,
    key: String,
    values: Vec<String>,
}

/// Condition keys that say who the caller is or where the call comes from, in lower case: a statement
/// for everybody that names one of them with a value is not for everybody. From the list that S3's
/// guide gives for "the meaning of public", and the keys for callers that are services.
const NARROWING: &[&str] = &[
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principalservicename",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
    "kms:calleraccount",
    "kms:viaservice",
    "lambda:eventsourcetoken",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
    "sns:endpoint",
];

impl Policy {
    /// Reads a policy that stands as an object or as text, percent-encoded or not.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Object(members) => {
                let statements = match members.get("Statement")? {
                    Value::Array(items) => items.iter().filter_map(Statement::of).collect(),
                    one => Statement::of(one).into_iter().collect(),
                };
                Some(Self { statements })
            }
            Value::String(text) if text.starts_with("%7B") => {
                Self::of(&serde_json::from_str(&percent_decoded(text)).ok()?)
            }
            Value::String(text) => {
                let value: Value = serde_json::from_str(text).ok()?;
                value.is_object().then(|| Self::of(&value)).flatten()
            }
            _ => None,
        }
    }

    /// A statement that lets everybody in: for `*`, not narrowed by a condition, not taken back by a
    /// denial.
    pub(crate) fn open_to_everyone(&self) -> Option<&Statement> {
        self.statements.iter().find(|statement| {
            statement.allows
                && statement.is_for_everyone()
                && !statement.is_narrowed()
                && !self.takes_back(statement)
        })
    }

    /// Every statement that allows something, with each account it lets in.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&Statement, &str)> {
        let allowing = self.statements.iter().filter(|statement| statement.allows);
        allowing.flat_map(|statement| {
            let named = statement
                .principals
                .iter()
                .filter_map(move |one| match one {
                    Principal::Account(account) if !statement.all_but => Some(&**account),
                    _ => None,
                });
            named.map(move |account| (statement, account))
        })
    }

    /// The provider of a statement that lets in whomever it vouches for: no condition says for whom.
    pub(crate) fn unconditional_provider(&self) -> Option<&str> {
        let open = self
            .statements
            .iter()
            .filter(|s| s.allows && s.conditions.is_empty());
        open.flat_map(|s| &s.principals).find_map(|one| match one {
            Principal::Federated(provider) => Some(&**provider),
            _ => None,
        })
    }

    /// Says whether it allows everything on everything, whatever the condition: conditions can be met.
    pub(crate) fn is_admin(&self) -> bool {
        self.statements.iter().any(|s| {
            let any_action = s.actions.iter().any(|a| a == "*" || a == "*:*");
            s.allows && (any_action != s.all_actions_but) && s.is_on_everything()
        })
    }

    /// Says whether it allows `action` (in lower case, such as `iam:putuserpolicy`) on everything.
    pub(crate) fn grants(&self, action: &str) -> bool {
        self.statements.iter().any(|s| {
            let named = s.actions.iter().any(|pattern| glob(pattern, action));
            s.allows && (named != s.all_actions_but) && s.is_on_everything()
        })
    }

    /// Says whether a denial for everybody takes back all that `statement` allows.
    fn takes_back(&self, statement: &Statement) -> bool {
        let covers = |wide: &[String], narrow: &[String]| {
            narrow
                .iter()
                .all(|one| wide.iter().any(|pattern| glob(pattern, one)))
        };
        self.statements.iter().any(|denial| {
            !denial.allows
                && denial.is_for_everyone()
                && denial.conditions.is_empty()
                && !denial.all_actions_but
                && !denial.all_resources_but
                && !statement.all_actions_but
                && !statement.all_resources_but
                && covers(&denial.actions, &statement.actions)
                && covers(&denial.resources, &statement.resources)
        })
    }

    /// Says whether it denies everybody something, whatever the condition.
    pub(crate) fn denies_everyone(&self, action: &str) -> bool {
        self.statements.iter().any(|s| {
            let named = s.actions.iter().any(|pattern| glob(pattern, action));
            !s.allows
                && s.is_for_everyone()
                && s.conditions.is_empty()
                && (named != s.all_actions_but)
        })
    }
}

impl Statement {
    fn of(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        let allows = match members.get("Effect")?.as_str()? {
            "Allow" => true,
            "Deny" => false,
            _ => return None,
        };
        let either = |plain: &str, negated: &str| match members.get(plain) {
            Some(value) => (Some(value), false),
            None => (members.get(negated), members.contains_key(negated)),
        };
        let (principals, all_but) = either("Principal", "NotPrincipal");
        let (actions, all_actions_but) = either("Action", "NotAction");
        let (resources, all_resources_but) = either("Resource", "NotResource");
        Some(Self {
            allows,
            principals: principals.map(principals_of).unwrap_or_default(),
            all_but,
            actions: actions.map(lowered).unwrap_or_default(),
            all_actions_but,
            resources: resources.map(texts).unwrap_or_default(),
            all_resources_but,
            conditions: members
                .get("Condition")
                .map(conditions_of)
                .unwrap_or_default(),
        })
    }

    fn is_for_everyone(&self) -> bool {
        // An allowance for all but some is one for everybody else.
        self.all_but || self.principals.contains(&Principal::Everyone)
    }

    /// Says whether a condition tells who may call, or from where.
    fn is_narrowed(&self) -> bool {
        self.conditions.iter().any(Condition::narrows)
    }

    /// Says whether the caller must know a secret that was agreed on, as vendors ask for.
    pub(crate) fn asks_external_id(&self) -> bool {
        self.conditions.iter().any(|c| c.key == "sts:externalid")
    }

    /// Says whether all it allows is to write objects, as services that deliver logs do.
    pub(crate) fn only_puts_objects(&self) -> bool {
        !self.all_actions_but
            && !self.actions.is_empty()
            && self.actions.iter().all(|action| {
                matches!(
                    &**action,
                    "s3:putobject" | "s3:putobjectacl" | "s3:getbucketacl"
                )
            })
    }

    fn is_on_everything(&self) -> bool {
        // A document for roles to assume has no resource.
        self.all_resources_but || self.resources.iter().any(|resource| resource == "*")
    }
}

impl Condition {
    fn narrows(&self) -> bool {
        let operator = self.operator.as_str();
        // A negated one excludes a few; one with `IfExists` lets in whoever leaves the key out.
        let negated =
            operator.contains("not") || operator.ends_with("ifexists") || operator == "null";
        let any = |value: &String| {
            matches!(value.as_str(), "*" | "0.0.0.0/0" | "::/0" | "arn:aws:*") || value.is_empty()
        };
        let known = NARROWING
            .iter()
            .any(|key| key.eq_ignore_ascii_case(&self.key));
        known && !negated && !self.values.is_empty() && !self.values.iter().any(any)
    }
}

fn conditions_of(value: &Value) -> Vec<Condition> {
    let operators = value.as_object().into_iter().flatten();
    let all = operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(|(key, values)| Condition {
            // `ForAnyValue:StringEquals` compares as `StringEquals` does.
            operator: operator
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase(),
            key: key.to_ascii_lowercase(),
            values: texts(values),
        })
    });
    all.collect()
}

fn principals_of(value: &Value) -> Vec<Principal> {
    let Value::Object(kinds) = value else {
        return texts(value)
            .iter()
            .map(|text| aws_principal(text))
            .collect();
    };
    let all = kinds.iter().flat_map(|(kind, names)| {
        let of = move |name: &String| match kind.as_str() {
            "AWS" => aws_principal(name),
            "Federated" => Principal::Federated(name.clone()),
            "*" => Principal::Everyone,
            _ => Principal::Other,
        };
        texts(names).iter().map(of).collect::<Vec<_>>()
    });
    all.collect()
}

/// What stands under `AWS`: `*`, an account, an ARN, or the id of somebody who is gone.
fn aws_principal(text: &str) -> Principal {
    if text == "*" {
        return Principal::Everyone;
    }
    match account_of(text) {
        Some(account) => Principal::Account(account.to_owned()),
        None => Principal::Other,
    }
}

/// The account that an ARN or a bare number names.
pub(crate) fn account_of(text: &str) -> Option<&str> {
    let account = if text.starts_with("arn:") {
        text.split(':').nth(4)?
    } else {
        text
    };
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    is_account.then_some(account)
}

/// Every text of a list, or the one that stands alone. Numbers and flags count as written.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        Value::Array(items) => items.iter().filter_map(one).collect(),
        alone => one(alone).into_iter().collect(),
    }
}

fn lowered(value: &Value) -> Vec<String> {
    let mut all = texts(value);
    all.iter_mut().for_each(|text| text.make_ascii_lowercase());
    all
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let digits = after.first().zip(after.get(1));
        match digits.and_then(|(&high, &low)| hex(high).zip(hex(low))) {
            Some((high, low)) if first == b'%' => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Says whether `text` fits `pattern`, in which `*` stands for anything and `?` for one character. Takes
/// at most the product of their lengths.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&b) if b == b'?' || b == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(statement: &str) -> Policy {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        Policy::of(&Value::String(text)).unwrap()
    }

    #[test]
    fn open_to_everyone_means_no_condition_says_who() {
        let check = |rest: &str, expected: bool| {
            let statement = format!(
                r#"[{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"{rest}}}]"#
            );
            assert_eq!(
                policy(&statement).open_to_everyone().is_some(),
                expected,
                "{rest}"
            );
        };
        check("", true);
        check(
            r#","Condition":{"Bool":{"aws:SecureTransport":"true"}}"#,
            true,
        );
        check(
            r#","Condition":{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#,
            true,
        );
        check(
            r#","Condition":{"StringLike":{"aws:PrincipalArn":"*"}}"#,
            true,
        );
        check(
            r#","Condition":{"StringNotEquals":{"aws:SourceVpc":"vpc-1"}}"#,
            true,
        );
        check(
            r#","Condition":{"StringEqualsIfExists":{"aws:SourceVpc":"vpc-1"}}"#,
            true,
        );
        check(
            r#","Condition":{"IpAddress":{"aws:SourceIp":["192.0.2.0/24"]}}"#,
            false,
        );
        check(
            r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
            false,
        );
        check(
            r#","Condition":{"StringEquals":{"AWS:SourceOwner":"111122223333"}}"#,
            false,
        );
        check(
            r#","Condition":{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-1/*"}}"#,
            false,
        );
        check(
            r#"},{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"s3:*","Resource":"*""#,
            false,
        );
        check(
            r#"},{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"*""#,
            true,
        );
    }

    #[test]
    fn everyone_has_several_names() {
        let check = |principal: &str, expected: bool| {
            let one = policy(&format!(r#"{{"Effect":"Allow",{principal},"Action":"*"}}"#));
            assert_eq!(one.open_to_everyone().is_some(), expected, "{principal}");
        };
        check(r#""Principal":"*""#, true);
        check(r#""Principal":{"AWS":"*"}"#, true);
        check(r#""Principal":{"AWS":["111122223333","*"]}"#, true);
        check(r#""NotPrincipal":{"AWS":"111122223333"}"#, true);
        check(r#""Principal":{"Service":"*"}"#, false);
        check(r#""Principal":{"AWS":"111122223333"}"#, false);
        check(r#""Resource":"*""#, false);
    }

    #[test]
    fn accounts_are_read_off_whatever_names_them() {
        let one = policy(
            r#"[{"Effect":"Allow","Principal":{"AWS":["111122223333","arn:aws:iam::444455556666:root",
            "arn:aws-cn:sts::777788889999:assumed-role/r/s","AIDAGONE"],"Service":"ec2.amazonaws.com"}},
            {"Effect":"Deny","Principal":{"AWS":"123456789012"}}]"#,
        );
        let accounts: Vec<&str> = one.accounts().map(|(_, account)| account).collect();
        assert_eq!(accounts, ["111122223333", "444455556666", "777788889999"]);
    }

    #[test]
    fn everything_is_everything_on_everything() {
        let check = |statement: &str, expected: bool| {
            assert_eq!(policy(statement).is_admin(), expected, "{statement}");
        };
        check(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#, true);
        check(
            r#"[{"Effect":"Allow","Action":["*:*"],"Resource":["*"]}]"#,
            true,
        );
        check(
            r#"{"Effect":"Allow","NotAction":"billing:*","Resource":"*"}"#,
            true,
        );
        check(
            r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#,
            false,
        );
        check(
            r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b"}"#,
            false,
        );
        check(r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#, false);
        check(
            r#"{"Effect":"Allow","NotAction":"*","Resource":"*"}"#,
            false,
        );
    }

    #[test]
    fn patterns_grant() {
        let one = policy(r#"{"Effect":"Allow","Action":"iam:Put*","Resource":"*"}"#);
        assert!(one.grants("iam:putuserpolicy") && !one.grants("iam:attachuserpolicy"));
        let two = policy(r#"{"Effect":"Allow","Action":"iam:Put*","Resource":"arn:x"}"#);
        assert!(!two.grants("iam:putuserpolicy"));
    }

    #[test]
    fn providers_without_a_condition_are_told() {
        let federated = |rest: &str| {
            policy(&format!(
                r#"{{"Effect":"Allow","Principal":{{"Federated":"arn:p"}},"Action":"sts:AssumeRoleWithWebIdentity"{rest}}}"#
            ))
        };
        assert_eq!(federated("").unconditional_provider(), Some("arn:p"));
        let held = federated(r#","Condition":{"StringEquals":{"x:aud":"y"}}"#);
        assert_eq!(held.unconditional_provider(), None);
    }

    #[test]
    fn documents_come_in_several_wrappings() {
        let encoded = Value::from("%7B%22Statement%22%3A%5B%5D%7D");
        assert!(Policy::of(&encoded).is_some());
        assert!(Policy::of(&serde_json::json!({"Statement": []})).is_some());
        for odd in ["", "x", "[]", "%7B", "%7B%2", "{}", "\"{}\""] {
            assert!(Policy::of(&Value::from(odd)).is_none(), "{odd}");
        }
    }

    #[test]
    fn globs() {
        let check =
            |pattern, text, expected| assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        check("*", "", true);
        check("a*c", "abbc", true);
        check("a*c", "abbd", false);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("*b*", "abc", true);
        check("", "a", false);
        check("s3:*", "s3:getobject", true);
    }

    proptest! {
        #[test]
        fn anything_may_stand_there(text in "[ -~%{}\\[\\]\":,]{0,200}") {
            let policy = Policy::of(&Value::from(text.as_str())).unwrap_or_default();
            policy.open_to_everyone();
            let plain = text.replace(['*', '?'], "x");
            let fits = glob(&format!("{plain}*"), &plain);
            prop_assert!(fits);
        }
    }
}
