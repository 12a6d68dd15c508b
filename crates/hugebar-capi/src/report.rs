//! Reports: the leaves of a mapping counted and compared, and the reasons for not fewer.

use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::ptr;

use hugebar::facts::Facts;
use hugebar::pci::Function;
use hugebar::populate;
use hugebar::reason::{self, Evidence, Reason};
use hugebar::verdict::Verdict;
use hugebar_host::measure::{Measured, Measuring};

use crate::argument::{answer, invalid};
use crate::device::hugebar_device;
use crate::error::Failure;
use crate::handle;
use crate::leaf::{NONE, hugebar_leaves};
use crate::map::hugebar_mapping;
use crate::plan::absent;
use crate::reason::{code, verdict};

/// What was found about a mapping.
pub struct hugebar_report {
    verdict: Verdict,
    best: hugebar_leaves,
    expected: hugebar_leaves,
    measured: Option<hugebar_leaves>,
    complete: bool,
    faults: u64,
    elapsed_ns: u64,
    populated_by: Option<CString>,
    reasons: Vec<(u32, CString, CString)>,
}

/// The result in numbers.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_summary {
    /// `HUGEBAR_VERDICT_OPTIMAL` or another; `hugebar_verdict_name` names it.
    pub verdict: u32,
    /// Whether all of the mapping was counted.
    pub complete: bool,
    /// The fewest leaves that any addresses give.
    pub best: hugebar_leaves,
    /// The leaves that these addresses give on this kernel.
    pub expected: hugebar_leaves,
    /// The leaves that were counted; its `count` is 0 if none were.
    pub measured: hugebar_leaves,
    /// Minor faults while populating.
    pub faults: u64,
    /// Nanoseconds that the kernel took to populate it.
    pub elapsed_ns: u64,
    /// How the leaves were installed, such as "type1"; NULL if nothing could. Valid until the report is closed.
    pub populated_by: *const c_char,
}

/// Why there are more leaves than necessary, or why they are unknown. Its texts are valid until the report is closed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_reason {
    /// `HUGEBAR_REASON_KERNEL` or another; `hugebar_reason_name` names it.
    pub code: u32,
    /// The finding, in one line.
    pub fact: *const c_char,
    /// What to do about it; empty if there is nothing to do.
    pub remedy: *const c_char,
}

/// What populating installed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_installed {
    /// Minor faults: how many leaves were missing, from Linux 6.12 on.
    pub faults: u64,
    /// Nanoseconds that the kernel took.
    pub elapsed_ns: u64,
}

fn string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn listed(reasons: &[Reason]) -> Vec<(u32, CString, CString)> {
    let listed = reasons.iter();
    let listed = listed.map(|own| (code(own.code), string(&own.fact), string(&own.remedy)));
    listed.collect()
}

impl From<Measured> for hugebar_report {
    fn from(own: Measured) -> Self {
        Self {
            verdict: own.verdict,
            best: (&own.best).into(),
            expected: (&own.expected).into(),
            measured: own.measured.as_ref().map(Into::into),
            complete: own.complete,
            faults: own.faults,
            elapsed_ns: own.elapsed.map_or(0, nanoseconds),
            populated_by: own.populated_by.map(string),
            reasons: listed(&own.reasons),
        }
    }
}

fn failed(error: hugebar_host::Error) -> Failure {
    match error {
        hugebar_host::Error::Function(error) => error.into(),
        other => Failure::new(libc::EIO, other.to_string()),
    }
}

/// Has the kernel install the leaves of a mapping without touching the device, counts them, and finds the reasons for not
/// fewer. The mapping is one of `device` (`hugebar_map_region`), and nothing may have touched it before. `limit` is the most
/// bytes to populate in base pages, or 0 for no limit: a GiB of 4 KiB pages takes 262,144 faults.
///
/// A count that is not possible is a result, not an error: the verdict is then `HUGEBAR_VERDICT_UNMEASURED`. -EINVAL if the
/// PCI address of the device is unknown.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_measure(
    mapping: *const hugebar_mapping,
    device: *const hugebar_device,
    limit: u64,
    report: Option<&mut MaybeUninit<*mut hugebar_report>>,
) -> c_int {
    handle::give(report, || {
        let mapping = handle::get(mapping)?;
        let device = handle::get(device)?;
        let address = device.0.address().ok_or_else(|| {
            invalid("give hugebar_device_from_fd the PCI address of a device to measure")
        })?;
        let facts = Facts::observe();
        let mut measuring = Measuring::new(&device.0, &Function::at(address)?, &facts)
            .limit((limit != 0).then_some(limit));
        let mut go_on = |_| ControlFlow::Continue(());
        let measured = measuring.measure(mapping.bar()?, &mut go_on);
        Ok(measured.map_err(failed)?.into())
    })
}

/// Compares a mapping of anything with the best, without populating or counting: the verdict is
/// `HUGEBAR_VERDICT_UNMEASURED`, and the reasons say why these addresses give more leaves than necessary.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_explain(
    mapping: *const hugebar_mapping,
    report: Option<&mut MaybeUninit<*mut hugebar_report>>,
) -> c_int {
    handle::give(report, || {
        let mapping = handle::get(mapping)?;
        let mapping = mapping.mapping();
        let facts = Facts::observe();
        let evidence = Evidence {
            facts: &facts,
            mapping,
            measured: None,
            broken: false,
            driver: None,
        };
        Ok(hugebar_report {
            verdict: Verdict::Unmeasured,
            best: (&mapping.plan().best()).into(),
            expected: (&mapping.expected(&facts.device_leaf_sizes())).into(),
            measured: None,
            complete: false,
            faults: 0,
            elapsed_ns: 0,
            populated_by: None,
            reasons: listed(&reason::explain(&evidence)),
        })
    })
}

/// Installs all leaves of a mapping of `device`, without counting them and without touching the device: before a guest
/// starts or resumes, and after a reset. -ENOTSUP if nothing here can.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_install(
    mapping: *const hugebar_mapping,
    device: *const hugebar_device,
    installed: Option<&mut MaybeUninit<hugebar_installed>>,
) -> c_int {
    answer(installed, || {
        let mapping = handle::get(mapping)?;
        let device = handle::get(device)?;
        let way = hugebar_host::populate::for_device(&device.0);
        let mut way = way.map_err(|lacking| {
            let message = format!("{}; {}", lacking.fact, lacking.remedy);
            Failure::new(libc::ENOTSUP, message)
        })?;
        let done = populate::install(mapping.mapping(), way.as_mut())?;
        Ok(hugebar_installed {
            faults: done.faults,
            elapsed_ns: nanoseconds(done.elapsed),
        })
    })
}

/// Closes a report. Texts of it must not be used any more.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_report_close(report: *mut hugebar_report) -> c_int {
    handle::close(report)
}

/// Returns the result in numbers.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_report_summary(
    report: *const hugebar_report,
    summary: Option<&mut MaybeUninit<hugebar_summary>>,
) -> c_int {
    handle::tell(summary, report, |own| {
        let populated_by = own.populated_by.as_ref();
        Ok(hugebar_summary {
            verdict: verdict(own.verdict),
            complete: own.complete,
            best: own.best,
            expected: own.expected,
            measured: own.measured.unwrap_or(NONE),
            faults: own.faults,
            elapsed_ns: own.elapsed_ns,
            populated_by: populated_by.map_or(ptr::null(), |by| by.as_ptr()),
        })
    })
}

/// Returns how many reasons a report has.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_report_reason_count(
    report: *const hugebar_report,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    handle::tell(count, report, |own| Ok(own.reasons.len()))
}

/// Returns a reason of a report. -ENOENT if there is no such reason.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_report_reason(
    report: *const hugebar_report,
    number: usize,
    reason: Option<&mut MaybeUninit<hugebar_reason>>,
) -> c_int {
    handle::tell(reason, report, |own| {
        let found = own.reasons.get(number);
        let (code, fact, remedy) = found.ok_or_else(|| absent("reason", number))?;
        Ok(hugebar_reason {
            code: *code,
            fact: fact.as_ptr(),
            remedy: remedy.as_ptr(),
        })
    })
}
