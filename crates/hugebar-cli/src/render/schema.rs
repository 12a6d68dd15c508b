//! The JSON schemas in `docs/schema`, from the types that are printed, and documents checked against them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::bench::BenchReport;
use super::bind::BindReport;
use super::doctor::DoctorReport;
use super::failure::FailureReport;
use super::inspect::InspectReport;
use super::list::ListReport;
use super::map::MapReport;
use super::plan::PlanReport;
use super::resize::ResizeReport;
use super::show::ShowReport;
use super::vf::VfReport;

/// Leaves by size in bytes, as the library prints them.
pub(crate) type Counts = BTreeMap<u64, u64>;

/// The library's `Placement`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only described")]
pub(crate) enum Placement {
    Congruent,
    SizeAligned,
    Plain,
}

/// The library's `Area`: a part of a region.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only described")]
pub(crate) struct Area {
    offset: u64,
    size: u64,
}

/// A step of the doctor.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only described")]
pub(super) struct Step {
    step: String,
    status: Status,
    fact: String,
    remedy: Option<String>,
    command: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "only described")]
enum Status {
    Ok,
    Warning,
    Blocker,
}

/// The library's `Backend`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code, reason = "only described")]
pub(super) enum Backend {
    Type1,
    Iommufd,
    NoIommu,
}

/// The library's `Verdict`.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only described")]
pub(super) enum Verdict {
    Optimal,
    AsExpected,
    Degraded,
    Unmeasured,
}

/// What is known about a mapping of another process.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only described")]
pub(super) enum Judgement {
    Optimal,
    NotCounted,
    FallsShort,
    Contradicted,
}

/// Why something falls short, or what is unknown.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only described")]
pub(super) struct Reason {
    code: String,
    fact: String,
    remedy: String,
}

/// What a device is in use for.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only described")]
pub(super) struct Use {
    code: String,
    fact: String,
    remedy: String,
    can_be_forced: bool,
}

/// The schema of a document, by the command that prints it.
fn schemas() -> Vec<(&'static str, Schema)> {
    fn of<T: JsonSchema>() -> Schema {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        settings.into_generator().into_root_schema_for::<T>()
    }
    vec![
        ("bind", of::<BindReport>()),
        ("inspect", of::<InspectReport<'_>>()),
        ("map", of::<MapReport>()),
        ("plan", of::<PlanReport>()),
        ("list", of::<ListReport<'_>>()),
        ("show", of::<ShowReport<'_>>()),
        ("bench", of::<BenchReport>()),
        ("doctor", of::<DoctorReport>()),
        ("vf", of::<VfReport<'_>>()),
        ("resize", of::<ResizeReport<'_>>()),
        ("error", of::<FailureReport>()),
    ]
}

fn file(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema");
    PathBuf::from(folder).join(format!("{name}.json"))
}

#[test]
fn schemas_are_as_committed() {
    for (name, schema) in schemas() {
        let mut text = serde_json::to_string_pretty(&schema).unwrap();
        text.push('\n');
        if std::env::var_os("HUGEBAR_UPDATE_SCHEMAS").is_some() {
            fs::create_dir_all(file(name).parent().unwrap()).unwrap();
            fs::write(file(name), &text).unwrap();
        }
        let committed = fs::read_to_string(file(name)).unwrap_or_default();
        assert!(
            committed == text,
            "docs/schema/{name}.json differs from what is printed: run this test again with HUGEBAR_UPDATE_SCHEMAS=1"
        );
    }
}

/// Checks a document against the committed schema.
pub(crate) fn check(name: &str, document: &Value) {
    if let Err(error) = validate(name, document) {
        panic!("{name}: {error}\n{document}");
    }
}

fn validate(name: &str, document: &Value) -> Result<(), String> {
    let text = fs::read_to_string(file(name)).unwrap();
    let schema = serde_json::from_str(&text).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("schema.json", schema).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    let result = schemas.validate(document, index);
    result.map_err(|error| error.to_string())
}

#[test]
fn a_document_that_differs_is_refused() {
    let right = serde_json::json!({"version": 1, "release": "7.3.4", "device": null, "steps": [
        {"step": "iommu", "status": "ok", "fact": "on", "remedy": null, "command": null}
    ]});
    check("doctor", &right);
    for (pointer, wrong) in [
        ("/version", Value::from("1")),
        ("/steps/0/status", Value::from("fine")),
        ("/steps/0/fact", Value::Null),
        ("/steps", Value::Null),
        ("", serde_json::json!({"version": 1})),
    ] {
        let mut document = right.clone();
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert!(validate("doctor", &document).is_err(), "{pointer}");
    }
}

#[test]
fn failures() {
    use crate::failure::Failure;
    let library = hugebar::pci::locate("gpu0").unwrap_err();
    for failure in [Failure::Usage("no".into()), Failure::Library(library)] {
        let document = serde_json::to_value(FailureReport::new(&failure)).unwrap();
        check("error", &document);
    }
}
