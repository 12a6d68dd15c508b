/* hugebar: PCI BARs with the largest pages the kernel can use.
 *
 * Every function that can fail returns 0 or a negative errno, and sets the message of its thread (hugebar_error_message).
 * A result is written only on success.
 *
 * -EBADF      a handle is NULL, closed, or of another kind
 * -EFAULT     a pointer to a result or a text is NULL
 * -EINVAL     arguments do not fit together
 * -ENOENT     there is no such device, region or element
 * -ENODEV     the device is not bound to a VFIO driver, or has no IOMMU
 * -EPERM      its IOMMU group cannot be used: firmware, interrupts, or another device in it
 * -EBUSY      something is in use
 * -ENOTSUP    the kernel, the driver or this kind of object cannot do that
 * -ENOMEM     no memory or addresses are left
 * -EALREADY   the mapping was touched or populated before, so its leaves cannot be counted
 * -EAGAIN     other threads hid the count: map and count again
 * -ENXIO      memory decode is off, or the container maps no device memory
 * -EPROTO     the device or its driver gave an invalid answer
 * -ENOTRECOVERABLE   a bug of this library; the message says where
 * and any error of the kernel.
 *
 * Handles are opaque: they look like pointers, but are never dereferenced. Each is closed once, in any order. Functions may be
 * called in all threads at once; a handle closed in one thread while another uses it goes away when that function returns. A
 * child after fork must not use handles of its parent.
 *
 * Pointers to results, texts and arrays must be valid, aligned, and not overlap one another. */

#ifndef HUGEBAR_H
#define HUGEBAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The room for leaf sizes in this interface. Today's machines use up to three.
#define HUGEBAR_MAX_LEAF_SIZES 8

// By type1, which can also populate BARs, or else by iommufd.
#define HUGEBAR_BACKEND_AUTO 0

// By the device's IOMMU group and a container with type1.
#define HUGEBAR_BACKEND_TYPE1 1

// By the device's own node and an iommufd.
#define HUGEBAR_BACKEND_IOMMUFD 2

// By its group and a container without an IOMMU. This library opens no device in this way.
#define HUGEBAR_BACKEND_NOIOMMU 3

// Other code has opened it.
#define HUGEBAR_BACKEND_OTHER 4

// The region can be read.
#define HUGEBAR_REGION_READ 1

// The region can be written.
#define HUGEBAR_REGION_WRITE 2

// The driver offers a mapping of the region.
#define HUGEBAR_REGION_MMAP 4

// Nothing more is known than that the region is naturally aligned, as BARs are.
#define HUGEBAR_PHYS_NATURAL 0

// The physical address is known.
#define HUGEBAR_PHYS_AT 1

// The physical address is unknown: counts of leaves are a guess.
#define HUGEBAR_PHYS_UNKNOWN 2

// One window for the whole region, congruent with its physical addresses: no other addresses give fewer leaves.
#define HUGEBAR_PLACEMENT_CONGRUENT 0

// Each area by itself, aligned to its size: for comparison.
#define HUGEBAR_PLACEMENT_SIZE_ALIGNED 1

// Each area wherever `mmap` puts it: for comparison.
#define HUGEBAR_PLACEMENT_PLAIN 2

// `MADV_HUGEPAGE` with congruent placement, no advice with the others.
#define HUGEBAR_HINT_AUTO 0

// `MADV_HUGEPAGE`.
#define HUGEBAR_HINT_ON 1

// No advice.
#define HUGEBAR_HINT_OFF 2

// `MADV_NOHUGEPAGE`: only pages, for comparison.
#define HUGEBAR_HINT_NO_HUGEPAGE 3

// Map for reading only.
#define HUGEBAR_MAP_READ_ONLY 1

// Cut holes that reach beyond the region to it, and ignore those outside. Otherwise they are an error.
#define HUGEBAR_MAP_CLAMP_HOLES 2

// No addresses give fewer leaves, on any kernel.
#define HUGEBAR_VERDICT_OPTIMAL 0

// More than the fewest, but what these addresses give on this kernel.
#define HUGEBAR_VERDICT_AS_EXPECTED 1

// More than these addresses should give.
#define HUGEBAR_VERDICT_DEGRADED 2

// The leaves were not counted.
#define HUGEBAR_VERDICT_UNMEASURED 3

// A reason that this version of the interface has no code for; see its text.
#define HUGEBAR_REASON_OTHER 0

// The kernel predates huge leaves for device memory (Linux 6.12), or may lack them.
#define HUGEBAR_REASON_KERNEL 1

// THP, which huge leaves for device memory need, is not built into the kernel.
#define HUGEBAR_REASON_THP_NOT_BUILT_IN 2

// The THP policy limits unhinted mappings, or all mappings, to base pages.
#define HUGEBAR_REASON_THP_POLICY 3

// THP is disabled for this process (`PR_SET_THP_DISABLE`).
#define HUGEBAR_REASON_THP_DISABLED 4

// The mapping has `MADV_NOHUGEPAGE`.
#define HUGEBAR_REASON_NO_HUGEPAGE 5

// The addresses are not congruent with the physical ones.
#define HUGEBAR_REASON_PLACEMENT 6

// There was too little free address space for the plan's alignment.
#define HUGEBAR_REASON_ADDRESS_SPACE 7

// The region is smaller than the largest leaf.
#define HUGEBAR_REASON_REGION_SIZE 8

// This machine lacks a leaf size that would fit in the region.
#define HUGEBAR_REASON_ARCHITECTURE 9

// Holes cut through blocks that could be one leaf.
#define HUGEBAR_REASON_HOLES 10

// The physical address is not aligned to the largest leaf.
#define HUGEBAR_REASON_PHYS_UNALIGNED 11

// The physical address is unknown.
#define HUGEBAR_REASON_PHYS_UNKNOWN 12

// It is unknown which device a mapping belongs to.
#define HUGEBAR_REASON_DEVICE 13

// A driver other than vfio-pci handles the faults.
#define HUGEBAR_REASON_DRIVER 14

// The process's page tables are larger than the leaves need that it could have.
#define HUGEBAR_REASON_PAGE_TABLES 15

// Memory decode of the device is off.
#define HUGEBAR_REASON_DECODE_OFF 16

// Nothing here can populate a BAR.
#define HUGEBAR_REASON_NO_POPULATE 17

// The leaves could not be counted.
#define HUGEBAR_REASON_UNMEASURED 18

// Counting all of it would have populated more base pages than allowed.
#define HUGEBAR_REASON_LIMIT 19

// None of the above.
#define HUGEBAR_REASON_UNEXPLAINED 20

// Devices may only read the memory.
#define HUGEBAR_DMA_READ 1

// Devices may read and write the memory.
#define HUGEBAR_DMA_READ_WRITE 3

// The interrupt line: a single interrupt, which the kernel masks when it fires.
#define HUGEBAR_IRQ_INTX 0

// Messages: one, or up to 32.
#define HUGEBAR_IRQ_MSI 1

// Up to 2048 messages, from a table in a BAR.
#define HUGEBAR_IRQ_MSIX 2

// The kernel was told of an uncorrected error (AER).
#define HUGEBAR_IRQ_ERROR 3

// The kernel wants the device back, because somebody unbinds or removes it.
#define HUGEBAR_IRQ_REQUEST 4

// They can signal eventfds.
#define HUGEBAR_IRQ_EVENTFD 1

// They can be masked and unmasked.
#define HUGEBAR_IRQ_MASKABLE 2

// The kernel masks an interrupt when it fires.
#define HUGEBAR_IRQ_AUTOMASKED 4

// Vectors cannot be added later.
#define HUGEBAR_IRQ_NORESIZE 8

// In place of a group whose number is unknown.
#define HUGEBAR_NO_GROUP UINT32_MAX

// An open VFIO device.
typedef struct hugebar_device hugebar_device;

// Memory, or a region of a device, that is mapped into an I/O address space.
typedef struct hugebar_dma hugebar_dma;

// Enabled interrupts of one kind.
typedef struct hugebar_interrupts hugebar_interrupts;

// A mapped region.
typedef struct hugebar_mapping hugebar_mapping;

// Where the areas of a region should lie.
typedef struct hugebar_plan hugebar_plan;

// What was found about a mapping.
typedef struct hugebar_report hugebar_report;

// The I/O address space of a device.
typedef struct hugebar_space hugebar_space;

// Reserved addresses.
typedef struct hugebar_window hugebar_window;

// Sizes that a page-table leaf can have: powers of two in bytes, ascending. The first is the page.
typedef struct hugebar_leaf_sizes {
  // How many of `sizes` are used.
  uint32_t count;
  // The sizes in bytes.
  uint64_t sizes[HUGEBAR_MAX_LEAF_SIZES];
} hugebar_leaf_sizes;

// How many leaves of each size there are.
typedef struct hugebar_leaves {
  // How many of `sizes` and `counts` are used.
  uint32_t count;
  // The sizes in bytes, ascending.
  uint64_t sizes[HUGEBAR_MAX_LEAF_SIZES];
  // How many leaves of each size.
  uint64_t counts[HUGEBAR_MAX_LEAF_SIZES];
} hugebar_leaves;

// A region of a device.
typedef struct hugebar_region {
  // Its index; 0 to 5 are the BARs of a PCI device.
  uint32_t index;
  // `HUGEBAR_REGION_READ` and others.
  uint32_t flags;
  // Its length in bytes.
  uint64_t size;
  // Where it starts in the device's file.
  uint64_t fd_offset;
  // What is known about its physical addresses: `HUGEBAR_PHYS_AT` or another.
  uint32_t phys;
  // Its physical address with `HUGEBAR_PHYS_AT`, otherwise 0.
  uint64_t phys_address;
} hugebar_region;

// A part of a region.
typedef struct hugebar_area {
  // Where it starts in the region, in bytes.
  uint64_t offset;
  // Its length in bytes.
  uint64_t size;
} hugebar_area;

// Where a device has its MSI-X table and the pending bits.
typedef struct hugebar_msix {
  // How many vectors it has.
  uint32_t vectors;
  // The BAR of the table.
  uint32_t table_bar;
  // The table, in this BAR.
  struct hugebar_area table;
  // The BAR of the pending bits.
  uint32_t pba_bar;
  // The pending bits, in that BAR.
  struct hugebar_area pba;
} hugebar_msix;

// How to plan or map a region. All zero, and NULL in its place, stands for the whole region, congruent and hinted.
typedef struct hugebar_map_options {
  // `HUGEBAR_PLACEMENT_CONGRUENT` or another.
  uint32_t placement;
  // `HUGEBAR_HINT_AUTO` or another. Plans ignore it.
  uint32_t hint;
  // `HUGEBAR_MAP_READ_ONLY` and others, or 0.
  uint32_t flags;
  // How many elements `holes` has.
  size_t hole_count;
  // Parts to leave out, rounded out to whole pages; may be NULL if there are none.
  const struct hugebar_area *holes;
} hugebar_map_options;

// The addresses that one block of a plan needs: any start that is `residue` modulo `alignment`.
typedef struct hugebar_shape {
  // Its length in bytes.
  uint64_t size;
  // A power of two.
  uint64_t alignment;
  // Less than `alignment`.
  uint64_t residue;
  // The region offset of its first byte.
  uint64_t offset;
} hugebar_shape;

// A contiguous block of addresses.
typedef struct hugebar_block {
  // Its first byte.
  void *start;
  // Its length in bytes.
  size_t size;
} hugebar_block;

// A mapped area and its address.
typedef struct hugebar_mapped_area {
  // Where it starts in the region, in bytes.
  uint64_t offset;
  // Its length in bytes.
  uint64_t size;
  // The address of its first byte.
  void *address;
} hugebar_mapped_area;

// A memory slot for a guest (`KVM_SET_USER_MEMORY_REGION`).
typedef struct hugebar_slot {
  // Its address in this process (`userspace_addr`).
  void *address;
  // Its length in bytes, whole pages.
  uint64_t size;
  // Its offset in the region: its guest address is the region's plus this.
  uint64_t offset;
} hugebar_slot;

// What populating installed.
typedef struct hugebar_installed {
  // Minor faults: how many leaves were missing, from Linux 6.12 on.
  uint64_t faults;
  // Nanoseconds that the kernel took.
  uint64_t elapsed_ns;
} hugebar_installed;

// The result in numbers.
typedef struct hugebar_summary {
  // `HUGEBAR_VERDICT_OPTIMAL` or another; `hugebar_verdict_name` names it.
  uint32_t verdict;
  // Whether all of the mapping was counted.
  bool complete;
  // The fewest leaves that any addresses give.
  struct hugebar_leaves best;
  // The leaves that these addresses give on this kernel.
  struct hugebar_leaves expected;
  // The leaves that were counted; its `count` is 0 if none were.
  struct hugebar_leaves measured;
  // Minor faults while populating.
  uint64_t faults;
  // Nanoseconds that the kernel took to populate it.
  uint64_t elapsed_ns;
  // How the leaves were installed, such as "type1"; NULL if nothing could. Valid until the report is closed.
  const char *populated_by;
} hugebar_summary;

// Why there are more leaves than necessary, or why they are unknown. Its texts are valid until the report is closed.
typedef struct hugebar_reason {
  // `HUGEBAR_REASON_KERNEL` or another; `hugebar_reason_name` names it.
  uint32_t code;
  // The finding, in one line.
  const char *fact;
  // What to do about it; empty if there is nothing to do.
  const char *remedy;
} hugebar_reason;

// A range of I/O addresses.
typedef struct hugebar_iova_range {
  // The first address.
  uint64_t first;
  // The last address.
  uint64_t last;
} hugebar_iova_range;

// Where something lies that is mapped into an I/O address space.
typedef struct hugebar_dma_info {
  // Its address in this process; NULL for a region of a device.
  void *address;
  // Its I/O address for devices.
  uint64_t iova;
  // Its length in bytes.
  uint64_t size;
} hugebar_dma_info;

// What a device has of one kind of interrupt.
typedef struct hugebar_irq_info {
  // How many; 0 if there are none of this kind.
  uint32_t count;
  // `HUGEBAR_IRQ_EVENTFD` and others.
  uint32_t flags;
} hugebar_irq_info;

// What a device is.
typedef struct hugebar_identity {
  // Its vendor.
  uint16_t vendor;
  // The vendor's number of the device.
  uint16_t device;
  // The vendor of the card.
  uint16_t subsystem_vendor;
  // That vendor's number of the card.
  uint16_t subsystem_device;
  // The class code, such as 0x010802 for NVMe: class, subclass, and programming interface in the lowest byte.
  uint32_t class_code;
  // The revision.
  uint8_t revision;
} hugebar_identity;

// A device that a hot reset affects.
typedef struct hugebar_affected {
  // The PCI domain.
  uint32_t domain;
  // The bus.
  uint8_t bus;
  // The device on its bus.
  uint8_t device;
  // The function.
  uint8_t function;
  // Whether the queried device's iommufd owns it: it is open there, or shares a group with one that is.
  bool owned;
  // Its IOMMU group if the queried device was opened by its group, otherwise `HUGEBAR_NO_GROUP`.
  uint32_t group;
} hugebar_affected;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, such as "0.1.0".
const char *hugebar_version(void);

// One line about the last error of this thread: subject, operation, the kernel's error, and the remedy if one is known.
// Empty if there was none. Valid until the next function fails in this thread, or the thread ends.
const char *hugebar_error_message(void);

// Returns the leaf sizes of this machine.
int hugebar_machine_leaf_sizes(struct hugebar_leaf_sizes *sizes);

// Returns the leaf sizes that this kernel uses for device memory: only pages before Linux 6.12.
int hugebar_kernel_leaf_sizes(struct hugebar_leaf_sizes *sizes);

// Computes the leaves of `bytes` bytes that are mapped at the virtual address `virtual_address` and lie at the physical
// address `physical`. The range is rounded out to whole pages. `sizes` may be NULL for those of this machine.
int hugebar_leaves_at(uint64_t virtual_address,
                      uint64_t physical,
                      uint64_t bytes,
                      const struct hugebar_leaf_sizes *sizes,
                      struct hugebar_leaves *leaves);

// Returns the largest leaf size modulo which two addresses are congruent, such as a virtual and a physical one; 0 if they
// are not even at the same place in a page. Only such a pair can be mapped by leaves of that size. `sizes` may be NULL for
// those of this machine.
int hugebar_congruence(uint64_t one_address,
                       uint64_t other_address,
                       const struct hugebar_leaf_sizes *sizes,
                       uint64_t *largest);

// Returns how many leaves there are, of all sizes.
int hugebar_leaves_total(const struct hugebar_leaves *leaves, uint64_t *total);

// Opens the device at a PCI address, such as "0000:01:00.0", in an I/O address space of its own. `backend` is
// `HUGEBAR_BACKEND_AUTO`, `_TYPE1` or `_IOMMUFD`. The device must be bound to vfio-pci or a variant of it. Opening resets it.
int hugebar_device_open(const char *address,
                        uint32_t backend,
                        struct hugebar_device **device);

// Opens the device at a PCI address in the I/O address space of another one, by the same backend.
int hugebar_device_open_beside(const char *address,
                               const struct hugebar_device *other,
                               struct hugebar_device **device);

// Takes a device that other code has opened. `fd` is its descriptor, which is duplicated; `address` is its PCI address, or
// NULL if that is unknown: then it cannot be measured. `container_fd` is the container that it is in, or -1; populating
// then uses that container, at I/O addresses that are free.
int hugebar_device_from_fd(int fd,
                           const char *address,
                           int container_fd,
                           struct hugebar_device **device);

// Closes a device. Its mappings and DMA memory stay, and keep it busy until they are closed as well.
int hugebar_device_close(struct hugebar_device *device);

// Returns the device's descriptor, which stays the library's: do not close it, and use it no longer than the device.
int hugebar_device_fd(const struct hugebar_device *device,
                      int *fd);

// Returns how the device was opened: `HUGEBAR_BACKEND_TYPE1` or another.
int hugebar_device_backend(const struct hugebar_device *device, uint32_t *backend);

// Returns how many region indexes the device has. Some of them have no region.
int hugebar_device_region_count(const struct hugebar_device *device, uint32_t *count);

// Queries a region. -ENOENT if the device does not have it, such as an absent BAR.
int hugebar_device_region(const struct hugebar_device *device, uint32_t index, struct hugebar_region *region);

// Returns the areas of a region that the driver allows to be mapped. Writes at most `room` of them to `areas`, which may be
// NULL if `room` is 0, and to `count` how many there are.
int hugebar_device_region_areas(const struct hugebar_device *device,
                                uint32_t index,
                                struct hugebar_area *areas,
                                size_t room,
                                size_t *count);

// Finds the device's MSI-X table. -ENOENT if it has none.
int hugebar_device_msix(const struct hugebar_device *device, struct hugebar_msix *msix);

// Reads from a region through the driver (`pread`), which returns an error where a mapping would raise SIGBUS.
int hugebar_device_region_read(const struct hugebar_device *device,
                               uint32_t index,
                               uint64_t offset,
                               uint8_t *bytes,
                               size_t count);

// Writes to a region through the driver (`pwrite`).
int hugebar_device_region_write(const struct hugebar_device *device,
                                uint32_t index,
                                uint64_t offset,
                                const uint8_t *bytes,
                                size_t count);

// Plans a region of `size` bytes. `phys` says what is known about its physical addresses, `HUGEBAR_PHYS_AT` that it starts
// at `phys_address`; for a file in memory that is the offset in the file. `options` and `sizes` may be NULL, for the
// defaults and the leaf sizes of this machine.
int hugebar_plan_new(uint64_t size,
                     uint32_t phys,
                     uint64_t phys_address,
                     const struct hugebar_map_options *options,
                     const struct hugebar_leaf_sizes *sizes,
                     struct hugebar_plan **plan);

// Plans a region of a device, without what its driver does not allow to be mapped. `options` may be NULL.
int hugebar_plan_of_region(const struct hugebar_device *device,
                           uint32_t index,
                           const struct hugebar_map_options *options,
                           struct hugebar_plan **plan);

// Closes a plan. Windows and mappings made from it stay.
int hugebar_plan_close(struct hugebar_plan *plan);

// Returns the fewest leaves that any addresses give.
int hugebar_plan_best(const struct hugebar_plan *plan, struct hugebar_leaves *leaves);

// Returns how many blocks of addresses a plan needs: one if it is congruent.
int hugebar_plan_shape_count(const struct hugebar_plan *plan, size_t *count);

// Returns which addresses a block of a plan needs, for programs that choose addresses themselves. -ENOENT if there is no
// such block.
int hugebar_plan_shape(const struct hugebar_plan *plan,
                       size_t number,
                       struct hugebar_shape *shape);

// Reserves addresses for a plan (`mmap` with `PROT_NONE`). If there is not enough address space, the window is aligned to
// the next smaller leaf: `hugebar_window_alignment` tells.
int hugebar_window_reserve(const struct hugebar_plan *plan,
                           struct hugebar_window **window);

// Takes addresses for a plan from the caller's range `[start, start + size)`, the lowest that fit. -ENOMEM if none do.
//
// The range must consist of whole pages, be mapped (with `PROT_NONE`, say) and hold nothing in use, because mappings
// replace what is there. Until the window and each mapping made in it are closed, it must stay mapped, and nobody else may
// use it. Closing puts back a reservation (`PROT_NONE`).
int hugebar_window_within(const struct hugebar_plan *plan,
                          void *start,
                          size_t size,
                          struct hugebar_window **window);

// Closes a window that no mapping was made in, and gives its addresses back.
int hugebar_window_close(struct hugebar_window *window);

// Returns the actual alignment in bytes: the plan's, or less if address space was scarce.
int hugebar_window_alignment(const struct hugebar_window *window, uint64_t *alignment);

// Returns how many blocks of addresses a window has.
int hugebar_window_block_count(const struct hugebar_window *window, size_t *count);

// Returns a block of a window. -ENOENT if there is no such block.
int hugebar_window_block(const struct hugebar_window *window, size_t number, struct hugebar_block *block);

// Maps a BAR, or another region of a device (`mmap`, `madvise`). `options` may be NULL. `window` may be NULL to reserve
// addresses; if it is given, it was made for the plan of this region and these options (`hugebar_plan_of_region`). It is
// closed by this call, even if mapping fails; only if an argument is wrong it stays open.
int hugebar_map_region(const struct hugebar_device *device,
                       uint32_t index,
                       const struct hugebar_map_options *options,
                       struct hugebar_window *window,
                       struct hugebar_mapping **mapping);

// Maps a region of any file by a plan; the region starts at `fd_offset` in the file. `options` may be NULL; of them only
// the hint and `HUGEBAR_MAP_READ_ONLY` are used, the rest is the plan's. `window` is as for `hugebar_map_region`. The
// descriptor may be closed afterwards.
int hugebar_map_fd(int fd,
                   uint64_t fd_offset,
                   const struct hugebar_plan *plan,
                   const struct hugebar_map_options *options,
                   struct hugebar_window *window,
                   struct hugebar_mapping **mapping);

// Unmaps a mapping and gives its addresses back. Pointers into it, and slots of it, must not be used any more.
int hugebar_mapping_close(struct hugebar_mapping *mapping);

// Unmaps a mapping but keeps the addresses, to map the region with other holes in the same place. Closes `mapping`, even if
// that fails; it stays open only if an argument is wrong, or with -EBUSY, while another thread uses it or it is mapped for
// other devices.
int hugebar_mapping_into_window(struct hugebar_mapping *mapping,
                                struct hugebar_window **window);

// Returns the address of region offset 0: byte `o` of the region is at this address plus `o`. -ENOTSUP if the areas lie
// apart, which happens only without `HUGEBAR_PLACEMENT_CONGRUENT`.
int hugebar_mapping_base(const struct hugebar_mapping *mapping,
                         void **base);

// Returns the address of `size` bytes at a region offset, after checking that they are mapped: -EINVAL if they lie in a
// hole or beyond the region. For device memory use aligned volatile accesses.
int hugebar_mapping_pointer(const struct hugebar_mapping *mapping,
                            uint64_t offset,
                            uint64_t size,
                            void **pointer);

// Returns how many areas are mapped.
int hugebar_mapping_area_count(const struct hugebar_mapping *mapping, size_t *count);

// Returns a mapped area; they ascend by offset. -ENOENT if there is no such area.
int hugebar_mapping_area(const struct hugebar_mapping *mapping,
                         size_t number,
                         struct hugebar_mapped_area *area);

// Returns the alignment of the addresses in bytes: the plan's, or less if address space was scarce.
int hugebar_mapping_alignment(const struct hugebar_mapping *mapping, uint64_t *alignment);

// Returns whether the kernel took the hint for huge pages (`MADV_HUGEPAGE`).
int hugebar_mapping_hinted(const struct hugebar_mapping *mapping, bool *hinted);

// Returns the fewest leaves that any addresses give.
int hugebar_mapping_best(const struct hugebar_mapping *mapping, struct hugebar_leaves *leaves);

// Returns the leaves that these addresses give on this kernel.
int hugebar_mapping_expected(const struct hugebar_mapping *mapping, struct hugebar_leaves *leaves);

// Returns the memory slots for a guest: each mapped area, without the parts in `exclude`, which the caller emulates. Writes at
// most `room` of them to `slots`, which may be NULL if `room` is 0, and to `count` how many there are. Remove the slots
// from the guest before closing the mapping.
int hugebar_mapping_slots(const struct hugebar_mapping *mapping,
                          const struct hugebar_area *exclude,
                          size_t exclude_count,
                          struct hugebar_slot *slots,
                          size_t room,
                          size_t *count);

// Reads 8 bits at a region offset.
int hugebar_read_u8(const struct hugebar_mapping *mapping, uint64_t offset, uint8_t *value);

// Reads 16 bits at a region offset that is a multiple of 2, by one access.
int hugebar_read_u16(const struct hugebar_mapping *mapping, uint64_t offset, uint16_t *value);

// Reads 32 bits at a region offset that is a multiple of 4, by one access.
int hugebar_read_u32(const struct hugebar_mapping *mapping, uint64_t offset, uint32_t *value);

// Reads 64 bits at a region offset that is a multiple of 8, by one access.
int hugebar_read_u64(const struct hugebar_mapping *mapping, uint64_t offset, uint64_t *value);

// Writes 8 bits at a region offset.
int hugebar_write_u8(const struct hugebar_mapping *mapping, uint64_t offset, uint8_t value);

// Writes 16 bits at a region offset that is a multiple of 2, by one access.
int hugebar_write_u16(const struct hugebar_mapping *mapping, uint64_t offset, uint16_t value);

// Writes 32 bits at a region offset that is a multiple of 4, by one access.
int hugebar_write_u32(const struct hugebar_mapping *mapping, uint64_t offset, uint32_t value);

// Writes 64 bits at a region offset that is a multiple of 8, by one access.
int hugebar_write_u64(const struct hugebar_mapping *mapping, uint64_t offset, uint64_t value);

// Returns the name of a verdict, such as "optimal", which lasts for good; NULL for an unknown one.
const char *hugebar_verdict_name(uint32_t verdict);

// Returns the name of a reason's code, such as "thp-policy", which lasts for good; NULL for an unknown one.
const char *hugebar_reason_name(uint32_t code);

// Has the kernel install the leaves of a mapping without touching the device, counts them, and finds the reasons for not
// fewer. The mapping is one of `device` (`hugebar_map_region`), and nothing may have touched it before. `limit` is the most
// bytes to populate in base pages, or 0 for no limit: a GiB of 4 KiB pages takes 262,144 faults.
//
// A count that is not possible is a result, not an error: the verdict is then `HUGEBAR_VERDICT_UNMEASURED`. -EINVAL if the
// PCI address of the device is unknown.
int hugebar_measure(const struct hugebar_mapping *mapping,
                    const struct hugebar_device *device,
                    uint64_t limit,
                    struct hugebar_report **report);

// Compares a mapping of anything with the best, without populating or counting: the verdict is
// `HUGEBAR_VERDICT_UNMEASURED`, and the reasons say why these addresses give more leaves than necessary.
int hugebar_explain(const struct hugebar_mapping *mapping, struct hugebar_report **report);

// Installs all leaves of a mapping of `device`, without counting them and without touching the device: before a guest
// starts or resumes, and after a reset. -ENOTSUP if nothing here can.
int hugebar_install(const struct hugebar_mapping *mapping,
                    const struct hugebar_device *device,
                    struct hugebar_installed *installed);

// Closes a report. Texts of it must not be used any more.
int hugebar_report_close(struct hugebar_report *report);

// Returns the result in numbers.
int hugebar_report_summary(const struct hugebar_report *report, struct hugebar_summary *summary);

// Returns how many reasons a report has.
int hugebar_report_reason_count(const struct hugebar_report *report, size_t *count);

// Returns a reason of a report. -ENOENT if there is no such reason.
int hugebar_report_reason(const struct hugebar_report *report, size_t number, struct hugebar_reason *reason);

// Returns the device's I/O address space. It stays usable until it is closed, with or without the device. -ENOTSUP without
// an IOMMU, and if other code has attached the device to an address space that is unknown here.
int hugebar_device_space(const struct hugebar_device *device,
                         struct hugebar_space **space);

// Closes the handle of an address space. What is mapped into it stays.
int hugebar_space_close(struct hugebar_space *space);

// Returns the I/O addresses that can be mapped. Writes at most `room` ranges to `ranges`, which may be NULL if `room` is 0,
// and to `count` how many there are.
int hugebar_space_iova_ranges(const struct hugebar_space *space,
                              struct hugebar_iova_range *ranges,
                              size_t room,
                              size_t *count);

// Allocates zeroed memory that devices can read and write, and maps it. `page` is 0 for normal pages, or the size of huge
// pages that the administrator has reserved, 2 MiB or 1 GiB. `limit` is the end of the I/O addresses that the device
// reaches, or 0 for all.
int hugebar_dma_alloc(const struct hugebar_space *space,
                      uint64_t size,
                      uint64_t page,
                      uint64_t limit,
                      struct hugebar_dma **dma);

// Maps memory of the caller's: whole pages, which must stay mapped where they are until `hugebar_dma_close` has returned 0,
// and for good if it fails. `access` is `HUGEBAR_DMA_READ` or `HUGEBAR_DMA_READ_WRITE`, `limit` as for `hugebar_dma_alloc`.
int hugebar_dma_map(const struct hugebar_space *space,
                    void *memory,
                    uint64_t size,
                    uint32_t access,
                    uint64_t limit,
                    struct hugebar_dma **dma);

// Maps a region of a device for peer-to-peer DMA by the devices of an address space. `device` is the device of the
// region, which may be in this address space or in another one. -ENOTSUP if the kernel cannot do that here. Holes of
// the mapping are not mapped either. By iommufd it is lost when the device is reset or its memory decode is off:
// `hugebar_dma_renew`.
int hugebar_dma_map_region(const struct hugebar_space *space,
                           const struct hugebar_device *device,
                           const struct hugebar_mapping *mapping,
                           uint64_t limit,
                           struct hugebar_dma **dma);

// Returns where the memory or region lies.
int hugebar_dma_get_info(const struct hugebar_dma *dma, struct hugebar_dma_info *info);

// Maps a region again, at the same I/O address, after its device was reset or its memory decode was off. A mapping by
// type1 was not lost, so that this does nothing. -ENODEV while memory decode is off, -ENOTSUP for memory, which is
// never lost.
int hugebar_dma_renew(const struct hugebar_dma *dma);

// Unmaps memory or a region from its address space, and frees the memory of `hugebar_dma_alloc`. On an error of the kernel
// the handle is closed as well, but devices may still reach the memory, which is therefore kept. With -EBUSY another thread
// uses the handle, which stays open.
int hugebar_dma_close(struct hugebar_dma *dma);

// Orders reads of memory that a device writes: use it between seeing that the device is done and reading its data.
void hugebar_dma_rmb(void);

// Orders writes: use it between filling in memory and telling the device to read it.
void hugebar_dma_wmb(void);

// Returns how many interrupts of a kind (`HUGEBAR_IRQ_INTX` or another) the device has, and what they support.
int hugebar_device_irq_info(const struct hugebar_device *device,
                            uint32_t kind,
                            struct hugebar_irq_info *info);

// Enables the first `count` interrupts of a kind, each with an eventfd of its own. INTx, MSI and MSI-X exclude one
// another: -EBUSY while another is enabled. MSI and MSI-X need `hugebar_device_set_bus_master`.
int hugebar_interrupts_enable(const struct hugebar_device *device,
                              uint32_t kind,
                              uint32_t count,
                              struct hugebar_interrupts **interrupts);

// Enables interrupts of a kind with eventfds of the program's, one for each vector, such as those that KVM injects
// interrupts from. -1 leaves a vector out. They may be closed afterwards.
int hugebar_interrupts_enable_with(const struct hugebar_device *device,
                                   uint32_t kind,
                                   const int *eventfds,
                                   size_t count,
                                   struct hugebar_interrupts **interrupts);

// Disables interrupts. On an error of the kernel the handle is closed as well, and they are disabled before others are
// enabled, or when the device is closed. With -EBUSY another thread uses the handle, which stays open.
int hugebar_interrupts_close(struct hugebar_interrupts *interrupts);

// Returns the eventfd of a vector, to poll it together with others: it is close-on-exec and nonblocking, and reading
// its eight bytes returns how often the interrupt fired. It stays the library's: do not close it, and use it no longer
// than the handle. -EINVAL for a vector that is not enabled or has an eventfd of the program's.
int hugebar_interrupts_fd(const struct hugebar_interrupts *interrupts,
                          uint32_t vector,
                          int *fd);

// Waits until a vector fires, for `timeout_ms` milliseconds at most, or for good if that is negative. Returns how
// often it fired since the last call, 0 if the time was over. Signals do not end it.
int hugebar_interrupts_wait(const struct hugebar_interrupts *interrupts,
                            uint32_t vector,
                            int timeout_ms,
                            uint64_t *times);

// Masks INTx. -ENOTSUP for other kinds: take the eventfd from a vector (`hugebar_interrupts_set`), or silence the
// device.
int hugebar_interrupts_mask(const struct hugebar_interrupts *interrupts);

// Unmasks INTx, which the kernel masks each time it fires. Call it after serving the device: if its line is still
// asserted, the interrupt fires again at once.
int hugebar_interrupts_unmask(const struct hugebar_interrupts *interrupts);

// Lets the kernel unmask INTx whenever an eventfd of the program's is signalled, as KVM does when a guest has ended
// its interrupt. -1 ends this. -EBUSY while another eventfd does so.
int hugebar_interrupts_unmask_by(const struct hugebar_interrupts *interrupts,
                                 int eventfd);

// Signals a vector's eventfd as if the device had fired, as a test.
int hugebar_interrupts_trigger(const struct hugebar_interrupts *interrupts, uint32_t vector);

// Enables one more vector, or one that was left out, with an eventfd of its own. The others stay enabled. -ENOTSUP for
// a vector that the device does not have, or beyond those enabled first with `HUGEBAR_IRQ_NORESIZE`; -EBUSY while
// another thread uses the handle.
int hugebar_interrupts_add(const struct hugebar_interrupts *interrupts,
                           uint32_t vector);

// Makes a vector signal an eventfd of the program's, or none with -1. It can add vectors, and fails, as
// `hugebar_interrupts_add`.
int hugebar_interrupts_set(const struct hugebar_interrupts *interrupts, uint32_t vector, int eventfd);

// Returns what the device is: its ids, its class and its revision.
int hugebar_config_identity(const struct hugebar_device *device, struct hugebar_identity *identity);

// Returns the size of configuration space: 256 bytes, or 4096 with its extended part.
int hugebar_config_size(const struct hugebar_device *device, uint64_t *size);

// Reads the command register (`PCI_COMMAND_MEMORY` and others of linux/pci_regs.h).
int hugebar_config_command(const struct hugebar_device *device, uint16_t *command);

// Writes the command register. Without `PCI_COMMAND_MEMORY` all mappings of the device's BARs lose their leaves, and
// an access raises SIGBUS.
int hugebar_config_set_command(const struct hugebar_device *device,
                               uint16_t command);

// Reads the status register (`PCI_STATUS_CAP_LIST` and others of linux/pci_regs.h).
int hugebar_config_status(const struct hugebar_device *device, uint16_t *status);

// Finds the first capability with an id (`PCI_CAP_ID_EXP` and others of linux/pci_regs.h), and returns where it
// starts. -ENOENT if there is none; the driver may leave some out.
int hugebar_config_capability(const struct hugebar_device *device,
                              uint8_t id,
                              uint16_t *offset);

// Finds the first extended capability with an id (`PCI_EXT_CAP_ID_ERR` and others of linux/pci_regs.h), as
// `hugebar_config_capability`.
int hugebar_config_extended_capability(const struct hugebar_device *device, uint16_t id, uint16_t *offset);

// Reads 8 bits of configuration space.
int hugebar_config_read_u8(const struct hugebar_device *device, uint16_t offset, uint8_t *value);

// Reads 16 bits of configuration space, at an offset that is a multiple of 2, in the order of this machine.
int hugebar_config_read_u16(const struct hugebar_device *device, uint16_t offset, uint16_t *value);

// Reads 32 bits of configuration space, at an offset that is a multiple of 4, in the order of this machine.
int hugebar_config_read_u32(const struct hugebar_device *device, uint16_t offset, uint32_t *value);

// Writes 8 bits of configuration space. Bits that are read-only, or that the driver keeps for itself, do not change,
// without an error. Interrupts are set up by `hugebar_interrupts_enable`.
int hugebar_config_write_u8(const struct hugebar_device *device,
                            uint16_t offset,
                            uint8_t value);

// Writes 16 bits of configuration space, at an offset that is a multiple of 2, as `hugebar_config_write_u8`.
int hugebar_config_write_u16(const struct hugebar_device *device, uint16_t offset, uint16_t value);

// Writes 32 bits of configuration space, at an offset that is a multiple of 4, as `hugebar_config_write_u8`.
int hugebar_config_write_u32(const struct hugebar_device *device, uint16_t offset, uint32_t value);

// Allows the device DMA, and interrupts by MSI and MSI-X, or forbids them (the bus master bit). Opening a device
// forbids them.
int hugebar_device_set_bus_master(const struct hugebar_device *device,
                                  bool on);

// Returns whether memory decode is on. While it is off, an access to a mapping of a BAR raises SIGBUS.
int hugebar_device_memory_decode(const struct hugebar_device *device, bool *on);

// Resets the function (`VFIO_DEVICE_RESET`). Memory decode, bus mastering and interrupts stay as they are. Mappings
// stay but lose their leaves: `hugebar_install` brings them back. -ENOTSUP if the function cannot be reset by itself.
int hugebar_device_reset(const struct hugebar_device *device);

// Returns whether the function can be reset by itself.
int hugebar_device_can_reset(const struct hugebar_device *device, bool *can);

// Lists the devices that a hot reset affects, this one included: those on its slot or bus, and all behind them. Writes
// at most `room` of them to `affected`, which may be NULL if `room` is 0, and to `count` how many there are. -ENOTSUP
// if neither slot nor bus can be reset, as on a root bus.
int hugebar_device_hot_reset_info(const struct hugebar_device *device,
                                  struct hugebar_affected *affected,
                                  size_t room,
                                  size_t *count);

// Resets all devices on the slot or bus (`VFIO_DEVICE_PCI_HOT_RESET`). `others` are the program's devices that are
// reset as well: one of each affected group or, by iommufd, each that is open; it may be NULL if `count` is 0. All
// other affected devices must be bound to a VFIO driver and not be open: -EBUSY otherwise, and the message names them.
int hugebar_device_hot_reset(const struct hugebar_device *device,
                             const struct hugebar_device *const *others,
                             size_t count);

// The same for a device of `hugebar_device_from_fd`, whose groups only the program knows: `groups` are the descriptors
// of all affected groups, or none for a device that was opened by its own node.
int hugebar_device_hot_reset_by_groups(const struct hugebar_device *device,
                                       const int *groups,
                                       size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HUGEBAR_H */
