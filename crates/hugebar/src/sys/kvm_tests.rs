//! Compares this crate's KVM interface with the C header.

use std::mem::{offset_of, size_of};

use super::*;
use crate::sys::headers;

/// Assertions on a C struct: its size, and the offset of each field.
macro_rules! same_layout {
    ($ours:ty, $theirs:literal, $($field:ident),*) => {{
        let mut list = vec![format!("sizeof(struct {}) == {}", $theirs, size_of::<$ours>())];
        $(list.push(format!(
            "__builtin_offsetof(struct {}, {}) == {}",
            $theirs, stringify!($field), offset_of!($ours, $field),
        ));)*
        list
    }};
}

fn number<A: ?Sized>(request: Request<A>) -> String {
    format!("{} == {}", request.name, request.number)
}

/// Has the compiler check conditions, some of them only where the header is new enough for a macro.
fn check(always: &[Vec<String>], newer: &[(&str, Vec<String>)]) {
    let mut source = String::from("#include <linux/kvm.h>\n");
    let mut assert = |conditions: &[String]| {
        for condition in conditions {
            source.push_str(&format!("_Static_assert({condition}, \"{condition}\");\n"));
        }
    };
    always.iter().for_each(|list| assert(list));
    for (known, conditions) in newer {
        source.push_str(&format!("#ifdef {known}\n"));
        for condition in conditions {
            source.push_str(&format!("_Static_assert({condition}, \"{condition}\");\n"));
        }
        source.push_str("#endif\n");
    }
    headers::assert_compiles(&source);
}

#[test]
fn numbers_constants_and_structs_are_those_of_the_c_header() {
    let always = [
        vec![
            number(GET_API_VERSION),
            number(CREATE_VM),
            number(CHECK_EXTENSION),
            number(CREATE_VCPU),
            number(SET_USER_MEMORY_REGION),
            format!("KVM_API_VERSION == {API_VERSION}"),
            format!("KVM_MEM_READONLY == {MEM_READONLY}"),
        ],
        same_layout!(
            MemoryRegion,
            "kvm_userspace_memory_region",
            slot,
            flags,
            guest_phys_addr,
            memory_size,
            userspace_addr
        ),
    ];
    let mut statistics = vec![number(GET_STATS_FD)];
    statistics.extend(same_layout!(
        StatsHeader,
        "kvm_stats_header",
        flags,
        name_size,
        num_desc,
        id_offset,
        desc_offset,
        data_offset
    ));
    statistics.extend(same_layout!(
        StatsDescriptor,
        "kvm_stats_desc",
        flags,
        exponent,
        size,
        offset,
        bucket_size
    ));
    let mut pre_fault = vec![
        number(PRE_FAULT_MEMORY),
        format!("KVM_CAP_PRE_FAULT_MEMORY == {CAP_PRE_FAULT_MEMORY}"),
        format!("KVM_CAP_BINARY_STATS_FD == {CAP_BINARY_STATS_FD}"),
    ];
    pre_fault.extend(same_layout!(
        PreFault,
        "kvm_pre_fault_memory",
        gpa,
        size,
        flags,
        padding
    ));
    check(
        &always,
        &[
            // Linux 5.14 and 6.11.
            ("KVM_GET_STATS_FD", statistics),
            ("KVM_PRE_FAULT_MEMORY", pre_fault),
        ],
    );
}
