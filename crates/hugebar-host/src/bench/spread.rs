//! Median and spread of several numbers.

/// Median, smallest and largest of several numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Spread {
    /// The one in the middle; of an even number of them, the lower of the two.
    pub median: u64,
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// Of numbers in any order; `None` if there are none.
    ///
    /// ```
    /// use hugebar_host::bench::Spread;
    /// let spread = Spread::of([5, 1, 9, 3]).unwrap();
    /// assert_eq!((spread.median, spread.min, spread.max), (3, 1, 9));
    /// ```
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut numbers: Vec<_> = numbers.into_iter().collect();
        numbers.sort_unstable();
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let median = *numbers.get((numbers.len() - 1) / 2)?;
        Some(Self { median, min, max })
    }
}
