// A program of what C++ is asked to unwind through: virtual calls, exceptions, lambdas, templates of
// the standard library. It runs for the processor seconds that it is given, or two.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <time.h>
#include <vector>

#define KEEP __attribute__((noinline))

static volatile double sink;

struct Shape {
	virtual ~Shape() {}
	virtual double area(int n) const = 0;
};

struct Square : Shape {
	double side;
	Square(double x) : side(x) {}
	KEEP double area(int n) const override
	{
		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += side * i;
		return sum;
	}
};

struct Circle : Shape {
	double radius;
	Circle(double x) : radius(x) {}
	KEEP double area(int n) const override
	{
		if (n % 7 == 0)
			throw std::runtime_error("seven");
		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += radius / (i + 1);
		return sum;
	}
};

KEEP void shapes(int k)
{
	std::vector<std::unique_ptr<Shape>> all;
	for (int i = 0; i < 200; i++)
		if (i & 1)
			all.emplace_back(new Square(i));
		else
			all.emplace_back(new Circle(i));
	for (auto &s : all)
		try {
			sink = sink + s->area(k % 100 + 3);
		} catch (const std::exception &e) {
			sink = sink + e.what()[0];
		}
}

KEEP void sorts(int k)
{
	std::vector<std::string> all;
	for (int i = 0; i < 2000; i++)
		all.push_back(std::to_string((i * 7919 + k) % 10007));
	std::sort(all.begin(), all.end(),
		  [k](const std::string &a, const std::string &b) { return k & 1 ? a < b : b < a; });
	sink = sink + all[3].size();
}

KEEP void maps(int k)
{
	std::map<int, std::function<int(int)>> all;
	for (int i = 0; i < 500; i++)
		all[(i * 31 + k) % 1009] = [i](int x) { return x + i; };
	int sum = 0;
	for (auto &[key, f] : all)
		sum += f(key);
	sink = sink + sum;
}

static double used()
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double end = argc > 1 ? atof(argv[1]) : 2;
	int k = 0;
	do {
		shapes(k);
		sorts(k);
		maps(k);
		k++;
	} while (used() < end);
	printf("%g %d\n", (double)sink, k);
}
