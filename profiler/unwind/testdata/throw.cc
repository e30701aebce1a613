// A C++ program to step through: exceptions, virtual calls, lambdas, streams. Built without frame
// pointers.
#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>
#include <vector>

#define NOINLINE __attribute__((noinline, noclone, noipa))
#define HALT() syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGSTOP)

struct Shape {
  virtual ~Shape() {}
  virtual double area() const = 0;
};
struct Square : Shape {
  double side;
  explicit Square(double s) : side(s) {}
  NOINLINE double area() const override { return side * side; }
};
struct Guard { // has a destructor run while an exception passes
  int *n;
  NOINLINE ~Guard() { ++*n; }
};

NOINLINE int thrower(int n) {
  if (n != 1) throw std::runtime_error(std::to_string(n));
  return n;
}
NOINLINE int passes(int n, int *cleaned) {
  Guard g{cleaned};
  return thrower(n) + 1;
}
NOINLINE int catches(int n) {
  int cleaned = 0;
  try {
    return passes(n, &cleaned);
  } catch (const std::exception &e) {
    return (int)strlen(e.what()) + cleaned;
  }
}
NOINLINE int applied(const std::function<int(int)> &f, int n) { return f(n) + 1; }

NOINLINE int steps(int n) {
  int r = 0;
  for (int i = 0; i < n; i++) {
    r += catches(i);
    std::unique_ptr<Shape> s = std::make_unique<Square>(i);
    r += (int)s->area();
    std::vector<int> v(12);
    for (int j = 0; j < 12; j++) v[j] = (j * 7919 + i) % 101;
    std::sort(v.begin(), v.end(), [](int a, int b) { return a > b; });
    r += applied([&](int x) { return v[x]; }, i);
    std::ostringstream o;
    o << i << ' ' << r * 0.5;
    r += (int)o.str().size();
  }
  return r;
}

int main() {
  HALT();
  int r = steps(5);
  HALT();
  return r == 12345;
}
