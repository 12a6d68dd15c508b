//! Reasons follow from the facts, and never contradict the count.

use hugebar::facts::{Facts, KernelVersion, ThpDisabled, ThpPolicy};
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB};
use hugebar::mem::{Hint, MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use hugebar::reason::{Code, Evidence, Reason, explain};

const X86: LeafSizes = LeafSizes::X86_64;

fn facts(release: &str, thp: Option<ThpPolicy>, thp_disabled: ThpDisabled) -> Facts {
    let mut facts = Facts::observe();
    facts.leaf_sizes = X86;
    facts.release = release.to_owned();
    facts.kernel = KernelVersion::parse(release);
    facts.thp = thp;
    facts.thp_disabled = thp_disabled;
    facts
}

fn map(layout: &Layout, phys: Phys, placement: Placement, hint: Hint) -> Mapping {
    let plan = Plan::new(layout, phys, &X86, placement).unwrap();
    map_in(Window::reserve(&plan).unwrap(), &plan, hint)
}

fn map_in(window: Window, plan: &Plan, hint: Hint) -> Mapping {
    let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, plan.layout().span()).unwrap();
    let options = MapOptions {
        hint,
        ..MapOptions::default()
    };
    Mapping::new(&file, 0, plan, window, options).unwrap()
}

fn whole(size: u64) -> Layout {
    Layout::whole(size, 4096).unwrap()
}

fn congruent(size: u64, hint: Hint) -> Mapping {
    map(&whole(size), Phys::Natural, Placement::Congruent, hint)
}

fn pages(mapping: &Mapping) -> Leaves {
    mapping.expected(&X86.only_base())
}

/// The codes for a mapping with the count `measured`.
fn codes(facts: &Facts, mapping: &Mapping, measured: &Leaves, driver: &str) -> Vec<Code> {
    let reasons = explain(&Evidence {
        facts,
        mapping,
        measured: Some(measured),
        broken: false,
        driver: Some(driver),
    });
    for reason in &reasons {
        let may_lack = matches!(
            reason.code,
            Code::Holes | Code::PhysUnknown | Code::RegionSize
        );
        assert!(!reason.fact.is_empty(), "{reason}");
        assert!(may_lack || !reason.remedy.is_empty(), "{reason}");
    }
    reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn a_reason_without_a_remedy_ends_with_its_fact() {
    let shown = |remedy: &str| Reason::new(Code::Limit, "counted a part", remedy).to_string();
    assert_eq!(
        shown("raise --limit"),
        "limit: counted a part; raise --limit"
    );
    assert_eq!(shown(""), "limit: counted a part");
}

#[test]
fn nothing_to_explain() {
    let mapping = congruent(4 * GIB, Hint::On);
    let best = mapping.plan().best();
    // Whatever the facts, four leaves are four leaves.
    for thp in [None, Some(ThpPolicy::Never), Some(ThpPolicy::Always)] {
        let facts = facts("6.12.107", thp, ThpDisabled::Yes);
        assert_eq!(codes(&facts, &mapping, &best, "vfio-pci"), []);
    }
    // An old version has huge leaves if its distribution backported them.
    let old = facts("5.14.0-427.el9", Some(ThpPolicy::Always), ThpDisabled::No);
    assert_eq!(codes(&old, &mapping, &best, "vfio-pci"), []);
    // With only base pages it probably lacks them, but that is not certain.
    let reasons = explain(&Evidence {
        facts: &old,
        mapping: &mapping,
        measured: Some(&pages(&mapping)),
        broken: false,
        driver: Some("vfio-pci"),
    });
    assert_eq!(reasons[0].code, Code::Kernel);
    assert!(
        reasons[0].fact.contains("does not tell"),
        "{}",
        reasons[0].fact
    );
    // The difference has other reasons than its version.
    let window = Plan::new(
        &whole(4 * GIB),
        Phys::At(2 * MIB),
        &X86,
        Placement::Congruent,
    );
    let window = Window::reserve(&window.unwrap()).unwrap();
    let mapping = map_in(window, mapping.plan(), Hint::On);
    let measured = mapping.expected(&X86);
    assert_eq!(measured.count(2 * MIB), 2048);
    assert_eq!(
        codes(&old, &mapping, &measured, "vfio-pci"),
        [Code::Placement]
    );
}

#[test]
fn a_closed_gate_has_its_reason() {
    let hinted = congruent(4 * GIB, Hint::On);
    let unhinted = congruent(4 * GIB, Hint::Off);
    use ThpDisabled::{ExceptAdvised, No, Yes};
    use ThpPolicy::{Always, Madvise, Never};
    for (thp, disabled, mapping, code) in [
        (Some(Madvise), No, &unhinted, Code::ThpPolicy),
        (Some(Never), No, &hinted, Code::ThpPolicy),
        (Some(Never), No, &unhinted, Code::ThpPolicy),
        (Some(Always), Yes, &hinted, Code::ThpDisabled),
        (Some(Never), Yes, &hinted, Code::ThpDisabled),
        (Some(Always), ExceptAdvised, &unhinted, Code::ThpDisabled),
        (None, No, &hinted, Code::ThpNotBuiltIn),
        (Some(Madvise), No, &hinted, Code::Unexplained),
        (Some(Always), No, &unhinted, Code::Unexplained),
        (Some(Always), ExceptAdvised, &hinted, Code::Unexplained),
        // An unreadable policy may be the reason.
        (Some(ThpPolicy::Unknown), No, &unhinted, Code::ThpPolicy),
    ] {
        let facts = facts("6.18.15", thp, disabled);
        let found = codes(&facts, mapping, &pages(mapping), "vfio-pci");
        assert_eq!(
            found,
            [code],
            "{thp:?} {disabled:?} hinted {}",
            mapping.hinted()
        );
    }
}

#[test]
fn a_refusal_comes_before_the_policy() {
    let refused = congruent(4 * GIB, Hint::NoHugepage);
    assert!(refused.no_hugepage() && !refused.hinted());
    for (thp, code) in [
        (Some(ThpPolicy::Always), Code::NoHugepage),
        (Some(ThpPolicy::Madvise), Code::NoHugepage),
        (Some(ThpPolicy::Never), Code::NoHugepage),
        (None, Code::ThpNotBuiltIn),
    ] {
        let facts = facts("7.3.4", thp, ThpDisabled::No);
        assert_eq!(
            codes(&facts, &refused, &pages(&refused), "vfio-pci"),
            [code]
        );
        // Refused or not, four leaves are four leaves.
        let best = refused.plan().best();
        assert_eq!(codes(&facts, &refused, &best, "vfio-pci"), []);
    }
}

/// Machines whose page tables have a level that holds no leaf for device memory.
#[test]
fn leaves_that_the_machine_does_not_have() {
    let cpu_without_pdpe1gb = X86.below(GIB).unwrap();
    for (sizes, missing) in [
        (cpu_without_pdpe1gb, GIB),
        (LeafSizes::ARM64_4K, GIB),
        (LeafSizes::ARM64_16K, 64 * GIB),
        (LeafSizes::ARM64_64K, 4096 * GIB),
    ] {
        let mut facts = facts("7.3.4", Some(ThpPolicy::Always), ThpDisabled::No);
        facts.leaf_sizes = sizes;
        let found = |size| {
            let layout = Layout::whole(size, sizes.base()).unwrap();
            let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, size).unwrap();
            let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Congruent).unwrap();
            let window = Window::reserve(&plan).unwrap();
            let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
            codes(&facts, &mapping, &plan.best(), "vfio-pci")
        };
        assert_eq!(found(missing), [Code::Architecture], "{sizes:?}");
        // Nothing is missing where there is no room for it.
        assert_eq!(found(missing / 2), [], "{sizes:?}");
    }
}

#[test]
fn an_open_gate_is_not_blamed() {
    // 2 MiB leaves instead of 1 GiB: not because of the policy.
    let mapping = congruent(4 * GIB, Hint::Off);
    let smaller = LeafSizes::ARM64_4K;
    let measured = hugebar::leaf::leaves(0, 0, 4 * GIB, &smaller);
    let facts = facts("6.18.15", Some(ThpPolicy::Madvise), ThpDisabled::Yes);
    assert_eq!(
        codes(&facts, &mapping, &measured, "vfio-pci"),
        [Code::Unexplained]
    );
    assert_eq!(
        codes(&facts, &mapping, &measured, "odd-vfio-pci"),
        [Code::Driver]
    );
    let guessed = map(
        &whole(4 * GIB),
        Phys::Unknown,
        Placement::Congruent,
        Hint::On,
    );
    assert_eq!(
        codes(&facts, &guessed, &measured, "odd-vfio-pci"),
        [Code::PhysUnknown]
    );
}

#[test]
fn kernel_placement_and_shape() {
    let today = facts("7.3.4", Some(ThpPolicy::Always), ThpDisabled::No);
    let old = facts("6.1.0-56", Some(ThpPolicy::Always), ThpDisabled::No);
    let mapping = congruent(4 * GIB, Hint::On);
    assert_eq!(
        codes(&old, &mapping, &pages(&mapping), "vfio-pci"),
        [Code::Kernel]
    );

    let odd = whole(4 * GIB).without(Area::new(0x6000, 0x1000)).unwrap();
    let aligned = map(&odd, Phys::Natural, Placement::SizeAligned, Hint::Auto);
    let measured = aligned.expected(&X86);
    assert_eq!(
        codes(&today, &aligned, &measured, "vfio-pci"),
        [Code::Placement, Code::Holes]
    );
    // Even the best placement has more leaves than the whole region.
    let carved = map(&odd, Phys::Natural, Placement::Congruent, Hint::On);
    let best = carved.plan().best();
    assert_eq!(best.total(), 1025);
    assert_eq!(codes(&today, &carved, &best, "vfio-pci"), [Code::Holes]);
    // A hole of whole blocks cuts no block.
    let blocks = whole(4 * GIB).without(Area::new(GIB, GIB)).unwrap();
    let blocks = map(&blocks, Phys::Natural, Placement::Congruent, Hint::On);
    let best = blocks.plan().best();
    assert_eq!(codes(&today, &blocks, &best, "vfio-pci"), []);

    let small = congruent(256 * MIB, Hint::On);
    let best = small.plan().best();
    assert_eq!(codes(&today, &small, &best, "vfio-pci"), [Code::RegionSize]);

    let holed = whole(GIB).without(Area::new(24 * KIB, 4 * KIB)).unwrap();
    let holed = map(&holed, Phys::Natural, Placement::Congruent, Hint::On);
    let best = holed.plan().best();
    assert_eq!(codes(&today, &holed, &best, "vfio-pci"), [Code::Holes]);

    let shifted = Phys::At(0x10_0000_0000 + 2 * MIB);
    let shifted = map(&whole(GIB), shifted, Placement::Congruent, Hint::On);
    let best = shifted.plan().best();
    assert_eq!(
        codes(&today, &shifted, &best, "vfio-pci"),
        [Code::PhysUnaligned]
    );
}

#[test]
fn codes_have_the_same_name_everywhere() {
    for code in [
        Code::Kernel,
        Code::ThpNotBuiltIn,
        Code::ThpPolicy,
        Code::ThpDisabled,
        Code::NoHugepage,
        Code::Placement,
        Code::AddressSpace,
        Code::RegionSize,
        Code::Architecture,
        Code::Holes,
        Code::PhysUnaligned,
        Code::PhysUnknown,
        Code::Device,
        Code::Driver,
        Code::DecodeOff,
        Code::NoPopulate,
        Code::Unmeasured,
        Code::Limit,
        Code::Unexplained,
    ] {
        let json = serde_json::to_string(&code).unwrap();
        assert_eq!(json, format!("\"{code}\""));
    }
}
