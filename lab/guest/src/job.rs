//! The job description: the settings and commands for PID 1, and how each command ended.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The path of the job description in the guest.
pub const JOB_PATH: &str = "/job.json";

/// PID 1's task in one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The policy for transparent huge pages; `None` leaves the kernel's own default.
    pub thp: Option<Thp>,
    /// Kernel modules (paths in the guest) in the order in which they must be loaded.
    pub modules: Vec<String>,
    /// Whether every memory BAR has to have an address.
    pub addresses: bool,
    /// PCI addresses to bind to vfio-pci; of a bridge, what lies behind it.
    pub bind: Vec<String>,
    /// Folders for `LD_LIBRARY_PATH`: libraries of copied programs outside the loader's default folders.
    pub library_path: Vec<String>,
    /// The commands, run one after the other.
    pub commands: Vec<Command>,
}

/// A policy for transparent huge pages, as in `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thp {
    /// Wherever they fit.
    Always,
    /// Where the program asks for them.
    Madvise,
    /// Nowhere.
    Never,
}

impl Thp {
    /// The word that the kernel uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Thp::Always => "always",
            Thp::Madvise => "madvise",
            Thp::Never => "never",
        }
    }
}

impl fmt::Display for Thp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Thp {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Thp::Always, Thp::Madvise, Thp::Never]
            .into_iter()
            .find(|policy| policy.as_str() == word)
            .ok_or_else(|| format!("{word:?} is not always, madvise or never"))
    }
}

/// One command for the guest: a program on its `PATH`, or a verb of PID 1 itself, which begins with `@`.
///
/// | verb | what it does |
/// |---|---|
/// | `@write PATH TEXT` | writes the text to a file that exists, such as one of sysfs |
/// | `@create PATH TEXT` | makes or replaces a file |
/// | `@cat PATH…` | prints files |
/// | `@ls PATH` | prints the names in a folder, one per line |
/// | `@readlink PATH` | prints the target of a symbolic link |
/// | `@exists PATH` | status 0 if the path exists, 1 if not |
/// | `@chmod MODE PATH…`, `@chown UID PATH…` | like the programs of that name; the mode is octal |
/// | `@cover PATH WITH` | mounts one file over another |
/// | `@bind ADDRESS DRIVER`, `@unbind ADDRESS` | binds a PCI function to a driver, unbinds it |
/// | `@dmesg` | prints the kernel's log |
/// | `@sleep SECONDS` | waits; fractions are possible |
/// | `@signal INDEX SIGNAL` | sends a signal (a number) to the command of that index, which runs in the background |
/// | `@wait INDEX` | waits for the end of such a command |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program or verb, and its arguments. `{pid:N}` in an argument becomes the PID of command N.
    pub argv: Vec<String>,
    /// Additions to its environment.
    pub env: Vec<(String, String)>,
    /// The user (and group) to run as, without privileges; `None` is root.
    pub uid: Option<u32>,
    /// A policy for transparent huge pages to set before it starts; it stays for the commands after it.
    pub thp: Option<Thp>,
    /// After this time it is killed, and its status is [`Status::TimedOut`].
    pub time_limit: Option<Duration>,
    /// Run it beside the following commands, which start as soon as it has printed this text (or ended).
    pub background: Option<String>,
}

impl Command {
    /// A command run as root, to its end.
    pub fn new<I>(argv: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Command {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            uid: None,
            thp: None,
            time_limit: None,
            background: None,
        }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it as this user and group, with no other groups and no capabilities.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Sets the policy for transparent huge pages before it starts.
    #[must_use]
    pub fn thp(mut self, policy: Thp) -> Self {
        self.thp = Some(policy);
        self
    }

    /// Kills it after this time.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Runs it beside the following commands. They start once it has printed `ready` (at once if that is empty), and when they have run it is ended by SIGTERM, then SIGKILL.
    #[must_use]
    pub fn background(mut self, ready: impl Into<String>) -> Self {
        self.background = Some(ready.into());
        self
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// By itself, with this status (127: no such program; 126: it cannot be run).
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Killed because its time ran out.
    TimedOut,
}

impl Status {
    /// The exit status that a shell would show.
    pub fn code(self) -> i32 {
        match self {
            Status::Exited(code) => code,
            Status::Signaled(signal) => 128 + signal,
            Status::TimedOut => 124,
        }
    }

    /// Whether the command ended by itself with status 0.
    pub fn success(self) -> bool {
        self == Status::Exited(0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Exited(code) => write!(f, "exit status {code}"),
            Status::Signaled(signal) => write!(f, "ended by signal {signal}"),
            Status::TimedOut => f.write_str("timed out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_way_into_the_guest() {
        let job = Job {
            thp: Some(Thp::Madvise),
            modules: vec!["/lib/modules/7.0/vfio.ko".into()],
            addresses: true,
            bind: vec!["0000:00:10.0".into()],
            library_path: vec![],
            commands: vec![
                Command::new(["hugebar", "list"])
                    .uid(1000)
                    .thp(Thp::Never)
                    .env("NO_COLOR", "1")
                    .time_limit(Duration::from_millis(1500)),
            ],
        };
        let text = serde_json::to_string(&job).unwrap();
        assert!(text.contains("\"thp\":\"madvise\""), "{text}");
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Status::Exited(3).code(), 3);
        assert_eq!(Status::Signaled(9).code(), 137);
        assert_eq!(Status::TimedOut.code(), 124);
        assert!(Status::Exited(0).success());
        assert!(!Status::Signaled(0).success());
    }

    #[test]
    fn policies_are_the_kernels_words() {
        for word in ["always", "madvise", "never"] {
            assert_eq!(word.parse::<Thp>().unwrap().to_string(), word);
        }
        assert!("Always".parse::<Thp>().is_err());
    }
}
