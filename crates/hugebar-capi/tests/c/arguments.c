/* Calls every function with NULL, with handles that are none, and with closed handles: each must return an error.
 *
 * Prints a line for each call: function, the handle's kind (or -), what was wrong, and the result. With the address of a
 * device, the handles of devices are real ones that were closed. lab/tests/capi.rs checks that no function is missing. */
#define _GNU_SOURCE 1
#include <hugebar.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int failures;

static void report(const char *function, const char *kind, const char *what, int result)
{
    printf("%s %s %s %d\n", function, kind, what, result);
    if (result >= 0 || hugebar_error_message()[0] == '\0')
        failures++;
}

static void need(const char *what, int result)
{
    if (result) {
        fprintf(stderr, "%s: %d, %s\n", what, result, hugebar_error_message());
        exit(EXIT_FAILURE);
    }
}

/* Open and closed handles. Without a device, those of its kinds are of another kind. */
static hugebar_plan *plan, *closed_plan;
static hugebar_window *window, *closed_window;
static hugebar_mapping *mapping, *closed_mapping;
static hugebar_report *found, *closed_report;
static hugebar_device *device, *closed_device;
static hugebar_space *space, *closed_space;
static hugebar_dma *dma, *closed_dma;

/* Calls a function with each wrong handle `h` of a kind. */
#define EACH(function, kind, call)                              \
    do {                                                        \
        hugebar_##kind *h = NULL;                               \
        report(#function, #kind, "null", call);                 \
        h = (hugebar_##kind *)(void *)&failures;                \
        report(#function, #kind, "bad", call);                  \
        h = (hugebar_##kind *)(void *)other_than(#kind);        \
        report(#function, #kind, "bad", call);                  \
        h = (hugebar_##kind *)UINTPTR_MAX;                      \
        report(#function, #kind, "bad", call);                  \
        h = closed_##kind;                                      \
        report(#function, #kind, "closed", call);               \
    } while (0)

/* Calls a function with NULL for a result, a text, or an array with elements. */
#define NONE(function, call) report(#function, "-", "null", call)
/* Calls a function with a wrong number. */
#define WRONG(function, call) report(#function, "-", "bad", call)

static void *other_than(const char *kind)
{
    return strcmp(kind, "plan") ? (void *)plan : (void *)mapping;
}

static void prepare(const char *address, int fd)
{
    int own;

    need("plan", hugebar_plan_new(4096, HUGEBAR_PHYS_AT, 0, NULL, NULL, &plan));
    need("window", hugebar_window_reserve(plan, &window));
    need("mapping", hugebar_map_fd(fd, 0, plan, NULL, NULL, &mapping));
    need("report", hugebar_explain(mapping, &found));
    need("plan", hugebar_plan_new(4096, HUGEBAR_PHYS_AT, 0, NULL, NULL, &closed_plan));
    need("window", hugebar_window_reserve(plan, &closed_window));
    need("mapping", hugebar_map_fd(fd, 0, plan, NULL, NULL, &closed_mapping));
    need("report", hugebar_explain(mapping, &closed_report));
    if (address) {
        need("device", hugebar_device_open(address, HUGEBAR_BACKEND_AUTO, &device));
        need("space", hugebar_device_space(device, &space));
        need("dma", hugebar_dma_alloc(space, 4096, 0, 0, &dma));
        need("fd", hugebar_device_fd(device, &own));
        need("device", hugebar_device_from_fd(own, address, -1, &closed_device));
        need("space", hugebar_device_space(device, &closed_space));
        need("dma", hugebar_dma_alloc(space, 4096, 0, 0, &closed_dma));
        need("close", hugebar_device_close(closed_device));
        need("close", hugebar_space_close(closed_space));
        need("close", hugebar_dma_close(closed_dma));
    } else {
        closed_device = (hugebar_device *)(void *)closed_plan;
        closed_space = (hugebar_space *)(void *)closed_plan;
        closed_dma = (hugebar_dma *)(void *)closed_plan;
    }
    need("close", hugebar_report_close(closed_report));
    need("close", hugebar_mapping_close(closed_mapping));
    need("close", hugebar_window_close(closed_window));
    need("close", hugebar_plan_close(closed_plan));
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
    need("sizes", hugebar_machine_leaf_sizes(&sizes));

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
    EACH(hugebar_plan_best, plan, hugebar_plan_best(h, &leaves));
    NONE(hugebar_plan_best, hugebar_plan_best(plan, NULL));
    EACH(hugebar_plan_shape_count, plan, hugebar_plan_shape_count(h, &count));
    NONE(hugebar_plan_shape_count, hugebar_plan_shape_count(plan, NULL));
    EACH(hugebar_plan_shape, plan, hugebar_plan_shape(h, 0, &shape));
    NONE(hugebar_plan_shape, hugebar_plan_shape(plan, 0, NULL));
    WRONG(hugebar_plan_shape, hugebar_plan_shape(plan, 1, &shape));
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

    EACH(hugebar_window_reserve, plan, hugebar_window_reserve(h, &made));
    NONE(hugebar_window_reserve, hugebar_window_reserve(plan, NULL));
    EACH(hugebar_window_within, plan, hugebar_window_within(h, (void *)4096, 4096, &made));
    NONE(hugebar_window_within, hugebar_window_within(plan, NULL, 4096, &made));
    NONE(hugebar_window_within, hugebar_window_within(plan, (void *)4096, 4096, NULL));
    WRONG(hugebar_window_within, hugebar_window_within(plan, (void *)4097, 4096, &made));
    EACH(hugebar_window_close, window, hugebar_window_close(h));
    EACH(hugebar_window_alignment, window, hugebar_window_alignment(h, &number));
    NONE(hugebar_window_alignment, hugebar_window_alignment(window, NULL));
    EACH(hugebar_window_block_count, window, hugebar_window_block_count(h, &count));
    NONE(hugebar_window_block_count, hugebar_window_block_count(window, NULL));
    EACH(hugebar_window_block, window, hugebar_window_block(h, 0, &block));
    NONE(hugebar_window_block, hugebar_window_block(window, 0, NULL));
    WRONG(hugebar_window_block, hugebar_window_block(window, 1, &block));

    EACH(hugebar_map_region, device, hugebar_map_region(h, 2, NULL, NULL, &mapped));
    /* NULL stands for a new window. */
    report("hugebar_map_region", "window", "null", hugebar_map_region(NULL, 2, NULL, NULL, &mapped));
    report("hugebar_map_region", "window", "bad",
           hugebar_map_region(device, 2, NULL, (hugebar_window *)(void *)mapping, &mapped));
    report("hugebar_map_region", "window", "closed", hugebar_map_region(device, 2, NULL, closed_window, &mapped));
    NONE(hugebar_map_region, hugebar_map_region(device, 2, NULL, window, NULL));
    EACH(hugebar_map_fd, plan, hugebar_map_fd(fd, 0, h, NULL, NULL, &mapped));
    report("hugebar_map_fd", "window", "null", hugebar_map_fd(fd, 0, NULL, NULL, NULL, &mapped));
    report("hugebar_map_fd", "window", "bad",
           hugebar_map_fd(fd, 0, plan, NULL, (hugebar_window *)(void *)mapping, &mapped));
    report("hugebar_map_fd", "window", "closed", hugebar_map_fd(fd, 0, plan, NULL, closed_window, &mapped));
    NONE(hugebar_map_fd, hugebar_map_fd(fd, 0, plan, NULL, window, NULL));
    WRONG(hugebar_map_fd, hugebar_map_fd(-1, 0, plan, NULL, NULL, &mapped));
    WRONG(hugebar_map_fd, hugebar_map_fd(1000000, 0, plan, NULL, NULL, &mapped));
    WRONG(hugebar_map_fd, hugebar_map_fd(fd, 1, plan, NULL, NULL, &mapped));
    /* All of them have left the window open. */
    need("alignment", hugebar_window_alignment(window, &number));

    EACH(hugebar_mapping_close, mapping, hugebar_mapping_close(h));
    EACH(hugebar_mapping_into_window, mapping, hugebar_mapping_into_window(h, &made));
    NONE(hugebar_mapping_into_window, hugebar_mapping_into_window(mapping, NULL));
    EACH(hugebar_mapping_base, mapping, hugebar_mapping_base(h, &pointer));
    NONE(hugebar_mapping_base, hugebar_mapping_base(mapping, NULL));
    EACH(hugebar_mapping_pointer, mapping, hugebar_mapping_pointer(h, 0, 4, &pointer));
    NONE(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, 0, 4, NULL));
    WRONG(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, 4093, 4, &pointer));
    WRONG(hugebar_mapping_pointer, hugebar_mapping_pointer(mapping, UINT64_MAX, 4, &pointer));
    EACH(hugebar_mapping_area_count, mapping, hugebar_mapping_area_count(h, &count));
    NONE(hugebar_mapping_area_count, hugebar_mapping_area_count(mapping, NULL));
    EACH(hugebar_mapping_area, mapping, hugebar_mapping_area(h, 0, &area));
    NONE(hugebar_mapping_area, hugebar_mapping_area(mapping, 0, NULL));
    WRONG(hugebar_mapping_area, hugebar_mapping_area(mapping, 1, &area));
    EACH(hugebar_mapping_alignment, mapping, hugebar_mapping_alignment(h, &number));
    NONE(hugebar_mapping_alignment, hugebar_mapping_alignment(mapping, NULL));
    EACH(hugebar_mapping_hinted, mapping, hugebar_mapping_hinted(h, &yes));
    NONE(hugebar_mapping_hinted, hugebar_mapping_hinted(mapping, NULL));
    EACH(hugebar_mapping_best, mapping, hugebar_mapping_best(h, &leaves));
    NONE(hugebar_mapping_best, hugebar_mapping_best(mapping, NULL));
    EACH(hugebar_mapping_expected, mapping, hugebar_mapping_expected(h, &leaves));
    NONE(hugebar_mapping_expected, hugebar_mapping_expected(mapping, NULL));
    EACH(hugebar_mapping_slots, mapping, hugebar_mapping_slots(h, NULL, 0, &slot, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 1, &slot, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 0, NULL, 1, &count));
    NONE(hugebar_mapping_slots, hugebar_mapping_slots(mapping, NULL, 0, &slot, 1, NULL));
    WRONG(hugebar_mapping_slots, hugebar_mapping_slots(mapping, &outside, 1, &slot, 1, &count));
}

static void words(void)
{
    uint8_t v8;
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;

    EACH(hugebar_read_u8, mapping, hugebar_read_u8(h, 0, &v8));
    NONE(hugebar_read_u8, hugebar_read_u8(mapping, 0, NULL));
    WRONG(hugebar_read_u8, hugebar_read_u8(mapping, 4096, &v8));
    EACH(hugebar_read_u16, mapping, hugebar_read_u16(h, 0, &v16));
    NONE(hugebar_read_u16, hugebar_read_u16(mapping, 0, NULL));
    WRONG(hugebar_read_u16, hugebar_read_u16(mapping, 1, &v16));
    EACH(hugebar_read_u32, mapping, hugebar_read_u32(h, 0, &v32));
    NONE(hugebar_read_u32, hugebar_read_u32(mapping, 0, NULL));
    WRONG(hugebar_read_u32, hugebar_read_u32(mapping, 2, &v32));
    EACH(hugebar_read_u64, mapping, hugebar_read_u64(h, 0, &v64));
    NONE(hugebar_read_u64, hugebar_read_u64(mapping, 0, NULL));
    WRONG(hugebar_read_u64, hugebar_read_u64(mapping, UINT64_MAX - 7, &v64));
    EACH(hugebar_write_u8, mapping, hugebar_write_u8(h, 0, 1));
    WRONG(hugebar_write_u8, hugebar_write_u8(mapping, 4096, 1));
    EACH(hugebar_write_u16, mapping, hugebar_write_u16(h, 0, 1));
    WRONG(hugebar_write_u16, hugebar_write_u16(mapping, 4095, 1));
    EACH(hugebar_write_u32, mapping, hugebar_write_u32(h, 0, 1));
    WRONG(hugebar_write_u32, hugebar_write_u32(mapping, 4094, 1));
    EACH(hugebar_write_u64, mapping, hugebar_write_u64(h, 0, 1));
    WRONG(hugebar_write_u64, hugebar_write_u64(mapping, 4, 1));
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
    bool on;
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
    EACH(hugebar_device_fd, device, hugebar_device_fd(h, &own));
    NONE(hugebar_device_fd, hugebar_device_fd(device, NULL));
    EACH(hugebar_device_backend, device, hugebar_device_backend(h, &number));
    NONE(hugebar_device_backend, hugebar_device_backend(device, NULL));
    EACH(hugebar_device_region_count, device, hugebar_device_region_count(h, &number));
    NONE(hugebar_device_region_count, hugebar_device_region_count(device, NULL));
    EACH(hugebar_device_region, device, hugebar_device_region(h, 2, &region));
    NONE(hugebar_device_region, hugebar_device_region(device, 2, NULL));
    WRONG(hugebar_device_region, hugebar_device_region(device, 1000, &region));
    EACH(hugebar_device_region_areas, device, hugebar_device_region_areas(h, 2, &area, 1, &count));
    NONE(hugebar_device_region_areas, hugebar_device_region_areas(device, 2, NULL, 1, &count));
    NONE(hugebar_device_region_areas, hugebar_device_region_areas(device, 2, &area, 1, NULL));
    EACH(hugebar_device_msix, device, hugebar_device_msix(h, &msix));
    NONE(hugebar_device_msix, hugebar_device_msix(device, NULL));
    EACH(hugebar_device_region_read, device, hugebar_device_region_read(h, 2, 0, bytes, 4));
    NONE(hugebar_device_region_read, hugebar_device_region_read(device, 2, 0, NULL, 4));
    WRONG(hugebar_device_region_read, hugebar_device_region_read(device, 2, UINT64_MAX, bytes, 4));
    EACH(hugebar_device_region_write, device, hugebar_device_region_write(h, 2, 0, bytes, 4));
    NONE(hugebar_device_region_write, hugebar_device_region_write(device, 2, 0, NULL, 4));
    WRONG(hugebar_device_region_write, hugebar_device_region_write(device, 2, UINT64_MAX, bytes, 4));
    EACH(hugebar_device_reset, device, hugebar_device_reset(h));
    EACH(hugebar_device_set_bus_master, device, hugebar_device_set_bus_master(h, true));
    EACH(hugebar_device_memory_decode, device, hugebar_device_memory_decode(h, &on));
    NONE(hugebar_device_memory_decode, hugebar_device_memory_decode(device, NULL));
}

static void dma_memory(void *memory)
{
    hugebar_space *made;
    hugebar_dma *mapped;
    hugebar_dma_info info;
    hugebar_iova_range range;
    size_t count;

    EACH(hugebar_device_space, device, hugebar_device_space(h, &made));
    NONE(hugebar_device_space, hugebar_device_space(device, NULL));
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
    EACH(hugebar_dma_get_info, dma, hugebar_dma_get_info(h, &info));
    NONE(hugebar_dma_get_info, hugebar_dma_get_info(dma, NULL));
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
    EACH(hugebar_explain, mapping, hugebar_explain(h, &made));
    NONE(hugebar_explain, hugebar_explain(mapping, NULL));
    EACH(hugebar_install, mapping, hugebar_install(h, device, &installed));
    EACH(hugebar_install, device, hugebar_install(mapping, h, &installed));
    NONE(hugebar_install, hugebar_install(mapping, device, NULL));
    EACH(hugebar_report_close, report, hugebar_report_close(h));
    EACH(hugebar_report_summary, report, hugebar_report_summary(h, &summary));
    NONE(hugebar_report_summary, hugebar_report_summary(found, NULL));
    EACH(hugebar_report_reason_count, report, hugebar_report_reason_count(h, &count));
    NONE(hugebar_report_reason_count, hugebar_report_reason_count(found, NULL));
    EACH(hugebar_report_reason, report, hugebar_report_reason(h, 0, &reason));
    NONE(hugebar_report_reason, hugebar_report_reason(found, 0, NULL));
    WRONG(hugebar_report_reason, hugebar_report_reason(found, 1000, &reason));
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
    dma_memory(memory);
    reports();
    /* What was open still is. */
    need("close", hugebar_report_close(found));
    need("close", hugebar_mapping_close(mapping));
    need("close", hugebar_window_close(window));
    need("close", hugebar_plan_close(plan));
    if (device) {
        need("close", hugebar_dma_close(dma));
        need("close", hugebar_space_close(space));
        need("close", hugebar_device_close(device));
    }
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
