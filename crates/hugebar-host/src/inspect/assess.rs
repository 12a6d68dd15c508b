//! What a mapping of a device in another process can have at its address, and why it cannot have more.

use hugebar::facts::{Facts, ThpGate, ThpPolicy};
use hugebar::leaf::{self, Bytes, Leaves};
use hugebar::reason::{Code, Reason};

use super::held::Vma;
use super::mapping::Mapping;
use super::resolve::Resolved;
use crate::procfs::Advice;

/// What is known of a mapping.
pub(crate) struct Observed<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) vma: &'a Vma,
    pub(crate) resolved: Resolved,
    /// The physical address, or a number congruent with it.
    pub(crate) hpa: u64,
    pub(crate) thp_disabled: bool,
    pub(crate) advice: Option<Advice>,
}

impl Observed<'_> {
    /// Which leaves it can have, and why not more.
    pub(crate) fn assess(self) -> Mapping {
        let sizes = self.facts.leaf_sizes;
        let physical = self.resolved.place.and_then(|place| place.physical);
        let possible = self.possible();
        let best = leaf::leaves(self.hpa, self.hpa, self.vma.size, &sizes);
        let agree = |size: &&u64| self.vma.start % **size == self.hpa % **size;
        let congruent = sizes.as_slice().iter().rev().find(agree).copied();
        let congruent = congruent.unwrap_or(sizes.base());
        let reasons = self.reasons(&best, &possible, congruent);
        let devices = self.resolved.devices.into_iter();
        Mapping {
            address: self.vma.start,
            size: self.vma.size,
            devices: devices.map(|device| device.name).collect(),
            region: self.resolved.place.map(|place| place.region),
            offset: self.resolved.place.map(|place| place.offset),
            physical,
            congruent,
            optimal: possible.total() <= best.total(),
            best,
            possible,
            largest: largest(&possible).unwrap_or(sizes.base()),
            advice: self.advice,
            reasons,
        }
    }

    /// By the rule, at its address, with what this kernel has for this process.
    fn possible(&self) -> Leaves {
        let sizes = if self.pages_only() {
            self.facts.leaf_sizes.only_base()
        } else {
            self.facts.device_leaf_sizes()
        };
        let mut possible = Leaves::none(&self.facts.leaf_sizes);
        possible.add_all(&leaf::leaves(
            self.vma.start,
            self.hpa,
            self.vma.size,
            &sizes,
        ));
        possible
    }

    /// Whether something is known to keep it to pages, wherever it is.
    fn pages_only(&self) -> bool {
        let no_thp = self.facts.thp.is_none();
        no_thp || self.thp_disabled || self.refused() || self.gate() == ThpGate::Closed
    }

    /// Whether the THP policy lets it have large leaves.
    fn gate(&self) -> ThpGate {
        self.facts.thp_gate(self.advice.map(|advice| advice.hinted))
    }

    fn refused(&self) -> bool {
        self.advice.is_some_and(|advice| advice.refused)
    }

    /// What the THP policy does to it, or may do, where there are larger leaves to lose.
    fn policy_fact(&self, best: &Leaves, possible: &Leaves) -> Option<String> {
        let page = self.facts.leaf_sizes.base();
        let has_large = |leaves: &Leaves| largest(leaves) > Some(page);
        match self.gate() {
            ThpGate::Closed if has_large(best) => {}
            ThpGate::Unknown if has_large(possible) => {}
            _ => return None,
        }
        let Facts { release, .. } = self.facts;
        let policy = self.facts.thp?;
        let what = match (policy, self.advice) {
            (ThpPolicy::Never, _) => "pages only",
            (ThpPolicy::Madvise, Some(_)) => "it is not hinted, so pages only",
            (ThpPolicy::Madvise, None) => "pages only unless it is hinted",
            // What cannot be read is told by the report, which has the policy.
            (ThpPolicy::Always | ThpPolicy::Unknown, _) => return None,
        };
        let asks = match self.facts.asks_thp_policy() {
            Some(_) => "asks",
            None => "may ask",
        };
        Some(format!(
            "Linux {release} {asks} the THP policy, which is {policy}: {what}"
        ))
    }

    fn reasons(&self, best: &Leaves, possible: &Leaves, congruent: u64) -> Vec<Reason> {
        let Vma { start, size, .. } = *self.vma;
        let facts = self.facts;
        let mut reasons = Vec::new();
        let mut reason = |code, fact, remedy: &str| {
            let reason: Reason = Reason::new(code, fact, remedy);
            reasons.push(reason);
        };
        let short = possible.total() > best.total();
        if short && facts.device_leaf_sizes() != facts.leaf_sizes {
            let fact = format!("Linux {} maps device memory in pages only", facts.release);
            reason(Code::Kernel, fact, "use Linux 6.12 or later");
        }
        if short && facts.thp.is_none() {
            let fact =
                "this kernel has no transparent huge pages, and no large leaves without them";
            let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
            reason(Code::ThpNotBuiltIn, fact.to_owned(), remedy);
        }
        if short && self.thp_disabled {
            let fact = "transparent huge pages are off for this process (PR_SET_THP_DISABLE)";
            let remedy = "start it without that setting, which is inherited, or have it call \
                          prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) before it touches the mapping";
            reason(Code::ThpDisabled, fact.to_owned(), remedy);
        }
        if short && self.refused() {
            let fact = format!("{start:#x} is advised with MADV_NOHUGEPAGE");
            reason(
                Code::NoHugepage,
                fact,
                "have the program spare device memory that advice",
            );
        }
        if leaf::leaves(start, self.hpa, size, &facts.leaf_sizes).total() > best.total() {
            let agree = Bytes(congruent);
            let fact = format!("{start:#x} and its physical address agree modulo {agree} only");
            let remedy = "have the program map it at a congruent address, as hugebar does";
            reason(Code::Placement, fact, remedy);
        }
        let large = largest(possible) > Some(facts.leaf_sizes.base());
        if large && facts.features().huge_device_leaves().is_none() {
            let fact = format!(
                "Linux {} may map device memory in pages only: its release does not tell",
                facts.release
            );
            reason(
                Code::Kernel,
                fact,
                "count the leaves of a device that is free, with hugebar map",
            );
        }
        if let Some(fact) = self.policy_fact(best, possible) {
            let remedy = "set it to always, or to madvise and have the program hint before it touches the mapping";
            reason(Code::ThpPolicy, fact, remedy);
        }
        let known = self.resolved.devices.len() == 1;
        if known
            && self
                .resolved
                .place
                .is_none_or(|place| place.physical.is_none())
        {
            let fact =
                format!("{start:#x} lies in no BAR that sysfs has, so its alignment was guessed");
            let remedy = "none where the driver puts other memory in the BAR's place; otherwise show this \
                          process /sys";
            reason(Code::PhysUnknown, fact, remedy);
        }
        if self.resolved.devices.len() != 1 {
            let fact = match self.resolved.devices.as_slice() {
                [] => format!("nothing that the process has open tells whose {start:#x} is"),
                several => {
                    let names: Vec<_> = several.iter().map(|device| &*device.name).collect();
                    format!("{start:#x} can be of {}", names.join(" or "))
                }
            };
            reason(
                Code::Device,
                fact,
                "have the program open devices by their own nodes (/dev/vfio/devices), which maps names",
            );
        }
        reasons
    }
}

/// The largest size of which there are leaves.
fn largest(leaves: &Leaves) -> Option<u64> {
    leaves
        .iter()
        .rev()
        .find_map(|(size, count)| (count > 0).then_some(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::facts::{KernelVersion, ThpDisabled};
    use hugebar::leaf::{GIB, LeafSizes};

    use crate::inspect::resolve::Place;
    use crate::procfs::FileId;

    /// 4 GiB at the best of addresses.
    const VMA: u64 = 0x7f00_0000_0000;

    struct Case {
        release: &'static str,
        thp: Option<ThpPolicy>,
        advice: Option<Advice>,
        physical: Option<u64>,
    }

    impl Case {
        fn new(release: &'static str, thp: Option<ThpPolicy>) -> Self {
            Case {
                release,
                thp,
                advice: None,
                physical: Some(8 * GIB),
            }
        }

        fn advised(release: &'static str, thp: ThpPolicy, hinted: bool) -> Self {
            let advice = Advice {
                hinted,
                ..Advice::default()
            };
            Case {
                advice: Some(advice),
                ..Case::new(release, Some(thp))
            }
        }

        /// Whether it is said to be optimal, and the reasons.
        fn judged(self) -> (bool, Vec<Code>) {
            let mut facts = Facts::observe();
            facts.leaf_sizes = LeafSizes::X86_64;
            facts.release = self.release.to_owned();
            facts.kernel = KernelVersion::parse(self.release);
            facts.thp = self.thp;
            facts.thp_disabled = ThpDisabled::No;
            let vma = Vma {
                start: VMA,
                size: 4 * GIB,
                offset: 2 << 40,
                file: FileId {
                    device: (0, 14),
                    inode: 7,
                },
                node: None,
            };
            let place = Place {
                region: 2,
                offset: 0,
                physical: self.physical,
            };
            let observed = Observed {
                facts: &facts,
                vma: &vma,
                resolved: Resolved::test("0000:01:00.0", place),
                hpa: self.physical.unwrap_or(vma.offset),
                thp_disabled: false,
                advice: self.advice,
            };
            let report = observed.assess();
            let largest = if report.optimal { GIB } else { 4096 };
            assert_eq!(report.largest, largest);
            let codes = report.reasons.iter().map(|reason| reason.code);
            (report.optimal, codes.collect())
        }
    }

    #[test]
    fn the_policy_counts_where_the_kernel_asks_it() {
        use ThpPolicy::{Always, Madvise, Never};
        let policy = vec![Code::ThpPolicy];
        for (case, optimal, codes) in [
            (Case::new("6.18.15", Some(Always)), true, vec![]),
            (Case::new("6.18.15", Some(Madvise)), true, policy.clone()),
            (Case::new("6.18.15", Some(Never)), false, policy.clone()),
            (Case::advised("6.18.15", Madvise, true), true, vec![]),
            (
                Case::advised("6.18.15", Madvise, false),
                false,
                policy.clone(),
            ),
            (Case::new("7.3.4", Some(Never)), true, vec![]),
            (Case::advised("7.3.4", Madvise, false), true, vec![]),
            // Whether it asks is not known: nothing is held against the mapping, but it is said.
            (
                Case::new("6.17.0-8-generic", Some(Never)),
                true,
                policy.clone(),
            ),
            (
                Case::advised("6.17.0-8-generic", Madvise, false),
                true,
                policy,
            ),
            (
                Case::new("6.1.0-56-amd64", Some(Never)),
                false,
                vec![Code::Kernel],
            ),
            (Case::new("7.3.4", None), false, vec![Code::ThpNotBuiltIn]),
            // Whether it has large leaves at all is not known, nor whether it asks.
            (
                Case::new("5.14.0-611.el9_7.x86_64", Some(Always)),
                true,
                vec![Code::Kernel],
            ),
            (
                Case::new("5.14.0-611.el9_7.x86_64", Some(Never)),
                true,
                vec![Code::Kernel, Code::ThpPolicy],
            ),
        ] {
            let name = format!("{} {:?} {:?}", case.release, case.thp, case.advice);
            assert_eq!(case.judged(), (optimal, codes), "{name}");
        }
    }

    #[test]
    fn what_lies_in_no_bar_is_said_to_be_guessed() {
        let case = Case {
            physical: None,
            ..Case::new("7.3.4", Some(ThpPolicy::Always))
        };
        assert_eq!(case.judged(), (true, vec![Code::PhysUnknown]));
    }
}
