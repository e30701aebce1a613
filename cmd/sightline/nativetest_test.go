package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/lspserver/launch"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// CppSpin takes time, at a place that tests can look for.
const cppSpin = `
static unsigned long long sink;
__attribute__((noinline)) static void spin(long n) {
  unsigned long long x = sink + 1;
  for (long i = 0; i < n; i++) x = x * 6364136223846793005ull + 1442695040888963407ull;
  sink = x;
}
`

const googleTests = "#include <gtest/gtest.h>" + cppSpin + `
TEST(Burn, Fast) {
  spin(2000000);  //@ total(">50%")
}
class Values : public ::testing::TestWithParam<int> {};
TEST_P(Values, Each) {
  spin(GetParam());
}
INSTANTIATE_TEST_SUITE_P(Pre, Values, ::testing::Values(100000, 200000));
template <typename T> class Typed : public ::testing::Test {};
using Some = ::testing::Types<int, long>;
TYPED_TEST_SUITE(Typed, Some);
TYPED_TEST(Typed, Any) { spin(100000 + sizeof(TypeParam)); }
TEST(Burn, DISABLED_Off) { spin(500000); }
TEST(Burn, Fails) {
  spin(2000000);
  EXPECT_EQ(1, 2);
}
#ifdef NEVER
TEST(Burn, SwitchedOff) {}
#endif
`

// RequireTools is the variable that makes a missing compiler or library a failure.
const requireTools = "SIGHTLINE_REQUIRE_EDITORS"

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv(requireTools) != "" {
		t.Fatalf("%s is missing: .ci/packages test installs it", what)
	}
	t.Skipf("%s is missing: .ci/packages test installs it", what)
}

// InProject writes files into a folder of their own and goes there; the store is a new one.
func inProject(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil { // the workspace ends here
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Chdir(dir)
	return dir
}

// LineBeginning is the 1-based line that begins with a text.
func lineBeginning(t *testing.T, src, begin string) int {
	t.Helper()
	for i, line := range strings.Split(src, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), begin) {
			return i + 1
		}
	}
	t.Fatalf("no line begins with %s", begin)
	return 0
}

// LineShare is the share of the hottest line of the outcome that has a text, in percent; 0 where none has.
func lineShare(o outcomeJSON, text string) float64 {
	for _, l := range o.Lines {
		if strings.Contains(l.Text, text) {
			return 100 * float64(l.Total) / float64(o.Total)
		}
	}
	return 0
}

// GoogleTest makes the program fib_test of fib_test.cpp in a folder.
func googleTest(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat("/usr/include/gtest/gtest.h"); err != nil {
		missing(t, "libgtest-dev")
	}
	compile(t, dir, "g++", "-O1", "-g", "fib_test.cpp", "-o", "fib_test", "-lgtest", "-lgtest_main", "-lpthread")
}

func compile(t *testing.T, dir string, words ...string) {
	t.Helper()
	if _, err := exec.LookPath(words[0]); err != nil {
		missing(t, words[0])
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", words, err, out)
	}
}

// The main job for GoogleTest, in the terminal and in an editor: the test around a line is run alone,
// repeated in one process, and its lines have their costs.
func TestGoogleTest(t *testing.T) {
	dir := inProject(t, map[string]string{
		"fib_test.cpp": googleTests,
		launch.FileName: `{"targets": [
			{"name": "other", "command": ["/bin/true"], "tests": "gtest"},
			{"name": "tests", "command": ["./fib_test"], "tests": "gtest", "env": {"GTEST_COLOR": "no"}}
		]}`,
		// A CMake folder whose build makes nothing new, and a ctest that knows a program that must not be run.
		"bin/cmake":            "#!/bin/sh\necho built $2 >&2\n",
		"bin/ctest":            "#!/bin/sh\ncat tests.json\n",
		"build/CMakeCache.txt": "",
	})
	googleTest(t, dir)
	test := func(begin string, more ...string) outcomeJSON {
		t.Helper()
		at := fmt.Sprintf("fib_test.cpp:%d", lineBeginning(t, googleTests, begin))
		return decode[outcomeJSON](t, mustRun(t, append([]string{"test", at, "--json", "--samples", "60", "--max", "10s"}, more...)...))
	}
	o := test("TEST(Burn, Fast)")
	if o.Target != "GoogleTest Burn.Fast" || o.Samples < 60 || lineShare(o, "spin(2000000)") < 50 {
		t.Errorf("the outcome is %+v", o)
	}
	// All instances of one with parameters and with types, and one that is disabled.
	for begin, text := range map[string]string{"TEST_P": "spin(GetParam", "TYPED_TEST(": "spin(100000", "TEST(Burn, DISABLED_Off)": "spin(500000"} {
		if o := test(begin, "--samples", "20"); lineShare(o, text) < 10 {
			t.Errorf("%s: the outcome is %+v", begin, o)
		}
	}
	failing := fmt.Sprintf("fib_test.cpp:%d", lineBeginning(t, googleTests, "TEST(Burn, Fails)")+1)
	status, out, _ := sightline(t, "test", failing, "--samples", "20")
	if status != exitFailed || !strings.Contains(out, "Expected equality of these values") || !strings.Contains(out, "exit status 1") {
		t.Errorf("a test that fails: exit %d\n%s", status, out)
	}

	// What is wrong is said in one sentence.
	off := fmt.Sprintf("fib_test.cpp:%d", lineBeginning(t, googleTests, "TEST(Burn, SwitchedOff)"))
	for _, c := range []struct{ args, want string }{
		{off, "no program has the test Burn.SwitchedOff of fib_test.cpp: /bin/true of target other does not have it; ./fib_test of target tests does not have it; is it built"},
		{"fib_test.cpp:2", "no GoogleTest or Catch2 test is around line 2 of fib_test.cpp"},
		{failing + " -run x", "is a test already; leave -run and -bench out"},
	} {
		status, _, stderr := sightline(t, append([]string{"test"}, strings.Fields(c.args)...)...)
		if status != exitUsage || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("test %s: exit %d, %s", c.args, status, stderr)
		}
	}
	// A source that was changed after the program was built is told.
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes("fib_test.cpp", later, later); err != nil {
		t.Fatal(err)
	}
	if o := test("TEST(Burn, Fast)"); !strings.Contains(o.Message, "fib_test is older than fib_test.cpp: build it again") {
		t.Errorf("the message is %q", o.Message)
	}

	// Without a target the programs of a CMake folder are looked through, which is built before.
	if err := os.Remove(launch.FileName); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	tests := fmt.Sprintf(`{"tests": [{"name": "x", "command": ["/bin/false", "x"]}, {"name": "none", "command": []},
		{"name": "Burn.Fast", "command": [%q, "--gtest_filter=Burn.Fast"], "properties": [
			{"name": "TIMEOUT", "value": 7}, {"name": "WORKING_DIRECTORY", "value": %q}, {"name": "ENVIRONMENT", "value": ["A=1"]}]}]}`, filepath.Join(dir, "fib_test"), dir)
	if err := os.WriteFile("build/tests.json", []byte(tests), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := test("TEST(Burn, Fast)"); o.Target != "GoogleTest Burn.Fast" || lineShare(o, "spin(2000000)") < 50 || o.Message != "" {
		t.Errorf("by way of CMake the outcome is %+v", o)
	}
	status, _, stderr := sightline(t, "test", off)
	if status != exitUsage || !strings.Contains(stderr, "none of the 2 programs that ctest runs in "+dir+"/build does") {
		t.Errorf("a test that no program has: exit %d, %s", status, stderr)
	}
	checkStore(t)

	w := &lsptest.Workspace{Root: dir}
	e := server(t, "vscode", w, nil, nil)
	path := filepath.Join(dir, "fib_test.cpp")
	e.Open(path)
	lens := profileLens(t, e, path, lineBeginning(t, googleTests, "TEST(Burn, Fast)"))
	e.Run(lens.Command, lens.Arguments)
	e.Await(lsptest.Ended("Profiling Burn.Fast"), lsptest.NoErrorShown())
	lsptest.CheckShares(t, e, path)
	// The function of the source has its lens, too.
	if l := e.Lens(path, `#1`); l.Command != "sightline.goToFrame" {
		t.Errorf("the lens of the hottest function is %+v", l)
	}
}

// The same for Catch2, which has no repetition of its own.
func TestCatch2(t *testing.T) {
	include, link := "catch2/catch.hpp", []string{catchMain(t)}
	if _, err := os.Stat("/usr/include/catch2/catch.hpp"); err != nil { // version 3
		include, link = "catch2/catch_test_macros.hpp", []string{"-lCatch2Main", "-lCatch2"}
	}
	src := "#include <" + include + ">" + cppSpin + `
TEST_CASE("burns, a [bit]", "[fast]") {
  spin(20000000);
  REQUIRE(sink != 1);
}
SCENARIO("fails") { REQUIRE(false); }
`
	dir := inProject(t, map[string]string{
		"c_test.cpp":    src,
		launch.FileName: `{"targets": [{"name": "c", "command": ["./c_test"], "tests": "catch2", "build": ["touch", "built"]}]}`,
	})
	compile(t, dir, append([]string{"g++", "-O1", "-g", "c_test.cpp", "-o", "c_test"}, link...)...)
	at := func(begin string) string { return fmt.Sprintf("c_test.cpp:%d", lineBeginning(t, src, begin)) }
	o := decode[outcomeJSON](t, mustRun(t, "test", at("TEST_CASE"), "--json", "--samples", "60", "--max", "10s"))
	if o.Target != "Catch2 burns, a [bit]" || o.Samples < 60 || lineShare(o, "spin(20000000)") < 30 {
		t.Errorf("the outcome is %+v", o)
	}
	if _, err := os.Stat("built"); err != nil {
		t.Errorf("the target was not built: %v", err)
	}
	status, out, stderr := sightline(t, "test", at("SCENARIO"), "--samples", "1", "--max", "100ms")
	if status != exitFailed || !strings.Contains(out, "REQUIRE( false )") {
		t.Errorf("a test that fails: exit %d\n%s%s", status, out, stderr)
	}
	checkStore(t)
}

// CatchMain is the object file of Catch2's own main function, of version 2, which takes long to compile
// and is kept from test to test. It is "" where version 3 is installed, which has it as a library.
func catchMain(t *testing.T) string {
	t.Helper()
	info, err := os.Stat("/usr/include/catch2/catch.hpp")
	if err != nil {
		if _, err := os.Stat("/usr/include/catch2/catch_test_macros.hpp"); err != nil {
			missing(t, "catch2")
		}
		return ""
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "sightline-test", fmt.Sprintf("catch2-main-%d.o", info.Size()))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	dir := t.TempDir()
	main := "#define CATCH_CONFIG_MAIN\n#define CATCH_CONFIG_FAST_COMPILE\n#include <catch2/catch.hpp>\n"
	if err := os.WriteFile(filepath.Join(dir, "main.cpp"), []byte(main), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	compile(t, dir, "g++", "-O0", "-c", "main.cpp", "-o", made)
	if err := os.Rename(made, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The same for Rust: unit tests in modules, integration tests, and members of a workspace.
func TestCargo(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("there is no cargo: install Rust to run this test")
	}
	lib := `pub mod part;

#[inline(never)]
pub fn spin(n: u64) -> u64 {
    let mut x = n;
    let mut i = 0;
    while i < n { x ^= x << 13; x ^= x >> 7; i += 1; }
    x
}
`
	part := `mod tests {
    #[test]
    fn burns() {
        assert_ne!(crate::spin(1_000_000), 1);
    }

    #[test]
    fn r#fn() { panic!("on purpose"); }
}
`
	inProject(t, map[string]string{
		"Cargo.toml":             "[workspace]\nmembers = [\"member\"]\nresolver = \"2\"\n",
		"member/Cargo.toml":      "[package]\nname = \"member\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
		"member/src/lib.rs":      lib,
		"member/src/part/mod.rs": part,
		"member/tests/it.rs":     "#[test]\nfn integrates() { assert_ne!(member::spin(1_000_000), 1); }\n",
		"outside.rs":             "#[test]\nfn a() {}\n",
	})
	test := func(at string) (int, outcomeJSON, string) {
		t.Helper()
		status, out, stderr := sightline(t, "test", at, "--json", "--samples", "60", "--max", "20s")
		if status == exitUsage {
			t.Fatalf("test %s: %s", at, stderr)
		}
		// What the test writes comes on standard error.
		return status, decode[outcomeJSON](t, out), stderr
	}
	if _, o, _ := test(fmt.Sprintf("member/src/part/mod.rs:%d", lineBeginning(t, part, "fn burns"))); o.Target != "cargo test part::tests::burns" || lineShare(o, "crate::spin") < 30 {
		t.Errorf("the outcome is %+v", o)
	}
	if _, o, _ := test("member/tests/it.rs:2"); o.Target != "cargo test integrates" || lineShare(o, "member::spin") < 30 {
		t.Errorf("the outcome is %+v", o)
	}
	status, _, stderr := sightline(t, "test", fmt.Sprintf("member/src/part/mod.rs:%d", lineBeginning(t, part, "fn r#fn")))
	if status != exitFailed {
		t.Errorf("a test that fails: exit %d, %s", status, stderr)
	}
	if status, _, stderr := sightline(t, "test", "outside.rs:2"); status != exitUsage || !strings.Contains(stderr, "is the root of a workspace and no package") {
		t.Errorf("outside of a package: exit %d, %s", status, stderr)
	}
	if err := os.WriteFile("member/src/part/mod.rs", []byte(part+"fn broken( {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := sightline(t, "test", "member/src/part/mod.rs:3"); status != exitUsage || !strings.Contains(stderr, "sightline: the tests of member do not build:\nerror: ") {
		t.Errorf("a test that does not compile: exit %d, %s", status, stderr)
	}
	checkStore(t)
}

// A launch target is recorded by its name, with its environment and folder, after its build.
func TestRecordTarget(t *testing.T) {
	dir := inProject(t, map[string]string{
		launch.FileName: `{"targets": [
			{"name": "busy", "command": ["sh", "-c", "while [ $((i += 1)) -lt $TIMES ]; do :; done; pwd > ../where"], "env": {"TIMES": "300000"}, "dir": "sub", "build": ["touch", "built"]},
			{"name": "broken", "command": ["true"], "build": ["sh", "-c", "echo no rule; exit 3"]},
			{"name": "nowhere", "command": ["true"], "dir": "none"}
		]}`,
		"sub/deeper/x": "",
	})
	o := decode[outcomeJSON](t, mustRun(t, "record", "--target", "busy", "--json"))
	if where, err := os.ReadFile("where"); err != nil || strings.TrimSpace(string(where)) != filepath.Join(dir, "sub") || o.Target != "busy" || o.Samples == 0 {
		t.Errorf("it ran in %q (%v), and the outcome is %+v", where, err, o)
	}
	if _, err := os.Stat("sub/built"); err != nil {
		t.Errorf("it was not built: %v", err)
	}
	list := decode[[]listedTarget](t, mustRun(t, "targets", "--json"))
	want := listedTarget{Name: "broken", Command: []string{"true"}, Dir: dir, Build: []string{"sh", "-c", "echo no rule; exit 3"}, File: filepath.Join(dir, launch.FileName), Line: 3}
	if len(list) != 3 {
		t.Errorf("targets are %+v", list)
	} else if diff := cmp.Diff(want, list[1]); diff != "" {
		t.Errorf("the second target (-want +got):\n%s", diff)
	}
	text := mustRun(t, "targets")
	if want := `busy     sh -c "while [ $((i += 1)) -lt $TIMES ]; do :; done; pwd > ../where"` + "\n         in sub · with TIMES=300000 · built by touch built\n"; !strings.HasPrefix(text, want) {
		t.Errorf("targets are printed as\n%swant\n%s", text, want)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"record", "--target", "none"}, "there is no target none; there is busy, broken, nowhere"},
		{[]string{"record", "--target", "busy", "-a"}, "give one of: a command, -p, --target, -a"},
		{[]string{"record", "--target", "broken"}, `broken does not build: sh -c "echo no rule; exit 3" ended with: exit status 3`},
		{[]string{"record", "--target", "nowhere"}, ".sightline.json:4: the target nowhere runs in " + dir + "/none, and there is no such folder"},
	} {
		status, _, stderr := sightline(t, c.args...)
		if status != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %s", c.args, status, stderr)
		}
	}
	t.Chdir("sub/deeper")
	if text := mustRun(t, "targets"); !strings.Contains(text, "in ..") {
		t.Errorf("from below targets are printed as\n%s", text)
	}
	t.Chdir(dir)
	if err := os.WriteFile(launch.FileName, []byte(`{"targets": 7}`), 0o644); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := sightline(t, "targets")
	if want := "sightline: " + filepath.Join(dir, launch.FileName) + ":1:13: targets is a number: make it a list of objects\n"; status != exitUsage || stderr != want {
		t.Errorf("a broken file: exit %d, %q, want %q", status, stderr, want)
	}
	checkStore(t)
}

// A test in Go is meant by a line as well.
func TestGoTestByLine(t *testing.T) {
	inModule(t, burn)
	at := ""
	for i, line := range strings.Split(readFile(t, "burn_test.go"), "\n") {
		if strings.HasPrefix(line, "func BenchmarkBurn") {
			at = fmt.Sprintf("burn_test.go:%d", i+2)
		}
	}
	o := decode[outcomeJSON](t, mustRun(t, "test", at, "--json", "--samples", "60", "--", "-benchtime", "50ms"))
	if o.Target != "go test example.com/burn -bench ^BenchmarkBurn$" && o.Target != "go test example.com/burn -bench BenchmarkBurn" {
		t.Errorf("the target is %s", o.Target)
	}
	if status, _, stderr := sightline(t, "test", "burn_test.go:1"); status != exitUsage || !strings.Contains(stderr, "no test is around line 1 of burn_test.go") {
		t.Errorf("outside of a test: exit %d, %s", status, stderr)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestChooseRust(t *testing.T) {
	names := []string{"a::tests::one", "b::tests::one", "b::tests::two", "cases::case_1", "cases::case_2", "m::r#type", "x::y::z::case_a"}
	for _, c := range []struct {
		name, inFile string
		want         []string
		err          string
	}{
		{"a::tests::one", "tests::one", []string{"a::tests::one"}, ""},
		{"elsewhere::tests::two", "tests::two", []string{"b::tests::two"}, ""},
		{"elsewhere::tests::one", "tests::one", nil, "a::tests::one, b::tests::one"},
		{"cases", "cases", []string{"cases::case_1", "cases::case_2"}, ""},
		{"m::type", "type", []string{"m::r#type"}, ""},
		{"y::z", "x::y::z", []string{"x::y::z::case_a"}, ""},
		{"none", "none", nil, ""},
	} {
		got, err := chooseRust(names, c.name, c.inFile)
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, diff)
		}
	}
}

func TestCargoTargets(t *testing.T) {
	p := &cargoPackage{Targets: []cargoTarget{
		{[]string{"lib"}, "fib", "/c/src/lib.rs"}, {[]string{"bin"}, "fib", "/c/src/main.rs"}, {[]string{"bin"}, "tool", "/c/src/bin/tool/main.rs"},
		{[]string{"test"}, "it", "/c/tests/it.rs"}, {[]string{"custom-build"}, "build-script-build", "/c/build.rs"}, {nil, "odd", "/c/odd.rs"},
	}}
	for file, want := range map[string]string{
		"/c/src/lib.rs": "--lib", "/c/src/main.rs": "--bin fib", "/c/src/a/b.rs": "--lib --bin fib", "/c/src/bin/tool/x.rs": "--bin tool",
		"/c/tests/it.rs": "--test it", "/c/tests/shared/mod.rs": "--test it", "/d/x.rs": "", "/c/build.rs": "",
	} {
		var flags []string
		for _, target := range cargoTargets(p, file) {
			flags = append(flags, target.flag()...)
		}
		if got := strings.Join(flags, " "); got != want {
			t.Errorf("%s is built with %q, want %q", file, got, want)
		}
	}
}

func TestListsTests(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "Running main()\n": false, "Fib.\n  Small\n": true, "Pre/V.  # TypeParam = int\n  Each/0  # GetParam() = 1\n": true, "usage:\n  x\n": false, "A.\nB.\n": false,
	} {
		if listsGoogleTest(text) != want {
			t.Errorf("%q lists a GoogleTest: %v", text, !want)
		}
	}
	for text, want := range map[string]bool{
		"": false, "Matching test cases:\n0 matching test cases\n": false, "Matching test cases:\n  a\n1 matching test case\n\n": true, "12 matching test cases": true, "12 monkeys": false,
	} {
		if listsCatch2(text) != want {
			t.Errorf("%q lists a Catch2 test: %v", text, !want)
		}
	}
}

// What build tools answer is taken or refused, and what is taken can be run.
func FuzzBuildTools(f *testing.F) {
	f.Add(`{"tests": [{"command": ["/a/b", "c"], "properties": [{"name": "ENVIRONMENT", "value": ["A=1"]}, {"name": "WORKING_DIRECTORY", "value": "/d"}]}]}`)
	f.Add("{\"reason\":\"compiler-artifact\",\"executable\":\"/t/x\",\"profile\":{\"test\":true}}\nwarning\n{\"reason\":\"build-script-executed\",\"linked_paths\":[\"native=/l\"]}\n")
	f.Add(`{"tests": [{"command": [""]}, {"command": null, "properties": [{"name": "ENVIRONMENT", "value": 7}]}]}`)
	f.Add("Fib.\n  Small\n")
	f.Fuzz(func(t *testing.T, text string) {
		if programs, err := ctestPrograms([]byte(text)); err == nil {
			for i, p := range programs {
				if len(p.words) != 1 || p.words[0] == "" || slices.ContainsFunc(programs[:i], func(q *nativeRun) bool { return q.words[0] == p.words[0] }) {
					t.Fatalf("program %d is %+v", i, p)
				}
			}
		} else if programs != nil {
			t.Fatal("programs beside an error")
		}
		programs, _ := cargoPrograms([]byte(text))
		if slices.Contains(programs, "") {
			t.Fatal("a program without a path")
		}
		if listsGoogleTest(text) && !strings.Contains(text, "  ") || listsCatch2(text) && !strings.Contains(text, "matching test case") {
			t.Fatalf("%q lists tests", text)
		}
	})
}
