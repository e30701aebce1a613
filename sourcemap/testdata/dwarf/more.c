/* A second unit, with functions between which those of the first may come. */
#include "shapes.h"

double more_scale(double x)
{
	return shape_scale(x, 4) + shape_twice(x);
}

double more_sum(const double *p, int n)
{
	double total = 0;
	while (n-- > 0)
		total += more_scale(*p++);
	return total;
}
