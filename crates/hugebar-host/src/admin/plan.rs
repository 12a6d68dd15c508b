//! A change that is planned, and doing it.

use std::time::Duration;

use hugebar::pci::Address;

use super::error::{Error, ErrorKind};
use super::options::Options;
use super::record::{self, Record};
use super::step::Step;
use super::tree::Tree;
use super::uses::Use;
use super::way;

/// What a failure does.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    Nothing,
    /// Puts the former driver back, as the record says.
    Binding,
    /// Does these steps. Without them, this command would do it.
    Steps(Vec<Step>, String),
}

/// What has to be done to a function: bind or restore it, change its virtual functions or the size of a BAR. Nothing is
/// changed yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The function.
    pub device: Address,
    /// Its driver before.
    pub from: Option<String>,
    /// Its driver afterwards.
    pub to: Option<String>,
    /// What it is in use for.
    pub uses: Vec<Use>,
    /// The steps, in order; empty if everything is as wanted.
    pub steps: Vec<Step>,
    /// What was remembered when this was planned.
    pub(super) record: Option<Record>,
    pub(super) force: bool,
    pub(super) limit: Duration,
    pub(super) undo: Undo,
    pub(super) tree: Tree,
}

impl Plan {
    /// A plan for a function with this driver and this record that changes nothing.
    pub(super) fn empty(
        tree: &Tree,
        device: Address,
        driver: Option<String>,
        record: Option<Record>,
        options: &Options,
    ) -> Self {
        Self {
            device,
            from: driver.clone(),
            to: driver,
            uses: Vec::new(),
            steps: Vec::new(),
            record,
            force: options.force,
            limit: options.limit,
            undo: Undo::Nothing,
            tree: tree.clone(),
        }
    }

    /// Whether the function may be taken: it is in no use that force does not overrule.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`], with all uses.
    pub fn check(&self) -> Result<(), Error> {
        let against = self.uses.iter();
        let against = against.filter(|own| !(self.force && own.can_be_forced));
        let against: Vec<_> = against.collect();
        if against.is_empty() {
            return Ok(());
        }
        let facts: Vec<_> = against.iter().map(|own| own.fact.as_str()).collect();
        let mut remedies: Vec<_> = against.iter().map(|own| own.remedy.as_str()).collect();
        remedies.dedup();
        let operation = format!("in use: {}", facts.join("; "));
        let error = Error::new(ErrorKind::InUse, self.device, operation);
        Err(error.with_remedy(remedies.join("; ")))
    }

    /// Does the steps, one process at a time (`flock` of `/run/hugebar`). `before` is called ahead of each.
    ///
    /// If one fails, what was there before is put back, except by [`super::restore`]. After a time-out it is not: the kernel
    /// still has the device locked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] and [`ErrorKind::Changed`] before anything is changed, or the error of a step.
    pub fn run(&self, mut before: impl FnMut(&Step)) -> Result<(), Error> {
        self.check()?;
        if self.steps.is_empty() {
            return Ok(());
        }
        let _lock = record::lock(&self.tree)?;
        self.check_unchanged()?;
        for (done, step) in self.steps.iter().enumerate() {
            before(step);
            let Err(error) = step.run(&self.tree, self.limit) else {
                continue;
            };
            let changed = self.steps[..=done].iter();
            let mut changed = changed.filter(|step| !matches!(step, Step::Load(_)));
            if error.kind() == ErrorKind::TimedOut || changed.next().is_none() {
                return Err(error);
            }
            return Err(self.undone(error, before));
        }
        Ok(())
    }

    /// Whether the function has the driver and the record with which this was planned: nobody held the lock then.
    fn check_unchanged(&self) -> Result<(), Error> {
        if self.now()? == (self.from.clone(), self.record.clone()) {
            return Ok(());
        }
        let what = "another process has changed its binding meanwhile";
        Err(Error::new(ErrorKind::Changed, self.device, what).with_remedy("do this again"))
    }

    /// The driver and the record that the function has now.
    fn now(&self) -> Result<(Option<String>, Option<Record>), Error> {
        let driver = self.tree.function(self.device)?.driver()?;
        Ok((driver, Record::read(&self.tree, self.device)?))
    }

    /// Puts back what was there after an error, which is returned with what became of that.
    fn undone(&self, error: Error, mut before: impl FnMut(&Step)) -> Error {
        let (steps, command) = match &self.undo {
            Undo::Nothing => return error,
            Undo::Binding => match self.now() {
                Ok((driver, Some(record))) => (
                    way::steps_back(self.device, driver, record),
                    format!("hugebar restore {}", self.device),
                ),
                _ => return error,
            },
            Undo::Steps(steps, command) => (steps.clone(), command.clone()),
        };
        for step in &steps {
            before(step);
            if let Err(second) = step.run(&self.tree, self.limit) {
                let remedy = error.remedy().map(|remedy| format!("{remedy}; "));
                let remedy = remedy.unwrap_or_default();
                return error.with_remedy(format!(
                    "{remedy}what it had is not back ({second}): {command}"
                ));
            }
        }
        error
    }
}
