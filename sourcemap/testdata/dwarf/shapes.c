/* Nested inlining, recursion, a cold part, a function of another file and a line directive. */
#include <stdio.h>
#include <stdlib.h>

#include "shapes.h"

static inline __attribute__((always_inline)) double
square(double x)
{
	return x * x;
}

static inline __attribute__((always_inline)) double norm(double x, double y)
{
	double sum = square(x);
	sum += square(y);
	return sum;
}

static inline __attribute__((always_inline)) double path(const double *p, int n)
{
	double total = 0;
	for (int i = 0; i + 1 < n; i++) {
		if (p[i] > 1e6)
			total += shape_scale(p[i], 3);
		total += norm(p[i], p[i + 1]);
	}
	return total;
}

__attribute__((noinline)) double walk(const double *p, int n)
{
	double d = path(p, n);
	if (n > 4)
		d += walk(p + 1, n / 2);
	if (d < 0) {
		fprintf(stderr, "negative %g\n", d);
		abort();
	}
	return d;
}

__attribute__((cold, noinline)) static void complain(const char *what)
{
	fprintf(stderr, "%s\n", what);
}

/* Never called: with -ffunction-sections and --gc-sections the linker drops it. */
double unused(const double *p)
{
	return norm(p[0], p[1]) + path(p, 7);
}

int main(int argc, char **argv)
{
	double p[64];
	for (int i = 0; i < 64; i++)
		p[i] = norm(i, argc) * shape_scale(i, argc);
	if (argc > 9)
		complain(argv[0]);
	double d = walk(p, 64);
# 700 "generated.y"
	d += walk(p + 1, 12) + square(d);
	d += shape_scale(d, 2);
# 66 "shapes.c"
	printf("%g\n", d);
	return 0;
}
