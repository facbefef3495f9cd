/* Bytes that nobody set must never leave: under MemorySanitizer (./wavry test builds that too) a buffer can
 * be made to be such bytes before it is filled, and looked at before it is sent. Elsewhere these do nothing.
 */
#pragma once

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define KNOWN_BY_MSAN 1
#endif
#endif

/* Returns BUFFER, whose bytes count as set by nobody. */
static inline void *known_forget(void *buffer, size_t len)
{
#ifdef KNOWN_BY_MSAN
    __msan_allocated_memory(buffer, len);
#endif
    return buffer;
}

/* Ends the program with a report when one of them was set by nobody. */
static inline void known_check(const void *buffer, size_t len)
{
#ifdef KNOWN_BY_MSAN
    __msan_check_mem_is_initialized(buffer, len);
#endif
}
