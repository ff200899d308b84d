//! What a finding is about: a host, a principal or a database.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A host as the collector names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Host {
    /// AWS account.
    pub account: String,
    /// AWS region.
    pub region: String,
    /// EC2 instance id, or the name a capture is replayed under.
    pub instance: String,
}

/// GuardDuty's `resource`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resourceType")]
pub enum Resource {
    /// A host.
    Instance {
        /// Which.
        #[serde(rename = "instanceDetails")]
        instance: InstanceDetails,
    },
    /// A principal.
    AccessKey {
        /// Which.
        #[serde(rename = "accessKeyDetails")]
        access_key: AccessKeyDetails,
    },
    /// A database, and the user named at its door.
    #[serde(rename = "RDSDBInstance")]
    RdsDbInstance {
        /// Which.
        #[serde(rename = "rdsDbInstanceDetails")]
        instance: RdsDbInstanceDetails,
        /// As whom.
        #[serde(rename = "rdsDbUserDetails")]
        user: RdsDbUserDetails,
    },
    /// A function.
    Lambda {
        /// Which.
        #[serde(rename = "lambdaDetails")]
        function: LambdaDetails,
    },
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdsDbInstanceDetails {
    /// Identifier of the DB instance.
    pub db_instance_identifier: String,
    /// `postgres` or `mysql`, as far as the log tells.
    pub engine: String,
    /// Its cluster, where it is Aurora's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_cluster_identifier: Option<String>,
    /// Made of account, region and identifier, where all are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_instance_arn: Option<String>,
}

/// A user of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdsDbUserDetails {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The database within the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `true` or `false`: whether the connection is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl: Option<String>,
}

/// A function, known by its network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LambdaDetails {
    /// Its name, as configured.
    pub function_name: String,
    /// The interface that its traffic passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceDetails {
    /// The EC2 instance id where the sensor runs on the host itself, else the host's address.
    pub instance_id: String,
    /// The addresses it was seen with.
    #[serde(default)]
    pub network_interfaces: Vec<NetworkInterface>,
}

/// An address of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    /// IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    /// IPv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<String>,
}

/// A principal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyDetails {
    /// The key of the last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The principal id; for a role session `<role id>:<session name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// `IAMUser`, `AssumedRole`, `Root`, …
    pub user_type: String,
    /// User or role name.
    pub user_name: String,
}

impl Resource {
    /// A host, by instance id or address, seen with `address`.
    pub(crate) fn instance(id: String, address: Option<IpAddr>) -> Self {
        let interface = address.map(|address| match address.to_canonical() {
            IpAddr::V4(v4) => NetworkInterface {
                private_ip_address: Some(v4.to_string()),
                ipv6_addresses: Vec::new(),
            },
            IpAddr::V6(v6) => NetworkInterface {
                private_ip_address: None,
                ipv6_addresses: vec![v6.to_string()],
            },
        });
        Self::Instance {
            instance: InstanceDetails {
                instance_id: id,
                network_interfaces: interface.into_iter().collect(),
            },
        }
    }

    /// The host's id, if it is a host.
    pub fn instance_id(&self) -> Option<&str> {
        match self {
            Self::Instance { instance } => Some(&instance.instance_id),
            Self::AccessKey { .. } | Self::RdsDbInstance { .. } | Self::Lambda { .. } => None,
        }
    }

    /// Name of the role session, if it is one.
    pub fn session_name(&self) -> Option<&str> {
        match self {
            Self::Instance { .. } | Self::RdsDbInstance { .. } | Self::Lambda { .. } => None,
            Self::AccessKey { access_key } => {
                let (_, session) = access_key.principal_id.as_deref()?.split_once(':')?;
                Some(session)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_guardduty() {
        let host = Resource::instance("i-1".into(), "10.0.0.1".parse().ok());
        assert_eq!(
            serde_json::to_string(&host).unwrap(),
            r#"{"resourceType":"Instance","instanceDetails":{"instanceId":"i-1","networkInterfaces":[{"privateIpAddress":"10.0.0.1"}]}}"#
        );
        let key = Resource::AccessKey {
            access_key: AccessKeyDetails {
                access_key_id: Some("AKIA1".into()),
                principal_id: Some("AROA1:i-1".into()),
                user_type: "AssumedRole".into(),
                user_name: "web".into(),
            },
        };
        assert_eq!(key.session_name(), Some("i-1"));
        for resource in [host, key] {
            let json = serde_json::to_string(&resource).unwrap();
            assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
        }
    }
}
