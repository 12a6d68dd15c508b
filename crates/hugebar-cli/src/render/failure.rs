//! A failure as JSON.

use serde::Serialize;

use super::print::VERSION;
use crate::failure::Failure;

/// The form that `--json` prints: `{"version": 1, "error": {…}}`.
#[derive(Serialize)]
pub(crate) struct FailureReport {
    version: u32,
    error: Described,
}

#[derive(Default, Serialize)]
struct Described {
    kind: serde_json::Value,
    message: String,
    subject: Option<String>,
    operation: Option<String>,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl FailureReport {
    pub(crate) fn new(failure: &Failure) -> Self {
        let described = Described {
            message: failure.to_string(),
            ..Described::default()
        };
        let error = match failure {
            Failure::Usage(_) => Described {
                kind: "usage".into(),
                ..described
            },
            Failure::Witness(_) => Described {
                kind: "witness".into(),
                ..described
            },
            Failure::Library(error) => Described {
                kind: serde_json::to_value(error.kind()).unwrap_or_default(),
                subject: Some(error.subject().to_owned()).filter(|text| !text.is_empty()),
                operation: Some(error.operation().to_owned()),
                errno: error.errno(),
                remedy: error.remedy().map(str::to_owned),
                ..described
            },
            Failure::Host(error) => host(error, described),
            Failure::Signals(error) => Described {
                kind: "host".into(),
                errno: error.raw_os_error(),
                ..described
            },
            Failure::Output(error) => Described {
                kind: "output".into(),
                message: error.to_string(),
                ..described
            },
        };
        Self {
            version: VERSION,
            error,
        }
    }
}

/// The message of a process has its remedy, that of a file has its subject.
fn host(error: &hugebar_host::Error, described: Described) -> Described {
    use hugebar_host::{Error, ErrorKind};
    let of_process = matches!(error, Error::Process { .. });
    let kind = match error.kind() {
        _ if !of_process => "host",
        ErrorKind::NotFound => "not-found",
        ErrorKind::TimedOut => "timed-out",
        _ => "permission-denied",
    };
    Described {
        kind: kind.into(),
        subject: of_process.then(|| error.subject()),
        errno: error.errno(),
        ..described
    }
}
