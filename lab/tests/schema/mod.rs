//! The command's JSON, checked against the schemas in `docs/schema`.

use hugebar_lab::Output;
use serde_json::Value;

/// The document that a command has printed, which has to be as `docs/schema/NAME.json` says.
pub(crate) fn document(output: &Output, name: &str) -> Value {
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let index = compiler.compile(&format!("{folder}/{name}.json"), &mut schemas);
    let result = schemas.validate(&document, index.unwrap());
    result.unwrap_or_else(|error| panic!("{name}: {error}: {document}"));
    document
}
