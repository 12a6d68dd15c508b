//! The possible leaves of a device mapping in another process, and the judgement on it.

use hugebar::facts::ThpGate;
use hugebar::leaf::Leaves;

use super::driver::Faults;
use super::mapping::{Judgement, Mapping};
use super::observed::{Observed, largest};
use super::tables;
use super::why::reasons;

/// A mapping, and the page tables that it needs in bytes.
#[derive(Debug)]
pub(crate) struct Assessed {
    pub(crate) mapping: Mapping,
    /// With its possible leaves, or with base pages if those are not certain.
    pub(crate) needed: u64,
    /// With base pages throughout.
    pub(crate) filled: u64,
}

impl Observed<'_> {
    /// The possible leaves, the judgement, and the reasons for falling short.
    pub(crate) fn assess(self) -> Assessed {
        let base = self.facts.leaf_sizes.only_base();
        let (possible, best) = (self.possible(), self.best());
        let judgement = self.judgement(&best, &possible);
        let follows_the_rule = self.follows_the_rule();
        let sizes = if follows_the_rule { self.sizes() } else { base };
        let tables = |sizes| tables::needed(self.vma.start, self.hpa, self.vma.size, sizes);
        let (needed, filled) = (tables(&sizes), tables(&base));
        let driver = match self.resolved.devices.as_slice() {
            [only] => only.driver().map(str::to_owned),
            _ => None,
        };
        let (congruent, reasons) = (self.congruent(), reasons(&self, &best, &possible));
        let devices = self.resolved.devices.into_iter();
        let mapping = Mapping {
            address: self.vma.start,
            size: self.vma.size,
            devices: devices.map(|device| device.name).collect(),
            driver,
            region: self.resolved.place.map(|place| place.region),
            offset: self.resolved.place.map(|place| place.offset),
            physical: self.resolved.place.and_then(|place| place.physical),
            congruent,
            optimal: follows_the_rule && possible.total() <= best.total(),
            judgement,
            not_in_base_pages: false,
            follows_the_rule,
            best,
            possible,
            largest: largest(&possible).unwrap_or(base.base()),
            advice: self.advice,
            reasons,
        };
        Assessed {
            mapping,
            needed,
            filled,
        }
    }

    fn judgement(&self, best: &Leaves, possible: &Leaves) -> Judgement {
        let facts = self.facts;
        let certain = self.follows_the_rule()
            && self.resolved.faults != Faults::ByCore
            && facts.features().huge_device_leaves().is_some()
            && self.gate() != ThpGate::Unknown;
        // If the alignment is a guess, so is the quality of the address.
        let base_only = self.sizes() == facts.leaf_sizes.only_base();
        let known = self.resolved.in_bar || base_only || !self.has_room();
        if known && possible.total() > best.total() {
            Judgement::FallsShort
        } else if certain || !self.has_room() {
            Judgement::Optimal
        } else {
            Judgement::NotCounted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Judgement::{FallsShort, NotCounted, Optimal};
    use hugebar::facts::{Facts, KernelVersion, ThpDisabled, ThpPolicy};
    use hugebar::leaf::{GIB, LeafSizes, MIB};
    use hugebar::reason::Code;
    use hugebar::verdict::Requirement;

    use crate::inspect::held::Vma;
    use crate::inspect::resolve::{Place, Resolved};
    use crate::procfs::{Advice, FileId};

    /// The best address.
    const VMA: u64 = 0x7f00_0000_0000;

    /// 4 GiB of BAR 2 of a device bound to vfio-pci.
    struct Case {
        release: &'static str,
        thp: Option<ThpPolicy>,
        advice: Option<Advice>,
        physical: Option<u64>,
        faults: Faults,
        sizes: LeafSizes,
        start: u64,
        size: u64,
    }

    impl Case {
        fn new(release: &'static str, thp: Option<ThpPolicy>) -> Self {
            Case {
                release,
                thp,
                advice: None,
                physical: Some(8 * GIB),
                faults: Faults::VfioPci,
                sizes: LeafSizes::X86_64,
                start: VMA,
                size: 4 * GIB,
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

        fn with(faults: Faults) -> Self {
            Case {
                faults,
                ..Case::new("7.3.4", Some(ThpPolicy::Always))
            }
        }

        fn assessed(&self) -> Assessed {
            let mut facts = Facts::observe();
            facts.leaf_sizes = self.sizes;
            facts.release = self.release.to_owned();
            facts.kernel = KernelVersion::parse(self.release);
            facts.thp = self.thp;
            facts.thp_disabled = ThpDisabled::No;
            let vma = Vma {
                start: self.start,
                size: self.size,
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
                resolved: Resolved::test("0000:01:00.0", place, self.faults),
                hpa: self.physical.unwrap_or(vma.offset),
                thp_disabled: false,
                advice: self.advice,
            };
            observed.assess()
        }

        /// The judgement, whether it counts as optimal, and the reasons.
        fn judged(&self) -> (Judgement, bool, Vec<Code>) {
            let mapping = self.assessed().mapping;
            let codes = mapping.reasons.iter().map(|reason| reason.code);
            (mapping.judgement, mapping.optimal, codes.collect())
        }
    }

    #[test]
    fn the_policy_counts_where_the_kernel_asks_it() {
        use ThpPolicy::{Always, Madvise, Never};
        let old = "5.14.0-611.el9_7.x86_64";
        let policy = &[Code::ThpPolicy][..];
        for (case, judgement, codes) in [
            (Case::new("6.18.15", Some(Always)), Optimal, &[][..]),
            (Case::new("6.18.15", Some(Madvise)), NotCounted, policy),
            (Case::new("6.18.15", Some(Never)), FallsShort, policy),
            (Case::advised("6.18.15", Madvise, true), Optimal, &[]),
            (Case::advised("6.18.15", Madvise, false), FallsShort, policy),
            (Case::new("7.3.4", Some(Never)), Optimal, &[]),
            (Case::advised("7.3.4", Madvise, false), Optimal, &[]),
            // Whether this kernel asks is not known: reported, but not held against the mapping.
            (
                Case::new("6.17.0-8-generic", Some(Never)),
                NotCounted,
                policy,
            ),
            (
                Case::advised("6.17.0-8-generic", Madvise, false),
                NotCounted,
                policy,
            ),
            (
                Case::new("6.1.0-56-amd64", Some(Never)),
                FallsShort,
                &[Code::Kernel],
            ),
            (Case::new("7.3.4", None), FallsShort, &[Code::ThpNotBuiltIn]),
            // Neither whether it has large leaves nor whether it asks is known.
            (Case::new(old, Some(Always)), NotCounted, &[Code::Kernel]),
            (
                Case::new(old, Some(Never)),
                NotCounted,
                &[Code::Kernel, Code::ThpPolicy],
            ),
        ] {
            let name = format!("{} {:?} {:?}", case.release, case.thp, case.advice);
            let optimal = judgement != FallsShort;
            assert_eq!(
                case.judged(),
                (judgement, optimal, codes.to_vec()),
                "{name}"
            );
            let mapping = case.assessed().mapping;
            assert_eq!(mapping.largest, if optimal { GIB } else { 4096 }, "{name}");
            assert_eq!(mapping.meets(Requirement::Size(GIB)), optimal, "{name}");
        }
    }

    /// Nothing was counted, so the driver decides whether the rule holds.
    #[test]
    fn only_drivers_that_follow_the_rule_can_be_optimal() {
        let driver = &[Code::Driver][..];
        for (faults, judgement, optimal, codes) in [
            (Faults::VfioPci, Optimal, true, &[][..]),
            (Faults::ByCore, NotCounted, true, driver),
            (Faults::Own, NotCounted, false, driver),
            (Faults::BasePages, FallsShort, false, driver),
        ] {
            let case = Case::with(faults);
            assert_eq!(case.judged(), (judgement, optimal, codes.to_vec()));
            let Assessed {
                mapping,
                needed,
                filled,
            } = case.assessed();
            for size in [2 * MIB, GIB] {
                assert_eq!(
                    mapping.meets(Requirement::Size(size)),
                    optimal,
                    "{faults:?}"
                );
            }
            assert_eq!(mapping.meets(Requirement::Optimal), optimal, "{faults:?}");
            assert!(mapping.meets(Requirement::Size(4096)), "{faults:?}");
            // Unknown leaves must not make other mappings look wrong.
            assert_eq!(needed < filled, optimal, "{faults:?}");
        }
        // One leaf is the least for every driver.
        let small = Case {
            size: 4096,
            ..Case::with(Faults::Own)
        };
        assert_eq!(small.judged(), (Optimal, true, vec![]));
        assert!(small.assessed().mapping.meets(Requirement::Optimal));
    }

    /// The device is in use, so binding another driver is not a remedy.
    #[test]
    fn nobody_is_told_to_bind_a_device_that_runs() {
        for faults in [Faults::ByCore, Faults::Own, Faults::BasePages] {
            for reason in Case::with(faults).assessed().mapping.reasons {
                assert!(!reason.remedy.contains("bind"), "{reason}");
            }
        }
    }

    #[test]
    fn what_lies_in_no_bar_is_guessed_and_not_optimal() {
        let case = Case {
            physical: None,
            ..Case::new("7.3.4", Some(ThpPolicy::Always))
        };
        let expected = (NotCounted, false, vec![Code::PhysUnknown]);
        assert_eq!(case.judged(), expected);
        assert!(!case.assessed().mapping.meets(Requirement::Optimal));
        // Nor is another address known to be better.
        let other = Case {
            start: VMA + 2 * MIB,
            ..case
        };
        let guessed = vec![Code::Placement, Code::PhysUnknown];
        assert_eq!(other.judged(), (NotCounted, false, guessed));
        let known = Case {
            physical: Some(8 * GIB),
            ..other
        };
        let placed = (FallsShort, false, vec![Code::Placement]);
        assert_eq!(known.judged(), placed);
        // Without THP there are base pages only, whatever the alignment.
        let base = Case {
            physical: None,
            thp: None,
            ..known
        };
        assert_eq!(base.judged().0, FallsShort);
    }

    /// 95 GiB of GPU memory, in no BAR listed in sysfs, with 64 KiB pages.
    #[test]
    fn the_memory_of_an_nvgrace_gpu() {
        let gpu = |release, faults| Case {
            release,
            faults,
            physical: None,
            sizes: LeafSizes::ARM64_64K,
            size: 190 * 512 * MIB,
            ..Case::with(faults)
        };
        let old = gpu("6.18.15", Faults::BasePages);
        assert_eq!(old.judged(), (FallsShort, false, vec![Code::Driver]));
        let mapping = old.assessed().mapping;
        assert_eq!(mapping.possible.total(), 190 * 8192);
        assert_eq!(mapping.best.total(), 190);
        let new = gpu("6.19.0", Faults::Own);
        let unknown = vec![Code::PhysUnknown, Code::Driver];
        assert_eq!(new.judged(), (NotCounted, false, unknown));
    }
}
