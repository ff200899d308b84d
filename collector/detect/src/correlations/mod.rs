//! Correlations: one file each and a line in each of the two lists here, sorted.
//!
//! A correlation watches events and findings in whatever order they come and joins those that tell
//! one story. It reads no clock; what it remembers is bounded.

mod instance_story;

use std::collections::BTreeMap;

use crate::event::Event;
use crate::finding::Finding;
use crate::incident::Incident;

/// A rule that joins findings and events to incidents.
pub(crate) trait Correlation: Send {
    /// Its id: the name of its file, of its table in the settings, and the `rule` of its incidents.
    fn id(&self) -> &'static str;

    /// Takes an event in.
    fn observe(&mut self, event: &Event);

    /// Takes a finding in that opened or changed.
    fn finding(&mut self, finding: &Finding);

    /// Takes a stored incident back.
    fn restore(&mut self, incident: &Incident);

    /// Which findings have become part of which incident since it was asked last.
    fn links(&mut self) -> Vec<IncidentLink>;

    /// The next incident that changed since it was polled, as it stands now.
    fn poll(&mut self) -> Option<Incident>;

    /// How many incidents it began.
    fn begun(&self) -> u64;

    /// What found no room, by name.
    fn turned_away(&self) -> BTreeMap<&'static str, u64>;
}

/// A finding is part of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IncidentLink {
    pub(crate) finding: String,
    pub(crate) incident: String,
}

macro_rules! correlations {
    ($($id:ident: $correlation:ident),* $(,)?) => {
        /// Every correlation with an empty memory, sorted by id.
        pub(crate) fn all(settings: &Settings) -> Vec<Box<dyn Correlation>> {
            vec![$(Box::new($id::$correlation::new(settings.$id.clone()))),*]
        }

        /// One table per correlation, named by its id.
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $(#[doc = concat!("Settings of `", stringify!($id), "`.")] pub $id: $id::Settings,)*
        }
    };
}

correlations! {
    instance_story: InstanceStory,
}
