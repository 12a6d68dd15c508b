/* A driver for QEMU's teaching device (hw/misc/edu.c): interrupts, memory for its DMA, and the memory of another device
 * (ivshmem-plain, BAR 2), which it reads and writes.
 *
 *   edu 0000:00:11.0 0000:01:00.0 type1|iommufd
 *
 * The second device can be reset. A page of 2 MiB has to be reserved. */
#define _GNU_SOURCE 1
#include "check.h"
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    RAISE = 0x60,
    STATUS = 0x24,
    ACKNOWLEDGE = 0x64,
    SOURCE = 0x80,
    DESTINATION = 0x88,
    COUNT = 0x90,
    COMMAND = 0x98,
    /* Bits of the command. */
    RUN = 1,
    FROM_DEVICE = 2,
    INTERRUPT = 4,
    /* The device's own memory, as its DMA addresses it. QEMU 7.2 ends if a transfer takes its whole page. */
    INSIDE = 0x40000,
    PIECE = 4096 - 8,
    /* Milliseconds that an interrupt may take, and to wait for one that must not come. */
    SOON = 20000,
    NEVER = 50,
};

/* The end of the addresses that the device reaches. */
static const uint64_t REACH = UINT64_C(1) << 28;
static const uint64_t HUGE_PAGE = UINT64_C(2) << 20;

static hugebar_device *device;
static hugebar_mapping *registers;
static hugebar_interrupts *interrupts;

static void set32(uint64_t offset, uint32_t value)
{
    OK(hugebar_write_u32(registers, offset, value));
}

static void set64(uint64_t offset, uint64_t value)
{
    OK(hugebar_write_u64(registers, offset, value));
}

/* How often the interrupt has fired. */
static uint64_t fired(int milliseconds)
{
    uint64_t times;

    OK(hugebar_interrupts_wait(interrupts, 0, milliseconds, &times));
    return times;
}

static void enable(uint32_t kind)
{
    OK(hugebar_interrupts_enable(device, kind, 1, &interrupts));
}

static void identify(void)
{
    hugebar_identity identity;
    uint64_t size;
    uint16_t command, status, offset;
    uint32_t ids;

    OK(hugebar_config_identity(device, &identity));
    CHECK(identity.vendor == 0x1234 && identity.device == 0x11e8 && identity.class_code == 0x00ff00);
    OK(hugebar_config_read_u32(device, PCI_VENDOR_ID, &ids));
    CHECK(ids == 0x11e81234);
    OK(hugebar_config_size(device, &size));
    CHECK(size == 256 || size == 4096);
    OK(hugebar_config_status(device, &status));
    CHECK(status & PCI_STATUS_CAP_LIST);
    OK(hugebar_config_capability(device, PCI_CAP_ID_MSI, &offset));
    CHECK(offset >= PCI_STD_HEADER_SIZEOF);
    CHECK(hugebar_config_capability(device, PCI_CAP_ID_MSIX, &offset) == -ENOENT);
    CHECK(hugebar_config_extended_capability(device, PCI_EXT_CAP_ID_SRIOV, &offset) == -ENOENT);

    OK(hugebar_config_command(device, &command));
    CHECK(!(command & PCI_COMMAND_MASTER) && (command & PCI_COMMAND_MEMORY));
    OK(hugebar_device_set_bus_master(device, true));
    OK(hugebar_config_read_u16(device, PCI_COMMAND, &command));
    CHECK(command & PCI_COMMAND_MASTER);
    OK(hugebar_config_set_command(device, command & ~PCI_COMMAND_MASTER));
    uint16_t changed;
    OK(hugebar_config_command(device, &changed));
    CHECK(changed == (command & ~PCI_COMMAND_MASTER));
    OK(hugebar_config_set_command(device, command));
    OK(hugebar_config_command(device, &changed));
    CHECK(changed == command);
    /* Nothing but this program uses the register of the interrupt line. */
    OK(hugebar_config_write_u8(device, PCI_INTERRUPT_LINE, 7));
    uint8_t line;
    OK(hugebar_config_read_u8(device, PCI_INTERRUPT_LINE, &line));
    CHECK(line == 7);
}

/* The kernel masks INTx when it fires, and it fires again as long as its line is up. */
static void by_line(void)
{
    hugebar_irq_info info;
    hugebar_interrupts *other;

    OK(hugebar_device_irq_info(device, HUGEBAR_IRQ_INTX, &info));
    CHECK(info.count == 1);
    CHECK(info.flags == (HUGEBAR_IRQ_EVENTFD | HUGEBAR_IRQ_MASKABLE | HUGEBAR_IRQ_AUTOMASKED));
    enable(HUGEBAR_IRQ_INTX);
    CHECK(hugebar_interrupts_enable(device, HUGEBAR_IRQ_MSI, 1, &other) == -EBUSY);
    CHECK(fired(0) == 0);
    set32(RAISE, 1);
    CHECK(fired(SOON) == 1);
    set32(RAISE, 1);
    CHECK(fired(NEVER) == 0);
    OK(hugebar_interrupts_unmask(interrupts));
    CHECK(fired(SOON) == 1);
    set32(ACKNOWLEDGE, 1);
    OK(hugebar_interrupts_unmask(interrupts));
    OK(hugebar_interrupts_mask(interrupts));
    set32(RAISE, 1);
    CHECK(fired(NEVER) == 0);
    OK(hugebar_interrupts_unmask(interrupts));
    CHECK(fired(SOON) == 1);
    set32(ACKNOWLEDGE, 1);

    /* The kernel unmasks it when an eventfd is signalled. */
    int ended = eventfd(0, EFD_CLOEXEC);
    CHECK(ended >= 0);
    OK(hugebar_interrupts_unmask_by(interrupts, ended));
    CHECK(hugebar_interrupts_unmask_by(interrupts, ended) == -EBUSY);
    CHECK(eventfd_write(ended, 1) == 0);
    set32(RAISE, 1);
    CHECK(fired(SOON) == 1);
    set32(ACKNOWLEDGE, 1);
    OK(hugebar_interrupts_unmask_by(interrupts, -1));
    CHECK(close(ended) == 0);
    OK(hugebar_interrupts_close(interrupts));
}

static void *waits(void *times)
{
    *(uint64_t *)times = fired(-1);
    return NULL;
}

static void by_message(void)
{
    enable(HUGEBAR_IRQ_MSI);
    CHECK(hugebar_interrupts_mask(interrupts) == -ENOTSUP);
    CHECK(hugebar_interrupts_trigger(interrupts, 1) == -EINVAL);
    OK(hugebar_interrupts_trigger(interrupts, 0));
    CHECK(fired(0) == 1);

    /* While a thread waits, the interrupts can be neither changed nor disabled. */
    pthread_t thread;
    uint64_t times = 0;
    CHECK(pthread_create(&thread, NULL, waits, &times) == 0);
    int refused;
    do
        refused = hugebar_interrupts_add(interrupts, 0);
    while (refused == 0);
    CHECK(refused == -EBUSY);
    CHECK(hugebar_interrupts_set(interrupts, 0, -1) == -EBUSY);
    CHECK(hugebar_interrupts_close(interrupts) == -EBUSY);
    set32(RAISE, 1);
    CHECK(pthread_join(thread, NULL) == 0 && times == 1);
    set32(ACKNOWLEDGE, 1);

    /* An eventfd of the program's in place of the library's, and none. */
    int own = eventfd(0, EFD_CLOEXEC), fd;
    eventfd_t value;
    CHECK(own >= 0);
    OK(hugebar_interrupts_set(interrupts, 0, own));
    CHECK(hugebar_interrupts_fd(interrupts, 0, &fd) == -EINVAL);
    set32(RAISE, 1);
    CHECK(eventfd_read(own, &value) == 0 && value == 1);
    set32(ACKNOWLEDGE, 1);
    OK(hugebar_interrupts_set(interrupts, 0, -1));
    CHECK(hugebar_interrupts_trigger(interrupts, 0) == -EINVAL);
    OK(hugebar_interrupts_close(interrupts));
    /* From the start, with the vector left out, until it is added. */
    const int none = -1;
    OK(hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_MSI, &none, 1, &interrupts));
    OK(hugebar_interrupts_add(interrupts, 0));
    OK(hugebar_interrupts_fd(interrupts, 0, &fd));
    set32(RAISE, 1);
    CHECK(fired(SOON) == 1);
    set32(ACKNOWLEDGE, 1);
    OK(hugebar_interrupts_close(interrupts));
    OK(hugebar_interrupts_enable_with(device, HUGEBAR_IRQ_MSI, &own, 1, &interrupts));
    OK(hugebar_interrupts_trigger(interrupts, 0));
    CHECK(eventfd_read(own, &value) == 0 && value == 1);
    OK(hugebar_interrupts_close(interrupts));
    CHECK(close(own) == 0);
}

/* Has the device move a piece; it sends a message when it is done. */
static void transfer(uint64_t from, uint64_t to, uint32_t direction)
{
    uint32_t causes;

    set64(SOURCE, from);
    set64(DESTINATION, to);
    set64(COUNT, PIECE);
    hugebar_dma_wmb();
    set64(COMMAND, RUN | INTERRUPT | direction);
    CHECK(fired(SOON) == 1);
    OK(hugebar_read_u32(registers, STATUS, &causes));
    set32(ACKNOWLEDGE, causes);
    hugebar_dma_rmb();
}

/* Has the device copy a piece from one I/O address to another. */
static void copy(uint64_t from, uint64_t to)
{
    transfer(from, INSIDE, 0);
    transfer(INSIDE, to, FROM_DEVICE);
}

/* Another pattern for each seed. */
static void fill(uint8_t *bytes, unsigned seed)
{
    for (unsigned i = 0; i < PIECE; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8) + seed);
}

static unsigned long free_huge_pages(void)
{
    unsigned long pages;
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");

    CHECK(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return pages;
}

/* A buffer in huge pages: a piece goes from its first page to its last one. */
static void through_memory(hugebar_space *space)
{
    hugebar_dma *dma;
    hugebar_dma_info info;
    unsigned long before = free_huge_pages();

    OK(hugebar_dma_alloc(space, HUGE_PAGE, HUGE_PAGE, REACH, &dma));
    OK(hugebar_dma_get_info(dma, &info));
    CHECK(free_huge_pages() + 1 == before);
    CHECK(info.size == HUGE_PAGE && info.iova + info.size <= REACH && (uintptr_t)info.address % HUGE_PAGE == 0);
    uint8_t *bytes = info.address, *last = bytes + HUGE_PAGE - 4096;
    fill(bytes, 1);
    memset(last, 0xa5, 4096);
    copy(info.iova, info.iova + HUGE_PAGE - 4096);
    CHECK(memcmp(bytes, last, PIECE) == 0);
    for (unsigned i = PIECE; i < 4096; i++)
        CHECK(last[i] == 0xa5);
    CHECK(hugebar_dma_renew(dma) == -ENOTSUP);
    OK(hugebar_dma_close(dma));
    CHECK(free_huge_pages() == before);

    /* And back, in memory of the program's own. */
    void *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    OK(hugebar_dma_map(space, memory, 8192, HUGEBAR_DMA_READ_WRITE, REACH, &dma));
    OK(hugebar_dma_get_info(dma, &info));
    CHECK(info.address == memory);
    bytes = memory;
    transfer(INSIDE, info.iova + 4096, FROM_DEVICE);
    fill(bytes, 1);
    CHECK(memcmp(bytes, bytes + 4096, PIECE) == 0);
    OK(hugebar_dma_close(dma));
    CHECK(munmap(memory, 8192) == 0);
}

/* A piece goes to the other device and back. */
static void there_and_back(hugebar_mapping *bar, const hugebar_dma_info *buffer, uint64_t peer, unsigned seed)
{
    const uint64_t place = 0x3000;
    uint8_t *bytes = buffer->address, seen;

    fill(bytes, seed);
    copy(buffer->iova, peer + place);
    for (unsigned i = 0; i < PIECE; i++) {
        OK(hugebar_read_u8(bar, place + i, &seen));
        CHECK(seen == bytes[i]);
    }
    bytes[77] = (uint8_t)~bytes[77];
    OK(hugebar_write_u8(bar, place + 77, bytes[77]));
    copy(peer + place, buffer->iova + 4096);
    CHECK(memcmp(bytes, bytes + 4096, PIECE) == 0);
}

static void through_the_other(hugebar_space *space, hugebar_device *other, bool by_iommufd)
{
    hugebar_mapping *bar;
    hugebar_dma *memory, *peer;
    hugebar_dma_info buffer, info;
    hugebar_region region;
    uint16_t command;
    bool can;

    OK(hugebar_device_region(other, 2, &region));
    OK(hugebar_map_region(other, 2, NULL, NULL, &bar));
    OK(hugebar_dma_alloc(space, 8192, 0, REACH, &memory));
    OK(hugebar_dma_get_info(memory, &buffer));
    OK(hugebar_dma_map_region(space, other, bar, REACH, &peer));
    OK(hugebar_dma_get_info(peer, &info));
    CHECK(info.size == region.size && info.address == NULL && info.iova + info.size <= REACH);
    there_and_back(bar, &buffer, info.iova, 3);

    OK(hugebar_device_can_reset(other, &can));
    CHECK(can);
    OK(hugebar_device_reset(other));
    OK(hugebar_dma_renew(peer));
    there_and_back(bar, &buffer, info.iova, 5);

    /* Without memory decode an iommufd loses it. */
    OK(hugebar_config_command(other, &command));
    OK(hugebar_config_set_command(other, command & (uint16_t)~PCI_COMMAND_MEMORY));
    OK(hugebar_device_memory_decode(other, &can));
    CHECK(!can && hugebar_dma_renew(peer) == (by_iommufd ? -ENODEV : 0));
    OK(hugebar_config_set_command(other, command));
    OK(hugebar_dma_renew(peer));
    there_and_back(bar, &buffer, info.iova, 9);
    OK(hugebar_dma_close(peer));
    OK(hugebar_dma_close(memory));
    OK(hugebar_mapping_close(bar));
}

int main(int argc, char **argv)
{
    hugebar_device *other;
    hugebar_space *space;
    uint32_t backend, by;

    CHECK(argc == 4);
    backend = strcmp(argv[3], "iommufd") ? HUGEBAR_BACKEND_TYPE1 : HUGEBAR_BACKEND_IOMMUFD;
    OK(hugebar_device_open(argv[1], backend, &device));
    OK(hugebar_device_backend(device, &by));
    CHECK(by == backend);
    OK(hugebar_device_open_beside(argv[2], device, &other));
    OK(hugebar_device_backend(other, &by));
    CHECK(by == backend);
    OK(hugebar_device_space(device, &space));
    OK(hugebar_map_region(device, 0, NULL, NULL, &registers));

    identify();
    by_line();
    by_message();
    enable(HUGEBAR_IRQ_MSI);
    through_memory(space);
    through_the_other(space, other, backend == HUGEBAR_BACKEND_IOMMUFD);

    /* The interrupts keep the device open. */
    OK(hugebar_device_close(device));
    set32(RAISE, 1);
    CHECK(fired(SOON) == 1);
    set32(ACKNOWLEDGE, 1);
    OK(hugebar_interrupts_close(interrupts));
    OK(hugebar_mapping_close(registers));
    OK(hugebar_space_close(space));
    OK(hugebar_device_close(other));
    puts("ok");
    return EXIT_SUCCESS;
}
