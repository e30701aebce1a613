//go:build !cgo

package main

func viaC(n int) int { return n }
