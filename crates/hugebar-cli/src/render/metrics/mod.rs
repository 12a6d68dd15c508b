//! Gauges in Prometheus's text format 0.0.4, as the textfile collector of its node exporter reads it.

mod bars;
mod mappings;

use hugebar::leaf::Leaves;
use hugebar_host::escape::Escaped;
use prometheus::{Error, GaugeVec, Opts, Registry, TextEncoder};

pub(crate) use bars::bars;
pub(crate) use mappings::mappings;

/// A set of gauges that is printed once.
struct Gauges(Registry);

/// A gauge with a value for each set of labels.
struct Gauge(GaugeVec);

impl Gauges {
    fn new() -> Self {
        Self(Registry::new())
    }

    /// Adds a gauge. The collector refuses files that describe one name differently, so each has one caller.
    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<Gauge, Error> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(Gauge(gauge))
    }

    /// All that have a value, sorted by name and labels.
    fn text(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

impl Gauge {
    #[allow(
        clippy::cast_precision_loss,
        reason = "the format has no other numbers"
    )]
    fn set(&self, labels: &[&str], value: u64) -> Result<(), Error> {
        // The format allows control characters, but people see it as well.
        let labels: Vec<_> = labels.iter().map(|own| Escaped(own).to_string()).collect();
        self.0
            .get_metric_with_label_values(&labels)?
            .set(value as f64);
        Ok(())
    }

    fn set_if(&self, labels: &[&str], value: Option<u64>) -> Result<(), Error> {
        value.map_or(Ok(()), |value| self.set(labels, value))
    }

    /// A value for each leaf size, which is the last label.
    fn set_leaves(&self, labels: &[&str], leaves: &Leaves) -> Result<(), Error> {
        for (size, count) in leaves.iter() {
            let size = size.to_string();
            self.set(&[labels, &[&size]].concat(), count)?;
        }
        Ok(())
    }
}

/// A number as a label; empty if there is none, which is the same as no label.
fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        let gauges = Gauges::new();
        let gauge = gauges.gauge("hugebar_a_bytes", "Help.", &["name"]).unwrap();
        gauge.set(&["a\"b\\c\nd\u{202e}"], 1 << 40).unwrap();
        gauges.gauge("hugebar_none", "Nothing.", &[]).unwrap();
        let lines = [
            "# HELP hugebar_a_bytes Help.",
            "# TYPE hugebar_a_bytes gauge",
            r#"hugebar_a_bytes{name="a\"b\\c\\nd\\u{202e}"} 1099511627776"#,
            "",
        ];
        assert_eq!(gauges.text().unwrap(), lines.join("\n"));
        assert!(
            gauges
                .gauge("hugebar_a_bytes", "Other.", &["name"])
                .is_err()
        );
    }
}
