//! A failure as a line, and as JSON.

use serde::Serialize;

use hugebar_host::escape::Escaped;

use super::print::{VERSION, tell};
use crate::failure::Failure;

/// Reports a failure on stderr.
pub(crate) fn tell_failure(failure: &Failure) {
    tell(format_args!("hugebar: {}", Escaped(&failure.to_string())));
}

/// Reports the failure of one BAR of several, and names the BAR.
pub(crate) fn tell_failure_of(bar: u32, failure: &Failure) {
    tell(format_args!(
        "hugebar: {}",
        Escaped(&naming(bar, failure.to_string()))
    ));
}

fn naming(bar: u32, text: String) -> String {
    let name = format!("BAR {bar}");
    if text.contains(&name) {
        text
    } else {
        format!("{name}: {text}")
    }
}

/// The form that `--json` prints: `{"version": 1, "error": {…}}`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FailureReport {
    version: u32,
    error: Described,
}

/// The failure: `error` in every document.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Described {
    #[cfg_attr(test, schemars(with = "String"))]
    kind: serde_json::Value,
    message: String,
    subject: Option<String>,
    operation: Option<String>,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl FailureReport {
    pub(crate) fn new(failure: &Failure) -> Self {
        Self {
            version: VERSION,
            error: Described::of(failure),
        }
    }
}

impl Described {
    pub(super) fn of(failure: &Failure) -> Self {
        let described = Described {
            message: failure.to_string(),
            ..Described::default()
        };
        match failure {
            Failure::Usage(_) => Described {
                kind: "usage".into(),
                ..described
            },
            Failure::Witness(_) | Failure::Unwitnessed(_) => Described {
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
            Failure::Admin(error) => Described {
                kind: serde_json::to_value(error.kind()).unwrap_or_default(),
                subject: Some(error.subject().to_owned()),
                operation: Some(error.operation().to_owned()),
                errno: error.errno(),
                remedy: error.remedy().map(str::to_owned),
                ..described
            },
            Failure::Signals(error) => Described {
                kind: "host".into(),
                errno: error.raw_os_error(),
                ..described
            },
            Failure::Refused(_) => Described {
                kind: "refused".into(),
                ..described
            },
            Failure::Start(_, error) => Described {
                kind: "host".into(),
                errno: error.raw_os_error(),
                ..described
            },
            Failure::Metrics(_) => Described {
                kind: "output".into(),
                ..described
            },
            Failure::File(path, error) => Described {
                kind: "output".into(),
                subject: Some(path.display().to_string()),
                errno: error.raw_os_error(),
                ..described
            },
            Failure::Output(error) => Described {
                kind: "output".into(),
                message: error.to_string(),
                ..described
            },
        }
    }
}

/// Adds remedy or subject: the message about a process contains the remedy, the message about a file the subject.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_bar_once() {
        let shown = "0000:01:00.0 BAR 2: mmap: busy";
        assert_eq!(naming(2, shown.to_owned()), shown);
        assert_eq!(
            naming(2, "area 0x0+0x1000: no".to_owned()),
            "BAR 2: area 0x0+0x1000: no"
        );
    }
}
