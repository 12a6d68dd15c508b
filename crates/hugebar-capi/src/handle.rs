//! Handles: what C holds for our objects.
//!
//! A handle is a number in the shape of a pointer that is never dereferenced: the index of an entry of one table, and
//! how often that entry was reused. So a handle that is closed, made up or of another kind is an error.

use std::any::Any;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::argument::answer;
use crate::error::{Failure, Result, call};

type Object = Arc<dyn Any + Send + Sync>;

/// Bits of the index: 16 million handles at once.
const INDEX_BITS: u32 = 24;
/// How often an entry is used: 30 bits above the index.
const LAST_GENERATION: usize = (1 << 30) - 1;
/// Set in every handle. With bit 54 clear no user-space address of x86-64 or arm64 looks like this, so an address is never
/// taken for a handle, and dereferencing a handle always faults.
const MARK: usize = 1 << 63 | 1 << 55;

struct Entry {
    generation: usize,
    object: Option<Object>,
}

struct Table {
    entries: Vec<Entry>,
    /// Entries to use again.
    free: Vec<usize>,
}

static TABLE: RwLock<Table> = RwLock::new(Table::new());

impl Table {
    const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    fn insert(&mut self, object: Object) -> Result<usize> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() >> INDEX_BITS != 0 => {
                return Err(Failure::new(libc::EMFILE, "too many handles are open"));
            }
            None => {
                self.entries.push(Entry {
                    generation: 0,
                    object: None,
                });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[index];
        entry.object = Some(object);
        Ok(MARK | entry.generation << INDEX_BITS | index)
    }

    /// The index of an open handle.
    fn find(&self, handle: usize) -> Option<usize> {
        let index = handle & ((1 << INDEX_BITS) - 1);
        let entry = self.entries.get(index)?;
        let own = MARK | entry.generation << INDEX_BITS | index;
        (own == handle && entry.object.is_some()).then_some(index)
    }

    fn get(&self, handle: usize) -> Option<&Object> {
        self.entries[self.find(handle)?].object.as_ref()
    }

    fn remove(&mut self, handle: usize) -> Option<Object> {
        let index = self.find(handle)?;
        let entry = &mut self.entries[index];
        let object = entry.object.take();
        // An entry whose generations are used up is not used again.
        if entry.generation < LAST_GENERATION {
            entry.generation += 1;
            self.free.push(index);
        }
        object
    }
}

/// The name of a type in C.
fn name<T>() -> &'static str {
    let path = std::any::type_name::<T>();
    path.rsplit("::").next().unwrap_or(path)
}

fn bad<T>(handle: *const T) -> Failure {
    let name = name::<T>();
    let message = match handle.is_null() {
        true => format!("the {name} is NULL"),
        false => format!("{handle:p} is no open {name}"),
    };
    Failure::new(libc::EBADF, message)
}

/// A handle for a new object.
pub(crate) fn open<T: Any + Send + Sync>(object: T) -> Result<*mut T> {
    let object = Arc::new(object);
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    Ok(ptr::without_provenance_mut(table.insert(object)?))
}

/// The body of a function that makes an object: gives its handle to the caller. Makes none if there is no place for the
/// handle.
pub(crate) fn give<T: Any + Send + Sync>(
    place: Option<&mut MaybeUninit<*mut T>>,
    make: impl FnOnce() -> Result<T>,
) -> c_int {
    answer(place, || open(make()?))
}

/// The body of a function that tells something about an object.
pub(crate) fn tell<T: Any + Send + Sync, V>(
    place: Option<&mut MaybeUninit<V>>,
    handle: *const T,
    find: impl FnOnce(&T) -> Result<V>,
) -> c_int {
    answer(place, || find(&*get(handle)?))
}

/// The object of a handle.
pub(crate) fn get<T: Any + Send + Sync>(handle: *const T) -> Result<Arc<T>> {
    let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
    let object = table.get(handle.addr()).cloned();
    let object = object.and_then(|object| object.downcast().ok());
    object.ok_or_else(|| bad(handle))
}

/// Closes a handle and returns its object. Fails while another thread uses it.
pub(crate) fn take<T: Any + Send + Sync>(handle: *const T) -> Result<T> {
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let object = table.get(handle.addr()).filter(|object| object.is::<T>());
    // Without others in the table's lock, this can only become less.
    if Arc::strong_count(object.ok_or_else(|| bad(handle))?) > 1 {
        let message = format!("another thread uses this {}", name::<T>());
        return Err(Failure::new(libc::EBUSY, message));
    }
    let object = table.remove(handle.addr());
    drop(table);
    let object = object.and_then(|object| object.downcast().ok());
    object.and_then(Arc::into_inner).ok_or_else(|| bad(handle))
}

/// Closes a handle. Its object goes away when the last function that uses it returns.
pub(crate) fn close<T: Any + Send + Sync>(handle: *const T) -> c_int {
    call(|| {
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        let object = table.get(handle.addr()).filter(|object| object.is::<T>());
        object.ok_or_else(|| bad(handle))?;
        let object = table.remove(handle.addr());
        // Dropping it can take time, and calls the kernel.
        drop(table);
        drop(object);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_closed() {
        let first = open(7_u8).unwrap();
        assert_eq!(*get(first).unwrap(), 7);
        assert_eq!(close(first), 0);
        assert_eq!(close(first), -libc::EBADF);
        assert!(get(first).is_err());
        assert!(take(first).is_err());
        let again: Vec<_> = (0..100_u8).map(|value| open(value).unwrap()).collect();
        assert!(get(first).is_err(), "its entry is used again");
        assert!(!again.contains(&first));
        for (value, handle) in (0..100).zip(again) {
            assert_eq!(take(handle).unwrap(), value);
            assert!(get(handle).is_err());
        }
    }

    #[test]
    fn a_handle_of_another_kind_is_none() {
        let handle = open(7_u8).unwrap();
        let other = handle.cast::<u16>();
        assert!(get(other).is_err());
        assert!(take(other).is_err());
        assert_eq!(close(other), -libc::EBADF);
        assert_eq!(take(handle).unwrap(), 7);
    }

    #[test]
    fn an_address_is_no_handle() {
        /// Other tests open none of these.
        struct Own;
        let object = Own;
        let handle = open(Own).unwrap();
        for bad in [ptr::null(), &raw const object, handle.wrapping_byte_add(1)] {
            assert!(get(bad).is_err(), "{bad:p}");
        }
        for bit in 0..usize::BITS {
            let bad: *const Own = ptr::without_provenance(handle.addr() ^ 1 << bit);
            assert!(get(bad).is_err(), "{bad:p}");
        }
        assert_eq!(close(handle), 0);
    }

    #[test]
    fn what_is_in_use_cannot_be_taken_but_closed() {
        let handle = open(7_u8).unwrap();
        let used = get(handle).unwrap();
        assert!(take(handle).is_err());
        assert!(get(handle).is_ok(), "it is still there");
        assert_eq!(close(handle), 0);
        assert_eq!(*used, 7);
    }

    #[test]
    fn generations_end() {
        let mut table = Table::new();
        let handle = table.insert(Arc::new(1)).unwrap();
        table.remove(handle);
        table.entries[0].generation = LAST_GENERATION;
        let last = table.insert(Arc::new(2)).unwrap();
        assert_eq!(last & (1 << 54), 0);
        assert!(table.remove(last).is_some());
        assert!(table.get(last).is_none());
        assert_ne!(table.insert(Arc::new(3)).unwrap(), last);
        assert_eq!(table.entries.len(), 2);
    }
}
