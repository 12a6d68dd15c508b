//! For tests: what the C compiler says of the kernel's headers.

use std::io::Write;
use std::process::{Command, Stdio};

/// Has the C compiler check a source, whose static assertions compare our numbers with the headers'.
pub(super) fn assert_compiles(source: &str) {
    let mut compiler = Command::new("cc")
        .args(["-x", "c", "-fsyntax-only", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a C compiler, which Rust links with anyway");
    let mut stdin = compiler.stdin.take().expect("piped");
    stdin
        .write_all(source.as_bytes())
        .expect("the compiler reads");
    drop(stdin);
    assert!(
        compiler.wait().expect("the compiler ends").success(),
        "see its messages above"
    );
}
