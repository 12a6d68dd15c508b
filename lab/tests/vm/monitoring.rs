//! Gauges, as promtool and the node exporter read them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hugebar_lab::cache::Cache;
use hugebar_lab::debian::{NODE_EXPORTER, PROMTOOL, Program};

/// Samples by name and labels, as the node exporter serves them.
pub(crate) struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// Writes texts to files of these names, which promtool and the node exporter have to accept.
    pub(crate) fn collected(texts: &[(&str, &str)]) -> Self {
        for (name, text) in texts {
            let (accepted, said) = checked(text);
            assert!(accepted && said.is_empty(), "{name}: {said}");
        }
        let mut samples = BTreeMap::new();
        for line in exported(texts).lines() {
            if !line.starts_with("hugebar_") {
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            // The exporter writes large numbers as 4.294967296e+09.
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0 && value.fract() == 0.0, "{line}");
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is neither negative nor fractional, as asserted"
            )]
            samples.insert(sample.to_owned(), value as u64);
        }
        Self(samples)
    }

    /// The value of a sample with exactly these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        let key = match labels.as_slice() {
            [] => name.to_owned(),
            labels => format!("{name}{{{}}}", labels.join(",")),
        };
        self.0.get(&key).copied()
    }
}

fn program(program: &Program) -> Command {
    let words = program.get(&Cache::open().unwrap()).unwrap().here();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Whether promtool accepts metrics, and its remarks.
fn checked(text: &str) -> (bool, String) {
    let mut child = program(&PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It reads all of it before it writes.
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the node exporter serves of files with these texts, all of which it has to accept.
fn exported(texts: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in texts {
        fs::write(folder.path().join(format!("{name}.prom")), text).unwrap();
    }
    let child = program(&NODE_EXPORTER)
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg(format!(
            "--collector.textfile.directory={}",
            folder.path().display()
        ))
        .arg("--web.listen-address=127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        let (_, rest) = line.split_once("127.0.0.1:")?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let port: u16 = rest[..end.unwrap_or(rest.len())].parse().ok()?;
        (port != 0).then(|| format!("127.0.0.1:{port}"))
    });
    let address = address.expect("it listens");
    // It must not block on a full pipe.
    thread::spawn(move || lines.for_each(drop));
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nAccept: text/plain\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("\nnode_textfile_scrape_error 0\n"),
        "{answer}"
    );
    answer
}

/// What is wrong is found.
#[test]
fn wrong_metrics_are_refused() {
    let right =
        "# HELP hugebar_x_bytes X.\n# TYPE hugebar_x_bytes gauge\nhugebar_x_bytes{a=\"b\"} 1\n";
    assert_eq!(checked(right), (true, String::new()));
    let metrics = Metrics::collected(&[("x", right)]);
    assert_eq!(metrics.value("hugebar_x_bytes", &[("a", "b")]), Some(1));
    assert_eq!(metrics.value("hugebar_x_bytes", &[]), None);
    for wrong in [
        right.replace("\"b\"", "\"b"),
        right.replace("\"b\"", "\"\\x\""),
        right.replace("gauge", "number"),
        right.replace("_bytes", "_total"),
        right.replace("_bytes", "-bytes"),
    ] {
        let (accepted, said) = checked(&wrong);
        assert!(!accepted && !said.is_empty(), "{wrong}: {said}");
    }
}
