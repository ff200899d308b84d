//! CloudTrail: one API call, sign-in or service event, typed.
//!
//! Fields as in the CloudTrail user guide, "CloudTrail record contents". Whatever is missing or of
//! an odd type is absent here; only a record that names neither an event nor its source is refused.
//! Parameters and results stay text until a detection asks for them ([`Lazy`]).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::OnceLock;

use serde_json::Value;

use super::agent_words::AgentWords;
use super::call_draft::Call;
use super::event_time;
use super::identity::{Identity, IdentityKind, resource};
use super::json::{Lazy, Object};
use super::seen::EventKey;

/// Why a record is no API call.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApiCallError {
    /// Not JSON.
    #[error("not JSON at line {line} column {column} of the event: {why}")]
    NotJson {
        /// Line within the record, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        why: String,
    },
    /// JSON, but neither `eventName` nor `eventSource` is there.
    #[error("not a CloudTrail event: neither eventName nor eventSource")]
    NotAnEvent,
}

/// One CloudTrail record.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiCall {
    /// Names the event for telling repeats: never shown.
    pub key: EventKey,
    /// `eventID`, as written.
    pub event_id: Option<Box<str>>,
    /// When it happened, nanoseconds since the epoch.
    pub event_time_ns: u64,
    /// True if the record had no readable time and took the one of the event before it.
    pub time_assumed: bool,
    /// The service, such as `iam.amazonaws.com`; empty if absent.
    pub event_source: Box<str>,
    /// The API, such as `CreateUser`; empty if absent.
    pub event_name: Box<str>,
    /// `AwsApiCall`, `AwsServiceEvent`, `AwsConsoleSignIn`, …
    pub event_type: Option<Box<str>>,
    /// `Management`, `Data`, `NetworkActivity`, `Insight`.
    pub category: Option<Box<str>>,
    /// Region it was made in.
    pub region: Option<Box<str>>,
    /// The account whose trail tells it: the one it happened to.
    pub recipient_account: Option<Box<str>>,
    /// Where it came from: an address, or the name of a service.
    pub source_ip: Option<Box<str>>,
    /// The same where it is an address, v4-mapped ones as IPv4.
    pub source_address: Option<IpAddr>,
    /// What program says it made the call.
    pub user_agent: Option<Box<str>>,
    /// Why it failed; absent on success.
    pub error_code: Option<Box<str>>,
    /// The same in words.
    pub error_message: Option<Box<str>>,
    /// Whether it changes nothing, where said.
    pub read_only: Option<bool>,
    /// Whether it is a management event, where said.
    pub management: Option<bool>,
    /// Who made it.
    pub identity: Identity,
    /// What was asked.
    pub request_parameters: Lazy,
    /// What was answered.
    pub response_elements: Lazy,
    /// What else the service tells about the call.
    pub additional_event_data: Lazy,
    /// What a service event tells.
    pub service_event_details: Lazy,
    /// What it touched.
    pub resources: Vec<Resource>,
    /// The VPC endpoint it came through.
    pub vpc_endpoint_id: Option<Box<str>>,
    /// The account that endpoint belongs to.
    pub vpc_endpoint_account: Option<Box<str>>,
    /// How the call was encrypted.
    pub tls: Option<Box<Tls>>,
    /// Names the same call in the trails of other accounts.
    pub shared_event_id: Option<Box<str>>,
    /// Whether the session's credentials came from the console.
    pub from_console: Option<bool>,
    /// The whole record, with what has no field here.
    pub record: Lazy,
    /// What is asked of a call again and again, once somebody has asked.
    known: Known,
}

/// What is asked of a call again and again. Two calls are the same whether it was asked or not.
#[derive(Debug, Clone, Default)]
struct Known {
    is_by_service: OnceLock<bool>,
    agent_words: OnceLock<AgentWords>,
}

impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Something a call touched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// Its ARN.
    pub arn: Option<Box<str>>,
    /// The account that owns it.
    pub account: Option<Box<str>>,
    /// Its type, such as `AWS::S3::Bucket`.
    pub kind: Option<Box<str>>,
}

/// How a call was encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// `TLSv1.2`, …
    pub version: Option<Box<str>>,
    /// Cipher suite.
    pub cipher: Option<Box<str>>,
    /// The host name that the client asked for.
    pub host: Option<Box<str>>,
}

impl ApiCall {
    /// Parses one record. `previous_time_ns` is the time of the event before it, taken when this
    /// one's is missing or unreadable.
    ///
    /// Bytes that are not UTF-8 are replaced rather than refused. Costs one pass over the text and
    /// an allocation per field present.
    ///
    /// # Errors
    /// Every [`ApiCallError`].
    pub fn parse(json: &[u8], previous_time_ns: u64) -> Result<Self, ApiCallError> {
        Self::parse_in(json, previous_time_ns, String::new())
    }

    /// As [`ApiCall::parse`], in the room that the record of another call has left ([`ApiCall::into_room`]): it is
    /// by far the largest part of a call, and one large allocation an event, made and dropped, costs as much as
    /// all the small ones.
    ///
    /// # Errors
    /// Every [`ApiCallError`].
    pub fn parse_in(
        json: &[u8],
        previous_time_ns: u64,
        room: String,
    ) -> Result<Self, ApiCallError> {
        // Almost always proper, which the standard library is quickest to say.
        let json = match std::str::from_utf8(json) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(json),
        };
        let Object(mut draft): Object<Call> =
            serde_json::from_str(&json).map_err(|error| ApiCallError::NotJson {
                line: error.line(),
                column: error.column(),
                why: reason(&error),
            })?;
        if draft.event_name.is_none() && draft.event_source.is_none() {
            if draft.category.as_deref() != Some(INSIGHT) {
                return Err(ApiCallError::NotAnEvent);
            }
            // Nobody made a call: CloudTrail tells of many. Which, its details say.
            draft.event_source = Some("cloudtrail.amazonaws.com".into());
            draft.event_name = Some(INSIGHT_EVENT.into());
            draft.event_type = Some(INSIGHT_EVENT.into());
        }
        let time_ns = draft.event_time.as_deref().and_then(event_time::parse);
        let key = EventKey::named(
            draft.recipient_account.as_deref(),
            draft.event_id.as_deref(),
        );
        let source_address = draft.source_ip.as_deref().and_then(address);
        Ok(Self {
            key: key.unwrap_or_else(|| EventKey::of_content(&json)),
            event_id: draft.event_id,
            event_time_ns: time_ns.unwrap_or(previous_time_ns),
            time_assumed: time_ns.is_none(),
            event_source: draft.event_source.unwrap_or_default(),
            event_name: draft.event_name.unwrap_or_default(),
            event_type: draft.event_type,
            category: draft.category,
            region: draft.region,
            recipient_account: draft.recipient_account,
            source_ip: draft.source_ip,
            source_address,
            user_agent: draft.user_agent,
            error_code: draft.error_code,
            error_message: draft.error_message,
            read_only: draft.read_only,
            management: draft.management,
            identity: draft.identity.into(),
            request_parameters: draft.request_parameters,
            response_elements: draft.response_elements,
            additional_event_data: draft.additional_event_data,
            service_event_details: draft.service_event_details,
            resources: draft.resources,
            vpc_endpoint_id: draft.vpc_endpoint_id,
            vpc_endpoint_account: draft.vpc_endpoint_account,
            tls: draft.tls,
            shared_event_id: draft.shared_event_id,
            from_console: draft.from_console,
            record: Lazy::in_room(&json, room),
            known: Known::default(),
        })
    }

    /// The room that the record takes, for [`ApiCall::parse_in`].
    pub fn into_room(self) -> String {
        self.record.into_room()
    }

    /// The member of the record that `path` names, such as `userIdentity.sessionContext.sessionIssuer.arn`:
    /// names as CloudTrail writes them, joined by dots. Nothing stands inside a list.
    ///
    /// Costs a parse of the part it lies in, once per event: of the parameters or results alone where it
    /// begins with those, of the whole record else.
    pub fn field(&self, path: &str) -> Option<&Value> {
        let (top, rest) = path.split_once('.').unwrap_or((path, ""));
        let part = match top {
            "requestParameters" => &*self.request_parameters,
            "responseElements" => &*self.response_elements,
            "additionalEventData" => &*self.additional_event_data,
            "serviceEventDetails" => &*self.service_event_details,
            _ => self.record.get(top)?,
        };
        let mut names = rest.split('.').filter(|name| !name.is_empty());
        names
            .try_fold(part, |value, name| value.get(name))
            .filter(|value| !value.is_null())
    }

    /// Says whether it is no call, but what CloudTrail finds unusual in many (`insightDetails`).
    pub fn is_insight(&self) -> bool {
        self.event_type.as_deref() == Some(INSIGHT_EVENT)
    }

    /// The account it happened to: the recipient, else the caller's own.
    pub fn account(&self) -> Option<&str> {
        self.recipient_account
            .as_deref()
            .or(self.identity.account.as_deref())
    }

    /// The service without its domain: `iam` of `iam.amazonaws.com`.
    pub fn service(&self) -> &str {
        self.event_source
            .split_once('.')
            .map_or(&*self.event_source, |(service, _)| service)
    }

    /// Says whether an AWS service made the call for itself: nobody's credentials did. The console and
    /// CloudFormation do what somebody told them to.
    pub fn is_by_service(&self) -> bool {
        *(self.known.is_by_service).get_or_init(|| self.seems_by_service())
    }

    /// What the user agent says, by words.
    pub(crate) fn agent_words(&self) -> AgentWords {
        *self.known.agent_words.get_or_init(|| {
            let agent = self.user_agent.as_deref();
            agent.map(AgentWords::of).unwrap_or_default()
        })
    }

    fn seems_by_service(&self) -> bool {
        let identity = &self.identity;
        let linked = || {
            let arn = identity.actor().unwrap_or_default();
            let name = identity.role_name().unwrap_or_default();
            resource(arn).starts_with("role/aws-service-role/")
                || name.starts_with("AWSServiceRoleFor")
        };
        let told = |by: &str| {
            matches!(
                by,
                "signin.amazonaws.com" | "cloudformation.amazonaws.com" | "AWS Internal"
            )
        };
        identity.kind == IdentityKind::AwsService
            || self.event_type.as_deref() == Some("AwsServiceEvent")
            || self.is_insight()
            || (identity.invoked_by.as_deref()).is_some_and(|by| !told(by))
            || linked()
    }

    /// Says whether the call was carried out.
    pub fn succeeded(&self) -> bool {
        self.error_code.is_none()
    }
}

/// What CloudTrail calls the category, and the type, of what it finds unusual by itself.
const INSIGHT: &str = "Insight";
const INSIGHT_EVENT: &str = "AwsCloudTrailInsight";

/// An address as CloudTrail and its exporters write it.
fn address(text: &str) -> Option<IpAddr> {
    // Names of services are by far the most common other thing, and none begins like an address.
    let first = text.as_bytes().first()?;
    if !first.is_ascii_hexdigit() && *first != b':' {
        return None;
    }
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// The parser's words without the place, which is told apart.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "eventVersion":"1.08","eventTime":"2023-07-10T11:42:18Z",
        "userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:i-0abc",
            "arn":"arn:aws:sts::111122223333:assumed-role/web/i-0abc","accountId":"111122223333",
            "accessKeyId":"ASIAEXAMPLE","sessionContext":{
                "sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLE",
                    "arn":"arn:aws:iam::111122223333:role/web","accountId":"111122223333",
                    "userName":"web"},
                "attributes":{"creationDate":"2023-07-10T11:00:00Z","mfaAuthenticated":"false"},
                "ec2RoleDelivery":"2.0"}},
        "eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-west-1",
        "sourceIPAddress":"::ffff:198.51.100.7","userAgent":"[aws-cli/2]",
        "errorCode":"AccessDenied","errorMessage":"no",
        "requestParameters":{"bucketName":"b","key":"k"},"responseElements":null,
        "requestID":"r","eventID":"875240ac-e821-4fc6-a311-8c352a1d20f5","readOnly":true,
        "resources":[{"ARN":"arn:aws:s3:::b","accountId":"111122223333","type":"AWS::S3::Bucket"}],
        "eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"111122223333",
        "eventCategory":"Data","vpcEndpointId":"vpce-1","tlsDetails":{"tlsVersion":"TLSv1.3",
        "cipherSuite":"c","clientProvidedHostHeader":"b.s3.amazonaws.com"}}"#;

    fn parse(json: &str) -> ApiCall {
        ApiCall::parse(json.as_bytes(), 7).unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let call = parse(FULL);
        assert_eq!(call.event_time_ns, 1_688_989_338_000_000_000);
        assert!(!call.time_assumed);
        assert_eq!(&*call.event_name, "GetObject");
        assert_eq!(call.service(), "s3");
        assert_eq!(call.region.as_deref(), Some("eu-west-1"));
        assert_eq!(call.source_address, Some([198, 51, 100, 7].into()));
        assert_eq!(call.error_code.as_deref(), Some("AccessDenied"));
        assert!(!call.succeeded());
        assert_eq!((call.read_only, call.management), (Some(true), Some(false)));
        assert_eq!(call.request_parameters.text("bucketName"), Some("b"));
        assert!(call.response_elements.is_absent());
        assert_eq!(call.resources.len(), 1);
        assert_eq!(call.resources[0].arn.as_deref(), Some("arn:aws:s3:::b"));
        assert_eq!(call.vpc_endpoint_id.as_deref(), Some("vpce-1"));
        assert_eq!(
            call.tls.as_ref().and_then(|tls| tls.host.as_deref()),
            Some("b.s3.amazonaws.com")
        );
        let who = &call.identity;
        assert_eq!(who.kind, IdentityKind::AssumedRole);
        assert_eq!(who.session_name(), Some("i-0abc"));
        assert_eq!(who.role_name(), Some("web"));
        assert_eq!(who.actor(), Some("arn:aws:iam::111122223333:role/web"));
        assert_eq!(who.mfa, Some(false));
        assert_eq!(who.ec2_role_delivery.as_deref(), Some("2.0"));
        assert_eq!(
            Some(call.key),
            EventKey::named(call.recipient_account.as_deref(), call.event_id.as_deref())
        );
    }

    #[test]
    fn services_are_told_from_those_who_tell_them() {
        let check = |identity: &str, expected: bool| {
            let call = parse(&format!(
                r#"{{"eventName":"A","userIdentity":{{{identity}}}}}"#
            ));
            assert_eq!(call.is_by_service(), expected, "{identity}");
        };
        check(
            r#""type":"AWSService","invokedBy":"s3.amazonaws.com""#,
            true,
        );
        check(
            r#""type":"IAMUser","invokedBy":"autoscaling.amazonaws.com""#,
            true,
        );
        let role =
            r#""type":"AssumedRole","arn":"arn:aws:sts::1:assumed-role/AWSServiceRoleForRDS/x""#;
        check(role, true);
        check(
            r#""type":"IAMUser","invokedBy":"signin.amazonaws.com""#,
            false,
        );
        check(
            r#""type":"AssumedRole","invokedBy":"cloudformation.amazonaws.com""#,
            false,
        );
        check(r#""type":"IAMUser""#, false);
    }

    #[test]
    fn any_member_is_found_by_its_path() {
        let call = parse(FULL);
        let check = |path, expected: Option<&str>| {
            assert_eq!(call.field(path).and_then(Value::as_str), expected, "{path}");
        };
        check("requestParameters.key", Some("k"));
        check("requestParameters.absent", None);
        check("requestParameters.key.deeper", None);
        check("requestID", Some("r"));
        check("eventVersion", Some("1.08"));
        check(
            "userIdentity.sessionContext.sessionIssuer.userName",
            Some("web"),
        );
        check("tlsDetails.cipherSuite", Some("c"));
        check("resources.ARN", None);
        check("", None);
        assert_eq!(call.field("responseElements"), None);
        assert!(
            call.field("requestParameters")
                .is_some_and(Value::is_object)
        );
        let folded = parse(r#"{"eventName":"A","requestParameters":"{\"a\":{\"b\":1}}"}"#);
        assert_eq!(folded.field("requestParameters.a.b"), Some(&1.into()));
    }

    #[test]
    fn odd_types_are_taken_as_they_are() {
        let call = parse(
            r#"{"eventName":["A"],"eventSource":7,"eventTime":"...","recipientAccountId":111122223333,
                "readOnly":"true","managementEvent":"maybe","sourceIPAddress":"config.amazonaws.com",
                "userAgent":["x","y"],"userIdentity":"none","requestParameters":"{\"a\":\"b\"}",
                "resources":{"arn":"r"},"tlsDetails":[],"errorCode":null,"eventName":"B",
                "eventId":"1","sessionCredentialFromConsole":true,"additionalEventData":[1]}"#,
        );
        assert_eq!((call.event_time_ns, call.time_assumed), (7, true));
        assert_eq!((&*call.event_name, &*call.event_source), ("B", "7"));
        assert_eq!(call.recipient_account.as_deref(), Some("111122223333"));
        assert_eq!((call.read_only, call.management), (Some(true), None));
        assert_eq!(
            (call.source_ip.is_some(), call.source_address),
            (true, None)
        );
        assert_eq!(call.user_agent.as_deref(), Some("x"));
        assert_eq!(call.identity, Identity::default());
        assert_eq!(call.request_parameters.text("a"), Some("b"));
        assert_eq!(call.resources[0].arn.as_deref(), Some("r"));
        assert_eq!(call.event_id.as_deref(), Some("1"));
        assert_eq!((call.tls, call.from_console), (None, Some(true)));
        assert_eq!(call.additional_event_data[0], 1);
    }

    #[test]
    fn an_identity_may_stand_in_text_or_say_no_kind() {
        let root = parse(
            r#"{"eventName":"A","userIdentity":"{\"arn\":\"arn:aws:iam::111122223333:root\"}"}"#,
        );
        assert_eq!(root.identity.kind, IdentityKind::Root);
        let service = parse(r#"{"eventName":"A","userIdentity":{"invokedBy":"s3.amazonaws.com"}}"#);
        assert_eq!(service.identity.kind, IdentityKind::AwsService);
        let other = parse(r#"{"eventName":"A","userIdentity":{"type":"..."}}"#);
        assert_eq!(other.identity.kind, IdentityKind::Other("...".into()));
    }

    /// As CloudTrail writes them: without the name of an event.
    #[test]
    fn insights_are_events_and_no_calls() {
        let insight = parse(
            r#"{"eventVersion":"1.09","eventTime":"2023-07-10T11:42:18Z","awsRegion":"eu-west-1","eventID":"e",
            "eventType":"AwsCloudTrailInsight","recipientAccountId":"111122223333","sharedEventID":"s",
            "insightDetails":{"state":"Start","eventSource":"iam.amazonaws.com","eventName":"DeleteUser",
            "insightType":"ApiCallRateInsight"},"eventCategory":"Insight"}"#,
        );
        assert!(insight.is_insight() && insight.is_by_service());
        assert_eq!(
            (insight.service(), &*insight.event_name),
            ("cloudtrail", "AwsCloudTrailInsight")
        );
        let details = insight.field("insightDetails.eventName");
        assert_eq!(details.and_then(Value::as_str), Some("DeleteUser"));
        assert!(!parse(FULL).is_insight());
    }

    /// What is told by the endpoint of a VPC: a call as any other.
    #[test]
    fn network_activity_is_a_call() {
        let call = parse(
            r#"{"eventVersion":"1.09","userIdentity":{"type":"AWSAccount","principalId":"AIDAEXAMPLE",
            "accountId":"222233334444"},"eventTime":"2023-07-10T11:42:18Z","eventSource":"s3.amazonaws.com",
            "eventName":"PutObject","awsRegion":"eu-west-1","sourceIPAddress":"10.0.0.5",
            "errorCode":"VpceAccessDenied","errorMessage":"The request was denied due to a VPC endpoint policy",
            "requestID":"r","eventID":"e","eventType":"AwsVpceEvent","recipientAccountId":"111122223333",
            "vpcEndpointId":"vpce-1","vpcEndpointAccountId":"111122223333","eventCategory":"NetworkActivity"}"#,
        );
        assert_eq!(call.category.as_deref(), Some("NetworkActivity"));
        assert_eq!(call.identity.account.as_deref(), Some("222233334444"));
        assert_eq!(call.vpc_endpoint_account.as_deref(), Some("111122223333"));
        assert!(!call.succeeded() && !call.is_by_service());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for json in [
            "{}",
            "[]",
            "\"a\"",
            "1",
            "{\"eventTime\":\"2023-07-10T11:42:18Z\"}",
        ] {
            assert_eq!(
                ApiCall::parse(json.as_bytes(), 0),
                Err(ApiCallError::NotAnEvent),
                "{json}"
            );
        }
        let cut = ApiCall::parse(&FULL.as_bytes()[..300], 0).unwrap_err();
        assert!(
            matches!(cut, ApiCallError::NotJson { line: 5, .. }),
            "{cut}"
        );
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_replaced() {
        let call = ApiCall::parse(b"{\"eventName\":\"A\xff\"}", 0).unwrap();
        assert_eq!(&*call.event_name, "A\u{fffd}");
    }

    #[test]
    fn members_may_come_in_any_order_for_the_key() {
        let one = parse(r#"{"eventName":"A","eventID":"...","recipientAccountId":"..."}"#);
        let same = parse(r#"{"eventID":"...", "recipientAccountId":"...","eventName":"A"}"#);
        let other = parse(r#"{"eventName":"B","eventID":"...","recipientAccountId":"..."}"#);
        assert_eq!(one.key, same.key);
        assert_ne!(one.key, other.key);
    }
}
