// Templates, methods, lambdas, local classes, anonymous namespaces and the standard library.
#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace {
struct Box {
	double w, h;
	double area() const { return w * h; }
	bool operator<(const Box &other) const { return area() < other.area(); }
};

template <typename T, int N>
struct Grid {
	T cells[N];
	T sum() const
	{
		T total{};
		for (const T &c : cells)
			total += add(c);
		return total;
	}

private:
	static T add(T c) { return c * c + T(N); }
};
} // namespace

namespace store {
class Shelf {
public:
	void put(std::string name, Box b);
	double weigh(int n) const;

private:
	std::map<std::string, Box> boxes_;
};

void Shelf::put(std::string name, Box b)
{
	boxes_[name + "!"] = b;
}

double Shelf::weigh(int n) const
{
	double total = 0;
	auto heavy = [&](const Box &b) {
		if (b.area() > n)
			total += b.area();
		return total;
	};
	for (const auto &[name, box] : boxes_)
		total += heavy(box) + double(name.size());
	return total;
}
} // namespace store

template <typename F>
__attribute__((noinline)) static double apply(F f, int n)
{
	double d = 0;
	for (int i = 0; i < n; i++)
		d += f(i);
	return d;
}

extern "C" __attribute__((noinline)) int plain_c(int x)
{
	struct Local {
		int v;
		int twice() const { return v + v; }
	} l{x};
	return l.twice() + l.twice() * x;
}

int main(int argc, char **argv)
{
	std::vector<Box> boxes;
	for (int i = 0; i < 100; i++)
		boxes.push_back(Box{double(i % 7), double(argc + i)});
	std::sort(boxes.begin(), boxes.end());
	store::Shelf shelf;
	for (const Box &b : boxes)
		shelf.put(argv[0], b);
	Grid<int, 9> grid{};
	std::iota(std::begin(grid.cells), std::end(grid.cells), argc);
	double d = shelf.weigh(3) + grid.sum() + apply([&](int i) { return boxes[i % 3].area() * i; }, argc);
	try {
		if (d > 1e9)
			throw plain_c(argc);
	} catch (int x) {
		d += x;
	}
	std::printf("%g %d\n", d, plain_c(argc));
}
