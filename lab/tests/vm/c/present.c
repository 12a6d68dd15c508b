// Makes BAR 2 of several devices present by VFIO's type1 and nothing else: one DMA map and unmap of one page for each GiB,
// in each round after memory decode was off. Prints the nanoseconds of each round.
//
//   present ROUNDS 0000:00:10.0 ...
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 2, DEVICES = 16, PAGE = 4096, COMMAND = 4, MEMORY = 2 };
static const uint64_t GIB = 1ull << 30, IOVA = 1ull << 40;

struct device {
	int container, file;
	char *bar;
	uint64_t size, config;
};

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void open_device(struct device *device, const char *address)
{
	char link[256], target[256], node[64];
	snprintf(link, sizeof link, "/sys/bus/pci/devices/%s/iommu_group", address);
	ssize_t len = readlink(link, target, sizeof target - 1);
	check(len > 0, link);
	target[len] = 0;
	snprintf(node, sizeof node, "/dev/vfio/%s", strrchr(target, '/') + 1);
	device->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	check(device->container >= 0, "/dev/vfio/vfio");
	int group = open(node, O_RDWR | O_CLOEXEC);
	check(group >= 0, node);
	check(!ioctl(group, VFIO_GROUP_SET_CONTAINER, &device->container), "VFIO_GROUP_SET_CONTAINER");
	check(!ioctl(device->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
	device->file = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	check(device->file >= 0, "VFIO_GROUP_GET_DEVICE_FD");

	struct vfio_region_info config = { .argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX };
	check(!ioctl(device->file, VFIO_DEVICE_GET_REGION_INFO, &config), "VFIO_DEVICE_GET_REGION_INFO");
	device->config = config.offset;
	struct vfio_region_info bar = { .argsz = sizeof bar, .index = BAR };
	check(!ioctl(device->file, VFIO_DEVICE_GET_REGION_INFO, &bar), "VFIO_DEVICE_GET_REGION_INFO");
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
		struct vfio_iommu_type1_dma_map map = {
			.argsz = sizeof map,
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.vaddr = (uintptr_t)device->bar + offset,
			.iova = IOVA,
			.size = PAGE,
		};
		check(!ioctl(device->container, VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");
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
