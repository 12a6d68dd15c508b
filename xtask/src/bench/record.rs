//! What a part has measured, as a file beside the page.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::part::Part;

/// The results of a part.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The command that measures it.
    pub(super) command: String,
    /// The day of the measurement.
    pub(super) date: String,
    /// The guest's `uname -r`.
    pub(super) release: String,
    /// The version of the QEMU around it, and what its CPU was.
    pub(super) qemu: String,
    pub(super) accelerator: String,
    /// The rounds asked for.
    pub(super) rounds: u32,
    pub(super) results: Value,
}

impl Record {
    /// The record of a part, if it was measured.
    pub(super) fn read(folder: &Path, part: Part) -> Result<Option<Self>> {
        let path = path(folder, part);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Writes it, in place of an older one.
    pub(super) fn write(&self, folder: &Path, part: Part) -> Result<()> {
        let path = path(folder, part);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("wrote {}", path.display());
        Ok(())
    }
}

fn path(folder: &Path, part: Part) -> PathBuf {
    folder.join(format!("{part}.json"))
}

/// What the page needs of a document of `hugebar bench --json`: the series, and of their single samples the number and the leaves
/// that their addresses give.
pub(super) fn reduced(mut document: Value) -> Value {
    let bars = document["bars"].as_array_mut();
    for bar in bars.into_iter().flatten() {
        let series = bar["series"].as_array_mut();
        for own in series
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            let samples = own.remove("samples");
            let samples = samples.as_ref().and_then(Value::as_array);
            let samples: &[Value] = samples.map_or(&[], Vec::as_slice);
            let totals = samples.iter().map(|sample| total(&sample["expected"]));
            let range = json!({"min": totals.clone().min(), "max": totals.max()});
            own.insert("rounds".to_owned(), samples.len().into());
            own.insert("expected".to_owned(), range);
        }
    }
    document
}

/// The number of leaves of all sizes.
fn total(leaves: &Value) -> u64 {
    let counts = leaves.as_object().into_iter().flat_map(|all| all.values());
    counts.filter_map(Value::as_u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_samples_become_their_number() {
        let samples =
            json!([{"expected": {"4096": 7, "2097152": 1}}, {"expected": {"2097152": 4}}]);
        let document = |series| json!({"release": "7", "bars": [{"series": [series]}]});
        let long = document(json!({"size": 1, "samples": samples}));
        let short = json!({"size": 1, "rounds": 2, "expected": {"min": 4, "max": 8}});
        let short = document(short);
        assert_eq!(reduced(long), short);
    }

    #[test]
    fn a_record_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::all()[0];
        assert!(Record::read(folder.path(), part).unwrap().is_none());
        let record = Record {
            command: "cargo xtask bench".to_owned(),
            date: "2026-11-27".to_owned(),
            release: "7.3.4".to_owned(),
            qemu: "7.2".to_owned(),
            accelerator: "QEMU TCG".to_owned(),
            rounds: 9,
            results: json!({"sizes": [1, 2]}),
        };
        record.write(folder.path(), part).unwrap();
        let back = Record::read(folder.path(), part).unwrap().unwrap();
        assert_eq!((back.rounds, &back.results), (9, &record.results));
        fs::write(path(folder.path(), part), "{").unwrap();
        assert!(Record::read(folder.path(), part).is_err());
    }
}
