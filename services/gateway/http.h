/* Between libwebsockets and requests: reads heads and bodies with bounds, sends answers, cuts who is slow. */
#pragma once

#include "services/gateway/request.h"

/* After a step: sends the answer when there is one. May free Q. */
void wv_http_settle(struct wv_request *q);
