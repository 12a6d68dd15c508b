// Reads of 4 KiB from an NVMe drive by VFIO's type1, one queue, by polling: what a driver costs that has
// nothing between itself and the registers. Prints how many reads there were in a second.
//
//   nvme-loop 0000:00:10.0 DEPTH SECONDS
#include "vfio.h"
#include <sys/mman.h>
#include <time.h>

enum { ADMIN = 32, PAGE = 4096 };
static const uint64_t IOVA = 1ull << 32;

struct command {
	uint32_t opcode, namespace;
	uint64_t unused[2], prp1, prp2;
	uint32_t words[6];
};

struct completion {
	uint32_t result, unused;
	uint16_t head, queue, id, status;
};

struct queue {
	struct command *commands;
	volatile struct completion *completions;
	volatile uint32_t *submitted, *completed;
	unsigned depth, tail, head, phase;
};

static char *memory;
static volatile char *bar;

static volatile uint32_t *word(uint64_t offset)
{
	return (volatile uint32_t *)(bar + offset);
}

static volatile uint64_t *long_word(uint64_t offset)
{
	return (volatile uint64_t *)(bar + offset);
}

static void submit(struct queue *queue, const struct command *command)
{
	queue->commands[queue->tail] = *command;
	queue->tail = (queue->tail + 1) % queue->depth;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	*queue->submitted = queue->tail;
}

static int take(struct queue *queue)
{
	volatile struct completion *completion = &queue->completions[queue->head];
	unsigned status = completion->status;
	if ((status & 1) != queue->phase)
		return -1;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	int id = completion->id;
	if (status >> 1) {
		fprintf(stderr, "command %d: status %#x\n", id, status >> 1);
		exit(1);
	}
	if (++queue->head == queue->depth) {
		queue->head = 0;
		queue->phase ^= 1;
	}
	*queue->completed = queue->head;
	return id;
}

static void admin(struct queue *queue, struct command command)
{
	submit(queue, &command);
	while (take(queue) < 0)
		;
}

static struct queue queue_at(uint64_t offset, unsigned number, unsigned depth)
{
	struct queue queue = { .depth = depth, .phase = 1 };
	queue.commands = (struct command *)(memory + offset);
	queue.completions = (struct completion *)(memory + offset + 16 * PAGE);
	queue.submitted = word(0x1000 + 8 * number);
	queue.completed = word(0x1000 + 8 * number + 4);
	return queue;
}

static void open_device(const char *name)
{
	int container, device = open_by_group(name, &container);
	struct vfio_region_info config = region_of(device, VFIO_PCI_CONFIG_REGION_INDEX);
	uint16_t command;
	check(pread(device, &command, 2, config.offset + 4) == 2, "pread");
	command |= 4;
	check(pwrite(device, &command, 2, config.offset + 4) == 2, "pwrite");

	struct vfio_region_info region = region_of(device, 0);
	// The registers and the first doorbells; the MSI-X table lies behind them.
	bar = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
	check(bar != MAP_FAILED, "mmap");

	size_t size = 1024 * PAGE;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(memory != MAP_FAILED, "mmap");
	map_for_dma(container, memory, IOVA, size);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	unsigned at_once = atoi(argv[2]);
	double seconds = atof(argv[3]);
	open_device(argv[1]);

	*word(0x14) = 0;
	while (*word(0x1c) & 1)
		;
	struct queue first = queue_at(0, 0, ADMIN);
	*word(0x24) = (ADMIN - 1) | (ADMIN - 1) << 16;
	*long_word(0x28) = IOVA;
	*long_word(0x30) = IOVA + 16 * PAGE;
	*word(0x14) = 6 << 16 | 4 << 20 | 1;
	while (!(*word(0x1c) & 1))
		;
	// How many blocks of how many bytes there are.
	uint64_t page = 100 * PAGE;
	admin(&first, (struct command){ .opcode = 6, .namespace = 1, .prp1 = IOVA + page });
	uint64_t blocks = *(uint64_t *)(memory + page);
	unsigned format = memory[page + 26] & 15;
	uint64_t block = 1ull << memory[page + 128 + 4 * format + 2];

	unsigned depth = at_once + 1;
	struct queue queue = queue_at(40 * PAGE, 1, depth);
	uint32_t sizes = 1 | (depth - 1) << 16;
	admin(&first, (struct command){ .opcode = 5, .prp1 = IOVA + 56 * PAGE, .words = { sizes, 1 } });
	admin(&first, (struct command){ .opcode = 1, .prp1 = IOVA + 40 * PAGE, .words = { sizes, 1 << 16 | 1 } });

	uint64_t next = 0, count = PAGE / block, done = 0;
	double begin = now(), end = begin + seconds;
	for (unsigned id = 0; id < at_once; id++) {
		struct command command = {
			.opcode = 2 | id << 16, .namespace = 1, .prp1 = IOVA + (200 + id) * PAGE,
			.words = { next, next >> 32, count - 1 },
		};
		submit(&queue, &command);
		next += count;
	}
	while (now() < end) {
		int id;
		while ((id = take(&queue)) >= 0) {
			done++;
			if (next + count > blocks)
				next = 0;
			struct command command = {
				.opcode = 2 | id << 16, .namespace = 1, .prp1 = IOVA + (200 + id) * PAGE,
				.words = { next, next >> 32, count - 1 },
			};
			submit(&queue, &command);
			next += count;
		}
	}
	double elapsed = now() - begin;
	// QEMU 7.2 may end when it is reset with reads under way.
	for (unsigned left = at_once; left > 0;)
		if (take(&queue) >= 0)
			left--;
	printf("C, 1 x %u reads of 4 KiB at a time, polling: %.0f IOPS\n", at_once, done / elapsed);
	*word(0x14) = 0;
	while (*word(0x1c) & 1)
		;
	return 0;
}
