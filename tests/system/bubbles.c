/* A desktop's notification service for the tests: takes org.freedesktop.Notifications on the session bus and
 * prints what it is asked to show, one line each: "NUMBER urgency=U SUMMARY". */
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>

static const char interface[] =
    "<node><interface name='org.freedesktop.Notifications'><method name='Notify'>"
    "<arg type='s' direction='in'/><arg type='u' direction='in'/><arg type='s' direction='in'/>"
    "<arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='as' direction='in'/>"
    "<arg type='a{sv}' direction='in'/><arg type='i' direction='in'/><arg type='u' direction='out'/>"
    "</method></interface></node>";

static void on_call(GDBusConnection *bus, const char *sender, const char *path, const char *name,
                    const char *method, GVariant *arguments, GDBusMethodInvocation *call, void *userdata)
{
    static guint32 number;
    const char *summary;
    guint32 replaces;
    guint8 urgency = 255;
    GVariant *hints = g_variant_get_child_value(arguments, 6);
    g_variant_get_child(arguments, 1, "u", &replaces);
    g_variant_get_child(arguments, 3, "&s", &summary);
    g_variant_lookup(hints, "urgency", "y", &urgency);
    guint32 given = replaces ? replaces : ++number;
    printf("%u urgency=%u %s\n", given, urgency, summary);
    g_variant_unref(hints);
    g_dbus_method_invocation_return_value(call, g_variant_new("(u)", given));
}

static void on_bus(GDBusConnection *bus, const char *name, void *userdata)
{
    static const GDBusInterfaceVTable table = {.method_call = on_call};
    GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(interface, NULL);
    g_dbus_connection_register_object(bus, "/org/freedesktop/Notifications", node->interfaces[0], &table,
                                      NULL, NULL, NULL);
    g_dbus_node_info_unref(node);
}

static void on_name(GDBusConnection *bus, const char *name, void *userdata)
{
    puts("ready");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    g_bus_own_name(G_BUS_TYPE_SESSION, "org.freedesktop.Notifications", G_BUS_NAME_OWNER_FLAGS_NONE, on_bus,
                   on_name, NULL, NULL, NULL);
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    return 0;
}
