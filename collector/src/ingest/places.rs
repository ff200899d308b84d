//! Places for connections: so many in all, and when they become scarce, so many for one address.
//!
//! ```text
//! 0 ─────────── three quarters ──── connections_max
//!   for anybody                for who has few
//! ```
//!
//! A fleet behind one address may take three quarters, so that nobody has to set anything for it. The
//! last quarter is for addresses that hold few places: whoever fills the rest keeps nobody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::neighbourhood::neighbourhood;

/// Unless told otherwise one address may have this part of all places when they are scarce: sixteen
/// such addresses are needed to take the last quarter.
const SHARE: usize = 64;

/// The places. At most as many addresses are remembered as there are places.
pub(crate) struct Places {
    all_max: usize,
    /// From so many taken on, one address may have no more than `one_max`.
    scarce_from: usize,
    one_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    All,
    /// Few are left, and this address has its share.
    Share,
}

impl NoPlace {
    /// Its word, for the metric.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::All => "too_many",
            Self::Share => "too_many_of_one",
        }
    }
}

impl Places {
    /// So many places; `one_max` of them for one address when they are scarce, 0 for a share.
    pub(crate) fn new(all_max: usize, one_max: usize) -> Arc<Self> {
        let share = (all_max / SHARE).max(1);
        Arc::new(Self {
            all_max,
            scarce_from: all_max - all_max / 4,
            one_max: if one_max == 0 { share } else { one_max },
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a peer, until what is returned is dropped.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, NoPlace> {
        let peer = neighbourhood(peer);
        let mut taken = self.taken();
        if taken.all >= self.all_max {
            return Err(NoPlace::All);
        }
        let own = taken.by.get(&peer).copied().unwrap_or_default();
        if taken.all >= self.scarce_from && own >= self.one_max {
            return Err(NoPlace::Share);
        }
        taken.all += 1;
        taken.by.insert(peer, own + 1);
        Ok(Place {
            places: self.clone(),
            peer,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken.
pub(crate) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by.get_mut(&self.peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_shut_everybody_out() {
        let places = Places::new(16, 2);
        let greedy = address("2001:db8::1");
        let mut held: Vec<Place> = (0..12).map(|_| places.take(greedy).unwrap()).collect();
        // The network's other addresses are no others.
        let neighbour = address("2001:db8::2:1");
        assert_eq!(places.take(neighbour).err(), Some(NoPlace::Share));
        let other = address("192.0.2.1");
        held.extend((0..2).map(|_| places.take(other).unwrap()));
        let mapped = address("::ffff:192.0.2.1");
        assert_eq!(places.take(mapped).err(), Some(NoPlace::Share));
        let third = address("192.0.2.2");
        held.extend((0..2).map(|_| places.take(third).unwrap()));
        assert_eq!(places.take(address("192.0.2.3")).err(), Some(NoPlace::All));
        held.truncate(11);
        assert!(places.take(greedy).is_ok(), "they are not scarce any more");
        drop(held);
        let taken = places.taken();
        assert!(taken.all == 0 && taken.by.is_empty());
    }

    #[test]
    fn the_share_is_never_none() {
        for (all_max, one_max, expected) in [(16_384, 0, 256), (4, 0, 1), (4, 3, 3)] {
            assert_eq!(Places::new(all_max, one_max).one_max, expected);
        }
        // Even of a single place somebody may have it.
        let places = Places::new(1, 0);
        let place = places.take(address("192.0.2.1"));
        assert!(place.is_ok());
        assert_eq!(places.take(address("192.0.2.2")).err(), Some(NoPlace::All));
    }
}
