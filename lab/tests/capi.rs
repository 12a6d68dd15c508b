//! The library for C and C++, as it is installed: programs in both languages are built against it with pkg-config, and run
//! here and on a device.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hugebar_lab::capi::{self, Installed, Link};
use hugebar_lab::{HostFile, Spec};
use object::{Object, ObjectSymbol};

fn installed() -> &'static Installed {
    Installed::get().unwrap()
}

fn prefix() -> &'static Path {
    installed().prefix()
}

fn build(source: &str, link: Link) -> PathBuf {
    installed().program(source, link).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Each function of the installed header with its parameters.
fn functions() -> BTreeMap<String, Vec<String>> {
    let header = fs::read_to_string(prefix().join("include/hugebar.h")).unwrap();
    let code: String = header
        .lines()
        .filter(|line| !line.starts_with("//"))
        .collect();
    let mut functions = BTreeMap::new();
    for statement in code.split(';') {
        let Some((head, parameters)) = statement.split_once('(') else {
            continue;
        };
        let name = head.rsplit([' ', '*']).next().unwrap();
        let parameters = parameters.trim_end().trim_end_matches(')').split(',');
        let parameters = parameters.map(|own| own.split_whitespace().collect::<Vec<_>>().join(" "));
        let parameters: Vec<_> = parameters.filter(|own| own != "void").collect();
        if name.starts_with("hugebar_") {
            assert!(
                functions.insert(name.to_owned(), parameters).is_none(),
                "{name}"
            );
        }
    }
    assert!(functions.len() > 50, "{functions:?}");
    functions
}

#[test]
fn only_the_functions_of_the_header_are_exported() {
    let lib = prefix().join("lib");
    let library = fs::read(lib.join("libhugebar.so")).unwrap();
    let library = object::File::parse(&*library).unwrap();
    let exported: BTreeSet<_> = library
        .exports()
        .unwrap()
        .iter()
        .map(|export| String::from_utf8(export.name().to_vec()).unwrap())
        .collect();
    let functions: BTreeSet<_> = functions().into_keys().collect();
    assert_eq!(exported, functions);
    // Panics unwind, and so can become errors.
    let mut imported = library.dynamic_symbols().filter(ObjectSymbol::is_undefined);
    assert!(imported.any(|own| own.name() == Ok("_Unwind_RaiseException")));
    let manifest = fs::read_to_string(Installed::sources().join("../../Cargo.toml")).unwrap();
    let (_, profile) = manifest.split_once("\n[profile.capi]\n").unwrap();
    let (profile, _) = profile.split_once("\n\n").unwrap();
    assert!(profile.contains("panic = \"unwind\""), "{profile}");
    assert_eq!(capi::PROFILE, "capi");

    let needed = run(Command::new("ldd").arg(build("tests/c/use.cpp", Link::Shared)));
    let found = format!("{} => {}", capi::SONAME, lib.join(capi::SONAME).display());
    assert!(needed.contains(&found), "{needed}");
}

#[test]
fn programs_run_with_either_library_and_with_checks() {
    for link in [Link::Shared, Link::Static, Link::Sanitized] {
        assert_eq!(
            run(&mut Command::new(build("tests/c/use.cpp", link))),
            "ok\n"
        );
        all_refused(&run(&mut Command::new(build("tests/c/arguments.c", link))));
    }
    let program = build("tests/c/use.cpp", Link::Static);
    let needed = run(Command::new("ldd").arg(program));
    assert!(!needed.contains("hugebar"), "{needed}");
}

#[test]
fn the_program_in_the_guide_compiles() {
    let guide = fs::read_to_string(Installed::sources().join("../../docs/c.md")).unwrap();
    let (_, program) = guide.split_once("```c\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let source = prefix().join("guide.c");
    fs::write(&source, program).unwrap();
    let mut command = Command::new("gcc");
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
    run(command
        .args(installed().pkg_config("--cflags").unwrap())
        .arg(source));
}

/// Every function has returned an error for each wrong argument that it can have.
fn all_refused(said: &str) {
    let (lines, last) = said.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, "0 failures");
    let mut seen = BTreeSet::new();
    for line in lines.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [function, kind, what, result] = words[..] else {
            panic!("{line}");
        };
        assert!(result.parse::<i32>().unwrap() < 0, "{line}");
        assert!(kind == "-" || result == "-9", "not EBADF: {line}");
        seen.insert(format!("{function} {kind} {what}"));
    }
    let mut wanted = BTreeSet::new();
    for (function, parameters) in functions() {
        let handles: Vec<_> = parameters.iter().filter_map(|own| handle_of(own)).collect();
        for kind in &handles {
            let cases = ["null", "bad", "closed"];
            wanted.extend(cases.map(|what| format!("{function} {kind} {what}")));
        }
        // Options and leaf sizes may be NULL.
        let may_be_null = |own: &str| {
            ["map_options", "leaf_sizes"]
                .iter()
                .any(|kind| own.starts_with(&format!("const struct hugebar_{kind} *")))
        };
        let pointers = parameters.iter().filter(|own| own.contains('*'));
        let pointers = pointers.filter(|own| handle_of(own).is_none());
        if pointers.filter(|own| !may_be_null(own)).count() > 0 {
            wanted.insert(format!("{function} - null"));
        } else if handles.is_empty() && !parameters.is_empty() {
            wanted.insert(format!("{function} - bad"));
        }
    }
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(
        missing.is_empty(),
        "tests/c/arguments.c has no case for {missing:#?}"
    );
}

/// `mapping` for `const struct hugebar_mapping *other`.
fn handle_of(parameter: &str) -> Option<&str> {
    const KINDS: [&str; 8] = [
        "device",
        "dma",
        "interrupts",
        "mapping",
        "plan",
        "report",
        "space",
        "window",
    ];
    let (_, rest) = parameter.split_once("struct hugebar_")?;
    let (kind, name) = rest.split_once(" *")?;
    (KINDS.contains(&kind) && !name.contains('*')).then_some(kind)
}

#[test]
fn programs_use_a_device() {
    const DEVICE: &str = "0000:00:10.0";
    let programs = [
        ("examples/c/map_bar.c", Link::Shared),
        ("examples/c/replace_mmap.c", Link::Sanitized),
        ("tests/c/use.cpp", Link::Sanitized),
        ("tests/c/arguments.c", Link::Sanitized),
    ];
    let spec = Spec::new("newest").device("pci-testdev,membar=4G");
    let mut spec = spec
        .timeout(Duration::from_secs(900))
        .copy(installed().library());
    let mut commands = Vec::new();
    for (source, link) in programs {
        let host = build(source, link);
        let name = host.file_name().unwrap().to_str().unwrap();
        let words = match source.starts_with("examples") {
            true => vec![name, DEVICE, "2"],
            false => vec![name, DEVICE],
        };
        commands.push(hugebar_lab::Command::new(words));
        spec = spec.copy(HostFile { host, guest: None });
    }
    let report = spec.run(&commands).unwrap();
    for output in &report.commands {
        assert!(output.success(), "{output:?}");
    }
    let said: Vec<_> = report
        .commands
        .iter()
        .map(|output| output.stdout())
        .collect();
    let [mapped, replaced, used, refused] = &said[..] else {
        panic!("{said:?}");
    };
    let lines: Vec<_> = mapped.lines().collect();
    assert!(lines[0].ends_with(": optimal"), "{mapped}");
    assert_eq!(
        lines[1..],
        [
            " 1073741824 bytes: best 4, expected 4, measured 4",
            "    2097152 bytes: best 0, expected 0, measured 0",
            "       4096 bytes: best 0, expected 0, measured 0",
        ]
    );
    assert_eq!(
        *replaced,
        "one pointer: 4 leaves\n\
         slot of 0x6000 bytes at 0\n\
         slot of 0xffff9000 bytes at 0x7000\n\
         slots: 4 leaves\n\
         a range of the program's: 4 leaves\n"
    );
    assert_eq!(*used, "ok\n");
    all_refused(refused);
}
