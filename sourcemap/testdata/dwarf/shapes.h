static inline __attribute__((always_inline)) double shape_twice(double x)
{
	return x + x * 1.5;
}

static inline double shape_scale(double x, int times)
{
	while (times-- > 0)
		x = shape_twice(x) / (times + 1);
	return x;
}
