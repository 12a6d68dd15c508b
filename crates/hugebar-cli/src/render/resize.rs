//! The report of `hugebar resize`.

use std::fmt;

use serde::Serialize;

use hugebar::leaf::Bytes;
use hugebar_host::admin::{BarSizes, Plan, PossibleSize};

use super::change::{self, UseReport};
use super::print::VERSION;
use super::show::GrowthReport;
use super::{table, wrap};

/// The report of `hugebar resize`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ResizeReport<'a> {
    version: u32,
    dry_run: bool,
    device: String,
    driver: Option<&'a str>,
    bar: u8,
    /// Its size before; null if it had no address.
    before: Option<u64>,
    /// Its size now.
    size: Option<u64>,
    /// The sizes that it can have.
    sizes: Vec<SizeReport<'a>>,
    /// What the device was in use for: only with `--force`.
    uses: Vec<UseReport<'a>>,
    /// The steps, as lines for a shell.
    steps: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SizeReport<'a> {
    size: u64,
    /// The bridge whose window is too small for it; null if all have room.
    narrow: Option<GrowthReport<'a>>,
}

impl<'a> ResizeReport<'a> {
    pub(crate) fn new(
        before: &BarSizes,
        now: &'a BarSizes,
        plan: Option<&'a Plan>,
        dry_run: bool,
    ) -> Self {
        let size = |own: &'a PossibleSize| SizeReport {
            size: own.size,
            narrow: own.narrow.as_ref().map(GrowthReport::of),
        };
        Self {
            version: VERSION,
            dry_run,
            device: now.device.to_string(),
            driver: now.driver.as_deref(),
            bar: now.bar,
            before: before.size,
            size: now.size,
            sizes: now.sizes.iter().map(size).collect(),
            uses: UseReport::of(plan),
            steps: change::steps(plan),
        }
    }
}

/// With `--dry-run` only the steps, for a shell.
impl fmt::Display for ResizeReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            return change::write_steps(f, &self.steps);
        }
        let size = |size: Option<u64>| {
            let size = size.map(|size| Bytes(size).to_string());
            size.unwrap_or_else(|| "no address".to_owned())
        };
        let (before, now) = (size(self.before), size(self.size));
        write!(f, "{} BAR {}  {now}", self.device, self.bar)?;
        change::write_change(f, (before, now), self.driver)?;
        let sizes = self.sizes.iter().map(|own| Bytes(own.size).to_string());
        let sizes: Vec<_> = sizes.collect();
        let widest = sizes.iter().map(String::len).max().unwrap_or(0);
        for (own, size) in self.sizes.iter().zip(&sizes) {
            write!(f, "  {size:>widest$}")?;
            if let Some(narrow) = &own.narrow {
                write!(f, "  {}", narrow.fact)?;
            }
            writeln!(f)?;
        }
        let mut narrow = self.sizes.iter().rev();
        match narrow.find_map(|own| own.narrow.as_ref()) {
            Some(own) => f.write_str(&wrap::hanging("  ", 2, own.remedy, table::width())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::super::show::OtherReport;
    use super::*;

    const REMEDY: &str = "take the others away";

    fn report() -> ResizeReport<'static> {
        let narrow = || GrowthReport {
            fact: "bridge 0000:00:01.0 has a window of 512 MiB".to_owned(),
            whole: String::new(),
            bridge: "0000:00:01.0".to_owned(),
            window: 512 << 20,
            others: vec![OtherReport {
                device: "0000:01:00.1".to_owned(),
                bar: 0,
                size: 16 << 10,
            }],
            remedy: REMEDY,
        };
        let size = |size: u64| SizeReport {
            size: size << 20,
            narrow: (size > 256).then(narrow),
        };
        ResizeReport {
            version: VERSION,
            dry_run: false,
            device: "0000:01:00.0".to_owned(),
            driver: Some("amdgpu"),
            bar: 0,
            before: Some(256 << 20),
            size: Some(256 << 20),
            sizes: [256, 512, 1024].map(size).into(),
            uses: Vec::new(),
            steps: vec!["echo 9 > resource0_resize".to_owned()],
        }
    }

    #[test]
    fn what_is_possible() {
        let mut report = report();
        let expected = "\
0000:01:00.0 BAR 0  256 MiB, amdgpu
  256 MiB
  512 MiB  bridge 0000:00:01.0 has a window of 512 MiB
    1 GiB  bridge 0000:00:01.0 has a window of 512 MiB
  take the others away
";
        assert_eq!(report.to_string(), expected);
        schema::check("resize", &serde_json::to_value(&report).unwrap());
        report.size = Some(1 << 30);
        let line = "0000:01:00.0 BAR 0  1 GiB (256 MiB before), amdgpu\n";
        assert!(report.to_string().starts_with(line), "{report}");
        report.dry_run = true;
        assert_eq!(report.to_string(), "echo 9 > resource0_resize\n");
    }
}
