//! Transparent huge pages: whether policy and process let device memory have large leaves.

use hugebar::facts::{Facts, ThpDisabled, ThpGate, ThpPolicy};

use super::step::Step;

const STEP: &str = "thp";

/// Whether the THP policy or this process's own setting limits device memory to base pages.
pub(super) fn step(facts: &Facts) -> Step {
    let Some(policy) = facts.thp else {
        let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
        return Step::warning(STEP, "not built in: base pages only", remedy);
    };
    if facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("policy {policy} (ignored by this kernel)");
        return Step::ok(STEP, fact);
    }
    let inherited = "which they inherit from the service manager or container runtime";
    match facts.thp_disabled {
        ThpDisabled::Yes => {
            let fact =
                "off for this process (PR_SET_THP_DISABLE): base pages only, on every kernel";
            let remedy = format!(
                "start programs without that setting, {inherited}; a program can call \
                 prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) itself"
            );
            return Step::blocker(STEP, fact, remedy);
        }
        ThpDisabled::ExceptAdvised => {
            let fact = "off for unhinted memory of this process (PR_THP_DISABLE_EXCEPT_ADVISED)";
            let remedy = format!(
                "have programs hint with MADV_HUGEPAGE, or start them without that setting, {inherited}"
            );
            return Step::warning(STEP, fact, remedy);
        }
        ThpDisabled::No => {}
    }
    let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    let release = &facts.release;
    // Programs can hint, so check whether that helps.
    match (facts.thp_gate(Some(true)), policy) {
        (ThpGate::Closed, _) => Step::blocker(
            STEP,
            format!("policy {policy}, which Linux {release} asks: base pages only"),
            remedy,
        ),
        (ThpGate::Unknown, ThpPolicy::Unknown) => Step::warning(
            STEP,
            format!("the policy cannot be read, and Linux {release} may ask it"),
            "show this process /sys/kernel/mm/transparent_hugepage",
        ),
        (ThpGate::Unknown, _) => Step::warning(
            STEP,
            format!("policy {policy}; Linux {release} may ask it"),
            remedy,
        ),
        (ThpGate::Open, ThpPolicy::Always) => Step::ok(STEP, "policy always"),
        (ThpGate::Open, ThpPolicy::Madvise) => Step::ok(STEP, unhinted(facts)),
        (ThpGate::Open, _) => Step::ok(STEP, not_asked(facts, policy)),
    }
}

/// What the policy `madvise` does to unhinted mappings.
fn unhinted(facts: &Facts) -> String {
    let release = &facts.release;
    match facts.thp_gate(Some(false)) {
        ThpGate::Open => not_asked(facts, ThpPolicy::Madvise),
        ThpGate::Closed => {
            format!(
                "policy madvise, which Linux {release} asks: base pages only for unhinted mappings"
            )
        }
        ThpGate::Unknown => {
            format!(
                "policy madvise; if Linux {release} asks it, base pages only for unhinted mappings"
            )
        }
    }
}

fn not_asked(facts: &Facts, policy: ThpPolicy) -> String {
    format!(
        "policy {policy} (ignored by Linux {} for device memory)",
        facts.release
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;
    use hugebar::facts::KernelVersion;

    #[test]
    fn the_policy_counts_where_the_kernel_asks_it() {
        let status = |release: &str, thp| thp_status(release, thp, ThpDisabled::No);
        use ThpPolicy::{Always, Madvise, Never, Unknown};
        for (release, thp, expected) in [
            ("6.18.15", Some(Never), Status::Blocker),
            ("6.18.15", Some(Madvise), Status::Ok),
            ("6.18.15", Some(Always), Status::Ok),
            ("6.18.15", None, Status::Warning),
            ("7.3.4", Some(Never), Status::Ok),
            ("6.18.15", Some(Unknown), Status::Warning),
            ("7.3.4", Some(Unknown), Status::Ok),
            ("mystery", Some(Never), Status::Warning),
            ("mystery", Some(Madvise), Status::Ok),
            ("mystery", Some(Always), Status::Ok),
            // A distribution's own numbering, which does not say what was backported.
            ("6.12.0-55.el10", Some(Never), Status::Warning),
            ("5.14.0-611.el9_7.x86_64", Some(Never), Status::Warning),
            ("6.17.4-1-pve", Some(Never), Status::Warning),
            ("6.17.0-8-generic", Some(Madvise), Status::Ok),
            // Base pages only, whatever the policy.
            ("6.1.0-56-amd64", Some(Never), Status::Ok),
        ] {
            assert_eq!(status(release, thp), expected, "{release} {thp:?}");
        }
    }

    #[test]
    fn what_is_disabled_for_the_process_counts_before_the_policy() {
        use ThpDisabled::{ExceptAdvised, Yes};
        let always = Some(ThpPolicy::Always);
        assert_eq!(thp_status("7.3.4", always, Yes), Status::Blocker);
        assert_eq!(thp_status("7.3.4", always, ExceptAdvised), Status::Warning);
        assert_eq!(thp_status("6.1.192", always, Yes), Status::Ok);
        assert_eq!(thp_status("7.3.4", None, Yes), Status::Warning);
    }

    fn thp_status(release: &str, thp: Option<ThpPolicy>, disabled: ThpDisabled) -> Status {
        let mut facts = Facts::observe();
        facts.release = release.to_owned();
        facts.kernel = KernelVersion::parse(release);
        facts.thp = thp;
        facts.thp_disabled = disabled;
        super::step(&facts).status
    }
}
