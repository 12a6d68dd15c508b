//! Plans the binding of functions to VFIO's drivers, and the way back.

use hugebar::pci::{Address, Function};
use hugebar::vfio::is_vfio;

use super::error::{Error, ErrorKind};
use super::options::Options;
use super::plan::{Plan, Undo};
use super::record::{self, Record};
use super::step::Step;
use super::tree::Tree;
use super::uses;
use super::way::{steps_back, steps_to, steps_to_any};

/// Plans to bind a function. What it is in use for is found out by opening its disks for exclusive use ([`super::uses()`]).
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for a driver that is not VFIO's; if sysfs, `/proc` or the record cannot be read.
pub fn bind(function: &Function, options: &Options) -> Result<Plan, Error> {
    bind_in(&Tree::own(), function.address(), options)
}

/// Plans to give a function back to the driver that it had before [`bind`]. Without a record the kernel chooses: then
/// [`Plan::to`] is `None`.
///
/// # Errors
///
/// [`ErrorKind::NotRemembered`] if it has neither a driver of VFIO nor a record; if sysfs, `/proc` or the record cannot be
/// read.
pub fn restore(function: &Function, options: &Options) -> Result<Plan, Error> {
    restore_in(&Tree::own(), function.address(), options)
}

/// The functions of a function's IOMMU group, without bridges; itself if it has none.
///
/// # Errors
///
/// If sysfs cannot be read.
pub fn members(function: &Function) -> Result<Vec<Function>, Error> {
    let mut members = match function.iommu_group()? {
        Some(group) => Function::in_group(group)?,
        None => vec![function.clone()],
    };
    members.retain(|member| !member.is_bridge());
    members.sort_by_key(Function::address);
    Ok(members)
}

fn bind_in(tree: &Tree, address: Address, options: &Options) -> Result<Plan, Error> {
    let driver = &options.driver;
    if !record::is_name(driver) || !is_vfio(driver) {
        let error = Error::new(ErrorKind::InvalidInput, driver, "not a driver of VFIO");
        return Err(
            error.with_remedy("use vfio-pci, or a variant for the device, such as mlx5_vfio_pci")
        );
    }
    let function = tree.function(address)?;
    let record = Record::read(tree, address)?;
    let mut plan = Plan {
        to: Some(driver.clone()),
        undo: Undo::Binding,
        ..Plan::empty(tree, address, function.driver()?, record, options)
    };
    if plan.from != plan.to {
        plan.uses = uses::of(tree, &function)?;
        let (from, record) = (plan.from.clone(), plan.record.as_ref());
        plan.steps = steps_to(tree, address, from, record, driver)?;
    }
    plan.steps
        .extend(options.owner.map(|owner| Step::Own(address, owner)));
    Ok(plan)
}

pub(super) fn restore_in(tree: &Tree, address: Address, options: &Options) -> Result<Plan, Error> {
    let function = tree.function(address)?;
    let from = function.driver()?;
    let record = Record::read(tree, address)?;
    let is_of_host = from.as_deref().is_some_and(|driver| !is_vfio(driver));
    let (to, steps) = match record.clone() {
        Some(record) => (
            record.driver.clone(),
            steps_back(address, from.clone(), record),
        ),
        None if is_of_host => {
            let what = "it is not bound to VFIO, and nothing is remembered about it";
            return Err(Error::new(ErrorKind::NotRemembered, address, what));
        }
        None => (None, steps_to_any(address, from.is_some())),
    };
    let uses = match from == to {
        true => Vec::new(),
        false => uses::of(tree, &function)?,
    };
    Ok(Plan {
        to,
        uses,
        steps,
        ..Plan::empty(tree, address, from, record, options)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::Deref;
    use std::time::Duration;

    use super::super::fake::{DEVICE, Fake, address};
    use super::*;

    struct Host(Fake);

    impl Deref for Host {
        type Target = Fake;

        fn deref(&self) -> &Fake {
            &self.0
        }
    }

    impl Host {
        /// A host with one network card, of which vfio-pci is loaded.
        fn new(driver: Option<&str>) -> Self {
            let own = Self(Fake::new());
            own.put("class", "0x020000\n");
            own.put("driver_override", "(null)\n");
            for name in ["vfio-pci", "e1000e"] {
                fs::create_dir_all(own.tree().driver(name)).unwrap();
            }
            own.driver(driver);
            own
        }

        fn bind(&self) -> Vec<Step> {
            bind_in(&self.tree(), address(), &Options::default())
                .unwrap()
                .steps
        }

        /// The steps of the way back; none if nothing is remembered.
        fn back(&self) -> Vec<Step> {
            let record = Record::read(&self.tree(), address()).unwrap();
            let driver = self.tree().function(address()).unwrap().driver().unwrap();
            record.map_or(Vec::new(), |record| steps_back(address(), driver, record))
        }

        fn remember(&self, steps: &[Step]) {
            let _lock = record::lock(&self.tree()).unwrap();
            steps[0].run(&self.tree(), Duration::ZERO).unwrap();
        }
    }

    fn over(driver: Option<&str>) -> Step {
        Step::Override(address(), driver.map(str::to_owned))
    }

    fn to(driver: &str) -> Step {
        Step::Bind(address(), driver.to_owned())
    }

    #[test]
    fn what_was_there_is_remembered_before_anything_changes() {
        let host = Host::new(Some("e1000e"));
        let steps = host.bind();
        let record = Record {
            driver: Some("e1000e".to_owned()),
            driver_override: None,
        };
        let expected = [
            Step::Remember(address(), record),
            over(Some("vfio-pci")),
            Step::Unbind(address()),
            to("vfio-pci"),
        ];
        assert_eq!(steps, expected);
        let lines: Vec<_> = steps.iter().map(Step::to_string).collect();
        let folder = "/sys/bus/pci/devices/0000:01:00.0";
        assert_eq!(
            lines,
            [
                "mkdir -p /run/hugebar; printf 'hugebar 1\\ndriver=e1000e\\ndriver_override=\\n' > /run/hugebar/0000:01:00.0",
                &format!("echo vfio-pci > {folder}/driver_override"),
                &format!("echo {DEVICE} > {folder}/driver/unbind"),
                &format!("echo {DEVICE} > /sys/bus/pci/drivers/vfio-pci/bind"),
            ]
        );
    }

    #[test]
    fn from_wherever_a_process_has_stopped_the_way_goes_on_and_back() {
        let host = Host::new(Some("e1000e"));
        let back = || host.back();
        assert_eq!(back(), []);
        let refused = restore_in(&host.tree(), address(), &Options::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotRemembered);
        host.remember(&host.bind());
        let forget = || Step::Forget(address());
        // Only remembered, or overridden too.
        assert_eq!(back(), [over(None), forget()]);
        host.put("driver_override", "vfio-pci\n");
        assert_eq!(
            host.bind(),
            [
                over(Some("vfio-pci")),
                Step::Unbind(address()),
                to("vfio-pci")
            ]
        );
        // Unbound.
        host.driver(None);
        assert_eq!(host.bind(), [over(Some("vfio-pci")), to("vfio-pci")]);
        assert_eq!(back(), [over(None), to("e1000e"), forget()]);
        // Bound.
        host.driver(Some("vfio-pci"));
        assert_eq!(host.bind(), []);
        assert_eq!(
            back(),
            [over(None), Step::Unbind(address()), to("e1000e"), forget()]
        );
    }

    #[test]
    fn without_a_record_the_kernel_chooses_unless_a_driver_of_its_own_has_it() {
        let back = |driver| {
            let host = Host::new(driver);
            restore_in(&host.tree(), address(), &Options::default()).map(|plan| plan.steps)
        };
        let probe = Step::Probe(address());
        let free = back(None).unwrap();
        assert_eq!(free, [over(None), probe.clone()]);
        let bound = back(Some("vfio-pci")).unwrap();
        assert_eq!(bound, [over(None), Step::Unbind(address()), probe]);
        let refused = back(Some("e1000e")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotRemembered);
    }

    #[test]
    fn a_plan_of_what_has_changed_since_is_not_done() {
        let options = Options::default();
        let changed = |plan: Plan| {
            let mut begun = 0;
            let error = plan.run(|_| begun += 1).unwrap_err();
            assert_eq!((error.kind(), begun), (ErrorKind::Changed, 0), "{error}");
        };
        let host = Host::new(Some("e1000e"));
        let plan = || bind_in(&host.tree(), address(), &options).unwrap();
        let steps = plan().steps;
        // Another process has bound it, or has only begun.
        let other = plan();
        host.driver(Some("vfio-pci"));
        changed(other);
        host.driver(Some("e1000e"));
        let other = plan();
        host.remember(&steps);
        changed(other);
        // Another one has given it back: it must not be bound with nothing remembered.
        let (on, back) = (plan(), restore_in(&host.tree(), address(), &options));
        Record::remove(&host.tree(), address()).unwrap();
        changed(on);
        changed(back.unwrap());
        assert_eq!(Record::read(&host.tree(), address()).unwrap(), None);
    }

    #[test]
    fn a_function_without_a_driver_goes_back_to_none() {
        let host = Host::new(None);
        host.put("driver_override", "none\n");
        host.remember(&host.bind());
        host.driver(Some("vfio-pci"));
        let back = host.back();
        let expected = [
            over(Some("none")),
            Step::Unbind(address()),
            Step::Forget(address()),
        ];
        assert_eq!(back, expected);
    }

    #[test]
    fn a_driver_that_is_not_loaded_is_loaded_first_and_only_drivers_of_vfio_are_taken() {
        let host = Host::new(None);
        let with = |driver: &str| {
            let driver = driver.to_owned();
            bind_in(
                &host.tree(),
                address(),
                &Options {
                    driver,
                    ..Options::default()
                },
            )
        };
        let steps = with("mlx5_vfio_pci").unwrap().steps;
        assert_eq!(steps[0].to_string(), "modprobe mlx5_vfio_pci");
        for wrong in ["", "nvme", "../vfio-pci", "vfio pci"] {
            let error = with(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
