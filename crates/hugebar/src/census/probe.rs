//! Probes: the pages of a block that are populated to find out whether it is one leaf.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Chooses unpredictable pages, so that exactly these cannot have been populated before.
pub(super) struct Random {
    state: RandomState,
    drawn: u64,
}

impl Random {
    pub(super) fn new() -> Self {
        Self {
            state: RandomState::new(),
            drawn: 0,
        }
    }

    /// The address of a random page in `[start, start + size)`.
    pub(super) fn page(&mut self, start: u64, size: u64, page: u64) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(self.drawn);
        start + hasher.finish() % (size / page).max(1) * page
    }
}

/// How many pages of a block are probed at most, after the one that should have installed its leaf.
const MOST: u32 = 16;

/// The results of a block's probes so far.
///
/// A page that takes no fault was present before the probe. Under one leaf that holds for all other pages of the block;
/// under smaller leaves each page takes a fault. Faults of other causes can only add; populating the
/// same page again shows how many they are, because then it has none of its own.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Pages that took no fault.
    free: u32,
    /// Pages that took some.
    faulted: u32,
    /// Pages that took some again.
    again: u32,
}

impl Votes {
    /// Adds the faults of a page, and those of populating it again if it had some.
    pub(super) fn add(&mut self, faults: u64, again: u64) {
        match (faults, again) {
            (0, _) => self.free += 1,
            (_, 0) => self.faulted += 1,
            (..) => {
                self.faulted += 1;
                self.again += 1;
            }
        }
    }

    /// Whether the block is one leaf, once that is decided.
    pub(super) fn decision(&self) -> Option<bool> {
        let leaf = self.free >= 3 && self.faulted <= 1 + 2 * self.again;
        if leaf {
            return Some(true);
        }
        // Two pages suffice if all agree.
        let enough = if self.free == 0 { 2 } else { 3 };
        let smaller = self.faulted >= enough && self.again == 0;
        (smaller || self.free + self.faulted >= MOST).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(probes: &[(u64, u64)]) -> Option<(bool, usize)> {
        let mut votes = Votes::default();
        probes
            .iter()
            .enumerate()
            .find_map(|(index, &(faults, again))| {
                votes.add(faults, again);
                votes.decision().map(|decision| (decision, index + 1))
            })
    }

    #[test]
    fn one_leaf_is_told_from_smaller_ones_whatever_comes_between() {
        assert_eq!(decide(&[(0, 0); 3]), Some((true, 3)));
        assert_eq!(decide(&[(1, 0); 3]), Some((false, 2)));
        // A fault of another cause.
        assert_eq!(decide(&[(0, 0), (1, 0), (0, 0), (0, 0)]), Some((true, 4)));
        // Faults of other causes all the time.
        let often = [(1, 1), (2, 0), (0, 0), (1, 1), (0, 0), (3, 1), (0, 0)];
        assert_eq!(decide(&often), Some((true, 7)));
        assert_eq!(decide(&[(2, 1); 16]), Some((false, 16)));
        // Pages that were populated before.
        assert_eq!(
            decide(&[(0, 0), (1, 0), (0, 0), (1, 0), (1, 0)]),
            Some((false, 5))
        );
        let half = [(0, 0), (1, 0), (1, 0), (0, 0), (0, 0), (1, 0)];
        assert_eq!(decide(&half), Some((false, 6)));
    }

    #[test]
    fn pages_lie_in_their_block_and_are_not_always_the_same() {
        let mut random = Random::new();
        let pages: Vec<_> = (0..100)
            .map(|_| random.page(1 << 30, 1 << 21, 4096))
            .collect();
        let inside = |page: &u64| (1 << 30..(1 << 30) + (1 << 21)).contains(page);
        assert!(pages.iter().all(|page| inside(page) && page % 4096 == 0));
        assert!(pages.iter().any(|page| *page != pages[0]));
        assert_eq!(random.page(4096, 4096, 4096), 4096);
    }
}
