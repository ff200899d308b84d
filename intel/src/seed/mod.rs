//! The built-in lists: what is matched before any feed is configured. Each is a plain list beside
//! this file, which says where its entries come from.

use crate::category::Category;
use crate::format::{Feed, FormatError};
use crate::list::{Direction, List};
use crate::report::ListReport;
use crate::set::SetBuilder;

/// A built-in list.
struct Seed {
    name: &'static str,
    category: Category,
    confidence: u8,
    text: &'static str,
}

/// Their confidence is chosen by hand: who asks for a pool's name mines or reads about it; who asks
/// for a dual-use one mostly reads.
const SEEDS: &[Seed] = &[
    Seed {
        name: "picket-mining",
        category: Category::Mining,
        confidence: 90,
        text: include_str!("mining.txt"),
    },
    Seed {
        name: "picket-mining-dual-use",
        category: Category::Mining,
        confidence: 20,
        text: include_str!("mining-dual-use.txt"),
    },
    Seed {
        name: "picket-test",
        category: Category::C2,
        confidence: 100,
        text: include_str!("test.txt"),
    },
];

impl SetBuilder {
    /// Reads the built-in lists: some two hundred names.
    ///
    /// # Errors
    /// [`FormatError::Set`], if the set has no room.
    pub fn add_seed(&mut self) -> Result<Vec<ListReport>, FormatError> {
        let read = |seed: &Seed| {
            let feed = Feed::own(List {
                name: seed.name.to_owned(),
                category: seed.category,
                direction: Direction::Outbound,
                confidence: seed.confidence,
            });
            self.read_feed(&feed, seed.name, seed.text.as_bytes())
        };
        SEEDS.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_sound_and_each_name_stands_once() {
        let mut builder = SetBuilder::default();
        let reports = builder.add_seed().unwrap();
        for report in &reports {
            let lines = report.complaints();
            assert_eq!((report.repeated, lines), (0, Vec::new()), "{}", report.file);
        }
        let set = builder.build();
        assert_eq!(set.len(), 195 + 2);
        let list = |name| set.match_domain(name)[0].list;
        assert_eq!(list("eu.nanopool.org").category, Category::Mining);
        assert!(list("www.btc.com").confidence < list("xmrpool.eu").confidence);
        assert_eq!(list("guarddutyc2activityb.com").category, Category::C2);
    }
}
