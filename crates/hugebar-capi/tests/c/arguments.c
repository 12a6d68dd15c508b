/* Calls every function with NULL, with handles that are none, and with closed handles: each must return an error.
 *
 * Prints a line for each call: function, the handle's kind (or -), what was wrong, and the result. With the address of a
 * device, the handles of devices are real ones that were closed. lab/tests/capi.rs checks that no function is missing. */
#define _GNU_SOURCE 1
#include "check.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int failures;

static void note(const char *function, const char *kind, const char *what, int result)
{
    printf("%s %s %s %d\n", function, kind, what, result);
    if (result >= 0 || hugebar_error_message()[0] == '\0')
        failures++;
}

/* Open and closed handles. Without a device, those of its kinds are of another kind. */
static hugebar_plan *plan, *closed_plan;
static hugebar_window *window, *closed_window;
static hugebar_mapping *mapping, *closed_mapping;
static hugebar_report *report, *closed_report;
static hugebar_device *device, *closed_device;
static hugebar_space *space, *closed_space;
static hugebar_dma *dma, *closed_dma;
static hugebar_interrupts *interrupts, *closed_interrupts;

/* Calls a function with each wrong handle `h` of a kind. */
#define EACH(function, kind, call)                       \
    do {                                                 \
        hugebar_##kind *h = NULL;                        \
        note(#function, #kind, "null", call);            \
        h = (hugebar_##kind *)(void *)&failures;         \
        note(#function, #kind, "bad", call);             \
        h = (hugebar_##kind *)(void *)other_than(#kind); \
        note(#function, #kind, "bad", call);             \
        h = (hugebar_##kind *)UINTPTR_MAX;               \
        note(#function, #kind, "bad", call);             \
        h = closed_##kind;                               \
        note(#function, #kind, "closed", call);          \
    } while (0)

/* Calls a function with NULL for a result, a text, or an array with elements. */
#define NONE(function, call) note(#function, "-", "null", call)
/* Calls a function with a wrong number. */
#define WRONG(function, call) note(#function, "-", "bad", call)

/* A function of a handle that returns something by a pointer. */
#define TELLS(function, kind, place)              \
    do {                                          \
        EACH(function, kind, function(h, place)); \
        NONE(function, function(kind, NULL));     \
    } while (0)
/* The same by a number, of which there are fewer than 1000. */
#define TELLS_OF(function, kind, place)               \
    do {                                              \
        EACH(function, kind, function(h, 0, place));  \
        NONE(function, function(kind, 0, NULL));      \
        WRONG(function, function(kind, 1000, place)); \
    } while (0)
/* A function of a handle and a number that changes something. */
#define DOES(function, kind, number, wrong)        \
    do {                                           \
        EACH(function, kind, function(h, number)); \
        WRONG(function, function(kind, wrong));    \
    } while (0)
/* Reading and writing a word of the mapping, with places where there is none. */
#define WORD(bits, outside, crooked)                                                 \
    do {                                                                             \
        uint##bits##_t value;                                                        \
        EACH(hugebar_read_u##bits, mapping, hugebar_read_u##bits(h, 0, &value));     \
        NONE(hugebar_read_u##bits, hugebar_read_u##bits(mapping, 0, NULL));          \
        WRONG(hugebar_read_u##bits, hugebar_read_u##bits(mapping, outside, &value)); \
        EACH(hugebar_write_u##bits, mapping, hugebar_write_u##bits(h, 0, 1));        \
        WRONG(hugebar_write_u##bits, hugebar_write_u##bits(mapping, crooked, 1));    \
    } while (0)
/* The same of configuration space. */
#define CONFIG_WORD(bits)                                                                            \
    do {                                                                                             \
        uint##bits##_t value;                                                                        \
        EACH(hugebar_config_read_u##bits, device, hugebar_config_read_u##bits(h, 0, &value));        \
        NONE(hugebar_config_read_u##bits, hugebar_config_read_u##bits(device, 0, NULL));             \
        WRONG(hugebar_config_read_u##bits, hugebar_config_read_u##bits(device, UINT16_MAX, &value)); \
        EACH(hugebar_config_write_u##bits, device, hugebar_config_write_u##bits(h, 0, 0));           \
        WRONG(hugebar_config_write_u##bits, hugebar_config_write_u##bits(device, UINT16_MAX, 0));    \
    } while (0)

static void *other_than(const char *kind)
{
    return strcmp(kind, "plan") ? (void *)plan : (void *)mapping;
}

static void prepare(const char *address, int fd)
{
    int own;

    OK(hugebar_plan_new(4096, HUGEBAR_PHYS_AT, 0, NULL, NULL, &plan));
    OK(hugebar_window_reserve(plan, &window));
    OK(hugebar_map_fd(fd, 0, plan, NULL, NULL, &mapping));
    OK(hugebar_explain(mapping, &report));
    OK(hugebar_plan_new(4096, HUGEBAR_PHYS_AT, 0, NULL, NULL, &closed_plan));
    OK(hugebar_window_reserve(plan, &closed_window));
    OK(hugebar_map_fd(fd, 0, plan, NULL, NULL, &closed_mapping));
    OK(hugebar_explain(mapping, &closed_report));
    if (address) {
        OK(hugebar_device_open(address, HUGEBAR_BACKEND_AUTO, &device));
        OK(hugebar_device_space(device, &space));
        OK(hugebar_dma_alloc(space, 4096, 0, 0, &dma));
        OK(hugebar_device_fd(device, &own));
        OK(hugebar_device_from_fd(own, address, -1, &closed_device));
        OK(hugebar_device_space(device, &closed_space));
        OK(hugebar_dma_alloc(space, 4096, 0, 0, &closed_dma));
        OK(hugebar_interrupts_enable(device, HUGEBAR_IRQ_REQUEST, 1, &closed_interrupts));
        OK(hugebar_device_close(closed_device));
        OK(hugebar_space_close(closed_space));
        OK(hugebar_dma_close(closed_dma));
        OK(hugebar_interrupts_close(closed_interrupts));
        OK(hugebar_interrupts_enable(device, HUGEBAR_IRQ_REQUEST, 1, &interrupts));
    } else {
        closed_device = (hugebar_device *)(void *)closed_plan;
        closed_space = (hugebar_space *)(void *)closed_plan;
        closed_dma = (hugebar_dma *)(void *)closed_plan;
        closed_interrupts = (hugebar_interrupts *)(void *)closed_plan;
    }
    OK(hugebar_report_close(closed_report));
    OK(hugebar_mapping_close(closed_mapping));
    OK(hugebar_window_close(closed_window));
    OK(hugebar_plan_close(closed_plan));
}

static void leaves_and_plans(void)
{
    hugebar_leaf_sizes sizes, wrong = {9, {0}};
    hugebar_leaves leaves = {0}, many = {9, {0}, {0}};
    hugebar_map_options options = {0};
    hugebar_shape shape;
    hugebar_plan *made;
    uint64_t number;
    size_t count;

    NONE(hugebar_machine_leaf_sizes, hugebar_machine_leaf_sizes(NULL));
    NONE(hugebar_kernel_leaf_sizes, hugebar_kernel_leaf_sizes(NULL));
    NONE(hugebar_leaves_at, hugebar_leaves_at(0, 0, 1, NULL, NULL));
    WRONG(hugebar_leaves_at, hugebar_leaves_at(0, 0, 1, &wrong, &leaves));
    NONE(hugebar_congruence, hugebar_congruence(0, 0, NULL, NULL));
    WRONG(hugebar_congruence, hugebar_congruence(0, 0, &wrong, &number));
    NONE(hugebar_leaves_total, hugebar_leaves_total(NULL, &number));
    NONE(hugebar_leaves_total, hugebar_leaves_total(&leaves, NULL));
    WRONG(hugebar_leaves_total, hugebar_leaves_total(&many, &number));
    OK(hugebar_machine_leaf_sizes(&sizes));

    NONE(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, NULL, NULL, NULL));
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 7, 0, NULL, NULL, &made));
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, HUGEBAR_PHYS_AT, 1, NULL, NULL, &made));
    WRONG(hugebar_plan_new, hugebar_plan_new(UINT64_MAX, 0, 0, NULL, NULL, &made));
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, NULL, &wrong, &made));
    options.hole_count = 1;
    NONE(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, &options, NULL, &made));
    options.hole_count = SIZE_MAX;
    options.holes = (const hugebar_area *)&sizes;
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, &options, NULL, &made));
    options = (hugebar_map_options){.flags = 4};
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, &options, NULL, &made));
    options = (hugebar_map_options){.placement = 3};
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, &options, NULL, &made));
    options = (hugebar_map_options){.hint = 4};
    WRONG(hugebar_plan_new, hugebar_plan_new(4096, 0, 0, &options, NULL, &made));

    EACH(hugebar_plan_of_region, device, hugebar_plan_of_region(h, 2, NULL, &made));
    NONE(hugebar_plan_of_region, hugebar_plan_of_region(device, 2, NULL, NULL));
    EACH(hugebar_plan_close, plan, hugebar_plan_close(h));
    TELLS(hugebar_plan_best, plan, &leaves);
    TELLS(hugebar_plan_shape_count, plan, &count);
    TELLS_OF(hugebar_plan_shape, plan, &shape);
}

static void windows_and_mappings(int fd)
{
    hugebar_window *made;
    hugebar_mapping *mapped;
    hugebar_block block;
    hugebar_mapped_area area;
    hugebar_area outside = {8192, 4096};
    hugebar_leaves leaves;
    hugebar_slot slot;
    uint64_t number;
    size_t count;
    void *pointer;
    bool yes;

    TELLS(hugebar_window_reserve, plan, &made);
    EACH(hugebar_window_within, plan, hugebar_window_within(h, (void *)4096, 4096, &made));
    NONE(hugebar_window_within, hugebar_window_within(plan, NULL, 4096, &made));
    NONE(hugebar_window_within, hugebar_window_within(plan, (void *)4096, 4096, NULL));
    WRONG(hugebar_window_within, hugebar_window_within(plan, (void *)4097, 4096, &made));
    EACH(hugebar_window_close, window, hugebar_window_close(h));
    TELLS(hugebar_window_alignment, window, &number);
    TELLS(hugebar_window_block_count, window, &count);
    TELLS_OF(hugebar_window_block, window, &block);

    EACH(hugebar_map_region, device, hugebar_map_region(h, 2, NULL, NULL, &mapped));
    /* NULL stands for a new window. */
    note("hugebar_map_region", "window", "null", hugebar_map_region(NULL, 2, NULL, NULL, &mapped));
    note("hugebar_map_region", "window", "bad",
         hugebar_map_region(device, 2, NULL, (hugebar_window *)(void *)mapping, &mapped));
    note("hugebar_map_region", "window", "closed", hugebar_map_region(device, 2, NULL, closed_window, &mapped));
    NONE(hugebar_map_region, hugebar_map_region(device, 2, NULL, window, NULL));
    EACH(hugebar_map_fd, plan, hugebar_map_fd(fd, 0, h, NULL, NULL, &mapped));
    note("hugebar_map_fd", "window", "null", hugebar_map_fd(fd, 0, NULL, NULL, NULL, &mapped));
    note("hugebar_map_fd", "window", "bad",
         hugebar_map_fd(fd, 0, plan, NULL, (hugebar_window *)(void *)mapping, &mapped));
    note("hugebar_map_fd", "window", "closed", hugebar_map_fd(fd, 0, plan, NULL, closed_window, &mapped));
    NONE(hugebar_map_fd, hugebar_map_fd(fd, 0, plan, NULL, window, NULL));
    WRONG(hugebar_map_fd, hugebar_map_fd(-1, 0, plan, NULL, NULL, &mapped));
    WRONG(hugebar_map_fd, hugebar_map_fd(1000000, 0, plan, NULL, NULL, &mapped));
    WRONG(hugebar_map_fd, hugebar_map_fd(fd, 1, plan, NULL, NULL, &mapped));
    /* All of them have left the window open. */
    OK(hugebar_window_alignment(window, &number));

    EACH(hugebar_mapping_close, mapping, hugebar_mapping_close(h));
    TELLS(hugebar_mapping_into_window, mapping, &made);
    TELLS(hugebar_mapping_base, mapping, &pointer);
    EACH(hugebar_mapping_pointer, mapping, hugebar_mapping_pointer(h, 0, 4, &pointer));
    NONE(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, 0, 4, NULL));
    WRONG(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, 4093, 4, &pointer));
    WRONG(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, UINT64_MAX, 4, &pointer));
    TELLS(hugebar_mapping_area_count, mapping, &count);
    TELLS_OF(hugebar_mapping_area, mapping, &area);
    TELLS(hugebar_mapping_alignment, mapping, &number);
    TELLS(hugebar_mapping_hinted, mapping, &yes);
    TELLS(hugebar_mapping_best, mapping, &leaves);
    TELLS(hugebar_mapping_expected, mapping, &leaves);
    EACH(hugebar_mapping_slots, mapping, hugebar_mapping_slots(h, NULL, 0, &slot, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 1, &slot, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 0, NULL, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 0, &slot, 1, NULL));
    WRONG(hugebar_mapping_slots, hugebar_mapping_slots(mapping, &outside, 1, &slot, 1, &count));
}

static void words(void)
{
    WORD(8, 4096, 4096);
    WORD(16, 1, 4095);
    WORD(32, 2, 4094);
    WORD(64, UINT64_MAX - 7, 4);
}

static void devices(int fd)
{
    hugebar_device *opened;
    hugebar_region region;
    hugebar_area area;
    hugebar_msix msix;
    uint8_t bytes[4] = {0};
    uint32_t number;
    size_t count;
    int own;

    NONE(hugebar_device_open, hugebar_device_open(NULL, 0, &opened));
    NONE(hugebar_device_open, hugebar_device_open("ffff:1f:1f.7", 0, NULL));
    WRONG(hugebar_device_open, hugebar_device_open("ffff:1f:1f.7", 0, &opened));
    WRONG(hugebar_device_open, hugebar_device_open("\xff", 0, &opened));
    WRONG(hugebar_device_open, hugebar_device_open("0000:00:00.0", HUGEBAR_BACKEND_NOIOMMU, &opened));
    EACH(hugebar_device_open_beside, device, hugebar_device_open_beside("ffff:1f:1f.7", h, &opened));
    NONE(hugebar_device_open_beside, hugebar_device_open_beside(NULL, device, &opened));
    NONE(hugebar_device_open_beside, hugebar_device_open_beside("ffff:1f:1f.7", device, NULL));
    NONE(hugebar_device_from_fd, hugebar_device_from_fd(fd, NULL, -1, NULL));
    WRONG(hugebar_device_from_fd, hugebar_device_from_fd(-1, NULL, -1, &opened));
    WRONG(hugebar_device_from_fd, hugebar_device_from_fd(fd, NULL, -1, &opened));
    WRONG(hugebar_device_from_fd, hugebar_device_from_fd(fd, NULL, fd, &opened));
    WRONG(hugebar_device_from_fd, hugebar_device_from_fd(fd, "x", -1, &opened));
    EACH(hugebar_device_close, device, hugebar_device_close(h));
    TELLS(hugebar_device_fd, device, &own);
    TELLS(hugebar_device_backend, device, &number);
    TELLS(hugebar_device_region_count, device, &number);
    TELLS_OF(hugebar_device_region, device, &region);
    EACH(hugebar_device_region_areas, device, hugebar_device_region_areas(h, 2, &area, 1, &count));
    NONE(hugebar_device_region_areas, hugebar_device_region_areas(device, 2, NULL, 1, &count));
    NONE(hugebar_device_region_areas, hugebar_device_region_areas(device, 2, &area, 1, NULL));
    TELLS(hugebar_device_msix, device, &msix);
    EACH(hugebar_device_region_read, device, hugebar_device_region_read(h, 2, 0, bytes, 4));
    NONE(hugebar_device_region_read, hugebar_device_region_read(device, 2, 0, NULL, 4));
    WRONG(hugebar_device_region_read, hugebar_device_region_read(device, 2, UINT64_MAX, bytes, 4));
    EACH(hugebar_device_region_write, device, hugebar_device_region_write(h, 2, 0, bytes, 4));
    NONE(hugebar_device_region_write, hugebar_device_region_write(device, 2, 0, NULL, 4));
    WRONG(hugebar_device_region_write, hugebar_device_region_write(device, 2, UINT64_MAX, bytes, 4));
}

static void configuration(void)
{
    hugebar_identity identity;
    uint64_t size;
    uint16_t number;
    bool on;

    TELLS(hugebar_config_identity, device, &identity);
    TELLS(hugebar_config_size, device, &size);
    TELLS(hugebar_config_command, device, &number);
    EACH(hugebar_config_set_command, device, hugebar_config_set_command(h, 0));
    TELLS(hugebar_config_status, device, &number);
    EACH(hugebar_config_capability, device, hugebar_config_capability(h, 1, &number));
    NONE(hugebar_config_capability, hugebar_config_capability(device, 1, NULL));
    WRONG(hugebar_config_capability, hugebar_config_capability(device, 0xfe, &number));
    TELLS_OF(hugebar_config_extended_capability, device, &number);
    CONFIG_WORD(8);
    CONFIG_WORD(16);
    CONFIG_WORD(32);
    EACH(hugebar_device_set_bus_master, device, hugebar_device_set_bus_master(h, true));
    TELLS(hugebar_device_memory_decode, device, &on);
}

static void resets(void)
{
    const hugebar_device *others[2] = {device, closed_device};
    int groups[1] = {-1};
    hugebar_affected affected;
    size_t count;
    bool can;

    EACH(hugebar_device_reset, device, hugebar_device_reset(h));
    TELLS(hugebar_device_can_reset, device, &can);
    EACH(hugebar_device_hot_reset_info, device, hugebar_device_hot_reset_info(h, &affected, 1, &count));
    NONE(hugebar_device_hot_reset_info, hugebar_device_hot_reset_info(device, NULL, 1, &count));
    NONE(hugebar_device_hot_reset_info, hugebar_device_hot_reset_info(device, &affected, 1, NULL));
    EACH(hugebar_device_hot_reset, device, hugebar_device_hot_reset(h, NULL, 0));
    NONE(hugebar_device_hot_reset, hugebar_device_hot_reset(device, NULL, 1));
    WRONG(hugebar_device_hot_reset, hugebar_device_hot_reset(device, others, 2));
    EACH(hugebar_device_hot_reset_by_groups, device, hugebar_device_hot_reset_by_groups(h, NULL, 0));
    NONE(hugebar_device_hot_reset_by_groups, hugebar_device_hot_reset_by_groups(device, NULL, 1));
    WRONG(hugebar_device_hot_reset_by_groups, hugebar_device_hot_reset_by_groups(device, groups, 1));
}

static void interrupts_of_a_device(int fd)
{
    hugebar_irq_info info;
    hugebar_interrupts *made;
    int eventfds[1] = {fd}, own;
    uint64_t times;

    TELLS_OF(hugebar_device_irq_info, device, &info);
    EACH(hugebar_interrupts_enable, device, hugebar_interrupts_enable(h, HUGEBAR_IRQ_REQUEST, 1, &made));
    NONE(hugebar_interrupts_enable, hugebar_interrupts_enable(device, HUGEBAR_IRQ_REQUEST, 1, NULL));
    WRONG(hugebar_interrupts_enable, hugebar_interrupts_enable(device, 5, 1, &made));
    WRONG(hugebar_interrupts_enable, hugebar_interrupts_enable(device, HUGEBAR_IRQ_MSI, 0, &made));
    /* It is enabled already. */
    WRONG(hugebar_interrupts_enable, hugebar_interrupts_enable(device, HUGEBAR_IRQ_REQUEST, 1, &made));
    EACH(hugebar_interrupts_enable_with, device,
         hugebar_interrupts_enable_with(h, HUGEBAR_IRQ_ERROR, eventfds, 1, &made));
    NONE(hugebar_interrupts_enable_with, hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_ERROR, NULL, 1, &made));
    NONE(hugebar_interrupts_enable_with, hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_ERROR, eventfds, 1, NULL));
    /* A file that is no eventfd, then a number that is no descriptor. */
    WRONG(hugebar_interrupts_enable_with, hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_ERROR, eventfds, 1, &made));
    eventfds[0] = -2;
    WRONG(hugebar_interrupts_enable_with, hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_ERROR, eventfds, 1, &made));
    EACH(hugebar_interrupts_close, interrupts, hugebar_interrupts_close(h));
    TELLS_OF(hugebar_interrupts_fd, interrupts, &own);
    EACH(hugebar_interrupts_wait, interrupts, hugebar_interrupts_wait(h, 0, 0, &times));
    NONE(hugebar_interrupts_wait, hugebar_interrupts_wait(interrupts, 0, 0, NULL));
    WRONG(hugebar_interrupts_wait, hugebar_interrupts_wait(interrupts, 1, 0, &times));
    EACH(hugebar_interrupts_mask, interrupts, hugebar_interrupts_mask(h));
    EACH(hugebar_interrupts_unmask, interrupts, hugebar_interrupts_unmask(h));
    DOES(hugebar_interrupts_unmask_by, interrupts, -1, -2);
    DOES(hugebar_interrupts_trigger, interrupts, 0, 1);
    DOES(hugebar_interrupts_add, interrupts, 1, 1);
    EACH(hugebar_interrupts_set, interrupts, hugebar_interrupts_set(h, 0, -1));
    WRONG(hugebar_interrupts_set, hugebar_interrupts_set(interrupts, 0, -2));
    WRONG(hugebar_interrupts_set, hugebar_interrupts_set(interrupts, 1, -1));
}

static void dma_memory(void *memory)
{
    hugebar_space *made;
    hugebar_dma *mapped;
    hugebar_dma_info info;
    hugebar_iova_range range;
    size_t count;

    TELLS(hugebar_device_space, device, &made);
    EACH(hugebar_space_close, space, hugebar_space_close(h));
    EACH(hugebar_space_iova_ranges, space, hugebar_space_iova_ranges(h, &range, 1, &count));
    NONE(hugebar_space_iova_ranges, hugebar_space_iova_ranges(space, NULL, 1, &count));
    NONE(hugebar_space_iova_ranges, hugebar_space_iova_ranges(space, &range, 1, NULL));
    EACH(hugebar_dma_alloc, space, hugebar_dma_alloc(h, 4096, 0, 0, &mapped));
    NONE(hugebar_dma_alloc, hugebar_dma_alloc(space, 4096, 0, 0, NULL));
    WRONG(hugebar_dma_alloc, hugebar_dma_alloc(space, 4096, 4096, 0, &mapped));
    WRONG(hugebar_dma_alloc, hugebar_dma_alloc(space, 0, 0, 0, &mapped));
    WRONG(hugebar_dma_alloc, hugebar_dma_alloc(space, UINT64_MAX, 0, 0, &mapped));
    EACH(hugebar_dma_map, space, hugebar_dma_map(h, memory, 4096, HUGEBAR_DMA_READ, 0, &mapped));
    NONE(hugebar_dma_map, hugebar_dma_map(space, NULL, 4096, HUGEBAR_DMA_READ, 0, &mapped));
    NONE(hugebar_dma_map, hugebar_dma_map(space, memory, 4096, HUGEBAR_DMA_READ, 0, NULL));
    WRONG(hugebar_dma_map, hugebar_dma_map(space, memory, 4096, 2, 0, &mapped));
    WRONG(hugebar_dma_map, hugebar_dma_map(space, memory, 4095, HUGEBAR_DMA_READ, 0, &mapped));
    EACH(hugebar_dma_map_region, space, hugebar_dma_map_region(h, device, mapping, 0, &mapped));
    EACH(hugebar_dma_map_region, device, hugebar_dma_map_region(space, h, mapping, 0, &mapped));
    EACH(hugebar_dma_map_region, mapping, hugebar_dma_map_region(space, device, h, 0, &mapped));
    NONE(hugebar_dma_map_region, hugebar_dma_map_region(space, device, mapping, 0, NULL));
    /* A mapping of a file. */
    WRONG(hugebar_dma_map_region, hugebar_dma_map_region(space, device, mapping, 0, &mapped));
    TELLS(hugebar_dma_get_info, dma, &info);
    EACH(hugebar_dma_renew, dma, hugebar_dma_renew(h));
    /* It is memory. */
    WRONG(hugebar_dma_renew, hugebar_dma_renew(dma));
    EACH(hugebar_dma_close, dma, hugebar_dma_close(h));
}

static void reports(void)
{
    hugebar_report *made;
    hugebar_summary summary;
    hugebar_reason reason;
    hugebar_installed installed;
    size_t count;

    EACH(hugebar_measure, mapping, hugebar_measure(h, device, 0, &made));
    EACH(hugebar_measure, device, hugebar_measure(mapping, h, 0, &made));
    NONE(hugebar_measure, hugebar_measure(mapping, device, 0, NULL));
    /* A mapping of a file. */
    WRONG(hugebar_measure, hugebar_measure(mapping, device, 0, &made));
    TELLS(hugebar_explain, mapping, &made);
    EACH(hugebar_install, mapping, hugebar_install(h, device, &installed));
    EACH(hugebar_install, device, hugebar_install(mapping, h, &installed));
    NONE(hugebar_install, hugebar_install(mapping, device, NULL));
    EACH(hugebar_report_close, report, hugebar_report_close(h));
    TELLS(hugebar_report_summary, report, &summary);
    TELLS(hugebar_report_reason_count, report, &count);
    TELLS_OF(hugebar_report_reason, report, &reason);
    WRONG(hugebar_verdict_name, hugebar_verdict_name(1000) ? 0 : -1);
    WRONG(hugebar_reason_name, hugebar_reason_name(1000) ? 0 : -1);
}

int main(int argc, char **argv)
{
    int fd = memfd_create("bar", MFD_CLOEXEC);
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (fd < 0 || ftruncate(fd, 4096) || memory == MAP_FAILED)
        return EXIT_FAILURE;
    prepare(argc > 1 ? argv[1] : NULL, fd);
    leaves_and_plans();
    windows_and_mappings(fd);
    words();
    devices(fd);
    configuration();
    resets();
    interrupts_of_a_device(fd);
    dma_memory(memory);
    reports();
    /* What was open still is. */
    OK(hugebar_report_close(report));
    OK(hugebar_mapping_close(mapping));
    OK(hugebar_window_close(window));
    OK(hugebar_plan_close(plan));
    if (device) {
        OK(hugebar_interrupts_close(interrupts));
        OK(hugebar_dma_close(dma));
        OK(hugebar_space_close(space));
        OK(hugebar_device_close(device));
    }
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
