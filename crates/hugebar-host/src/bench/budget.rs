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

/// Whether a mapping like an earlier one ends before the deadline. Without an earlier one it may begin.
pub(super) fn fits(
    deadline: Option<Instant>,
    earlier: Option<&Cost>,
    leaves: u64,
    bytes: u64,
) -> bool {
    let Some(deadline) = deadline else {
        return true;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let needed = earlier.map_or(Duration::ZERO, |cost| cost.of(leaves, bytes));
    !left.is_zero() && needed <= left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_does_not_fit() {
        let cost = Cost {
            leaves: 4,
            bytes: 100,
            by_leaf: Duration::from_secs(2),
            by_byte: Duration::from_secs(10),
        };
        assert_eq!(cost.of(8, 50), Duration::from_secs(9));
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        assert!(fits(deadline, Some(&cost), 8, 50));
        assert!(!fits(deadline, Some(&cost), 80, 50));
        assert!(!fits(deadline, Some(&cost), 4, 1000));
        assert!(fits(None, Some(&cost), 4, 1000));
        assert!(fits(deadline, None, 4, 1000));
        assert!(!fits(Some(Instant::now()), None, 4, 100));
    }
}
