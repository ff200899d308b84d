//! Who made a call: CloudTrail's `userIdentity`.
//!
//! Fields as in the CloudTrail user guide, "CloudTrail userIdentity element".

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::json::{Members, Object, Text};

/// What kind of identity made a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum IdentityKind {
    /// The account's root user.
    Root,
    /// An IAM user.
    IamUser,
    /// A session of a role.
    AssumedRole,
    /// A role itself (as session issuer).
    Role,
    /// A session made by `GetFederationToken`.
    FederatedUser,
    /// A directory's user.
    Directory,
    /// Another account.
    AwsAccount,
    /// An AWS service acting for itself.
    AwsService,
    /// A user of IAM Identity Center.
    IdentityCenterUser,
    /// A SAML assertion.
    SamlUser,
    /// A web identity token.
    WebIdentityUser,
    /// Nothing was said, or `Unknown` was.
    #[default]
    Unknown,
    /// A word not listed here.
    Other(Box<str>),
}

impl IdentityKind {
    fn of(text: Box<str>) -> Self {
        match &*text {
            "Root" => Self::Root,
            // `User` stands in events passed on by AWS Config.
            "IAMUser" | "User" => Self::IamUser,
            "AssumedRole" => Self::AssumedRole,
            "Role" => Self::Role,
            "FederatedUser" => Self::FederatedUser,
            "Directory" => Self::Directory,
            "AWSAccount" => Self::AwsAccount,
            "AWSService" => Self::AwsService,
            "IdentityCenterUser" => Self::IdentityCenterUser,
            "SAMLUser" => Self::SamlUser,
            "WebIdentityUser" => Self::WebIdentityUser,
            "Unknown" => Self::Unknown,
            _ => Self::Other(text),
        }
    }

    /// The word CloudTrail uses.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Root => "Root",
            Self::IamUser => "IAMUser",
            Self::AssumedRole => "AssumedRole",
            Self::Role => "Role",
            Self::FederatedUser => "FederatedUser",
            Self::Directory => "Directory",
            Self::AwsAccount => "AWSAccount",
            Self::AwsService => "AWSService",
            Self::IdentityCenterUser => "IdentityCenterUser",
            Self::SamlUser => "SAMLUser",
            Self::WebIdentityUser => "WebIdentityUser",
            Self::Unknown => "Unknown",
            Self::Other(text) => text,
        }
    }
}

/// Who made a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// What kind of identity.
    pub kind: IdentityKind,
    /// Its ARN.
    pub arn: Option<Box<str>>,
    /// The account it belongs to.
    pub account: Option<Box<str>>,
    /// Its unique id; for a role session `<role id>:<session name>`.
    pub principal_id: Option<Box<str>>,
    /// The access key that signed the call.
    pub access_key_id: Option<Box<str>>,
    /// Friendly name of a user.
    pub user_name: Option<Box<str>>,
    /// What the temporary credentials came from.
    pub session_issuer: Option<Box<SessionIssuer>>,
    /// When the session began, as written.
    pub session_created: Option<Box<str>>,
    /// Whether the session was opened with a second factor, where said.
    pub mfa: Option<bool>,
    /// The AWS service that made the call for somebody.
    pub invoked_by: Option<Box<str>>,
    /// `1.0` or `2.0`: the metadata service version that handed out an instance's credentials.
    pub ec2_role_delivery: Option<Box<str>>,
    /// Who issued a federated or web identity, where said.
    pub provider: Option<Box<str>>,
}

/// What temporary credentials came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionIssuer {
    /// What kind: mostly a role.
    pub kind: IdentityKind,
    /// Its ARN.
    pub arn: Option<Box<str>>,
    /// Its account.
    pub account: Option<Box<str>>,
    /// Its unique id.
    pub principal_id: Option<Box<str>>,
    /// Its friendly name.
    pub user_name: Option<Box<str>>,
}

impl Identity {
    /// Name of the role session: the last part of an assumed-role ARN, else what follows the colon
    /// of the principal id. An EC2 instance's own role names its sessions after the instance.
    pub fn session_name(&self) -> Option<&str> {
        let from_arn = || {
            let resource = resource(self.arn.as_deref()?);
            Some(resource.strip_prefix("assumed-role/")?.rsplit_once('/')?.1)
        };
        let from_principal = || Some(self.principal_id.as_deref()?.split_once(':')?.1);
        from_arn()
            .or_else(from_principal)
            .filter(|name| !name.is_empty())
    }

    /// Name of the role behind a session, without its path.
    pub fn role_name(&self) -> Option<&str> {
        if let Some(issuer) = &self.session_issuer {
            if let Some(name) = &issuer.user_name {
                return Some(name);
            }
            if let Some(arn) = &issuer.arn {
                return arn.rsplit_once('/').map(|(_, name)| name);
            }
        }
        let resource = resource(self.arn.as_deref()?);
        resource.strip_prefix("assumed-role/")?.split('/').next()
    }

    /// The name to show: user, role, service or whatever is known, in that order.
    pub fn name(&self) -> Option<&str> {
        self.user_name
            .as_deref()
            .or_else(|| self.role_name())
            .or(self.invoked_by.as_deref())
            .or(self.arn.as_deref())
            .or(self.principal_id.as_deref())
    }

    /// What stays the same over sessions and keys: the role's ARN for a session, else the ARN,
    /// else the principal id before its colon, else the access key. Nobody is the same as nobody else: who
    /// is anonymous has none.
    pub fn actor(&self) -> Option<&str> {
        let issuer = self.session_issuer.as_ref();
        issuer
            .and_then(|issuer| issuer.arn.as_deref())
            .or(self.arn.as_deref())
            .or_else(|| self.principal_id.as_deref()?.split(':').next())
            .or(self.access_key_id.as_deref())
            .filter(|actor| !actor.is_empty())
    }

    /// Who it is, where one role is many people's: IAM Identity Center names the sessions of its roles after
    /// who signed in, and lets nobody choose. As [`Identity::actor`] for all others, who may call a session
    /// what they like.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let session = self.arn.as_deref().filter(|_| self.is_of_center());
        session.or_else(|| self.actor())
    }

    /// Says whether it is a session of a role that IAM Identity Center made, which it hands to people only.
    pub(crate) fn is_of_center(&self) -> bool {
        self.kind == IdentityKind::AssumedRole
            && (self.role_name()).is_some_and(|name| name.starts_with("AWSReservedSSO_"))
    }

    /// Fills in what other fields tell, once all have been read.
    fn complete(mut self) -> Self {
        if self.kind == IdentityKind::Unknown {
            if let Some(arn) = self.arn.as_deref() {
                self.kind = match arn {
                    _ if arn.ends_with(":root") => IdentityKind::Root,
                    _ if arn.contains(":user/") => IdentityKind::IamUser,
                    _ if arn.contains(":assumed-role/") => IdentityKind::AssumedRole,
                    _ if arn.contains(":federated-user/") => IdentityKind::FederatedUser,
                    _ => IdentityKind::Unknown,
                };
            } else if self.invoked_by.is_some() && self.principal_id.is_none() {
                self.kind = IdentityKind::AwsService;
            }
        }
        self
    }
}

/// What an ARN names, behind its fifth colon; empty if there is none.
pub(crate) fn resource(arn: &str) -> &str {
    // By hand: the parts are too short for a search to pay, and it is asked several times an event.
    let mut colons = (0..arn.len()).filter(|&at| arn.as_bytes()[at] == b':');
    colons.nth(4).map_or("", |at| &arn[at + 1..])
}

impl From<Object<Draft>> for Identity {
    fn from(draft: Object<Draft>) -> Self {
        draft.0.0.complete()
    }
}

/// An identity while its members arrive.
#[derive(Debug, Default)]
pub(crate) struct Draft(Identity);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(crate) enum Field {
    Type,
    Arn,
    AccountId,
    PrincipalId,
    AccessKeyId,
    UserName,
    InvokedBy,
    IdentityProvider,
    SessionContext,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Draft {
    type Field = Field;

    fn member<A: MapAccess<'de>>(&mut self, field: Field, map: &mut A) -> Result<(), A::Error> {
        let Self(out) = self;
        match field {
            Field::Type => {
                let text: Text = map.next_value()?;
                out.kind = text.0.map(IdentityKind::of).unwrap_or_default();
            }
            Field::Arn => out.arn = map.next_value::<Text>()?.0,
            Field::AccountId => out.account = map.next_value::<Text>()?.0,
            Field::PrincipalId => out.principal_id = map.next_value::<Text>()?.0,
            Field::AccessKeyId => out.access_key_id = map.next_value::<Text>()?.0,
            Field::UserName => out.user_name = map.next_value::<Text>()?.0,
            Field::InvokedBy => out.invoked_by = map.next_value::<Text>()?.0,
            Field::IdentityProvider => out.provider = map.next_value::<Text>()?.0,
            Field::SessionContext => {
                let Object(context): Object<Context> = map.next_value()?;
                let issuer = context.issuer;
                out.session_issuer = (issuer != SessionIssuer::default()).then(|| issuer.into());
                out.session_created = context.attributes.created;
                out.mfa = context.attributes.mfa;
                out.ec2_role_delivery = context.ec2_role_delivery;
                out.provider = out.provider.take().or(context.web.provider);
            }
            Field::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// `sessionContext`.
#[derive(Debug, Default)]
struct Context {
    issuer: SessionIssuer,
    attributes: Attributes,
    web: Web,
    ec2_role_delivery: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ContextField {
    SessionIssuer,
    Attributes,
    WebIdFederationData,
    Ec2RoleDelivery,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Context {
    type Field = ContextField;

    fn member<A: MapAccess<'de>>(
        &mut self,
        field: ContextField,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            ContextField::SessionIssuer => self.issuer = map.next_value::<Object<_>>()?.0,
            ContextField::Attributes => self.attributes = map.next_value::<Object<_>>()?.0,
            ContextField::WebIdFederationData => self.web = map.next_value::<Object<_>>()?.0,
            ContextField::Ec2RoleDelivery => self.ec2_role_delivery = map.next_value::<Text>()?.0,
            ContextField::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// `sessionContext.attributes`.
#[derive(Debug, Default)]
struct Attributes {
    created: Option<Box<str>>,
    mfa: Option<bool>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum AttributesField {
    CreationDate,
    MfaAuthenticated,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Attributes {
    type Field = AttributesField;

    fn member<A: MapAccess<'de>>(
        &mut self,
        field: AttributesField,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            AttributesField::CreationDate => self.created = map.next_value::<Text>()?.0,
            AttributesField::MfaAuthenticated => self.mfa = map.next_value::<Text>()?.flag(),
            AttributesField::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// `sessionContext.webIdFederationData`.
#[derive(Debug, Default)]
struct Web {
    provider: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum WebField {
    FederatedProvider,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Web {
    type Field = WebField;

    fn member<A: MapAccess<'de>>(&mut self, field: WebField, map: &mut A) -> Result<(), A::Error> {
        match field {
            WebField::FederatedProvider => self.provider = map.next_value::<Text>()?.0,
            WebField::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Members<'de> for SessionIssuer {
    type Field = Field;

    fn member<A: MapAccess<'de>>(&mut self, field: Field, map: &mut A) -> Result<(), A::Error> {
        match field {
            Field::Type => {
                let text: Text = map.next_value()?;
                self.kind = text.0.map(IdentityKind::of).unwrap_or_default();
            }
            Field::Arn => self.arn = map.next_value::<Text>()?.0,
            Field::AccountId => self.account = map.next_value::<Text>()?.0,
            Field::PrincipalId => self.principal_id = map.next_value::<Text>()?.0,
            Field::UserName => self.user_name = map.next_value::<Text>()?.0,
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
