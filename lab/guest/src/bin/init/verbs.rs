//! The verbs of PID 1, which replace a shell. `Command` documents them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::mount_bind;

use crate::{kmsg, pci};

/// What a verb prints, and its exit status.
pub(crate) type Answer = (Vec<u8>, i32);

/// Executes a verb.
pub(crate) fn run(words: &[&str]) -> Result<Answer> {
    let mut output = Vec::new();
    match words {
        ["@write", path, text] => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {text:?} to {path}"))?,
        ["@create", path, text] => fs::write(path, text).context((*path).to_owned())?,
        ["@cat", paths @ ..] => {
            for path in paths {
                output.extend(fs::read(path).context((*path).to_owned())?);
            }
        }
        ["@ls", path] => {
            let mut names = fs::read_dir(path)
                .context((*path).to_owned())?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<Vec<_>>>()?;
            names.sort();
            for name in names {
                writeln!(output, "{name}")?;
            }
        }
        ["@readlink", path] => {
            let target = fs::read_link(path).context((*path).to_owned())?;
            writeln!(output, "{}", target.display())?;
        }
        ["@exists", path] => return Ok((output, i32::from(!Path::new(path).exists()))),
        ["@chmod", mode, paths @ ..] => {
            let mode = u32::from_str_radix(mode, 8).context("the mode is octal")?;
            for path in paths {
                fs::set_permissions(path, Permissions::from_mode(mode))
                    .context((*path).to_owned())?;
            }
        }
        ["@chown", uid, paths @ ..] => {
            let uid = uid.parse().context("the user is a number")?;
            for path in paths {
                chown(path, Some(uid), Some(uid)).context((*path).to_owned())?;
            }
        }
        ["@cover", path, with] => {
            mount_bind(*with, *path).with_context(|| format!("cannot mount {with} over {path}"))?
        }
        ["@bind", address, driver] => pci::bind(address, driver)?,
        ["@unbind", address] => pci::unbind(address)?,
        ["@dmesg"] => output = kmsg::read()?,
        ["@sleep", seconds] => thread::sleep(Duration::try_from_secs_f64(seconds.parse()?)?),
        words => bail!("no such verb, or not with these words: {words:?}"),
    }
    Ok((output, 0))
}
