/* wavry-leave UNIT PID [OTHER-UNIT]: run by systemd when it is about to stop UNIT. A stop that another start
 * does not follow is told to the process, so that clients get a goodbye; systemd itself sends the same signal
 * for both. OTHER-UNIT, a spare that would take over, is stopped, too. It must never keep a stop from
 * happening: whatever goes wrong, it is brief, and its exit code is 0 or that of a wrong command line. */
#include "lib/base/util.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-bus.h>

#define NAME     "org.freedesktop.systemd1"
#define LIMIT_US 1000000

static void unref_bus(sd_bus **bus)
{
    sd_bus_flush_close_unref(*bus);
}

/* The service manager's own socket: it needs no message bus. */
static int connect_manager(sd_bus **ret)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char address[256] = "unix:path=/run/systemd/private";
    wv_cleanup(unref_bus) sd_bus *bus = NULL;
    if (getuid() != 0 && runtime)
        snprintf(address, sizeof address, "unix:path=%s/systemd/private", runtime);
    int r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, address);
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(bus, LIMIT_US);
    if (r < 0)
        return r;
    *ret = bus;
    bus = NULL;
    return 0;
}

/* Whether the job that stops UNIT only stops it. */
static int is_for_good(sd_bus *bus, const char *unit, bool *ret)
{
    wv_cleanup(wv_free_p) char *type = NULL;
    sd_bus_message *reply = NULL, *property = NULL;
    const char *path, *job;
    uint32_t id = 0;
    int r = sd_bus_call_method(bus, NAME, "/org/freedesktop/systemd1", NAME ".Manager", "GetUnit", NULL,
                               &reply, "s", unit);
    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r >= 0)
        r = sd_bus_get_property(bus, NAME, path, NAME ".Unit", "Job", NULL, &property, "(uo)");
    if (r >= 0)
        r = sd_bus_message_read(property, "(uo)", &id, &job);
    if (r >= 0 && id != 0)
        r = sd_bus_get_property_string(bus, NAME, job, NAME ".Job", "JobType", NULL, &type);
    if (r >= 0)
        *ret = type && !strcmp(type, "stop");
    sd_bus_message_unref(property);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 0;
}

static int stop(sd_bus *bus, const char *unit)
{
    int r = sd_bus_call_method(bus, NAME, "/org/freedesktop/systemd1", NAME ".Manager", "StopUnit", NULL,
                               NULL, "ss", unit, "replace");
    return r < 0 ? r : 0;
}

int main(int argc, char **argv)
{
    wv_cleanup(unref_bus) sd_bus *bus = NULL;
    bool for_good = false;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: wavry-leave UNIT PID [OTHER-UNIT]\n");
        return EX_USAGE;
    }
    /* systemd leaves out the number of a process that has ended by itself. */
    char *end = NULL;
    long pid = argc > 2 ? strtol(argv[2], &end, 10) : 0;
    if (pid <= 1 || pid > INT_MAX || *end)
        return EX_OK;
    int r = connect_manager(&bus);
    if (r == 0)
        r = is_for_good(bus, argv[1], &for_good);
    if (r == 0 && for_good && argc > 3)
        r = stop(bus, argv[3]);
    if (for_good && kill((pid_t)pid, SIGINT) < 0 && r == 0)
        r = -errno;
    if (r < 0)
        fprintf(stderr, "wavry-leave: %s: clients may get no goodbye: %s\n", argv[1], strerror(-r));
    return EX_OK;
}
