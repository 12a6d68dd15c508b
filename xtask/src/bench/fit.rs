//! What many measurements come to: their median, and a straight line through them.

use std::cmp::Ordering;

/// The one in the middle, and of two the larger. `None` of nothing.
pub(super) fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied()
}

/// Leaves and times of those (size, leaves, time) that have 16 leaves or more, all of the largest size among them: one of another
/// size takes another time.
pub(super) fn of_largest(all: &[(u64, u64, f64)]) -> Vec<(f64, f64)> {
    let bytes = |&(size, leaves, _): &(u64, u64, f64)| size.checked_div(leaves);
    let largest = all.iter().filter_map(bytes).max();
    let own = all
        .iter()
        .filter(|own| own.1 >= 16 && bytes(own) == largest);
    own.map(|&(_, leaves, time)| (leaves as f64, time))
        .collect()
}

/// `time = a + b × leaves`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) a: f64,
    pub(super) b: f64,
    /// The largest distance of a point from the line, as a part of the point's time.
    pub(super) residual: f64,
}

impl Line {
    /// The line with the smallest squares of relative distances: the times span several orders of magnitude. `None` with
    /// fewer than three different points.
    pub(super) fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let sum = |term: &dyn Fn(f64, f64) -> f64| {
            points
                .iter()
                .map(|(x, y)| term(*x, *y) / (y * y))
                .sum::<f64>()
        };
        let (w, wx, wxx) = (sum(&|_, _| 1.0), sum(&|x, _| x), sum(&|x, _| x * x));
        let (wy, wxy) = (sum(&|_, y| y), sum(&|x, y| x * y));
        let determinant = w * wxx - wx * wx;
        if determinant.abs() <= f64::EPSILON * w * wxx {
            return None;
        }
        let a = (wxx * wy - wx * wxy) / determinant;
        let b = (w * wxy - wx * wy) / determinant;
        let distances = points.iter().map(|(x, y)| ((a + b * x - y) / y).abs());
        let residual = distances.fold(0.0, f64::max);
        Some(Self { a, b, residual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_in_the_middle() {
        assert_eq!(median(vec![3, 1, 2]), Some(2));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(3.0));
        assert_eq!(median(Vec::<u64>::new()), None);
    }

    #[test]
    fn leaves_of_one_size_lie_on_a_line() {
        let (small, few) = ((64 << 20, 32, 1.0), (4 << 30, 4, 2.0));
        let (some, many) = ((16 << 30, 16, 3.0), (256 << 30, 256, 4.0));
        let points = of_largest(&[small, few, some, many]);
        assert_eq!(points, [(16.0, 3.0), (256.0, 4.0)]);
        // Without larger ones.
        assert_eq!(of_largest(&[small]), [(32.0, 1.0)]);
        assert_eq!(of_largest(&[(1, 0, 1.0)]), []);
    }

    #[test]
    fn a_line_is_found_and_what_does_not_lie_on_it() {
        let on = [(16.0, 37.0), (64.0, 133.0), (256.0, 517.0)];
        let line = Line::through(&on).unwrap();
        assert!(
            (line.a - 5.0).abs() < 1e-6 && (line.b - 2.0).abs() < 1e-6,
            "{line:?}"
        );
        assert!(line.residual < 1e-9);
        let off = [(16.0, 37.0), (64.0, 266.0), (256.0, 517.0)];
        assert!(Line::through(&off).unwrap().residual > 0.2);
        assert!(Line::through(&on[..2]).is_none());
        assert!(Line::through(&[(16.0, 1.0); 3]).is_none());
    }
}
