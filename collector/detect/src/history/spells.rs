//! How many windows in a row each sensor has been in a state.

use picket_wire::{AgentId, BootId};

use super::table::Table;
use crate::event::SensorWindow;
use crate::limits::SENSORS_MAX;

/// Windows in a row, up to the last one, in which a sensor was in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spells {
    /// The canary failed.
    pub(crate) canary: u32,
    /// No interface was watched.
    pub(crate) unwatched: u32,
    /// No packet was seen, after some were.
    pub(crate) quiet: u32,
    /// Too many were lost.
    pub(crate) flooded: u32,
    /// More packets wait to be told than passed in this window and the one before.
    pub(crate) unsettled: u32,
}

#[derive(Debug, Default)]
struct Row {
    boot: BootId,
    end_ns: u64,
    seen: u128,
    had_packets: bool,
    spells: Spells,
}

/// The spells of every sensor.
#[derive(Debug)]
pub(crate) struct SpellsOf(Table<AgentId, Row>);

impl Default for SpellsOf {
    fn default() -> Self {
        Self(Table::new(SENSORS_MAX))
    }
}

impl SpellsOf {
    /// Adds a window and tells the spells that it ends. Another run begins anew; a window older
    /// than the last ends none.
    pub(crate) fn note(
        &mut self,
        agent: AgentId,
        window: &SensorWindow,
        is_flooded: &dyn Fn(&SensorWindow) -> bool,
    ) -> Spells {
        let row = self.0.write(agent, window.end_ns);
        if row.boot != window.boot {
            *row = Row {
                boot: window.boot,
                had_packets: row.had_packets,
                ..Row::default()
            };
        }
        if window.end_ns <= row.end_ns {
            return Spells::default();
        }
        row.end_ns = window.end_ns;
        let seen = window.balance.seen;
        let waiting = u128::from(window.balance.unsettled) > seen + row.seen;
        let spells = &mut row.spells;
        if let Some(health) = &window.health {
            if let Some(canary) = &health.canary
                && (canary.sent > 0 || canary.refused.is_some())
            {
                count(&mut spells.canary, canary.failed().is_some());
            }
            count(&mut spells.unwatched, health.interfaces.is_empty());
            count(&mut spells.quiet, seen == 0 && row.had_packets);
        }
        count(&mut spells.flooded, is_flooded(window));
        count(&mut spells.unsettled, waiting);
        row.seen = seen;
        row.had_packets |= seen > 0;
        row.spells
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("sensors_evicted", self.0.evicted())]
    }
}

/// One window more in a state, or the end of it.
fn count(windows: &mut u32, is_so: bool) {
    *windows = if is_so { windows.saturating_add(1) } else { 0 };
}
