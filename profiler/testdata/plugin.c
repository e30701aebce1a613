// A library that burns time in plug. It is built under several names, with as many different sizes
// of text before it, so that the same runtime address is another file address in each.
#include <stdint.h>
#include <time.h>

static volatile uint64_t sink;

#ifdef PADDING
__attribute__((used)) static void padding(void) { __asm__ volatile(".fill 2000, 1, 0x90"); }
#endif

static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

__attribute__((noinline)) void NAME(void)
{
	__asm__ volatile("" : : "r"(__builtin_frame_address(0))); // as a leaf it would have no frame
	for (int i = 0; i < 100000; i++)
		sink += i;
}

void plug(double seconds) { for (double end = used() + seconds; used() < end;) NAME(); sink++; }
