//! Who may open a device without privilege.

use std::fmt;

use super::error::{Error, ErrorKind};
use super::tree::Tree;

/// The owner of device files, as `chown` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number; `None` leaves the group as it is.
    pub group: Option<u32>,
}

impl Owner {
    /// Finds `USER[:GROUP]`, each a number or a name in `/etc/passwd` and `/etc/group`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such user or group.
    pub fn find(text: &str) -> Result<Self, Error> {
        Self::find_in(&Tree::own(), text)
    }

    fn find_in(tree: &Tree, text: &str) -> Result<Self, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Ok(Self {
            user: number(tree, "etc/passwd", "user", user)?,
            group: group
                .map(|group| number(tree, "etc/group", "group", group))
                .transpose()?,
        })
    }
}

/// Both files have the name first and the number third. All ones mean "leave it" to `chown`.
fn number(tree: &Tree, file: &str, what: &str, name: &str) -> Result<u32, Error> {
    let valid = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let text = std::fs::read_to_string(tree.path(file)).unwrap_or_default();
    let found = match digits {
        true => valid(name),
        false => text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = !name.is_empty() && fields.next() == Some(name);
            valid(fields.nth(1)?).filter(|_| is_it)
        }),
    };
    found.ok_or_else(|| {
        let error = Error::new(
            ErrorKind::NotFound,
            name,
            format!("no such {what} in /{file}"),
        );
        error.with_remedy("write USER or USER:GROUP; numbers do as well")
    })
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        put(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nvm:x:107:99::/:/bin/false\n",
        );
        put("etc/group", "kvm:x:106:vm\nbad:x:4294967295:\n");
        let find = |text: &str| Owner::find_in(&Tree::at(root.path()), text);
        let owner = |user, group| Owner { user, group };
        for (text, found) in [
            ("vm", owner(107, None)),
            ("vm:kvm", owner(107, Some(106))),
            ("1000:kvm", owner(1000, Some(106))),
            ("0:0", owner(0, Some(0))),
        ] {
            assert_eq!(find(text), Ok(found), "{text}");
        }
        for wrong in [
            "",
            ":",
            "vm:",
            ":kvm",
            "kvm",
            "vm:bad",
            "4294967295",
            "-1",
            "vm:kvm:x",
        ] {
            assert_eq!(
                find(wrong).unwrap_err().kind(),
                ErrorKind::NotFound,
                "{wrong}"
            );
        }
    }
}
