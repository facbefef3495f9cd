/* What doctor finds. */
#pragma once

#include "ctl/ctl.h"

enum wv_doctor_level {
    WV_DOCTOR_OK,
    WV_DOCTOR_NOTE,    /* worse without it, but it works */
    WV_DOCTOR_MISSING, /* a host doesn't work without it */
};

struct wv_doctor {
    struct wv_ctl *c;
    unsigned found[3]; /* by level */
};

/* One finding about WHAT: how it is, and (NULL when all is well) what to do about it. */
void wv_doctor_say(struct wv_doctor *d, enum wv_doctor_level level, const char *what, const char *remedy,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

void wv_doctor_display(struct wv_doctor *d); /* doctor_display.c */
void wv_doctor_system(struct wv_doctor *d);  /* doctor_system.c */
