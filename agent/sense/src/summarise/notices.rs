//! What the kernel found by itself: addresses that its tables hold, names and openings that it
//! recognised. Each is looked at again here before it is a hit.

use std::sync::Arc;

use picket_wire::{Process, Transport};

use super::hits::{Met, Sighting};
use super::{Summariser, ends};
use crate::decode::Protocol;
use crate::decode::dns::Name;
use crate::flow::{FlowKey, OwnerRef};
use crate::input::{KernelHit, KernelNotice, Owner, Recognised};

impl Summariser {
    /// Takes what the kernel's tables matched, and names the indicator.
    pub(crate) fn on_kernel_hit(&mut self, hit: &KernelHit) {
        let (src, dst) = ends(hit.way, hit.local, hit.remote);
        let owner = self.owner_of(
            hit.owner,
            &FlowKey::new(src, dst, Protocol(hit.protocol), hit.tunnel).0,
        );
        let process = owner.and_then(|owner| self.processes.find(owner));
        let met = self.hits.on_flow(&Sighting {
            ts_ns: hit.ts_ns,
            src,
            dst,
            protocol: Protocol(hit.protocol),
            tunnel: hit.tunnel,
            process: process.map(Arc::as_ref),
        });
        self.count_met("hit", met);
    }

    /// Whose socket a packet is of: as it says, or as its flow has said before.
    fn owner_of(&mut self, owner: Option<Owner>, flow: &FlowKey) -> Option<OwnerRef> {
        match owner {
            Some(owner) => Some(self.processes.owner(owner)),
            None => self.flows.find(flow)?.owner,
        }
    }

    /// Takes a message that the kernel recognised.
    pub(crate) fn on_kernel_notice(&mut self, notice: &KernelNotice<'_>) {
        match notice.recognised {
            Recognised::Asked => return self.on_asked(notice),
            Recognised::Resolver => return self.on_resolver(notice.owner),
            Recognised::Name | Recognised::Stratum => {}
        }
        let (src, dst) = ends(notice.way, notice.local, notice.remote);
        let protocol = Protocol(notice.protocol);
        let owner = self.owner_of(
            notice.owner,
            &FlowKey::new(src, dst, protocol, notice.tunnel).0,
        );
        let process = owner.and_then(|owner| self.processes.find(owner)).cloned();
        let sighting = Sighting {
            ts_ns: notice.ts_ns,
            src,
            dst,
            protocol,
            tunnel: notice.tunnel,
            process: process.as_deref(),
        };
        let (stage, met) = if notice.recognised == Recognised::Stratum {
            ("stratum_hit", self.on_noticed_line(&sighting, notice.bytes))
        } else {
            let met = self.on_noticed_name(&sighting, process.clone(), notice.bytes);
            ("name_hit", met)
        };
        self.count_met(stage, met);
    }

    fn on_noticed_name(
        &mut self,
        sighting: &Sighting<'_>,
        acting: Option<Arc<Process>>,
        wire: &[u8],
    ) -> Met {
        let transport = match sighting.protocol {
            Protocol::TCP => Transport::Tcp,
            _ => Transport::Udp,
        };
        let Ok((name, _)) = Name::read(wire, 0) else {
            return Met::Nothing;
        };
        let asking = self.asking(acting, &name, None, sighting.ts_ns);
        let sighting = Sighting {
            process: asking.first.as_deref(),
            ..*sighting
        };
        self.hits
            .on_question(&sighting, transport, &name.to_string())
    }

    fn count_met(&mut self, stage: &'static str, met: Met) {
        let reason = match met {
            Met::Now => "confirmed",
            Met::Before => "repeated",
            Met::Untold => "cut",
            Met::Nothing => "unconfirmed",
        };
        self.counters.add(stage, reason, 1, 0);
    }
}
