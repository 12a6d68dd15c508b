// Maps BAR 2 of a device wherever mmap puts it, as programs do that do not use hugebar, and has it in the IOMMU. Prints the
// page faults that this takes: the leaves.
//
//   plain 0000:00:10.0
#define _GNU_SOURCE
#include "vfio.h"
#include <sys/mman.h>
#include <sys/resource.h>

static const uint64_t IOVA = 1ull << 32;

static long faults(void)
{
	struct rusage usage;
	check(!getrusage(RUSAGE_THREAD, &usage), "getrusage");
	return usage.ru_minflt;
}

int main(int count, char **words)
{
	check(count == 2, "plain DEVICE");
	int container, device = open_by_group(words[1], &container);
	struct vfio_region_info bar = region_of(device, 2);
	// The same way once before: the first time costs faults of its own.
	size_t page = sysconf(_SC_PAGESIZE);
	void *scratch = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(scratch != MAP_FAILED, "mmap");
	map_for_dma(container, scratch, IOVA - page, page);
	void *mapped = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
	check(mapped != MAP_FAILED, "mmap");
	faults();
	long before = faults();
	map_for_dma(container, mapped, IOVA, bar.size);
	printf("%p: %ld faults\n", mapped, faults() - before);
	return 0;
}
