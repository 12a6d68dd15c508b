//! Populating in steps between which it can be stopped.

use std::ops::ControlFlow;
use std::time::Duration;

use hugebar::leaf::MIB;
use hugebar::mem::Span;
use hugebar::populate::Populate;
use hugebar::{Error, ErrorKind, Result};

/// A longer step would keep a signal waiting: base pages of 64 MiB are 16,384 faults.
const LONGEST: u64 = 64 * MIB;

/// How much populating is done between two questions. Asking after each leaf would be measured with it.
const BETWEEN: Duration = Duration::from_millis(20);

/// Another way of populating, that asks from time to time whether to go on.
pub(super) struct Steady<'a> {
    populate: &'a mut dyn Populate,
    go_on: &'a mut dyn FnMut() -> ControlFlow<()>,
    /// What populating has taken since it last asked; `None` before the first time.
    since: Option<Duration>,
}

impl<'a> Steady<'a> {
    pub(super) fn new(
        populate: &'a mut dyn Populate,
        go_on: &'a mut dyn FnMut() -> ControlFlow<()>,
    ) -> Self {
        Self {
            populate,
            go_on,
            since: None,
        }
    }
}

impl Populate for Steady<'_> {
    fn name(&self) -> &'static str {
        self.populate.name()
    }

    fn populate(&mut self, span: &Span<'_>) -> Result<Duration> {
        let since = match self.since {
            Some(since) if since < BETWEEN => since,
            _ if (self.go_on)().is_break() => return Err(stopped()),
            _ => Duration::ZERO,
        };
        let took = self.populate.populate(span)?;
        self.since = Some(since.saturating_add(took));
        Ok(took)
    }

    fn longest(&self) -> u64 {
        self.populate.longest().min(LONGEST)
    }
}

pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "the benchmark was stopped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::layout::Layout;
    use hugebar::leaf::LeafSizes;
    use hugebar::mem::{MapOptions, Mapping, Window};
    use hugebar::phys::Phys;
    use hugebar::plan::{Placement, Plan};

    /// Says that each step took this long.
    struct Taking(Duration);

    impl Populate for Taking {
        fn name(&self) -> &'static str {
            "taking"
        }

        fn populate(&mut self, _: &Span<'_>) -> Result<Duration> {
            Ok(self.0)
        }

        fn longest(&self) -> u64 {
            u64::MAX
        }
    }

    /// How often it asks in 100 steps.
    fn questions(step: Duration, mapping: &Mapping) -> u32 {
        let mut asked = 0;
        let mut taking = Taking(step);
        let mut go_on = || {
            asked += 1;
            ControlFlow::Continue(())
        };
        let mut steady = Steady::new(&mut taking, &mut go_on);
        assert_eq!(steady.longest(), LONGEST);
        for _ in 0..100 {
            let took = steady.populate(&mapping.span(0, 4096).unwrap());
            assert_eq!(took.unwrap(), step);
        }
        asked
    }

    #[test]
    fn it_asks_before_long_steps_and_seldom_between_short_ones() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let layout = Layout::whole(4096, 4096).unwrap();
        let sizes = LeafSizes::X86_64;
        let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Congruent).unwrap();
        let window = Window::reserve(&plan).unwrap();
        let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
        assert_eq!(questions(BETWEEN, &mapping), 100);
        assert_eq!(questions(Duration::from_micros(25), &mapping), 1);
        assert_eq!(questions(BETWEEN / 10, &mapping), 10);

        let mut taking = Taking(Duration::ZERO);
        let mut go_on = || ControlFlow::Break(());
        let mut steady = Steady::new(&mut taking, &mut go_on);
        let stopped = steady.populate(&mapping.span(0, 4096).unwrap());
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Stopped);
    }
}
