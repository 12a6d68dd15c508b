// Makes BAR 2 of several devices present by VFIO's type1 and nothing else: one DMA map and unmap of one page for each GiB,
// in each round after memory decode was off. Prints the nanoseconds of each round.
//
//   present ROUNDS 0000:00:10.0 ...
#include "vfio.h"
#include <sys/mman.h>
#include <time.h>

enum { BAR = 2, DEVICES = 16, PAGE = 4096, COMMAND = 4, MEMORY = 2 };
static const uint64_t GIB = 1ull << 30, IOVA = 1ull << 40;

struct device {
	int container, file;
	char *bar;
	uint64_t size, config;
};

static void open_device(struct device *device, const char *address)
{
	device->file = open_by_group(address, &device->container);
	device->config = region_of(device->file, VFIO_PCI_CONFIG_REGION_INDEX).offset;
	struct vfio_region_info bar = region_of(device->file, BAR);
	device->size = bar.size;
	char *room = mmap(NULL, bar.size + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(room != MAP_FAILED, "mmap");
	char *start = (char *)(((uintptr_t)room + GIB - 1) & ~(GIB - 1));
	device->bar = mmap(start, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, device->file, bar.offset);
	check(device->bar == start, "mmap");
	check(!madvise(start, bar.size, MADV_HUGEPAGE), "madvise");
}

static void set_decode(struct device *device, int on)
{
	uint16_t command;
	off_t place = device->config + COMMAND;
	check(pread(device->file, &command, 2, place) == 2, "pread");
	command = on ? command | MEMORY : command & ~MEMORY;
	check(pwrite(device->file, &command, 2, place) == 2, "pwrite");
}

static void present(struct device *device)
{
	for (uint64_t offset = 0; offset < device->size; offset += GIB) {
		map_for_dma(device->container, device->bar + offset, IOVA, PAGE);
		struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof unmap, .iova = IOVA, .size = PAGE };
		check(!ioctl(device->container, VFIO_IOMMU_UNMAP_DMA, &unmap), "VFIO_IOMMU_UNMAP_DMA");
	}
}

int main(int count, char **words)
{
	check(count > 2 && count - 2 <= DEVICES, "present ROUNDS DEVICE ...");
	static struct device devices[DEVICES];
	int number = count - 2, rounds = atoi(words[1]);
	for (int index = 0; index < number; index++)
		open_device(&devices[index], words[index + 2]);
	// The first round warms up.
	for (int round = 0; round <= rounds; round++) {
		struct timespec begin, end;
		clock_gettime(CLOCK_MONOTONIC, &begin);
		for (int index = 0; index < number; index++)
			present(&devices[index]);
		clock_gettime(CLOCK_MONOTONIC, &end);
		long long took = (end.tv_sec - begin.tv_sec) * 1000000000ll + end.tv_nsec - begin.tv_nsec;
		if (round)
			printf("%lld\n", took);
		for (int index = 0; index < number; index++) {
			set_decode(&devices[index], 0);
			set_decode(&devices[index], 1);
		}
	}
	return 0;
}
