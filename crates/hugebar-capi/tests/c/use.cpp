// Uses the library from C++: a file in memory in windows of the library and of the program, and, with the address of a
// device whose BAR 2 has several GiB, that BAR, its slots and memory for DMA.
#include "check.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::uint64_t MIB = 1 << 20;

template <typename T, int (*Close)(T *)> struct Closer {
    void operator()(T *handle) const { CHECK(Close(handle) == 0); }
};
template <typename T, int (*Close)(T *)> using Owned = std::unique_ptr<T, Closer<T, Close>>;
using Plan = Owned<hugebar_plan, hugebar_plan_close>;
using Mapping = Owned<hugebar_mapping, hugebar_mapping_close>;
using Device = Owned<hugebar_device, hugebar_device_close>;
using Space = Owned<hugebar_space, hugebar_space_close>;
using Dma = Owned<hugebar_dma, hugebar_dma_close>;
using Report = Owned<hugebar_report, hugebar_report_close>;

// Makes an object by a function whose last argument is the place for its handle.
template <typename Owner, typename Function, typename... Arguments>
Owner make(Function function, Arguments... arguments)
{
    typename Owner::pointer handle = nullptr;
    CHECK(function(arguments..., &handle) == 0);
    return Owner(handle);
}

void computes()
{
    hugebar_leaf_sizes sizes = {3, {4096, 2 * MIB, 1024 * MIB}};
    hugebar_leaves leaves;
    std::uint64_t number;
    CHECK(hugebar_leaves_at(0, 0x1000, 4096 * MIB, &sizes, &leaves) == 0);
    CHECK(leaves.count == 3 && leaves.counts[0] == MIB && leaves.counts[2] == 0);
    CHECK(hugebar_leaves_at(0, 0, 4096 * MIB, &sizes, &leaves) == 0);
    CHECK(leaves.counts[0] == 0 && leaves.counts[1] == 0 && leaves.counts[2] == 4);
    CHECK(hugebar_leaves_total(&leaves, &number) == 0 && number == 4);
    CHECK(hugebar_congruence(0x7f0040000000, 0x80000000, &sizes, &number) == 0 && number == 1024 * MIB);
    CHECK(hugebar_congruence(0x7f0040200000, 0x80000000, &sizes, &number) == 0 && number == 2 * MIB);
    CHECK(hugebar_congruence(0x7f0040000001, 0x80000000, &sizes, &number) == 0 && number == 0);

    hugebar_area hole = {0x6000, 0x1000};
    hugebar_map_options options = {};
    options.holes = &hole;
    options.hole_count = 1;
    auto plan = make<Plan>(hugebar_plan_new, 4096 * MIB, HUGEBAR_PHYS_NATURAL, std::uint64_t(0), &options, &sizes);
    hugebar_shape shape;
    std::size_t count;
    CHECK(hugebar_plan_best(plan.get(), &leaves) == 0 && leaves.counts[2] == 3 && leaves.counts[1] == 511);
    CHECK(hugebar_plan_shape_count(plan.get(), &count) == 0 && count == 1);
    CHECK(hugebar_plan_shape(plan.get(), 0, &shape) == 0);
    CHECK(shape.size == 4096 * MIB && shape.alignment == 1024 * MIB && shape.residue == 0 && shape.offset == 0);
}

template <typename Word, typename Read, typename Write>
void has_words(hugebar_mapping *mapping, Read read, Write write, Word value)
{
    Word seen = 0;
    void *pointer;
    CHECK(write(mapping, 64, value) == 0 && read(mapping, 64, &seen) == 0 && seen == value);
    CHECK(hugebar_mapping_pointer(mapping, 64, sizeof(Word), &pointer) == 0);
    CHECK(*static_cast<volatile Word *>(pointer) == value);
}

void maps_a_file()
{
    const std::uint64_t size = 8 * MIB;
    int fd = memfd_create("bar", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, size) == 0);
    hugebar_area hole = {0x6000, 0x1000};
    hugebar_map_options options = {};
    options.holes = &hole;
    options.hole_count = 1;
    auto plan = make<Plan>(hugebar_plan_new, size, HUGEBAR_PHYS_AT, std::uint64_t(0), &options, nullptr);
    // A window of the library's.
    auto mapping = make<Mapping>(hugebar_map_fd, fd, std::uint64_t(0), plan.get(), nullptr, nullptr);
    void *base;
    std::size_t count;
    bool hinted;
    hugebar_mapped_area area;
    hugebar_leaves leaves;
    CHECK(hugebar_mapping_base(mapping.get(), &base) == 0);
    CHECK(hugebar_mapping_area_count(mapping.get(), &count) == 0 && count == 2);
    CHECK(hugebar_mapping_area(mapping.get(), 1, &area) == 0);
    CHECK(area.offset == 0x7000 && area.size == size - 0x7000);
    CHECK(area.address == static_cast<char *>(base) + 0x7000);
    CHECK(hugebar_mapping_best(mapping.get(), &leaves) == 0);
    CHECK(hugebar_mapping_expected(mapping.get(), &leaves) == 0);
    CHECK(hugebar_mapping_hinted(mapping.get(), &hinted) == 0);
    has_words<std::uint8_t>(mapping.get(), hugebar_read_u8, hugebar_write_u8, 0x12);
    has_words<std::uint16_t>(mapping.get(), hugebar_read_u16, hugebar_write_u16, 0x1234);
    has_words<std::uint32_t>(mapping.get(), hugebar_read_u32, hugebar_write_u32, 0x12345678);
    has_words<std::uint64_t>(mapping.get(), hugebar_read_u64, hugebar_write_u64, 0x123456789abcdef0);
    CHECK(hugebar_write_u32(mapping.get(), 0x6000, 1) == -EINVAL);
    CHECK(std::string(hugebar_error_message()).find("0x6000") != std::string::npos);

    hugebar_area emulated = {0x100000, 0x1000};
    CHECK(hugebar_mapping_slots(mapping.get(), &emulated, 1, nullptr, 0, &count) == 0 && count == 3);
    std::vector<hugebar_slot> slots(count);
    CHECK(hugebar_mapping_slots(mapping.get(), &emulated, 1, slots.data(), slots.size(), &count) == 0);
    CHECK(slots[2].offset == 0x101000 && slots[2].size == size - 0x101000);
    CHECK(slots[2].address == static_cast<char *>(base) + 0x101000);

    // The same addresses again.
    hugebar_window *window;
    CHECK(hugebar_mapping_into_window(mapping.release(), &window) == 0);
    mapping = make<Mapping>(hugebar_map_fd, fd, std::uint64_t(0), plan.get(), nullptr, window);
    void *again;
    CHECK(hugebar_mapping_base(mapping.get(), &again) == 0 && again == base);
    CHECK(hugebar_window_close(window) == -EBADF);

    // Addresses of the program's.
    const std::size_t room = 16 * MIB;
    void *range = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(range != MAP_FAILED);
    hugebar_block block;
    CHECK(hugebar_window_within(plan.get(), range, room, &window) == 0);
    CHECK(hugebar_window_block_count(window, &count) == 0 && count == 1);
    CHECK(hugebar_window_block(window, 0, &block) == 0 && block.size == size);
    CHECK(block.start >= range && static_cast<char *>(block.start) + size <= static_cast<char *>(range) + room);
    options = {};
    options.flags = HUGEBAR_MAP_READ_ONLY;
    auto own = make<Mapping>(hugebar_map_fd, fd, std::uint64_t(0), plan.get(), &options, window);
    std::uint64_t value;
    CHECK(hugebar_mapping_base(own.get(), &base) == 0 && base == block.start);
    CHECK(hugebar_read_u64(own.get(), 64, &value) == 0 && value == 0x123456789abcdef0);
    CHECK(hugebar_write_u64(own.get(), 64, 0) < 0);
    own.reset();
    CHECK(munmap(range, room) == 0);

    // Nothing counts the leaves of a file.
    auto report = make<Report>(hugebar_explain, mapping.get());
    hugebar_summary summary;
    CHECK(hugebar_report_summary(report.get(), &summary) == 0);
    CHECK(summary.verdict == HUGEBAR_VERDICT_UNMEASURED && summary.measured.count == 0 && !summary.populated_by);
    CHECK(hugebar_report_reason_count(report.get(), &count) == 0);
    for (std::size_t i = 0; i < count; i++) {
        hugebar_reason reason;
        CHECK(hugebar_report_reason(report.get(), i, &reason) == 0);
        CHECK(hugebar_reason_name(reason.code) && std::strlen(reason.fact) > 0 && reason.remedy);
    }
    close(fd);
}

void uses_a_device(const char *address)
{
    auto device = make<Device>(hugebar_device_open, address, HUGEBAR_BACKEND_AUTO);
    std::uint32_t number;
    hugebar_region region;
    bool on;
    CHECK(hugebar_device_backend(device.get(), &number) == 0 && number == HUGEBAR_BACKEND_TYPE1);
    CHECK(hugebar_device_region_count(device.get(), &number) == 0 && number > 2);
    CHECK(hugebar_device_region(device.get(), 2, &region) == 0);
    CHECK(region.size % (1024 * MIB) == 0 && region.phys == HUGEBAR_PHYS_AT && (region.flags & HUGEBAR_REGION_MMAP));
    CHECK(hugebar_device_region(device.get(), 5, &region) == -ENOENT);
    CHECK(hugebar_device_memory_decode(device.get(), &on) == 0 && on);
    hugebar_msix msix;
    CHECK(hugebar_device_msix(device.get(), &msix) == -ENOENT);
    hugebar_area area;
    std::size_t count;
    CHECK(hugebar_device_region_areas(device.get(), 2, &area, 1, &count) == 0 && count == 1 && area.offset == 0);

    // In the window of another plan of the same region, and again in the same place without the hole.
    hugebar_area hole = {0x6000, 0x1000};
    hugebar_map_options options = {};
    options.holes = &hole;
    options.hole_count = 1;
    hugebar_window *window;
    auto plan = make<Plan>(hugebar_plan_of_region, device.get(), 2u, &options);
    CHECK(hugebar_window_reserve(plan.get(), &window) == 0);
    auto mapping = make<Mapping>(hugebar_map_region, device.get(), 2u, &options, window);
    CHECK(hugebar_mapping_area_count(mapping.get(), &count) == 0 && count == 2);
    CHECK(hugebar_mapping_into_window(mapping.release(), &window) == 0);
    mapping = make<Mapping>(hugebar_map_region, device.get(), 2u, nullptr, window);

    auto report = make<Report>(hugebar_measure, mapping.get(), device.get(), std::uint64_t(0));
    hugebar_summary summary;
    CHECK(hugebar_report_summary(report.get(), &summary) == 0);
    CHECK(summary.verdict == HUGEBAR_VERDICT_OPTIMAL && summary.complete && summary.measured.counts[2] == 4);
    CHECK(summary.faults == 4 && std::string(summary.populated_by) == "type1");
    hugebar_report *again;
    CHECK(hugebar_measure(mapping.get(), device.get(), 0, &again) == 0);
    CHECK(hugebar_report_summary(again, &summary) == 0);
    CHECK(summary.verdict == HUGEBAR_VERDICT_UNMEASURED && hugebar_report_close(again) == 0);
    hugebar_installed installed;
    CHECK(hugebar_install(mapping.get(), device.get(), &installed) == 0 && installed.faults == 0);

    std::uint32_t seen = 0;
    std::uint8_t bytes[4] = {};
    CHECK(hugebar_write_u32(mapping.get(), 0x1000, 0x12345678) == 0);
    CHECK(hugebar_read_u32(mapping.get(), 0x1000, &seen) == 0);
    CHECK(hugebar_device_region_read(device.get(), 2, 0x1000, bytes, 4) == 0);
    CHECK(std::memcmp(bytes, &seen, 4) == 0);

    auto space = make<Space>(hugebar_device_space, device.get());
    CHECK(hugebar_space_iova_ranges(space.get(), nullptr, 0, &count) == 0 && count > 0);
    auto dma = make<Dma>(hugebar_dma_alloc, space.get(), std::uint64_t(8192), std::uint64_t(0), std::uint64_t(1) << 32);
    hugebar_dma_info info;
    CHECK(hugebar_dma_get_info(dma.get(), &info) == 0 && info.size == 8192 && info.iova < std::uint64_t(1) << 32);
    std::memset(info.address, 0x5a, info.size);
    void *memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    auto own = make<Dma>(hugebar_dma_map, space.get(), memory, std::uint64_t(4096), HUGEBAR_DMA_READ, std::uint64_t(0));
    CHECK(hugebar_dma_get_info(own.get(), &info) == 0 && info.address == memory && info.size == 4096);
    own.reset();
    CHECK(munmap(memory, 4096) == 0);

    // The order of closing is free.
    device.reset();
    space.reset();
    CHECK(hugebar_read_u32(mapping.get(), 0x1000, &seen) == 0);
}

} // namespace

int main(int argc, char **argv)
{
    CHECK(std::string(hugebar_version()) == HUGEBAR_EXPECTED_VERSION);
    computes();
    maps_a_file();
    if (argc > 1)
        uses_a_device(argv[1]);
    std::puts("ok");
}
