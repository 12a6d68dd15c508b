//! Checks `--require`, and for `map` whether it is met.

use hugebar::leaf::{Bytes, LeafSizes};
use hugebar::verdict::Requirement;
use hugebar_host::measure::Measured;

use crate::failure::Failure;

/// The leaf sizes of the machines that Linux has large leaves for.
const MACHINES: [LeafSizes; 4] = [
    LeafSizes::X86_64,
    LeafSizes::ARM64_4K,
    LeafSizes::ARM64_16K,
    LeafSizes::ARM64_64K,
];

/// Refuses a size that is no machine's. One that only other machines have is a question, because one command may serve
/// hosts of several kinds; [`absent`] answers it.
pub(super) fn check(required: Option<Requirement>, sizes: &LeafSizes) -> Result<(), Failure> {
    match required {
        Some(Requirement::Size(size))
            if !MACHINES
                .iter()
                .chain([sizes])
                .any(|own| own.as_slice().contains(&size)) =>
        {
            Err(Failure::Usage(format!(
                "--require: {} is not a leaf size of any machine; this one has {}",
                Bytes(size),
                list(sizes)
            )))
        }
        _ => Ok(()),
    }
}

/// The answer if this machine lacks the size.
pub(super) fn absent(required: Requirement, sizes: &LeafSizes) -> Option<String> {
    match required {
        Requirement::Size(size) if !sizes.as_slice().contains(&size) => Some(format!(
            "--require: this machine has no {} leaves for device memory, only {}; `--require optimal` asks for the best of \
             each machine",
            Bytes(size),
            list(sizes)
        )),
        _ => None,
    }
}

fn list(sizes: &LeafSizes) -> String {
    let sizes: Vec<_> = sizes
        .as_slice()
        .iter()
        .map(|&size| Bytes(size).to_string())
        .collect();
    sizes.join(", ")
}

/// Messages for the BARs that do not meet the requirement. `measured` has number and result of each BAR that was mapped,
/// `all` says whether no BAR failed, `sizes` are this machine's.
pub(super) fn missed(
    measured: &[(u32, Measured)],
    required: Requirement,
    all: bool,
    sizes: &LeafSizes,
) -> Vec<String> {
    let concerned: Vec<_> = measured
        .iter()
        .filter(|(_, own)| required.concerns(&own.best))
        .collect();
    if concerned.is_empty() && all {
        let none = || format!("--require: no BAR has room for {required}");
        return vec![absent(required, sizes).unwrap_or_else(none)];
    }
    let missing = concerned
        .into_iter()
        .filter(|(_, own)| !own.meets(required));
    let told = missing.map(|(bar, _)| format!("--require: BAR {bar} is not {required}"));
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_other_machines_is_answered_and_one_of_none_refused() {
        let arm64 = LeafSizes::ARM64_4K;
        let (gib, odd) = (Requirement::Size(1 << 30), Requirement::Size(3 << 20));
        assert!(check(Some(gib), &arm64).is_ok() && check(None, &arm64).is_ok());
        let refused = check(Some(odd), &arm64).unwrap_err().to_string();
        assert!(
            refused.contains("3 MiB") && refused.contains("4 KiB, 2 MiB"),
            "{refused}"
        );
        let answer = absent(gib, &arm64).unwrap();
        for part in ["no 1 GiB leaves", "4 KiB, 2 MiB", "--require optimal"] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        assert_eq!(missed(&[], gib, true, &arm64), [answer]);
        assert_eq!(absent(gib, &LeafSizes::X86_64), None);
        assert_eq!(absent(Requirement::Optimal, &arm64), None);
    }
}
