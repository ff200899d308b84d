//! The principal of a call as the resource of a finding.

use crate::finding::{AccessKeyDetails, Resource};
use crate::logs::cloudtrail::ApiCall;

/// The caller: what stays the same over its sessions and keys, and GuardDuty's details of it.
pub(crate) struct Principal {
    pub(crate) subject: String,
    /// Its name, to show.
    pub(crate) name: String,
    pub(crate) resource: Resource,
    pub(crate) account: String,
    pub(crate) region: String,
}

/// The caller of `call`.
pub(crate) fn principal(call: &ApiCall) -> Principal {
    let identity = &call.identity;
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let name = owned(identity.name());
    Principal {
        subject: owned(identity.actor()),
        resource: Resource::AccessKey {
            access_key: AccessKeyDetails {
                access_key_id: identity.access_key_id.as_deref().map(str::to_owned),
                principal_id: identity.principal_id.as_deref().map(str::to_owned),
                user_type: identity.kind.as_str().to_owned(),
                user_name: name.clone(),
            },
        },
        name: if name.is_empty() {
            "somebody".to_owned()
        } else {
            name
        },
        account: owned(call.account()),
        region: owned(call.region.as_deref()),
    }
}

/// Where a call came from, in words.
pub(crate) fn origin(call: &ApiCall) -> &str {
    call.source_ip.as_deref().unwrap_or("an unknown place")
}
