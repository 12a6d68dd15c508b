//! The configuration of the lab kernel: the options in `kernel.config`, and a check that a kernel's final `.config` has them all.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};

/// The suffix of an option that is off; a `.config` may also omit the option.
const OFF: &str = "n";

/// Options of a kernel by name, including `CONFIG_`, with values as written: `y`, `n`, `8`, `"text"`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<String, String>);

impl Options {
    /// Parses a fragment or a whole `.config`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut options = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            let off = line
                .strip_prefix("# ")
                .and_then(|rest| rest.strip_suffix(" is not set"));
            let (name, value) = match off {
                Some(name) => (name, OFF),
                None if line.is_empty() || line.starts_with('#') => continue,
                None => line
                    .split_once('=')
                    .with_context(|| format!("line {number} sets no option: {line:?}"))?,
            };
            let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
            ensure!(
                name.strip_prefix("CONFIG_")
                    .is_some_and(|rest| !rest.is_empty() && rest.chars().all(known)),
                "line {number}: {name:?} is no name of an option"
            );
            ensure!(
                options.insert(name.to_owned(), value.to_owned()).is_none(),
                "line {number} sets {name} a second time"
            );
        }
        Ok(Options(options))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or(OFF, String::as_str)
    }

    /// Checks that a final configuration has all of these options. Kconfig silently drops options whose dependencies
    /// are off, and unknown ones.
    pub(super) fn ensure_in(&self, configuration: &Options) -> Result<()> {
        let different: Vec<_> = self
            .0
            .iter()
            .map(|(name, asked)| (name, asked, configuration.get(name)))
            .filter(|(_, asked, got)| asked != got)
            .map(|(name, asked, got)| format!("{name}={asked} (it is {got})"))
            .collect();
        ensure!(
            different.is_empty(),
            "the kernel cannot be configured as asked: {}",
            different.join(", ")
        );
        Ok(())
    }

    /// The options in a fixed order: the same for fragments with the same options.
    pub(super) fn canonical(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINAL: &str = "\
# Automatically generated file; DO NOT EDIT.
CONFIG_64BIT=y
CONFIG_NR_CPUS=8
# CONFIG_MODULES is not set
CONFIG_LOCALVERSION=\"-a=b # c\"
CONFIG_KVM=m

";

    fn check(fragment: &str) -> Result<()> {
        Options::parse(fragment)
            .unwrap()
            .ensure_in(&Options::parse(FINAL).unwrap())
    }

    #[test]
    fn what_was_asked_for_and_is_there_is_fine() {
        check("# why\nCONFIG_64BIT=y\n\n  CONFIG_NR_CPUS=8\n").unwrap();
        check("CONFIG_LOCALVERSION=\"-a=b # c\"\n").unwrap();
    }

    #[test]
    fn off_is_off_however_it_is_said() {
        for name in ["CONFIG_MODULES", "CONFIG_NEVER_HEARD_OF"] {
            check(&format!("{name}=n\n")).unwrap();
            check(&format!("# {name} is not set\n")).unwrap();
        }
        let error = check("# CONFIG_64BIT is not set\n").unwrap_err();
        assert!(error.to_string().contains("CONFIG_64BIT=n (it is y)"));
    }

    #[test]
    fn every_option_that_is_missing_or_different_is_named() {
        let fragment = "CONFIG_64BIT=y\nCONFIG_IOMMUFD=y\nCONFIG_KVM=y\nCONFIG_NR_CPUS=64\nCONFIG_LOCALVERSION=\"-b\"\n";
        let error = check(fragment).unwrap_err().to_string();
        for part in [
            "CONFIG_IOMMUFD=y (it is n)",
            "CONFIG_KVM=y (it is m)",
            "CONFIG_NR_CPUS=64 (it is 8)",
            "CONFIG_LOCALVERSION=\"-b\" (it is \"-a=b # c\")",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("CONFIG_64BIT"), "{error}");
    }

    #[test]
    fn a_fragment_with_a_slip_in_it_is_refused() {
        for (text, said) in [
            ("CONFIG_A=y\nCONFIG_B\n", "line 2"),
            ("MODULES=n\n", "MODULES"),
            ("CONFIG_=y\n", "CONFIG_"),
            ("CONFIG_A =y\n", "CONFIG_A "),
            ("CONFIG_A=y\nCONFIG_A=n\n", "second time"),
        ] {
            let error = Options::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{said} in {error}");
        }
    }
}
