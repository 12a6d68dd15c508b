/* A network card (e1000e): its capabilities, interrupts by MSI-X, and a reset of its whole bus.
 *
 *   card 0000:02:00.0 0000:02:00.1 type1|iommufd
 *
 * The second device is on the same bus. */
#define _GNU_SOURCE 1
#include "check.h"
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* hw/net/e1000_regs.h: causes, which of them interrupt, and their vectors. A link change is one of the other causes. */
enum { ICR = 0xc0, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, IVAR = 0xe4, OTHER = 1 << 24 | 1 << 2, VALID = 8, SHIFT = 16 };

static hugebar_device *card;
static hugebar_mapping *registers;

static void set(uint64_t offset, uint32_t value)
{
    OK(hugebar_write_u32(registers, offset, value));
}

static uint32_t get(uint64_t offset)
{
    uint32_t value;

    OK(hugebar_read_u32(registers, offset, &value));
    return value;
}

static void capabilities(void)
{
    uint16_t offset, header;
    uint64_t size;

    OK(hugebar_config_capability(card, PCI_CAP_ID_EXP, &offset));
    OK(hugebar_config_read_u16(card, offset, &header));
    CHECK((header & 0xff) == PCI_CAP_ID_EXP);
    OK(hugebar_config_size(card, &size));
    CHECK(size == 4096);
    OK(hugebar_config_extended_capability(card, PCI_EXT_CAP_ID_ERR, &offset));
    CHECK(offset >= 256);
    OK(hugebar_config_read_u16(card, offset, &header));
    CHECK(header == PCI_EXT_CAP_ID_ERR);
}

/* How often a vector has fired, by its eventfd alone. */
static eventfd_t times(const hugebar_interrupts *interrupts, uint32_t vector, int milliseconds)
{
    struct pollfd polled = {.events = POLLIN};
    eventfd_t value = 0;

    OK(hugebar_interrupts_fd(interrupts, vector, &polled.fd));
    if (poll(&polled, 1, milliseconds) == 1)
        CHECK(eventfd_read(polled.fd, &value) == 0);
    return value;
}

static void vectors(void)
{
    hugebar_irq_info info;
    hugebar_msix table;
    hugebar_interrupts *interrupts, *too_many;

    OK(hugebar_device_irq_info(card, HUGEBAR_IRQ_MSIX, &info));
    OK(hugebar_device_msix(card, &table));
    CHECK(info.count == table.vectors && info.count >= 4);
    CHECK(hugebar_interrupts_enable(card, HUGEBAR_IRQ_MSIX, info.count + 1, &too_many) == -ENOTSUP);
    OK(hugebar_interrupts_enable(card, HUGEBAR_IRQ_MSIX, 3, &interrupts));
    OK(hugebar_interrupts_trigger(interrupts, 0));
    CHECK(times(interrupts, 0, 0) == 1 && times(interrupts, 1, 0) == 0 && times(interrupts, 2, 0) == 0);

    /* Interrupts of the card itself, by vector 2. First clear what an earlier program has left. */
    set(IMC, UINT32_MAX);
    set(ICR, UINT32_MAX);
    set(IVAR, (2u | VALID) << SHIFT);
    set(IMS, OTHER);
    for (int i = 0; i < 2; i++) {
        set(ICS, OTHER);
        CHECK(times(interrupts, 2, 20000) == 1);
        set(ICR, OTHER);
        CHECK(!(get(ICR) & OTHER));
    }
    CHECK(times(interrupts, 0, 0) == 0 && times(interrupts, 1, 0) == 0);
    /* QEMU 7.2 ends if MSI-X is disabled while the card delays further interrupts. */
    usleep(50000);

    if (info.flags & HUGEBAR_IRQ_NORESIZE) {
        CHECK(hugebar_interrupts_add(interrupts, 3) == -ENOTSUP);
    } else {
        OK(hugebar_interrupts_add(interrupts, 3));
        set(IVAR, (3u | VALID) << SHIFT);
        set(ICS, OTHER);
        CHECK(times(interrupts, 3, 20000) == 1);
        usleep(50000);
    }
    printf("vectors can be added: %s\n", info.flags & HUGEBAR_IRQ_NORESIZE ? "no" : "yes");
    set(IMC, UINT32_MAX);
    OK(hugebar_interrupts_close(interrupts));
}

static void resets(const char *beside)
{
    hugebar_device *other;
    hugebar_affected affected[3];
    size_t count;

    OK(hugebar_device_hot_reset_info(card, affected, 3, &count));
    CHECK(count == 2 && affected[0].function == 0 && affected[1].function == 1);
    CHECK(affected[0].bus == 2 && affected[1].bus == 2 && affected[0].domain == 0);
    OK(hugebar_device_open_beside(beside, card, &other));
    OK(hugebar_device_hot_reset_info(card, affected, 3, &count));
    uint32_t backend;
    OK(hugebar_device_backend(card, &backend));
    if (backend == HUGEBAR_BACKEND_IOMMUFD)
        CHECK(affected[1].owned && affected[1].group == HUGEBAR_NO_GROUP);
    else
        CHECK(!affected[1].owned && affected[1].group != HUGEBAR_NO_GROUP);
    /* What else is open, or in another group, has to be named. */
    if (backend == HUGEBAR_BACKEND_IOMMUFD || affected[0].group != affected[1].group) {
        CHECK(hugebar_device_hot_reset(card, NULL, 0) == -EBUSY);
        CHECK(strstr(hugebar_error_message(), beside));
    }
    set(IVAR, (2u | VALID) << SHIFT);
    CHECK(get(IVAR) == (2u | VALID) << SHIFT);
    const hugebar_device *others[] = {other};
    OK(hugebar_device_hot_reset(card, others, 1));
    CHECK(get(IVAR) == 0);
    /* A device that other code has opened: only that code knows the groups. */
    hugebar_device *foreign;
    int fd;
    OK(hugebar_device_fd(card, &fd));
    OK(hugebar_device_from_fd(fd, NULL, -1, &foreign));
    CHECK(hugebar_device_hot_reset(foreign, NULL, 0) == -EINVAL);
    if (backend == HUGEBAR_BACKEND_IOMMUFD) {
        set(IVAR, (2u | VALID) << SHIFT);
        OK(hugebar_device_hot_reset_by_groups(foreign, NULL, 0));
        CHECK(get(IVAR) == 0);
    }
    OK(hugebar_device_close(foreign));
    OK(hugebar_device_close(other));
}

int main(int argc, char **argv)
{
    uint32_t backend;

    CHECK(argc == 4);
    backend = strcmp(argv[3], "iommufd") ? HUGEBAR_BACKEND_TYPE1 : HUGEBAR_BACKEND_IOMMUFD;
    OK(hugebar_device_open(argv[1], backend, &card));
    OK(hugebar_device_set_bus_master(card, true));
    OK(hugebar_map_region(card, 0, NULL, NULL, &registers));
    capabilities();
    vectors();
    resets(argv[2]);
    OK(hugebar_mapping_close(registers));
    OK(hugebar_device_close(card));
    puts("ok");
    return EXIT_SUCCESS;
}
