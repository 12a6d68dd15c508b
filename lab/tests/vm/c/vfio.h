// Opens a device by its group and type1, with nothing but system calls.
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

// Returns the device's descriptor, and its container's.
static int open_by_group(const char *address, int *container)
{
	char link[256], target[256], node[64];
	snprintf(link, sizeof link, "/sys/bus/pci/devices/%s/iommu_group", address);
	ssize_t len = readlink(link, target, sizeof target - 1);
	check(len > 0, link);
	target[len] = 0;
	snprintf(node, sizeof node, "/dev/vfio/%.32s", strrchr(target, '/') + 1);
	*container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	check(*container >= 0, "/dev/vfio/vfio");
	int group = open(node, O_RDWR | O_CLOEXEC);
	check(group >= 0, node);
	check(!ioctl(group, VFIO_GROUP_SET_CONTAINER, container), "VFIO_GROUP_SET_CONTAINER");
	check(!ioctl(*container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	check(device >= 0, "VFIO_GROUP_GET_DEVICE_FD");
	return device;
}

static struct vfio_region_info region_of(int device, unsigned index)
{
	struct vfio_region_info region = { .argsz = sizeof region, .index = index };
	check(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region), "VFIO_DEVICE_GET_REGION_INFO");
	return region;
}

static void map_for_dma(int container, void *address, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof map,
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)address,
		.iova = iova,
		.size = size,
	};
	check(!ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");
}
