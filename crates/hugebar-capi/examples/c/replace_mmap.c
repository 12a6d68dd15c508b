/* What replaces the mmap in programs that open their devices themselves, as QEMU, libvfn and DPDK do.
 *
 *   cc replace_mmap.c $(pkg-config --cflags --libs hugebar) -o replace_mmap
 *   ./replace_mmap 0000:01:00.0 2
 *
 * Each function gets the device's descriptor, and leaves it to the program. */
#define _DEFAULT_SOURCE
#include <hugebar.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GIB (UINT64_C(1) << 30)

/* libvfn's vfio_pci_map_bar() asks for one pointer to the whole BAR:
 *
 *   return mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, info.offset);
 */
static void *map_whole(int fd, uint32_t bar, hugebar_mapping **mapping)
{
    hugebar_device *device;
    void *base = NULL;

    if (hugebar_device_from_fd(fd, NULL, -1, &device))
        return NULL;
    if (hugebar_map_region(device, bar, NULL, NULL, mapping) == 0)
        hugebar_mapping_base(*mapping, &base);
    /* The mapping does not need it. */
    hugebar_device_close(device);
    return base;
}

/* QEMU's vfio_region_mmap() maps each area that the driver allows, and gives it to KVM as a memory slot:
 *
 *   region->mmaps[i].mmap = mmap(map_align, region->mmaps[i].size, prot, MAP_SHARED | MAP_FIXED, ...);
 *
 * The page that is emulated is left out of the slots only: a hole in the mapping would cost large leaves. */
static int map_for_guest(int fd, uint32_t bar, hugebar_area emulated, hugebar_mapping **mapping,
                         hugebar_slot *slots, size_t room, size_t *count)
{
    hugebar_device *device;
    int error = hugebar_device_from_fd(fd, NULL, -1, &device);

    if (error)
        return error;
    error = hugebar_map_region(device, bar, NULL, NULL, mapping);
    hugebar_device_close(device);
    return error ? error : hugebar_mapping_slots(*mapping, &emulated, 1, slots, room, count);
}

/* DPDK's pci_vfio_mmap_bar() maps at addresses that it has reserved, the same in all of its processes:
 *
 *   map_addr = pci_map_resource(addr, fd, offset, size, MAP_FIXED);
 *
 * The plan says which of them fit. */
static int map_in_range(int fd, uint32_t bar, void *range, size_t size, hugebar_mapping **mapping)
{
    hugebar_device *device;
    hugebar_plan *plan;
    hugebar_window *window;
    int error = hugebar_device_from_fd(fd, NULL, -1, &device);

    if (error)
        return error;
    error = hugebar_plan_of_region(device, bar, NULL, &plan);
    if (error == 0) {
        error = hugebar_window_within(plan, range, size, &window);
        if (error == 0)
            error = hugebar_map_region(device, bar, NULL, window, mapping);
        hugebar_plan_close(plan);
    }
    hugebar_device_close(device);
    return error;
}

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, hugebar_error_message());
    return EXIT_FAILURE;
}

static int show(const char *what, hugebar_mapping *mapping)
{
    hugebar_leaves leaves;
    uint64_t total;

    if (hugebar_mapping_expected(mapping, &leaves) || hugebar_leaves_total(&leaves, &total))
        return failed(what);
    printf("%s: %" PRIu64 " leaves\n", what, total);
    return hugebar_mapping_close(mapping) ? failed(what) : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    hugebar_device *device;
    hugebar_region region;
    hugebar_mapping *mapping;
    hugebar_slot slots[8];
    hugebar_area emulated = {0x6000, 0x1000};
    size_t count;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: %s ADDRESS BAR\n", argv[0]);
        return EXIT_FAILURE;
    }
    uint32_t bar = (uint32_t)strtoul(argv[2], NULL, 0);
    /* Stands for a device that the program has opened. */
    if (hugebar_device_open(argv[1], HUGEBAR_BACKEND_AUTO, &device) || hugebar_device_fd(device, &fd) ||
        hugebar_device_region(device, bar, &region))
        return failed("open");

    if (map_whole(fd, bar, &mapping) == NULL || show("one pointer", mapping))
        return failed("one pointer");

    if (map_for_guest(fd, bar, emulated, &mapping, slots, 8, &count))
        return failed("slots");
    for (size_t i = 0; i < count && i < 8; i++)
        printf("slot of %#" PRIx64 " bytes at %#" PRIx64 "\n", slots[i].size, slots[i].offset);
    if (show("slots", mapping))
        return EXIT_FAILURE;

    size_t size = region.size + GIB;
    void *range = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED || map_in_range(fd, bar, range, size, &mapping))
        return failed("a range of the program's");
    if (show("a range of the program's", mapping) || munmap(range, size))
        return EXIT_FAILURE;
    return hugebar_device_close(device) ? failed("close") : EXIT_SUCCESS;
}
