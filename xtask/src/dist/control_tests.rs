//! Packages of files that stand for what is built, made with `dpkg-deb` and read by it.

use std::collections::BTreeMap;

use super::*;

const MAINTAINER: &str = "A B <a@b.example>";

/// A checkout's own documents and units, and files that stand for the built ones.
fn build(made: &Path) -> Build {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let put = |path: &str| {
        let path = made.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path
    };
    let lib = "library/usr/lib/x86_64-linux-gnu";
    for file in ["libhugebar.a", "pkgconfig/hugebar.pc"] {
        put(&format!("{lib}/{file}"));
    }
    put(concat!(
        "library/usr/lib/x86_64-linux-gnu/libhugebar.so.",
        env!("CARGO_PKG_VERSION")
    ));
    put("library/usr/include/hugebar.h");
    put("man/hugebar.8");
    put("man/hugebar-map.8");
    Build {
        workspace,
        arch: "amd64".to_owned(),
        triplet: "x86_64-linux-gnu".to_owned(),
        program: put("hugebar"),
        preload: put("libhugebar_preload.so"),
        library: made.join("library"),
        pages: made.join("man"),
        completions: vec![b"x".to_vec(); 3],
        licences: ["x".to_owned(), "x".to_owned()],
    }
}

fn commit() -> Commit {
    Commit {
        epoch: "1700000000".to_owned(),
        date: "Tue, 14 Nov 2023 22:13:20 +0000".to_owned(),
        maintainer: MAINTAINER.to_owned(),
        version: "0.1.0-1".to_owned(),
    }
}

fn dpkg_deb(what: &str, file: &Path) -> String {
    let output = Command::new("dpkg-deb")
        .arg(what)
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The packages by name: control file, and the lines of `dpkg-deb --contents`.
fn packages(work: &Path) -> BTreeMap<&'static str, (String, String)> {
    let build = build(&work.join("made"));
    let mut all = BTreeMap::new();
    for package in PACKAGES {
        let tree = Tree::new(work.join(package.name)).unwrap();
        (package.contents)(&build, &commit(), &tree).unwrap();
        let file = super::build(&package, &tree, "amd64", &commit(), work).unwrap();
        all.insert(
            package.name,
            (dpkg_deb("--field", &file), dpkg_deb("--contents", &file)),
        );
    }
    all
}

#[test]
fn dpkg_reads_the_control_files() {
    let work = tempfile::tempdir().unwrap();
    let packages = packages(work.path());
    let (control, _) = &packages["libhugebar-dev"];
    for line in [
        "Package: libhugebar-dev",
        "Version: 0.1.0-1",
        "Architecture: amd64",
        "Multi-Arch: same",
        "Depends: libhugebar0 (= 0.1.0-1)",
        "Section: libdevel",
        &format!("Maintainer: {MAINTAINER}"),
    ] {
        assert!(control.lines().any(|own| own == line), "{line}: {control}");
    }
    for (control, _) in packages.values() {
        assert!(control.lines().all(|line| line.len() <= 80), "{control}");
    }
}

#[test]
fn files_are_where_other_programs_look() {
    let work = tempfile::tempdir().unwrap();
    let packages = packages(work.path());
    let has = |package: &str, mode: &str, path: &str| {
        let (_, contents) = &packages[package];
        // Times are those of the commit, and everything is root's.
        let is_line = |line: &&str| line.starts_with(mode) && line.contains(&format!(" ./{path}"));
        let line = contents.lines().find(is_line);
        let line = line.unwrap_or_else(|| panic!("{mode} {path}: {contents}"));
        assert!(line.contains(" root/root "), "{line}");
        assert!(line.contains(" 2023-11-1"), "{line}");
    };
    has("hugebar", "-rwxr-xr-x", "usr/bin/hugebar");
    for path in [
        "usr/lib/hugebar/libhugebar_preload.so",
        "usr/share/man/man8/hugebar.8.gz",
        "usr/share/man/man8/hugebar-map.8.gz",
        "usr/share/bash-completion/completions/hugebar",
        "usr/share/zsh/vendor-completions/_hugebar",
        "usr/share/fish/vendor_completions.d/hugebar.fish",
        "usr/lib/systemd/system/hugebar-metrics.service",
        "usr/lib/systemd/system/hugebar-nfd.timer",
        "usr/share/doc/hugebar/docs/bind.md",
        "usr/share/doc/hugebar/copyright",
        "usr/share/doc/hugebar/changelog.Debian.gz",
    ] {
        has("hugebar", "-rw-r--r--", path);
    }
    let lib = "usr/lib/x86_64-linux-gnu";
    has(
        "libhugebar0",
        "lrwxrwxrwx",
        &format!("{lib}/libhugebar.so.0 -> libhugebar.so.0.1.0"),
    );
    has(
        "libhugebar0",
        "-rw-r--r--",
        &format!("{lib}/libhugebar.so.0.1.0"),
    );
    has(
        "libhugebar-dev",
        "lrwxrwxrwx",
        &format!("{lib}/libhugebar.so -> libhugebar.so.0"),
    );
    has(
        "libhugebar-dev",
        "-rw-r--r--",
        &format!("{lib}/pkgconfig/hugebar.pc"),
    );
    has("libhugebar-dev", "-rw-r--r--", "usr/include/hugebar.h");
    // Both libraries can be installed without the command.
    let (_, contents) = &packages["libhugebar0"];
    assert!(!contents.contains("/usr/bin/"), "{contents}");
}

/// The documents that the command names are there.
#[test]
fn documents_of_the_command_are_in_its_package() {
    let work = tempfile::tempdir().unwrap();
    let (_, contents) = &packages(work.path())["hugebar"];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/hugebar-cli/src");
    let mut folders = vec![sources];
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("docs/") {
                let name =
                    text[at..].split(|c: char| !(c.is_ascii_alphanumeric() || "/-.".contains(c)));
                let name = name.into_iter().next().unwrap();
                if let Some(end) = name.find(".md") {
                    named += 1;
                    let name = &name[..end + 3];
                    assert!(
                        contents.contains(&format!("/usr/share/doc/hugebar/{name}")),
                        "{name}"
                    );
                }
            }
        }
    }
    assert!(named > 0);
}
