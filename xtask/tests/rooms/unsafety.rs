//! Where `unsafe` is allowed.

use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, Meta};

use super::tree::{MEMBERS, Tree, workspace};

/// Folders and files that may allow it, and why.
const PLACES: &[(&str, &str)] = &[
    ("crates/hugebar/src/sys", "system calls"),
    ("crates/hugebar/src/mem", "owned addresses"),
    (
        "crates/hugebar/src/dma",
        "guards of memory that devices reach",
    ),
    (
        "crates/hugebar/src/iommu/space.rs",
        "hands addresses to the kernel",
    ),
    (
        "crates/hugebar/src/populate/type1.rs",
        "hands addresses to the kernel",
    ),
    (
        "crates/hugebar/src/kvm/slots.rs",
        "hands addresses to the kernel",
    ),
    (
        "crates/hugebar/src/iommu/container.rs",
        "declares opening without an IOMMU",
    ),
    (
        "crates/hugebar/src/vfio/open.rs",
        "declares opening without an IOMMU",
    ),
    ("crates/hugebar-capi/src", "the border to C"),
    (
        "crates/hugebar-host/src/admin/child.rs",
        "fork, for writes that can sleep for ever",
    ),
    (
        "crates/hugebar-cli/src/cmd/map.rs",
        "opening without an IOMMU, by name",
    ),
    (
        "crates/hugebar-preload/benches/anonymous.rs",
        "mmap of two libraries to compare",
    ),
    (
        "crates/hugebar-preload/src",
        "the border to preloaded programs",
    ),
    ("lab/exercise/src/bar.rs", "opening without an IOMMU"),
    (
        "crates/hugebar/benches/mapping.rs",
        "bare calls to compare with",
    ),
    (
        "crates/hugebar/benches/register.rs",
        "a bare access to compare with",
    ),
    (
        "crates/hugebar/tests/census.rs",
        "touches what it has mapped",
    ),
    (
        "crates/hugebar/tests/mem/main.rs",
        "touches what it has mapped",
    ),
    (
        "crates/hugebar/examples/vfio_ioctls.rs",
        "descriptors of other crates",
    ),
    ("lab/exercise/src/carve.rs", "arenas"),
    ("lab/exercise/src/decode.rs", "a part of a BAR for DMA"),
    ("lab/exercise/src/dma.rs", "fork, memory that it keeps"),
    (
        "lab/exercise/src/dma_failures.rs",
        "memory that its caller keeps",
    ),
    (
        "lab/exercise/src/firmware.rs",
        "machine code for another machine",
    ),
    ("lab/exercise/src/limit.rs", "arenas"),
    ("lab/exercise/src/iommufd.rs", "fork"),
    ("lab/exercise/src/irq.rs", "fork"),
    (
        "lab/exercise/src/reused.rs",
        "an owner of memory that devices reach",
    ),
    ("lab/exercise/src/reset.rs", "opening without an IOMMU"),
    ("lab/exercise/src/threads.rs", "fork"),
    ("lab/exercise/src/killed.rs", "calls between fork and exec"),
    ("lab/exercise/src/kvm.rs", "a timer and its signal"),
    ("lab/exercise/src/main.rs", "flags of prctl"),
    (
        "lab/exercise/src/posing.rs",
        "a mapping that is never touched",
    ),
    (
        "lab/exercise/src/preloaded.rs",
        "programs that call mmap themselves",
    ),
    (
        "lab/exercise/src/sandbox/mod.rs",
        "ending a process at once",
    ),
    ("lab/exercise/src/stuck.rs", "a system call that is to hang"),
    (
        "lab/exercise/src/touch.rs",
        "memory for a guest and for DMA",
    ),
    ("lab/exercise/src/vcpu.rs", "KVM's requests"),
];

/// Finds the attributes that allow it.
#[derive(Default)]
struct Allows(bool);

impl<'ast> Visit<'ast> for Allows {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else {
            return;
        };
        let allows = ["allow", "expect", "warn", "cfg_attr"];
        let level = allows.iter().any(|name| list.path.is_ident(name));
        self.0 |= level && list.tokens.to_string().contains("unsafe_code");
    }
}

#[test]
fn unsafe_is_allowed_only_where_it_is_listed() {
    let tree = Tree::read();
    let allowed: Vec<&PathBuf> = tree
        .files
        .iter()
        .filter(|(_, parsed)| {
            let mut allows = Allows::default();
            allows.visit_file(parsed);
            allows.0
        })
        .map(|(file, _)| file)
        .collect();
    let wrong = |file: &&&PathBuf| !PLACES.iter().any(|(place, _)| file.starts_with(place));
    let wrong: Vec<_> = allowed.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "unsafe is allowed in {wrong:#?}");
    for (place, _) in PLACES {
        let used = allowed.iter().any(|file| file.starts_with(place));
        assert!(used, "{place} has no unsafe code: remove it from the list");
    }
}

/// The workspace's lints, which each member inherits, deny `unsafe` elsewhere.
#[test]
fn every_crate_denies_unsafe() {
    let text = |folder: &Path| fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(text(&workspace()).contains("\nunsafe_code = \"deny\"\n"));
    for member in MEMBERS {
        let manifest = text(&workspace().join(member));
        assert!(
            manifest.contains("\n[lints]\nworkspace = true\n"),
            "{member}"
        );
    }
}
