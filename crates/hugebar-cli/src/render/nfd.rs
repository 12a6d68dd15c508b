//! A feature file for Kubernetes' node-feature-discovery, whose local source makes labels of its lines.

use std::time::SystemTime;

use hugebar::facts::Facts;
use hugebar::vfio::is_vfio;
use hugebar_host::devices::Described;

/// Labels of this namespace need no permission by the master's configuration.
const PREFIX: &str = "hugebar.feature.node.kubernetes.io";

/// The features of these devices and this kernel, which count until they expire.
pub(crate) fn features(all: &[Described], facts: &Facts, expires: SystemTime) -> String {
    let largest = all.iter().filter_map(Described::largest);
    let largest = largest.map(|bar| bar.resource.size).max().unwrap_or(0);
    let bound = all
        .iter()
        .filter(|own| own.driver.as_deref().is_some_and(is_vfio));
    let bound = bound.count();
    let known = |known: Option<bool>| known.map_or("unknown".to_owned(), |yes| yes.to_string());
    let features = facts.features();
    let lines = [
        ("devices", all.len().to_string()),
        ("vfio-devices", bound.to_string()),
        ("largest-bar-bytes", largest.to_string()),
        (
            "largest-leaf-bytes",
            facts.device_leaf_sizes().largest().to_string(),
        ),
        ("large-leaves", known(features.huge_device_leaves())),
        ("asks-thp-policy", known(features.asks_thp_policy())),
    ];
    let lines = lines.map(|(name, value)| format!("{PREFIX}/{name}={value}\n"));
    let expires = humantime::format_rfc3339_seconds(expires);
    format!("# +expiry-time={expires}\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn lines_are_features_or_directives() {
        let expires = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let facts = Facts::observe();
        let text = features(&[], &facts, expires);
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "# +expiry-time=2027-01-15T08:00:00Z");
        assert_eq!(rest.lines().count(), 6);
        for line in rest.lines() {
            let (name, value) = line.split_once('=').unwrap();
            assert!(name.starts_with("hugebar.feature.node.kubernetes.io/"));
            // What Kubernetes allows as the value of a label.
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            assert!(value.chars().all(allowed) && value.len() < 64, "{line}");
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            assert!(ends(value.chars().next()) && ends(value.chars().last()));
        }
    }
}
