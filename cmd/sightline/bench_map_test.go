package main

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

var pmapPeer = peer{"pmap", "`.ci/packages bench` installs it", []string{"pmap", "1"}}

// BenchmarkMap is `sightline map` of a C program with 10,000 mappings and of a Go program, the command
// from its start to its end, beside pmap -X, which prints the kernel's columns and knows no kinds.
func BenchmarkMap(b *testing.B) {
	binary := sightlineBinary(b)
	dir := workDir(b)
	regions := filepath.Join(dir, "regions")
	mustOutput(b, packageDir, "gcc", "-O1", "-o", regions, "testdata/bench/regions.c")
	goTarget := filepath.Join(dir, "target")
	mustOutput(b, packageDir, "go", "build", "-o", goTarget, "../../heap/goruntime/testdata/target/main.go")
	for _, target := range []struct{ name, path string }{{"10000", regions}, {"go", goTarget}} {
		cmd := exec.Command(target.path)
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
		if s := bufio.NewScanner(out); !s.Scan() || s.Text() != "ready" {
			b.Fatalf("%s says %q", target.path, s.Text())
		}
		pid := strconv.Itoa(cmd.Process.Pid)
		commands := map[string][]string{"ours": {binary, "map", pid}}
		if pmapPeer.there(b) {
			commands["peer=pmap"] = []string{"pmap", "-X", pid}
		}
		took := map[string][]float64{}
		for range *benchRounds {
			for name, c := range commands {
				began := time.Now()
				mustOutput(b, dir, c[0], c[1:]...)
				took[name] = append(took[name], milliseconds(time.Since(began)))
			}
		}
		for name, all := range took {
			b.Run(name+"/target="+target.name, func(b *testing.B) {
				report(b, figure{median(all), "map-ms"}, figure{float64(len(all)), "runs"})
			})
		}
	}
}
