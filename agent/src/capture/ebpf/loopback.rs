//! Who asks the resolvers of this host: the program on `lo`, and the room for what it tells.
//!
//! `lo` is no interface that is watched: nothing there is counted, and its program only looks for
//! questions of DNS. Where it cannot be put there, or is taken off, what a local resolver asks
//! the network for stays the resolver's, and the state of the owners says so.

use aya::Ebpf;
use aya::programs::TcAttachType;
use aya::programs::tc::TcHandle;

use super::attach::{Hanger, Hanging, PRIORITY, Place, hook};
use super::held;
use super::interfaces::index;
use crate::capture::live::OwnerState;

/// The interface.
const NAME: &str = "lo";

/// The program, and its direction: there the packet still knows its sender.
const PROGRAM: &str = "lo_out";
pub(super) const WAY: TcAttachType = TcAttachType::Egress;

/// Where it hangs. On clsact behind the one that counts, where `lo` is watched as well.
pub(super) const PLACE: Place = Place {
    name: "lo",
    priority: PRIORITY + 2,
    handle: TcHandle::new(0x7069, 0x6c6f),
};

/// Bytes for questions that wait to be read: some eight hundred, and we are woken when a quarter is
/// used.
pub(super) const ASKED_RING_BYTES: u32 = 128 << 10;

/// The program on `lo`.
#[derive(Debug, Default)]
pub(super) struct Loopback {
    hanging: Option<(Hanging, u32)>,
    warned: bool,
}

impl Loopback {
    /// Puts the program on `lo`, and tells how that went.
    pub(super) fn attach(ebpf: &mut Ebpf, hanger: &Hanger, state: &mut OwnerState) -> Self {
        let mut loopback = Self::default();
        match loopback.put(ebpf, hanger) {
            Ok(()) => state
                .works
                .push("who asks resolvers of this host, on lo".to_owned()),
            Err(why) => {
                loopback.warned = true;
                state.lacks.push(format!(
                    "who asks resolvers of this host (their questions stay theirs): {why}"
                ));
            }
        }
        loopback
    }

    /// Puts the program back if somebody took it off.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, hanger: &Hanger) {
        let Some((_, id)) = &self.hanging else { return };
        // If the kernel does not say, it is there.
        if held::holds(hanger.rung, index(NAME), WAY, PLACE, *id).unwrap_or(true) {
            return;
        }
        // The old one first: on clsact it would take the new one's place with it.
        if let Some((hanging, _)) = self.hanging.take() {
            hanging.let_go();
        }
        let again = self.put(ebpf, hanger);
        if !std::mem::replace(&mut self.warned, true) {
            let error = again.err().unwrap_or_default();
            tracing::warn!(
                interface = NAME,
                again = error.is_empty(),
                error,
                "somebody took our program off"
            );
        }
    }

    /// Its hook, as pins name it, if it is there.
    pub(super) fn hook(&self) -> Option<(u32, &'static str)> {
        let held = self.hanging.as_ref();
        held.map(|_| (index(NAME), PLACE.name))
    }

    fn put(&mut self, ebpf: &mut Ebpf, hanger: &Hanger) -> Result<(), String> {
        if index(NAME) == 0 {
            return Err("there is no interface lo".to_owned());
        }
        let hung =
            hook(ebpf, hanger, NAME, PROGRAM, WAY, PLACE).map_err(|error| error.to_string())?;
        self.hanging = Some((hung.hanging, hung.id));
        Ok(())
    }
}
