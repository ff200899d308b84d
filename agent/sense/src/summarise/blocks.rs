//! What became of orders to block, until it is told. Bounded: what does not fit is counted.

use picket_wire::{BlockAct, BlockEvent, BlockedFlow};

use crate::input::{KernelBlock, Way};
use crate::limits::BLOCKS_PENDING_MAX;

/// Events that wait to be told.
#[derive(Default)]
pub(crate) struct Blocks {
    pending: Vec<BlockEvent>,
}

impl Blocks {
    /// Takes an event. Returns whether there was room.
    pub(crate) fn put(&mut self, event: BlockEvent) -> bool {
        let room = self.pending.len() < BLOCKS_PENDING_MAX;
        if room {
            self.pending.push(event);
        }
        room
    }

    /// Events that wait to be told.
    pub(crate) fn take(&mut self) -> Vec<BlockEvent> {
        std::mem::take(&mut self.pending)
    }
}

/// The event of a flow that the kernel refused.
pub(crate) fn dropped(block: &KernelBlock) -> BlockEvent {
    let (src, dst) = match block.way {
        Way::Out => (block.local, block.remote),
        Way::In => (block.remote, block.local),
    };
    BlockEvent {
        time_ns: block.ts_ns,
        act: BlockAct::Dropped,
        order: block.order,
        net: None,
        port: None,
        expires_ns: None,
        why: None,
        flow: Some(BlockedFlow {
            src: src.0,
            src_port: src.1,
            dst: dst.0,
            dst_port: dst.1,
            protocol: block.protocol,
        }),
        dry_run: block.dry_run.then_some(true),
    }
}
