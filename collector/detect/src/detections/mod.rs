//! Detections: one file each and a line in each of the two lists here, sorted.
//!
//! A detection looks at one event and at bounded history, and reports occurrences. It keeps nothing
//! itself, reads no clock, and imports no other detection.

mod anomalous_behaviour;
mod attack_program;
mod attack_sequence;
mod attack_tool;
mod beacon;
mod brute_force;
mod by_call;
mod cloudtrail_bursts;
mod cloudtrail_calls;
mod cloudtrail_insight;
mod cloudtrail_logging;
mod denial_of_service;
mod dns_tunnel;
mod domain_reputation;
mod endpoint_crossing;
mod escalation_found;
pub(crate) mod evidence_of;
mod generated_names;
mod imds_abuse;
mod inbound_flood;
mod indicator_address;
mod indicator_caller;
mod indicator_feed;
mod indicator_name;
mod long_connection;
mod look;
mod metadata_rebind;
mod mining_wrapped;
mod network_port_unusual;
mod occurrence;
mod outcome;
mod port_scan;
mod port_sweep;
pub(crate) mod principal;
mod rds_login;
mod rds_login_caller;
mod reflector;
mod reverse_shell;
mod root_usage;
mod sample;
mod sensor;
mod sensor_indicators;
mod sensor_state;
mod shared_address;
mod spambot;
mod stolen_credential;
mod tor_client;
mod traffic_volume_unusual;
mod trail_integrity;
mod unusual_resolver;
mod verdict;

use picket_intel::IndicatorSet;

use crate::event::{Event, SourceKind};
use crate::finding::FindingType;
use crate::history::History;
use crate::settings::Settings as All;

pub(crate) use cloudtrail_calls::listed as behaviours;
pub(crate) use occurrence::Occurrence;
pub use sensor::{CLOCK as SENSOR_CLOCK, SILENT as SENSOR_SILENT};

/// A rule that turns events into occurrences of findings.
pub(crate) trait Detection: Sync {
    /// Its id: the name of its file, of its table in the settings, and the `rule` of its findings.
    fn id(&self) -> &'static str;

    /// Every type it can report.
    fn types(&self) -> &'static [&'static FindingType];

    /// The source it looks at.
    fn reads(&self) -> SourceKind;

    /// Looks at one event of that source and reports what it saw.
    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>);

    /// Looks at what all detections have found of one event, where they found anything.
    fn conclude(&self, _event: &Event, _context: &mut Context<'_>, _all: &mut Vec<Occurrence>) {}

    /// The issue that an event settles, if any: its finding is put away, told or not.
    fn settles(&self, _event: &Event) -> Option<Issue> {
        None
    }
}

/// What one finding is about.
pub(crate) struct Issue {
    pub(crate) kind: &'static FindingType,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) subject: String,
    pub(crate) actor: String,
}

/// What a detection may consult.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a All,
    pub(crate) intel: &'a IndicatorSet,
    pub(crate) history: &'a mut History,
}

macro_rules! detections {
    ($($id:ident: $detection:ident),* $(,)?) => {
        /// Every detection, sorted by id.
        pub(crate) const ALL: &[&dyn Detection] = &[$(&$id::$detection),*];

        /// One table per detection, named by its id.
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $(#[doc = concat!("Settings of `", stringify!($id), "`.")] pub $id: $id::Settings,)*
        }
    };
}

detections! {
    anomalous_behaviour: AnomalousBehaviour,
    attack_program: AttackProgram,
    attack_sequence: AttackSequence,
    attack_tool: AttackTool,
    beacon: Beacon,
    brute_force: BruteForce,
    cloudtrail_bursts: CloudtrailBursts,
    cloudtrail_calls: CloudtrailCalls,
    cloudtrail_insight: CloudtrailInsight,
    cloudtrail_logging: CloudtrailLogging,
    denial_of_service: DenialOfService,
    dns_tunnel: DnsTunnel,
    domain_reputation: DomainReputation,
    endpoint_crossing: EndpointCrossing,
    escalation_found: EscalationFound,
    generated_names: GeneratedNames,
    imds_abuse: ImdsAbuse,
    inbound_flood: InboundFlood,
    indicator_address: IndicatorAddress,
    indicator_caller: IndicatorCaller,
    indicator_feed: IndicatorFeed,
    indicator_name: IndicatorName,
    long_connection: LongConnection,
    metadata_rebind: MetadataRebind,
    mining_wrapped: MiningWrapped,
    network_port_unusual: NetworkPortUnusual,
    port_scan: PortScan,
    port_sweep: PortSweep,
    rds_login: RdsLogin,
    rds_login_caller: RdsLoginCaller,
    reflector: Reflector,
    reverse_shell: ReverseShell,
    root_usage: RootUsage,
    sensor: Sensor,
    sensor_indicators: SensorIndicators,
    sensor_state: SensorState,
    shared_address: SharedAddress,
    spambot: Spambot,
    stolen_credential: StolenCredential,
    tor_client: TorClient,
    traffic_volume_unusual: TrafficVolumeUnusual,
    trail_integrity: TrailIntegrity,
    unusual_resolver: UnusualResolver,
}
