//! A CloudTrail record while its members arrive, in whatever order and of whatever type.

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::cloudtrail::{Resource, Tls};
use super::identity::Draft;
use super::json::{Lazy, List, Members, Object, Text};

/// A record while its members arrive.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) event_id: Option<Box<str>>,
    pub(super) event_time: Option<Box<str>>,
    pub(super) event_source: Option<Box<str>>,
    pub(super) event_name: Option<Box<str>>,
    pub(super) event_type: Option<Box<str>>,
    pub(super) category: Option<Box<str>>,
    pub(super) region: Option<Box<str>>,
    pub(super) recipient_account: Option<Box<str>>,
    pub(super) source_ip: Option<Box<str>>,
    pub(super) user_agent: Option<Box<str>>,
    pub(super) error_code: Option<Box<str>>,
    pub(super) error_message: Option<Box<str>>,
    pub(super) read_only: Option<bool>,
    pub(super) management: Option<bool>,
    pub(super) identity: Object<Draft>,
    pub(super) request_parameters: Lazy,
    pub(super) response_elements: Lazy,
    pub(super) additional_event_data: Lazy,
    pub(super) service_event_details: Lazy,
    pub(super) resources: Vec<Resource>,
    pub(super) vpc_endpoint_id: Option<Box<str>>,
    pub(super) vpc_endpoint_account: Option<Box<str>>,
    pub(super) tls: Option<Box<Tls>>,
    pub(super) shared_event_id: Option<Box<str>>,
    pub(super) from_console: Option<bool>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(crate) enum Field {
    #[serde(rename = "eventID", alias = "eventId")]
    EventId,
    EventTime,
    EventSource,
    EventName,
    EventType,
    EventCategory,
    AwsRegion,
    RecipientAccountId,
    #[serde(rename = "sourceIPAddress", alias = "sourceIpAddress")]
    SourceIpAddress,
    UserAgent,
    ErrorCode,
    ErrorMessage,
    ReadOnly,
    ManagementEvent,
    UserIdentity,
    RequestParameters,
    ResponseElements,
    AdditionalEventData,
    ServiceEventDetails,
    Resources,
    VpcEndpointId,
    VpcEndpointAccountId,
    TlsDetails,
    #[serde(rename = "sharedEventID", alias = "sharedEventId")]
    SharedEventId,
    SessionCredentialFromConsole,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Call {
    type Field = Field;

    fn member<A: MapAccess<'de>>(&mut self, field: Field, map: &mut A) -> Result<(), A::Error> {
        match field {
            Field::EventId => self.event_id = map.next_value::<Text>()?.0,
            Field::EventTime => self.event_time = map.next_value::<Text>()?.0,
            Field::EventSource => self.event_source = map.next_value::<Text>()?.0,
            Field::EventName => self.event_name = map.next_value::<Text>()?.0,
            Field::EventType => self.event_type = map.next_value::<Text>()?.0,
            Field::EventCategory => self.category = map.next_value::<Text>()?.0,
            Field::AwsRegion => self.region = map.next_value::<Text>()?.0,
            Field::RecipientAccountId => self.recipient_account = map.next_value::<Text>()?.0,
            Field::SourceIpAddress => self.source_ip = map.next_value::<Text>()?.0,
            Field::UserAgent => self.user_agent = map.next_value::<Text>()?.0,
            Field::ErrorCode => self.error_code = map.next_value::<Text>()?.0,
            Field::ErrorMessage => self.error_message = map.next_value::<Text>()?.0,
            Field::ReadOnly => self.read_only = map.next_value::<Text>()?.flag(),
            Field::ManagementEvent => self.management = map.next_value::<Text>()?.flag(),
            Field::UserIdentity => self.identity = map.next_value()?,
            Field::RequestParameters => self.request_parameters = map.next_value()?,
            Field::ResponseElements => self.response_elements = map.next_value()?,
            Field::AdditionalEventData => self.additional_event_data = map.next_value()?,
            Field::ServiceEventDetails => self.service_event_details = map.next_value()?,
            Field::Resources => self.resources = map.next_value::<List<_>>()?.0,
            Field::VpcEndpointId => self.vpc_endpoint_id = map.next_value::<Text>()?.0,
            Field::VpcEndpointAccountId => {
                self.vpc_endpoint_account = map.next_value::<Text>()?.0;
            }
            Field::TlsDetails => {
                let Object(tls): Object<Tls> = map.next_value()?;
                self.tls = (tls != Tls::default()).then(|| tls.into());
            }
            Field::SharedEventId => self.shared_event_id = map.next_value::<Text>()?.0,
            Field::SessionCredentialFromConsole => {
                self.from_console = map.next_value::<Text>()?.flag();
            }
            Field::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
pub(crate) enum ResourceField {
    #[serde(rename = "ARN", alias = "arn")]
    Arn,
    #[serde(rename = "accountId")]
    Account,
    #[serde(rename = "type")]
    Kind,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Resource {
    type Field = ResourceField;

    fn member<A: MapAccess<'de>>(
        &mut self,
        field: ResourceField,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            ResourceField::Arn => self.arn = map.next_value::<Text>()?.0,
            ResourceField::Account => self.account = map.next_value::<Text>()?.0,
            ResourceField::Kind => self.kind = map.next_value::<Text>()?.0,
            ResourceField::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(crate) enum TlsField {
    TlsVersion,
    CipherSuite,
    ClientProvidedHostHeader,
    #[serde(other)]
    Other,
}

impl<'de> Members<'de> for Tls {
    type Field = TlsField;

    fn member<A: MapAccess<'de>>(&mut self, field: TlsField, map: &mut A) -> Result<(), A::Error> {
        match field {
            TlsField::TlsVersion => self.version = map.next_value::<Text>()?.0,
            TlsField::CipherSuite => self.cipher = map.next_value::<Text>()?.0,
            TlsField::ClientProvidedHostHeader => self.host = map.next_value::<Text>()?.0,
            TlsField::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
