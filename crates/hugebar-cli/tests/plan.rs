//! `hugebar plan`: leaf counts that are known, and its output.

use std::process::{Command, Output};

use serde_json::Value;

fn plan(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hugebar"));
    command.arg("plan").args(arguments.split_whitespace());
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn json(arguments: &str) -> Value {
    let output = plan(&format!("{arguments} --json"));
    assert!(output.status.success(), "{output:?}");
    let document = serde_json::from_slice(&output.stdout).unwrap();
    check("plan", &document);
    document
}

/// Checks a document against its schema.
fn check(name: &str, document: &Value) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let index = compiler.compile(&format!("{folder}/{name}.json"), &mut schemas);
    let result = schemas.validate(document, index.unwrap());
    result.unwrap_or_else(|error| panic!("{error}: {document}"));
}

/// The sum of an object's counts.
fn total(leaves: &Value) -> u64 {
    let counts = leaves.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// The best and the worst of a placement.
fn costs(document: &Value, placement: &str) -> (u64, u64) {
    let all = document["placements"].as_array().unwrap();
    let own = all.iter().find(|own| own["placement"] == placement);
    let own = own.unwrap_or_else(|| panic!("{placement}: {document}"));
    (total(&own["best"]), total(&own["worst"]))
}

#[test]
fn leaf_counts_to_expect() {
    for (arguments, congruent, size_aligned) in [
        ("128G --sizes x86-64", 128, (128, 128)),
        (
            "64G --exclude 24K+4K --sizes x86-64",
            1_085,
            (1_085, 16_777_215),
        ),
        (
            "16M --exclude 0xb90000+4K --sizes x86-64",
            518,
            (518, 4_095),
        ),
        ("0x2F00F00000 --sizes x86-64", 451, (451, 49_286_912)),
        (
            "0x2F00F00000 --sizes arm64-4k",
            96_519,
            (96_519, 49_286_912),
        ),
        ("0x2F00F00000 --sizes arm64-64k", 616, (616, 3_080_432)),
        (
            "4G --exclude 0+0x7000 --sizes x86-64",
            1_019,
            (1_019, 1_048_569),
        ),
        // 3 GiB + 0xF0F0000 bytes.
        ("0xCF0F0000 --sizes x86-64", 363, (363, 848_112)),
        // Measured on arm64 kernels with pages of 16 KiB.
        ("4G --sizes arm64-16k", 128, (128, 128)),
        (
            "4G --exclude 0x6000+0x1000 --sizes arm64-16k",
            2_174,
            (2_174, 262_143),
        ),
    ] {
        let document = json(arguments);
        assert_eq!(
            costs(&document, "congruent"),
            (congruent, congruent),
            "{arguments}"
        );
        assert_eq!(
            costs(&document, "size-aligned"),
            size_aligned,
            "{arguments}"
        );
    }
}

#[test]
fn at_addresses_that_are_given() {
    let document = json("4G --sizes x86-64 --hva 0x7f1240000000");
    assert_eq!(document["at"]["leaves"]["1073741824"], 4);
    assert_eq!(document["placements"], Value::Array(Vec::new()));
    let document = json("4G --sizes x86-64 --hva 0x7f1240200000");
    assert_eq!(total(&document["at"]["leaves"]), 2_048);
    // Congruent with a physical address that is no multiple of 1 GiB.
    let document = json("4G --sizes x86-64 --at 0x380000200000 --hva 0x7f1240200000");
    assert_eq!(total(&document["at"]["leaves"]), 3 + 512);
    assert_eq!(document["physical"], "0x380000200000");
    let document = json("4G --sizes x86-64 --at 0x380000200000 --placement congruent");
    let window = &document["placements"][0]["windows"][0];
    assert_eq!(
        (&window["alignment"], &window["residue"]),
        (&(1 << 30).into(), &(2 << 20).into())
    );
}

#[test]
fn text() {
    let output = plan("64G --exclude 24K+4K --sizes x86-64");
    assert_eq!(
        stdout(&output),
        "\
64 GiB, naturally aligned; leaves of 1 GiB, 2 MiB, 4 KiB
  0x0+0x6000
  0x7000+0xfffff9000

 placement     addresses  1 GiB  2 MiB     4 KiB    leaves 
 congruent     any           63    511       511      1085 
 size-aligned  best          63    511       511      1085 
 size-aligned  worst          0      0  16777215  16777215 
 plain         best          63    511       511      1085 
 plain         worst          0      0  16777215  16777215 

congruent:
  0x0+0x1000000000 at 0x0 modulo 1 GiB

size-aligned:
  0x0+0x6000 at 0x0 modulo 8 KiB
  0x7000+0xfffff9000 at 0x0 modulo 4 KiB

plain:
  0x0+0x6000 at 0x0 modulo 4 KiB
  0x7000+0xfffff9000 at 0x0 modulo 4 KiB
"
    );
    let output = plan("2M --sizes arm64-4k --at 0x1000 --hva 0x201000");
    assert_eq!(
        stdout(&output),
        "\
2 MiB at physical address 0x1000; leaves of 2 MiB, 4 KiB

 placement  addresses  2 MiB  4 KiB  leaves 
 given      0x201000       0    512     512 
 congruent  any            0    512     512 
"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, words) in [
        ("0", "0 bytes"),
        ("4G --exclude 4G+4K", "does not lie in the region"),
        (
            "4G --sizes x86-64 --at 0x1001",
            "0x1001 is not page-aligned",
        ),
        ("4G --sizes x86-64 --hva 1", "0x1 is not a multiple"),
        ("4G --hva 0 --placement plain", "cannot be used with"),
        ("16777215T", "too large"),
    ] {
        let output = plan(&format!("{arguments} --json"));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        check("error", &document);
        let message = document["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{arguments}: {message}");
    }
}
