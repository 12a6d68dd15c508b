use super::*;

/// A graphics card behind a bridge, with memory in BAR 0, registers in BAR 1 and its ROM.
const RESOURCES: &str = "\
0x00000000c0000000 0x00000000cfffffff 0x000000000014220c
0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200
0x000000000000c000 0x000000000000c0ff 0x0000000000040101
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000e1000000 0x00000000e107ffff 0x0000000000046200
";

/// The kernel's text, with all resources that can claim a BAR of that card.
const MACHINE: &str = "\
00001000-0009fbff : System RAM
40000000-febfffff : PCI Bus 0000:00
  c0000000-e1ffffff : PCI Bus 0000:01
    c0000000-cfffffff : 0000:01:00.0
      c0000000-c02fffff : BOOTFB
    e0000000-e0ffffff : 0000:01:00.0
      e0000000-e00fffff : ramoops:dump(0/2)
      e0100000-e01fffff : ramoops:dump(1/2)
      e0200000-e02fffff : ramoops:console
    e1000000-e107ffff : 0000:01:00.0
  e2000000-e2ffffff : 0000:00:02.0
    e2000000-e2ffffff : vfio-pci
fd00000000-ffffffffff : Reserved
";

fn function() -> Address {
    "0000:01:00.0".parse().unwrap()
}

fn resources(text: &str) -> Vec<Option<Resource>> {
    text.lines()
        .map(|line| Resource::parse(line).unwrap())
        .collect()
}

fn one(line: &str) -> Vec<Option<Resource>> {
    resources(line)
}

/// The same without `CAP_SYS_ADMIN`.
fn hidden(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let (range, name) = line.split_once(" : ").unwrap();
        let indent = &range[..range.len() - range.trim_start().len()];
        format!("{indent}00000000-00000000 : {name}\n")
    });
    lines.collect()
}

/// The names of a BAR's holders.
fn holders(text: &str, resources: &[Option<Resource>], bar: usize) -> Vec<String> {
    let conflict = Iomem::parse(text).conflict(function(), resources, bar);
    let holders = conflict.iter().flat_map(Conflict::holders);
    holders.map(|holder| holder.name.clone()).collect()
}

#[test]
fn what_lies_in_a_bar_holds_it() {
    let resources = resources(RESOURCES);
    let ramoops = ["ramoops:dump(0/2)", "ramoops:dump(1/2)", "ramoops:console"];
    for text in [MACHINE, &hidden(MACHINE)] {
        assert_eq!(holders(text, &resources, 0), ["BOOTFB"], "{text}");
        assert_eq!(holders(text, &resources, 1), ramoops, "{text}");
        // Ports, nothing, a ROM that is free, and no such resource.
        for free in [2, 3, 6, 7] {
            assert!(holders(text, &resources, free).is_empty(), "{free}: {text}");
        }
    }
    let conflict = |text: &str| Iomem::parse(text).conflict(function(), &resources, 1);
    assert_eq!(
        conflict(MACHINE).unwrap().to_string(),
        "ramoops:dump(0/2) (0xe0000000-0xe00fffff) and 2 more"
    );
    assert_eq!(
        conflict(&hidden(MACHINE)).unwrap().to_string(),
        "ramoops:dump(0/2) and 2 more"
    );
    assert_eq!(
        conflict(MACHINE).unwrap().remedy(),
        "unload ramoops, or move it to other memory (mem_address)"
    );
}

/// All of them have to go before the BAR can be mapped.
#[test]
fn holders_of_several_kinds_have_several_remedies() {
    let bar = one("0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200");
    let text = "\
c0000000-c0ffffff : 0000:01:00.0
  c0000000-c01fffff : Reserved
    c0000000-c00fffff : ramoops:dump(0/1)
    c0100000-c01fffff : ramoops:console
  c0200000-c02fffff : efifb
";
    let conflict = Iomem::parse(text).conflict(function(), &bar, 0).unwrap();
    assert_eq!(
        conflict.to_string(),
        "Reserved (0xc0000000-0xc01fffff), ramoops:dump(0/1) (0xc0000000-0xc00fffff) and 2 more"
    );
    let remedy = conflict.remedy();
    for word in ["memmap=", "unload ramoops", "video=efifb:off"] {
        assert_eq!(remedy.matches(word).count(), 1, "{word}: {remedy}");
    }
}

/// Without addresses, BARs can only be told apart if all are listed.
#[test]
fn hidden_addresses_leave_no_guess() {
    let resources = resources(RESOURCES);
    let without = |gone: &[&str]| {
        let kept = MACHINE
            .lines()
            .filter(|line| !gone.iter().any(|own| line.contains(own)));
        hidden(&kept.collect::<Vec<_>>().join("\n"))
    };
    for gone in [&["0000:01:00.0"][..], &["c0000000-cf", "e1000000-"]] {
        assert!(
            holders(&without(gone), &resources, 0).is_empty(),
            "{gone:?}"
        );
    }
    // A ROM that is a copy of itself has no line of its own.
    assert_eq!(holders(&without(&["e1000000-"]), &resources, 0), ["BOOTFB"]);
}

#[test]
fn ranges_of_the_machine_hold_what_they_overlap() {
    let bar = one("0x0000010000000000 0x000001ffffffffff 0x000000000014220c");
    // Over a part of it: in it, or reaching beyond it.
    let within = "\
10000000000-1ffffffffff : PCI Bus 0000:00
  10000000000-1ffffffffff : 0000:01:00.0
    18000000000-1800000ffff : Reserved
";
    let beyond = "\
0fd00000000-10000000fff : Reserved
10000001000-1ffffffffff : PCI Bus 0000:00
";
    // The kernel has no entry for the BAR.
    let whole = "0fd00000000-2ffffffffff : Reserved\n";
    for text in [within, beyond, whole] {
        let found = holders(text, &bar, 0);
        assert_eq!(
            found.first().map(String::as_str),
            Some("Reserved"),
            "{text}"
        );
        let conflict = Iomem::parse(text).conflict(function(), &bar, 0).unwrap();
        assert!(conflict.remedy().contains("memmap="), "{conflict:?}");
    }
    let both = "\
00000000000-3ffffffffff : PCI Bus 0000:00
  0fd00000000-10000000fff : Reserved
  1fffffff000-20000000fff : ACPI Tables
";
    assert_eq!(holders(both, &bar, 0), ["Reserved", "ACPI Tables"]);
    // It lies in a range that the kernel reserves.
    let around = "\
00f00000000-2ffffffffff : Reserved
  10000000000-1ffffffffff : PCI Bus 0000:00
    10000000000-1ffffffffff : 0000:01:00.0
";
    // A VFIO mapping claims it as well.
    let mapped = "\
10000000000-1ffffffffff : PCI Bus 0000:00
  10000000000-1ffffffffff : 0000:01:00.0
    10000000000-1ffffffffff : vfio-pci
";
    for text in [
        around,
        mapped,
        "10000000000-1ffffffffff : PCI Bus 0000:00\n",
        "",
    ] {
        assert!(holders(text, &bar, 0).is_empty(), "{text}");
        assert!(holders(&hidden(text), &bar, 0).is_empty(), "{text}");
    }
}

/// The kernel indents at most five levels: addresses show what lies deeper.
#[test]
fn deep_lines_are_told_by_their_addresses() {
    let bar = one("0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200");
    let text = "\
40000000-febfffff : PCI Bus 0000:00
          c0000000-c0ffffff : 0000:01:00.0
          c0000000-c0ffffff : nvme
";
    assert_eq!(holders(text, &bar, 0), ["nvme"]);
    assert!(holders(&hidden(text), &bar, 0).is_empty());
}

#[test]
fn names_and_lines_that_make_no_sense() {
    let bar = one("0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200");
    let text = "\
 : 
nonsense
c0000000 : no range
c0000000-zz : no number
  -  : neither
c0000000-c0ffffff : 0000:01:00.0
  c0000000-c0000fff : a : b\u{1b}[2J\u{202e}
  ffffffffffffffff-0 : turned round
";
    // Callers have to escape it for a terminal.
    assert_eq!(holders(text, &bar, 0), ["a : b\u{1b}[2J\u{202e}"]);
    let end = one("0xfffffffffffff000 0xffffffffffffffff 0x0000000000040200");
    let text = "fffffffffffff000-ffffffffffffffff : 0000:01:00.0\n";
    assert!(holders(text, &end, 0).is_empty());
    assert!(Iomem::parse("\u{fffd}\u{0}").lines.is_empty());
}

#[test]
fn where_nobody_is_known_the_error_says_where_to_look() {
    let busy = || Error::call("mmap", rustix::io::Errno::BUSY).on("0000:01:00.0 BAR 2");
    for function in [None, Some("ffff:1f:1f.7".parse().unwrap())] {
        let error = explain(busy(), function, 2);
        assert_eq!(error.kind(), crate::ErrorKind::Busy);
        assert!(error.remedy().unwrap().contains("/proc/iomem"), "{error}");
    }
}
