/* Maps a BAR, counts its leaves before anything touches it, and says why there are not fewer.
 *
 *   cc map_bar.c $(pkg-config --cflags --libs hugebar) -o map_bar
 *   ./map_bar 0000:01:00.0 2
 */
#include <hugebar.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, hugebar_error_message());
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    hugebar_device *device;
    hugebar_mapping *mapping;
    hugebar_report *report;
    hugebar_summary found;
    hugebar_reason reason;
    void *base;

    if (argc != 3) {
        fprintf(stderr, "usage: %s ADDRESS BAR\n", argv[0]);
        return EXIT_FAILURE;
    }
    uint32_t bar = (uint32_t)strtoul(argv[2], NULL, 0);
    if (hugebar_device_open(argv[1], HUGEBAR_BACKEND_AUTO, &device))
        return failed("open");
    if (hugebar_map_region(device, bar, NULL, NULL, &mapping))
        return failed("map");
    if (hugebar_mapping_base(mapping, &base))
        return failed("base");
    if (hugebar_measure(mapping, device, 0, &report))
        return failed("measure");
    if (hugebar_report_summary(report, &found))
        return failed("summary");

    printf("BAR %" PRIu32 " at %p: %s\n", bar, base, hugebar_verdict_name(found.verdict));
    for (uint32_t i = found.best.count; i-- > 0;) {
        printf("%11" PRIu64 " bytes: best %" PRIu64 ", expected %" PRIu64, found.best.sizes[i], found.best.counts[i],
               found.expected.counts[i]);
        if (found.measured.count)
            printf(", measured %" PRIu64, found.measured.counts[i]);
        printf("\n");
    }
    for (size_t i = 0; hugebar_report_reason(report, i, &reason) == 0; i++)
        printf("%s: %s; %s\n", hugebar_reason_name(reason.code), reason.fact, reason.remedy);

    if (hugebar_report_close(report) || hugebar_mapping_close(mapping) || hugebar_device_close(device))
        return failed("close");
    return EXIT_SUCCESS;
}
