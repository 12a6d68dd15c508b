//! What is known about a device mapping in another process, and the leaves that follow.

use hugebar::facts::{Facts, ThpGate};
use hugebar::leaf::{self, LeafSizes, Leaves};

use super::driver::Faults;
use super::held::Vma;
use super::resolve::Resolved;
use crate::procfs::Advice;

/// What is known about a mapping.
pub(crate) struct Observed<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) vma: &'a Vma,
    pub(crate) resolved: Resolved,
    /// The physical address, or a number congruent to it.
    pub(crate) hpa: u64,
    pub(crate) thp_disabled: bool,
    pub(crate) advice: Option<Advice>,
}

impl Observed<'_> {
    /// The leaves with this machine's sizes, at the best address.
    pub(crate) fn best(&self) -> Leaves {
        leaf::leaves(self.hpa, self.hpa, self.vma.size, &self.facts.leaf_sizes)
    }

    /// The leaf sizes that this kernel uses for this mapping.
    pub(crate) fn sizes(&self) -> LeafSizes {
        if self.base_pages_only() {
            self.facts.leaf_sizes.only_base()
        } else {
            self.facts.device_leaf_sizes()
        }
    }

    /// The leaves with these sizes at its address, by vfio-pci's rule.
    pub(crate) fn possible(&self) -> Leaves {
        let mut possible = Leaves::none(&self.facts.leaf_sizes);
        possible.add_all(&leaf::leaves(
            self.vma.start,
            self.hpa,
            self.vma.size,
            &self.sizes(),
        ));
        possible
    }

    /// The largest leaf size modulo which virtual and physical address agree.
    pub(crate) fn congruent(&self) -> u64 {
        let sizes = self.facts.leaf_sizes;
        let agree = |size: &&u64| self.vma.start % **size == self.hpa % **size;
        let congruent = sizes.as_slice().iter().rev().find(agree).copied();
        congruent.unwrap_or(sizes.base())
    }

    /// Whether something known limits it to base pages at any address.
    fn base_pages_only(&self) -> bool {
        let no_thp = self.facts.thp.is_none();
        let by_driver = self.resolved.faults == Faults::BasePages;
        no_thp || by_driver || self.thp_disabled || self.refused() || self.gate() == ThpGate::Closed
    }

    /// Whether the THP policy allows it large leaves.
    pub(crate) fn gate(&self) -> ThpGate {
        self.facts.thp_gate(self.advice.map(|advice| advice.hinted))
    }

    /// Whether it is advised with `MADV_NOHUGEPAGE`.
    pub(crate) fn refused(&self) -> bool {
        self.advice.is_some_and(|advice| advice.refused)
    }

    /// Whether anything larger than a base page fits at any address. If not, it does not matter who handles its faults.
    pub(crate) fn has_room(&self) -> bool {
        let sizes = self.facts.leaf_sizes;
        if self.resolved.in_bar {
            return largest(&self.best()) > Some(sizes.base());
        }
        // The alignment is unknown.
        let larger = sizes.as_slice().get(1);
        larger.is_some_and(|&larger| larger <= self.vma.size)
    }

    /// Whether its driver and alignment are known well enough to derive its leaves.
    pub(crate) fn follows_the_rule(&self) -> bool {
        let Resolved { faults, in_bar, .. } = self.resolved;
        !self.has_room() || faults == Faults::BasePages || faults.follow_the_rule() && in_bar
    }
}

/// The largest leaf size with a count above zero.
pub(crate) fn largest(leaves: &Leaves) -> Option<u64> {
    leaves
        .iter()
        .rev()
        .find_map(|(size, count)| (count > 0).then_some(size))
}
