//! Codes of verdicts and reasons, and their names.

use std::ffi::{CStr, c_char};
use std::ptr;

use hugebar::reason::Code;
use hugebar::verdict::Verdict;

/// No addresses give fewer leaves, on any kernel.
pub const HUGEBAR_VERDICT_OPTIMAL: u32 = 0;
/// More than the fewest, but what these addresses give on this kernel.
pub const HUGEBAR_VERDICT_AS_EXPECTED: u32 = 1;
/// More than these addresses should give.
pub const HUGEBAR_VERDICT_DEGRADED: u32 = 2;
/// The leaves were not counted.
pub const HUGEBAR_VERDICT_UNMEASURED: u32 = 3;

/// A reason that this version of the interface has no code for; see its text.
pub const HUGEBAR_REASON_OTHER: u32 = 0;
/// The kernel predates huge leaves for device memory (Linux 6.12), or may lack them.
pub const HUGEBAR_REASON_KERNEL: u32 = 1;
/// THP, which huge leaves for device memory need, is not built into the kernel.
pub const HUGEBAR_REASON_THP_NOT_BUILT_IN: u32 = 2;
/// The THP policy limits unhinted mappings, or all mappings, to base pages.
pub const HUGEBAR_REASON_THP_POLICY: u32 = 3;
/// THP is disabled for this process (`PR_SET_THP_DISABLE`).
pub const HUGEBAR_REASON_THP_DISABLED: u32 = 4;
/// The mapping has `MADV_NOHUGEPAGE`.
pub const HUGEBAR_REASON_NO_HUGEPAGE: u32 = 5;
/// The addresses are not congruent with the physical ones.
pub const HUGEBAR_REASON_PLACEMENT: u32 = 6;
/// There was too little free address space for the plan's alignment.
pub const HUGEBAR_REASON_ADDRESS_SPACE: u32 = 7;
/// The region is smaller than the largest leaf.
pub const HUGEBAR_REASON_REGION_SIZE: u32 = 8;
/// This machine lacks a leaf size that would fit in the region.
pub const HUGEBAR_REASON_ARCHITECTURE: u32 = 9;
/// Holes cut through blocks that could be one leaf.
pub const HUGEBAR_REASON_HOLES: u32 = 10;
/// The physical address is not aligned to the largest leaf.
pub const HUGEBAR_REASON_PHYS_UNALIGNED: u32 = 11;
/// The physical address is unknown.
pub const HUGEBAR_REASON_PHYS_UNKNOWN: u32 = 12;
/// It is unknown which device a mapping belongs to.
pub const HUGEBAR_REASON_DEVICE: u32 = 13;
/// A driver other than vfio-pci handles the faults.
pub const HUGEBAR_REASON_DRIVER: u32 = 14;
/// The process's page tables are larger than the leaves need that it could have.
pub const HUGEBAR_REASON_PAGE_TABLES: u32 = 15;
/// Memory decode of the device is off.
pub const HUGEBAR_REASON_DECODE_OFF: u32 = 16;
/// Nothing here can populate a BAR.
pub const HUGEBAR_REASON_NO_POPULATE: u32 = 17;
/// The leaves could not be counted.
pub const HUGEBAR_REASON_UNMEASURED: u32 = 18;
/// Counting all of it would have populated more base pages than allowed.
pub const HUGEBAR_REASON_LIMIT: u32 = 19;
/// None of the above.
pub const HUGEBAR_REASON_UNEXPLAINED: u32 = 20;

/// Rows of a table, one a line.
macro_rules! rows {
    ($($own:ident, $code:ident, $name:literal;)*) => { &[$((Code::$own, $code, $name)),*] };
}

/// Every code with its name, which the command prints too.
const REASONS: &[(Code, u32, &CStr)] = rows! {
    Kernel, HUGEBAR_REASON_KERNEL, c"kernel";
    ThpNotBuiltIn, HUGEBAR_REASON_THP_NOT_BUILT_IN, c"thp-not-built-in";
    ThpPolicy, HUGEBAR_REASON_THP_POLICY, c"thp-policy";
    ThpDisabled, HUGEBAR_REASON_THP_DISABLED, c"thp-disabled";
    NoHugepage, HUGEBAR_REASON_NO_HUGEPAGE, c"no-hugepage";
    Placement, HUGEBAR_REASON_PLACEMENT, c"placement";
    AddressSpace, HUGEBAR_REASON_ADDRESS_SPACE, c"address-space";
    RegionSize, HUGEBAR_REASON_REGION_SIZE, c"region-size";
    Architecture, HUGEBAR_REASON_ARCHITECTURE, c"architecture";
    Holes, HUGEBAR_REASON_HOLES, c"holes";
    PhysUnaligned, HUGEBAR_REASON_PHYS_UNALIGNED, c"phys-unaligned";
    PhysUnknown, HUGEBAR_REASON_PHYS_UNKNOWN, c"phys-unknown";
    Device, HUGEBAR_REASON_DEVICE, c"device";
    Driver, HUGEBAR_REASON_DRIVER, c"driver";
    PageTables, HUGEBAR_REASON_PAGE_TABLES, c"page-tables";
    DecodeOff, HUGEBAR_REASON_DECODE_OFF, c"decode-off";
    NoPopulate, HUGEBAR_REASON_NO_POPULATE, c"no-populate";
    Unmeasured, HUGEBAR_REASON_UNMEASURED, c"unmeasured";
    Limit, HUGEBAR_REASON_LIMIT, c"limit";
    Unexplained, HUGEBAR_REASON_UNEXPLAINED, c"unexplained";
};

/// The code of a reason.
pub(crate) fn code(own: Code) -> u32 {
    let known = REASONS.iter().find(|(code, ..)| *code == own);
    known.map_or(HUGEBAR_REASON_OTHER, |(_, code, _)| *code)
}

/// The code of a verdict.
pub(crate) fn verdict(own: Verdict) -> u32 {
    match own {
        Verdict::Optimal => HUGEBAR_VERDICT_OPTIMAL,
        Verdict::AsExpected => HUGEBAR_VERDICT_AS_EXPECTED,
        Verdict::Degraded => HUGEBAR_VERDICT_DEGRADED,
        Verdict::Unmeasured => HUGEBAR_VERDICT_UNMEASURED,
    }
}

/// Returns the name of a verdict, such as "optimal", which lasts for good; NULL for an unknown one.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_verdict_name(verdict: u32) -> *const c_char {
    match verdict {
        HUGEBAR_VERDICT_OPTIMAL => c"optimal".as_ptr(),
        HUGEBAR_VERDICT_AS_EXPECTED => c"as-expected".as_ptr(),
        HUGEBAR_VERDICT_DEGRADED => c"degraded".as_ptr(),
        HUGEBAR_VERDICT_UNMEASURED => c"unmeasured".as_ptr(),
        _ => ptr::null(),
    }
}

/// Returns the name of a reason's code, such as "thp-policy", which lasts for good; NULL for an unknown one.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_reason_name(code: u32) -> *const c_char {
    let known = REASONS.iter().find(|(_, own, _)| *own == code);
    match known {
        Some((.., name)) => name.as_ptr(),
        None if code == HUGEBAR_REASON_OTHER => c"other".as_ptr(),
        None => ptr::null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of the library's public items has them all.
    #[test]
    fn every_reason_has_a_code_and_the_commands_name() {
        let public = include_str!("../../../docs/api/hugebar.txt");
        let all = public.lines().filter(|line| {
            let name = line.strip_prefix("pub hugebar::reason::Code::");
            name.is_some_and(|name| name.chars().all(char::is_alphanumeric))
        });
        assert_eq!(all.count(), REASONS.len());
        for (index, (own, code, name)) in REASONS.iter().enumerate() {
            assert_eq!(*code as usize, index + 1);
            assert_eq!(own.to_string(), name.to_str().unwrap());
        }
    }

    #[test]
    fn verdicts_have_the_commands_names() {
        for own in [
            Verdict::Optimal,
            Verdict::AsExpected,
            Verdict::Degraded,
            Verdict::Unmeasured,
        ] {
            // SAFETY: it lasts for good.
            let name = unsafe { CStr::from_ptr(hugebar_verdict_name(verdict(own))) };
            assert_eq!(name.to_str().unwrap(), own.to_string());
        }
        assert!(hugebar_verdict_name(4).is_null());
    }
}
