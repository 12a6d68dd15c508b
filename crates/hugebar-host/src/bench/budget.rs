//! Whether another mapping can be measured in the time that is left.

use std::time::{Duration, Instant};

/// What a mapping took in all, and how large it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) leaves: u64,
    pub(super) bytes: u64,
    /// What grows with the leaves.
    pub(super) by_leaf: Duration,
    /// What grows with the bytes: the kernel walks every base page.
    pub(super) by_byte: Duration,
}

impl Cost {
    /// What another mapping with the same placement will take, for planning only.
    fn of(&self, leaves: u64, bytes: u64) -> Duration {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let by_leaf = self.by_leaf.as_secs_f64() * share(leaves, self.leaves);
        let by_byte = self.by_byte.as_secs_f64() * share(bytes, self.bytes);
        Duration::try_from_secs_f64(by_leaf + by_byte).unwrap_or(Duration::MAX)
    }
}

/// The time that a placement may take. Each has an equal share: those with many leaves would leave nothing to the others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// `None` for no limit.
    left: Option<Duration>,
    earlier: Option<Cost>,
}

impl Share {
    /// Of the time until the deadline, one of `count` shares.
    pub(super) fn of(deadline: Option<Instant>, count: usize) -> Self {
        let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let until = |end: Instant| end.saturating_duration_since(Instant::now()) / count;
        Self {
            left: deadline.map(until),
            earlier: None,
        }
    }

    /// Whether a mapping like the last one ends within the rest. Without a last one it may begin.
    pub(super) fn has_room(&self, leaves: u64, bytes: u64) -> bool {
        let Some(left) = self.left else {
            return true;
        };
        let needed = self
            .earlier
            .map_or(Duration::ZERO, |cost| cost.of(leaves, bytes));
        !left.is_zero() && needed <= left
    }

    /// Takes what a mapping took in all from the rest.
    pub(super) fn spend(&mut self, time: Duration, cost: Cost) {
        self.left = self.left.map(|left| left.saturating_sub(time));
        self.earlier = Some(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_has_no_room() {
        let cost = Cost {
            leaves: 4,
            bytes: 100,
            by_leaf: Duration::from_secs(2),
            by_byte: Duration::from_secs(10),
        };
        assert_eq!(cost.of(8, 50), Duration::from_secs(9));
        let deadline = Some(Instant::now() + Duration::from_secs(92));
        let mut share = Share::of(deadline, 3);
        assert!(share.has_room(u64::MAX, u64::MAX), "the first may begin");
        share.spend(Duration::ZERO, cost);
        assert!(share.has_room(8, 50));
        assert!(!share.has_room(80, 50) && !share.has_room(4, 1000));
        share.spend(Duration::from_secs(20), cost);
        assert!(share.has_room(4, 50) && !share.has_room(4, 100));
        share.spend(Duration::from_secs(20), cost);
        assert!(!share.has_room(0, 0));
        let mut unlimited = Share::of(None, 3);
        unlimited.spend(Duration::from_secs(1000), cost);
        assert!(unlimited.has_room(4, 1000));
        assert!(!Share::of(Some(Instant::now()), 1).has_room(4, 100));
    }
}
