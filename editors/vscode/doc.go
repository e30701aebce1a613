// Package vscode is the extension for Visual Studio Code. It is written in TypeScript and draws what
// the language server answers; of Go there is only the test that runs the extension's own tests, so
// that "go test ./..." tests all there is.
package vscode
